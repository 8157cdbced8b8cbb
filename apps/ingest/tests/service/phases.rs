//! The way of a task, and where it goes on after a crash or a cancel at every phase.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::Tried;
use futures::FutureExt;
use ingest::{
    deliveries::message_id,
    seams::{Heard, Made, ShelfError},
    store::{Cancelled, Left, Note},
    task::{Phase, Stage},
};
use serde_json::json;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::bench::{Bench, World, as_text, made, spec};

#[tokio::test(start_paused = true)]
async fn a_file_is_converted_stored_and_its_source_removed() {
    let bench = Bench::new(World::new()).await;
    let metadata = json!({"author": "me", "converter": "mine"}).as_object().unwrap().clone();
    let id = bench.accept(ingest::task::Spec { metadata: metadata.clone(), ..spec("d") }, "Words.").await;
    let task = bench.ended(id).await;
    assert_eq!((task.phase, task.stage), (Phase::Succeeded, Stage::Completed));
    let expected = json!({
        "success": true, "chunks_stored": 1, "processing_time": 1.5, "metadata": metadata,
        "processing_method": "local",
    });
    assert_eq!(task.result, Some(expected));
    assert_eq!(bench.world.texts("d"), ["Words."]);
    let (_, said) = bench.world.chunks.lock().unwrap().first_key_value().unwrap().1.clone();
    assert_eq!(said["source_type"], "document");
    assert_eq!(said["metadata"], json!(metadata));
    assert_eq!(bench.events(id).await, ["accepted", "started", "continued", "completed"]);
    assert_eq!(bench.files(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_conversion_says_why() {
    let world = World::new().converting(|work| async move {
        work.notes.note(Note::of("decided", "Here.").at(Stage::LocalProcessing));
        Err("The archive is a bomb.".to_owned())
    });
    let bench = Bench::new(world).await;
    let id = bench.accept(spec("d"), "x").await;
    let task = bench.ended(id).await;
    assert_eq!((task.phase, task.stage), (Phase::Failed, Stage::LocalProcessing));
    assert_eq!(task.error.as_deref(), Some("The archive is a bomb."));
    assert_eq!((bench.files(), bench.world.texts("d").len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_conversion_that_panics_fails_its_task_only() {
    let world = World::new().converting(|work| async move {
        assert!(work.task.spec.document_id != "bad", "a fault");
        as_text(&work)
    });
    let bench = Bench::new(world).await;
    let (bad, good) = (bench.accept(spec("bad"), "x").await, bench.accept(spec("good"), "x").await);
    assert_eq!(bench.ended(bad).await.phase, Phase::Failed);
    assert_eq!(bench.ended(good).await.phase, Phase::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn progress_is_seen_and_what_happened_is_remembered() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let world = World::new().converting(move |work| {
        let gate = Arc::clone(&gate);
        async move {
            let created = Note::of("remote_job_created", "It is waited for.");
            let created = created.at(Stage::WaitingForRemoteCompletion);
            work.notes.note(Note { remote_job_id: Some("j".to_owned()), ..created });
            work.notes.say(Heard::Remote { percentage: 40, message: "processing".to_owned() });
            gate.acquire().await.unwrap().forget();
            work.notes.note(Note::of("falling_back", "It is converted here.").at(Stage::LocalProcessing));
            work.notes.say(Heard::Local { percentage: 75, message: "Reading".to_owned() });
            gate.acquire().await.unwrap().forget();
            as_text(&work)
        }
    });
    let bench = Bench::new(world).await;
    let id = bench.accept(spec("d"), "x").await;
    let task = bench.until(id, |task| task.stage == Stage::WaitingForRemoteCompletion).await;
    assert_eq!(task.remote_job_id.as_deref(), Some("j"));
    let seen = async |holds: fn(&ingest::pipeline::Headway) -> bool| loop {
        match bench.pipeline.seen(id).filter(holds) {
            Some(seen) => break seen,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert_eq!(seen(|seen| seen.remote_percentage == Some(40)).await.progress, None);
    opened.add_permits(1);
    let local = seen(|seen| seen.progress == Some(0.55)).await;
    assert_eq!((local.remote_percentage, local.message.as_deref()), (None, Some("Reading")));
    let task = bench.task(id).await;
    assert_eq!([None, Some(0.1), Some(0.55)].map(|here| task.progress(here)), [0.4, 0.4, 0.55]);
    let from_the_start = ingest::task::Task { remote_job_id: None, ..task };
    let shown = [None, Some(0.1), Some(0.25)].map(|here| from_the_start.progress(here));
    assert_eq!(shown, [0.1, 0.1, 0.25]);
    opened.add_permits(1);
    bench.ended(id).await;
    assert_eq!(
        bench.events(id).await,
        ["accepted", "started", "remote_job_created", "falling_back", "continued", "completed"]
    );
}

#[tokio::test(start_paused = true)]
async fn tasks_of_one_document_run_one_after_the_other_and_the_last_one_stays() {
    let running = Arc::new(AtomicUsize::new(0));
    let world = World::new().converting(move |work| {
        let running = Arc::clone(&running);
        async move {
            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "two at once");
            tokio::time::sleep(Duration::from_secs(10)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            as_text(&work)
        }
    });
    let bench = Bench::new(world).await;
    let replacing = || ingest::task::Spec { replace_existing: true, ..spec("d") };
    let mut ids = Vec::new();
    for text in ["one", "two", "three"] {
        ids.push(bench.accept(replacing(), text).await);
    }
    for id in ids {
        assert_eq!(bench.ended(id).await.phase, Phase::Succeeded);
    }
    assert_eq!(bench.world.texts("d"), ["three"]);
}

#[tokio::test(start_paused = true)]
async fn a_remote_deadline_counts_from_the_first_begin() {
    let deadlines = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&deadlines);
    let world = World::new().converting(move |work| {
        seen.lock().unwrap().push(work.deadline);
        std::future::pending()
    });
    let mut bench = Bench::new(world).await;
    let id = bench.accept(ingest::task::Spec { remote_timeout: Some(60), ..spec("d") }, "x").await;
    for _ in 0..3 {
        bench.until(id, |task| task.phase == Phase::Converting).await;
        tokio::time::sleep(Duration::from_secs(7)).await;
        bench = bench.crash().await;
    }
    bench.until(id, |task| task.phase == Phase::Converting).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let deadlines = deadlines.lock().unwrap().clone();
    assert!(
        deadlines.len() == 4 && deadlines.iter().all(|deadline| *deadline == deadlines[0]),
        "{deadlines:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_that_was_being_converted_is_converted_again() {
    let begun = Arc::new(AtomicUsize::new(0));
    let world = World::new().converting(move |work| {
        let first = begun.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            as_text(&work)
        }
    });
    let bench = Bench::new(world).await;
    let id = bench.accept(spec("d"), "x").await;
    bench.until(id, |task| task.phase == Phase::Converting).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let bench = bench.restart().await;
    assert_eq!(bench.ended(id).await.phase, Phase::Succeeded);
    assert_eq!(bench.events(id).await, ["accepted", "started", "resumed", "continued", "completed"]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_storing_stores_the_same_again() {
    let world = World::new().storing(|calls| async move {
        if calls == 0 {
            std::future::pending::<()>().await;
        }
        Ok(())
    });
    let bench = Bench::new(world).await;
    let id = bench.accept(spec("d"), "x").await;
    while bench.world.texts("d").is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let bench = bench.crash().await;
    assert_eq!(bench.ended(id).await.phase, Phase::Succeeded);
    assert_eq!(bench.world.texts("d"), ["x"]);
    assert_eq!(bench.events(id).await, ["accepted", "started", "continued", "completed"]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_telling_tells_again_under_the_same_id() {
    let told = Arc::new(AtomicUsize::new(0));
    let world = World::new().carrying(move |_| {
        let first = told.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            Tried::Taken
        }
    });
    let bench = Bench::new(world).await;
    let webhook_url = Some("https://hooks.example/x".parse().unwrap());
    let id = bench.accept(ingest::task::Spec { webhook_url, ..spec("d") }, "x").await;
    while bench.world.told.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let bench = bench.crash().await;
    bench.ended(id).await;
    let told = bench.world.told.lock().unwrap().clone();
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|message| message.id == message_id(id) && message.body == told[0].body));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_ends_at_once_and_its_job_is_cancelled() {
    let world = World::new().converting(|work| async move {
        let created = Note::of("remote_job_created", "").at(Stage::WaitingForRemoteCompletion);
        work.notes.note(Note { remote_job_id: Some("j".to_owned()), ..created });
        work.cancel.cancelled().await;
        Err("Cancelled.".to_owned())
    });
    let bench = Bench::new(world).await;
    let id = bench.accept(spec("d"), "x").await;
    bench.until(id, |task| task.remote_job_id.is_some()).await;
    assert_eq!(bench.pipeline.cancel(id).await.unwrap(), Cancelled::Done);
    let task = bench.ended(id).await;
    assert_eq!((task.phase, task.error.as_deref()), (Phase::Failed, Some("The task was cancelled.")));
    while !bench.events(id).await.iter().any(|event| event == "remote_job_cancelled") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(*bench.world.abandoned.lock().unwrap(), ["j"]);
    assert_eq!(bench.pipeline.cancel(id).await.unwrap(), Cancelled::TooLate(Phase::Failed));
    assert_eq!(bench.files(), 0);
}

/// Tells that this job was created.
fn created(job: &str) -> Note {
    let created = Note::of("remote_job_created", "").at(Stage::WaitingForRemoteCompletion);
    Note { remote_job_id: Some(job.to_owned()), ..created }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_may_still_run_is_cancelled_when_a_local_conversion_is_taken() {
    let world = World::new()
        .converting(|work| async move {
            work.notes.note(created("early"));
            Ok(Made { left: Left::Job(Some("found late".to_owned())), ..as_text(&work)? })
        })
        .storing(|_| std::future::pending());
    let bench = Bench::new(world).await;
    let id = bench.accept(spec("d"), "x").await;
    // Storing takes its time, and the job is not left running meanwhile.
    bench.happened(id, "remote_job_cancelled").await;
    assert_eq!(*bench.world.abandoned.lock().unwrap(), ["found late"]);
    let task = bench.task(id).await;
    assert_eq!((task.phase, task.remote_job_id.as_deref()), (Phase::Storing, Some("found late")));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_may_still_run_is_cancelled_when_its_task_fails_or_panics() {
    let world = World::new().leaving(Left::Job(None)).converting(|work| async move {
        let document = work.task.spec.document_id.clone();
        work.notes.note(created(&document));
        tokio::task::yield_now().await;
        assert!(document != "panics", "a fault");
        Err("The remote conversion failed.".to_owned())
    });
    let bench = Bench::new(world).await;
    for document in ["fails", "panics"] {
        let id = bench.accept(spec(document), "x").await;
        assert_eq!(bench.ended(id).await.phase, Phase::Failed);
        bench.happened(id, "remote_job_cancelled").await;
    }
    assert_eq!(*bench.world.abandoned.lock().unwrap(), ["fails", "panics"]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_hangs_up_changes_nothing() {
    let world = World::new().converting(|work| async move {
        if work.task.spec.document_id == "slow" {
            work.cancel.cancelled().await;
        }
        as_text(&work)
    });
    let bench = Bench::new(world).await;
    // Each future is polled once and dropped.
    let accepted = Uuid::now_v7();
    let accepting = bench.pipeline.accept(accepted, spec("d"), Some(bench.incoming("x")));
    assert!(accepting.now_or_never().is_none());
    bench.happened(accepted, "completed").await;
    let slow = bench.accept(spec("slow"), "x").await;
    bench.happened(slow, "started").await;
    assert!(bench.pipeline.cancel(slow).now_or_never().is_none());
    assert_eq!(bench.ended(slow).await.phase, Phase::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_for_its_turn_is_cancelled_with_its_source() {
    let world = World::new().converting(|_| std::future::pending());
    let bench = Bench::new(world).await;
    let first = bench.accept(spec("d"), "x").await;
    let second = bench.accept(spec("d"), "y").await;
    bench.until(first, |task| task.phase == Phase::Converting).await;
    assert_eq!(bench.files(), 2);
    assert_eq!(bench.pipeline.cancel(second).await.unwrap(), Cancelled::Done);
    assert_eq!(bench.files(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_conversion_that_comes_after_the_cancel_is_dropped() {
    let world = World::new().converting(|work| async move {
        // It does not listen, and ends well.
        work.cancel.cancelled().await;
        Ok(made("too late", "local"))
    });
    let bench = Bench::new(world).await;
    let id = bench.accept(spec("d"), "x").await;
    bench.until(id, |task| task.phase == Phase::Converting).await;
    bench.pipeline.cancel(id).await.unwrap();
    assert_eq!(bench.ended(id).await.phase, Phase::Failed);
    assert!(bench.world.texts("d").is_empty());
    assert_eq!(bench.events(id).await, ["accepted", "started", "cancelled"]);
}

#[tokio::test(start_paused = true)]
async fn a_library_that_is_away_is_tried_again_and_one_that_refuses_is_not() {
    // By then it was away for most of a day.
    let away = |calls| async move {
        let message = "The library is away.".to_owned();
        if calls < 250 { Err(ShelfError { message, retryable: true }) } else { Ok(()) }
    };
    let bench = Bench::new(World::new().storing(away)).await;
    let id = bench.accept(spec("d"), "x").await;
    assert_eq!(bench.ended(id).await.phase, Phase::Succeeded);
    let events = bench.events(id).await;
    assert_eq!(events, ["accepted", "started", "continued", "storing_failed", "completed"]);

    let refuses = |_| async { Err(ShelfError { message: "No.".to_owned(), retryable: false }) };
    let bench = Bench::new(World::new().storing(refuses)).await;
    let id = bench.accept(spec("d"), "x").await;
    let task = bench.ended(id).await;
    assert_eq!((task.phase, task.stage), (Phase::Failed, Stage::Storing));
    assert_eq!(task.error.as_deref(), Some("The document could not be stored: No."));
}

#[tokio::test(start_paused = true)]
async fn tasks_are_forgotten_a_week_after_their_end() {
    let bench = Bench::new(World::new()).await;
    let id = bench.accept(spec("d"), "x").await;
    bench.ended(id).await;
    tokio::time::sleep(Duration::from_secs(6 * 86_400)).await;
    assert!(bench.pipeline.store().task(id).await.unwrap().is_some());
    tokio::time::sleep(Duration::from_secs(86_400 + 7200)).await;
    assert!(bench.pipeline.store().task(id).await.unwrap().is_none());
}
