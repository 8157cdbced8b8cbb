//! Whole conversions, from the decision to the outcome.

use api::Kind;

use super::*;
use crate::{ConversionError, FallbackReason, Method, Outcome, Pace, Reason, Takeover, idempotency_key};

struct Ran {
    result: Result<Outcome, ConversionError>,
    told: Vec<String>,
    local: Local,
}

impl Ran {
    fn ok(&self) -> &Outcome {
        self.result.as_ref().unwrap()
    }

    /// The document came of the remote job, and nothing was converted locally.
    fn is_remote(&self) {
        let outcome = self.ok();
        assert_eq!((outcome.method, outcome.converted.content.as_str()), (Method::Remote, "# Remote"));
        assert_eq!(outcome.remote_job_id.as_deref(), Some("job-1"));
        assert_eq!((&outcome.fallback, outcome.takeover), (&None, None));
        assert_eq!(self.local.running(), 0);
    }

    /// The document was converted locally, once.
    fn is_local(&self) -> (Option<&FallbackReason>, Option<Takeover>) {
        let outcome = self.ok();
        assert_eq!((outcome.method, outcome.converted.content.as_str()), (Method::Local, "# Local"));
        assert_eq!((self.local.begun(), self.local.running()), (1, 0));
        (outcome.fallback.as_ref(), outcome.takeover)
    }
}

async fn run(plane: &Plane, task: &ConversionTask) -> Ran {
    run_with(plane, task, Local::new()).await
}

async fn run_with(plane: &Plane, task: &ConversionTask, local: Local) -> Ran {
    let told = Told::default();
    let result = plane.ingestion().convert(task, &local, &told).await;
    Ran { result, told: told.words(), local }
}

#[tokio::test]
async fn a_recording_is_uploaded_converted_remotely_and_fetched() {
    let (plane, recording) = (Plane::start().await, recording());
    plane.statuses(&["pending", "processing", "processing", "completed"]);
    plane.answers(Asked::Status, {
        let held = json!({"poll_again_in_seconds": 0});
        let mut processing = status_of("processing");
        processing.as_object_mut().unwrap().extend(held.as_object().unwrap().clone());
        [Reply::json(&status_of("pending")), Reply::json(&processing), Reply::json(&status_of("completed"))]
    });
    let ran = run(&plane, &recording.task).await;
    ran.is_remote();
    let outcome = ran.ok();
    assert_eq!(outcome.converted.metadata["by"], "gpu-1");
    assert!((outcome.converted.processing_time - 2.5).abs() < f64::EPSILON);
    assert_eq!(outcome.decision.reason, Reason::WorkerAvailable);
    assert_eq!(ran.local.begun(), 0);
    assert_eq!(
        ran.told,
        [
            "decided worker_available",
            "created job-1",
            "remote pending 40 -",
            "remote processing 40 listening",
            "remote completed 40 listening"
        ]
    );
    let key = idempotency_key("task-1");
    for asked in [Asked::Uploads, Asked::Create] {
        assert_eq!(plane.last(asked).headers["idempotency-key"].to_str().unwrap(), key);
    }
    assert_eq!(&plane.last(Asked::Object).body[..], b"sound");
    assert_eq!(
        plane.last(Asked::Create).json(),
        json!({
            "source_file_path": "sources/t/u/talk.mp3", "content_type": "audio", "task_options": {},
            "ingestion_task_id": "task-1", "timeout_seconds": 3600, "fallback_to_local": true,
        })
    );
    assert_eq!(plane.last(Asked::List).query, "content_type=audio&ingestion_task_id=task-1&limit=1");
    let held: Vec<String> =
        plane.seen().into_iter().filter(|seen| seen.asked == Asked::Status).map(|seen| seen.query).collect();
    assert_eq!(held, ["", "wait_seconds=20", "wait_seconds=20"]);
    assert_eq!(plane.count(Asked::Cancel), 0);
}

#[tokio::test]
async fn the_upload_is_told_byte_by_byte() {
    let (plane, recording, told) = (Plane::start().await, recording(), Told::default());
    plane.ingestion().convert(&recording.task, &Local::new(), &told).await.unwrap();
    let uploading: Vec<String> =
        told.all().into_iter().filter(|word| word.starts_with("uploading")).collect();
    assert_eq!(uploading.first().map(String::as_str), Some("uploading 0/5"));
    assert_eq!(uploading.last().map(String::as_str), Some("uploading 5/5"));
}

#[tokio::test]
async fn every_field_of_the_task_counts() {
    let (plane, mut recording) = (Plane::start().await, recording());
    let task = &mut recording.task;
    task.options = json!({"language": "de"}).as_object().unwrap().clone();
    task.total_timeout = Some(Duration::from_secs(1800));
    task.priority = Some(api::create::PriorityName::High);
    task.webhook_url = Some("https://example.com/ends".parse().unwrap());
    run(&plane, task).await.is_remote();
    let created = plane.last(Asked::Create).json();
    assert_eq!(
        created,
        json!({
            "source_file_path": "sources/t/u/talk.mp3", "content_type": "audio",
            "task_options": {"language": "de"}, "ingestion_task_id": "task-1", "timeout_seconds": 3600,
            "total_timeout_seconds": 1800, "fallback_to_local": true, "priority": "high",
            "webhook_url": "https://example.com/ends",
        })
    );
    run(&plane, task).await.is_remote();
    assert_eq!(plane.last(Asked::Create).json(), created, "or it would be another request");
}

#[tokio::test]
async fn a_url_is_named_and_not_uploaded() {
    let (plane, mut recording) = (Plane::start().await, recording());
    recording.task.source = Source::Url("https://youtu.be/a".to_owned());
    recording.task.content_type = ContentType::Youtube;
    plane.answers(Asked::Workers, [workers(true, "youtube")]);
    run(&plane, &recording.task).await.is_remote();
    assert_eq!(plane.last(Asked::Create).json()["source_file_path"], "https://youtu.be/a");
    assert_eq!((plane.count(Asked::Uploads), plane.count(Asked::Object)), (0, 0));
}

#[tokio::test]
async fn a_url_may_be_of_an_own_type_and_is_named_as_the_control_plane_takes_it() {
    let (plane, mut recording) = (Plane::start().await, recording());
    recording.task.source = Source::Url("HTTPS://Example.com/Feed".to_owned());
    recording.task.content_type = "x-feed".parse().unwrap();
    plane.answers(Asked::Workers, [workers(true, "x-feed")]);
    let content_types = vec![recording.task.content_type.clone()];
    let ingestion = Ingestion::new(plane.client(), RemoteSettings { content_types, ..enabled() });
    let outcome = ingestion.convert(&recording.task, &Local::new(), &()).await.unwrap();
    assert_eq!(outcome.method, Method::Remote);
    assert_eq!(plane.last(Asked::Create).json()["source_file_path"], "https://Example.com/Feed");
}

#[tokio::test]
async fn nothing_is_touched_when_the_rules_are_against_it() {
    let (plane, mut recording) = (Plane::start().await, recording());
    // Not even when an earlier run, under other settings, has left a job.
    recording.task.remote_job_id = Some("job-1".to_owned());
    let not_requested = ConversionTask { requested: false, ..recording.task.clone() };
    let not_supported = ConversionTask { content_type: ContentType::Image, ..recording.task.clone() };
    for (task, settings, reason) in [
        (&not_requested, enabled(), Reason::NotRequested),
        (&not_supported, enabled(), Reason::TypeNotSupported),
        (&recording.task, RemoteSettings::default(), Reason::NotEnabled),
    ] {
        let (local, told) = (Local::new(), Told::default());
        let outcome = Ingestion::new(plane.client(), settings).convert(task, &local, &told).await.unwrap();
        assert_eq!((outcome.method, outcome.decision.reason), (Method::Local, reason));
        assert_eq!((outcome.fallback, outcome.takeover, outcome.remote_job_id), (None, None, None));
        assert_eq!(told.all(), [format!("decided {reason}"), "local 50 half of it".to_owned()]);
    }
    not_requested.cancel.cancel();
    let given_up = plane.ingestion().convert(&not_requested, &Local::new(), &()).await;
    assert!(matches!(given_up, Err(ConversionError::Cancelled { job_id: None, takeover: None })));
    assert!(plane.seen().is_empty());
}

#[tokio::test]
async fn what_is_no_source_is_refused_before_any_call() {
    let (plane, recording) = (Plane::start().await, recording());
    let folder = recording.path.parent().unwrap().to_owned();
    let empty = folder.join("empty.mp3");
    std::fs::write(&empty, b"").unwrap();
    let of = |source, content_type: &str, task_id: &str| {
        let content_type = content_type.parse().unwrap();
        ConversionTask { source, content_type, task_id: task_id.to_owned(), ..recording.task.clone() }
    };
    let file = |path: PathBuf| of(Source::File { path, name: "talk.mp3".to_owned() }, "audio", "task-1");
    let url = |url: &str, content_type| of(Source::Url(url.to_owned()), content_type, "task-1");
    for (task, said) in [
        (file(folder.join("missing.mp3")), "Cannot read the file"),
        (file(folder), "is a directory"),
        (file(empty), "is empty; there is nothing to convert."),
        (url("talk.mp3", "web"), "\"talk.mp3\" is not an http:// or https:// URL."),
        (url("https://example.com/a b", "web"), "has spaces or control characters"),
        (
            url("https://example.com/talk.mp3", "audio"),
            "as web, youtube or x-…, not as audio; download the file first.",
        ),
        (of(recording.task.source.clone(), "audio", ""), "must be 1 to 255 characters"),
        (of(recording.task.source.clone(), "audio", "a\nb"), "without control characters"),
        (of(recording.task.source.clone(), "audio", &"a".repeat(256)), "must be 1 to 255 characters"),
    ] {
        let ran = run(&plane, &task).await;
        let error = ran.result.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert_eq!((ran.local.begun(), ran.told.len()), (0, 0));
    }
    assert!(plane.seen().is_empty());
}

#[tokio::test]
async fn without_a_live_worker_only_questions_are_asked() {
    let (plane, recording) = (Plane::start().await, recording());
    plane.answers(Asked::Workers, [workers(false, "audio")]);
    let ran = run(&plane, &recording.task).await;
    assert_eq!(ran.is_local(), (None, Some(Takeover::NoJob)));
    assert_eq!(ran.told, ["decided no_live_worker", "local 50 half of it"]);
    let questions = [Asked::Workers, Asked::Statistics, Asked::List];
    assert!(plane.seen().iter().all(|seen| questions.contains(&seen.asked)));
}

#[tokio::test]
async fn a_control_plane_that_is_away_costs_nothing_but_the_question() {
    let (plane, recording) = (Plane::start().await, recording());
    plane.answers_all(&Reply::HangUp);
    let ran = run(&plane, &recording.task).await;
    assert_eq!(ran.is_local(), (None, Some(Takeover::Unconfirmed)));
    assert_eq!(ran.ok().decision.reason, Reason::Unreachable);
}

#[tokio::test]
async fn an_older_server_is_tried() {
    let (plane, recording) = (Plane::start().await, recording());
    for asked in [Asked::Workers, Asked::Statistics, Asked::List] {
        plane.answers(asked, [Reply::bare(404)]);
    }
    let ran = run(&plane, &recording.task).await;
    ran.is_remote();
    assert_eq!(ran.ok().decision.reason, Reason::WorkersUnknown);
}

#[tokio::test]
async fn a_refused_job_is_told_and_converted_locally() {
    for (asked, reply, word) in [
        (Asked::Create, Reply::problem(Kind::Invalid, "task_options must be small."), "refused"),
        (Asked::Create, Reply::problem(Kind::TooLarge, "Too large."), "refused"),
        (Asked::Create, Reply::bare(403), "refused"),
        (Asked::Create, Reply::problem(Kind::Unauthorized, "Revoked."), "unauthorized"),
        (Asked::Uploads, Reply::problem(Kind::Invalid, "size_bytes is too large."), "refused"),
        (Asked::Uploads, Reply::problem(Kind::Forbidden, "Needs ingest."), "unauthorized"),
        (Asked::Object, Reply::bare(400), "upload_failed"),
    ] {
        let (plane, recording) = (Plane::start().await, recording());
        plane.answers(asked, [reply]);
        let ran = run(&plane, &recording.task).await;
        let (why, takeover) = ran.is_local();
        assert_eq!((why.unwrap().as_str(), takeover), (word, Some(Takeover::NoJob)));
        assert!(ran.told.contains(&format!("falling back {word}")), "{:?}", ran.told);
        assert_eq!((plane.count(Asked::Cancel), ran.ok().remote_job_id.as_ref()), (0, None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_not_now_is_asked_again() {
    let (plane, recording) = (Plane::start().await, recording());
    let created = Reply::json(&json!({"job_id": "job-1", "status": "pending", "created_at": "c"}));
    let later = Reply::problem(Kind::TooManyRequests, "Slowly.").header("retry-after", 7);
    plane
        .answers(Asked::Create, [later, Reply::problem(Kind::Unavailable, "Later."), Reply::HangUp, created]);
    run(&plane, &recording.task).await.is_remote();
    assert_eq!(plane.count(Asked::Create), 4);
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_is_not_answered_may_have_made_a_job_which_is_found_and_taken_over() {
    for late in [false, true] {
        let (plane, mut recording) = (Plane::start().await, recording());
        let created = Reply::json(&json!({"job_id": "job-1", "status": "pending", "created_at": "c"}));
        let (unanswered, word) = if late {
            recording.task.deadline = SystemTime::now() + Duration::from_secs(10);
            (vec![Reply::Silence], "deadline")
        } else {
            (vec![Reply::bare(504); 5], "unreachable")
        };
        let asked = unanswered.len();
        plane.answers(Asked::Create, [unanswered, vec![created]].concat());
        let ran = run(&plane, &recording.task).await;
        let (why, takeover) = ran.is_local();
        assert_eq!((why.unwrap().as_str(), takeover), (word, Some(Takeover::Confirmed)));
        assert_eq!((plane.count(Asked::Create), plane.count(Asked::Cancel)), (asked + 1, 1));
        assert_eq!(plane.last(Asked::Cancel).json(), json!({"takeover": true}));
        assert_eq!(ran.ok().remote_job_id.as_deref(), Some("job-1"));
        assert_eq!(ran.told[2..], ["found job-1", "local 50 half of it"]);
    }
}

#[tokio::test(start_paused = true)]
async fn where_local_is_not_allowed_a_job_that_is_found_at_the_end_is_told_with_what_became_of_it() {
    for (answer, takeover) in [
        (Reply::refused("cancelled"), Takeover::Confirmed),
        (Reply::problem(Kind::Unauthorized, "Revoked."), Takeover::Unconfirmed),
    ] {
        let (plane, mut recording) = (Plane::start().await, recording());
        recording.task.fallback_to_local = false;
        let created = Reply::json(&json!({"job_id": "job-1", "status": "pending", "created_at": "c"}));
        plane.answers(Asked::Create, [vec![Reply::bare(504); 5], vec![created]].concat());
        plane.answers(Asked::Cancel, [answer]);
        let ran = run(&plane, &recording.task).await;
        let error = ran.result.unwrap_err();
        assert_eq!((error.remote_job_id(), error.takeover()), (Some("job-1"), Some(takeover)));
        assert_eq!(ran.told.last().unwrap(), "found job-1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_is_never_answered_does_not_hold_local_work_up() {
    let (plane, recording) = (Plane::start().await, recording());
    plane.answers(Asked::Create, [Reply::bare(504)]);
    let begun = tokio::time::Instant::now();
    let ran = run(&plane, &recording.task).await;
    let (why, takeover) = ran.is_local();
    assert_eq!((why.unwrap().as_str(), takeover), ("unreachable", Some(Takeover::Unconfirmed)));
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_fails_times_out_or_is_cancelled_is_taken_over_and_converted_locally() {
    for (status, word, said) in [
        ("failed", "failed", "The remote conversion failed: no speech in it"),
        ("timeout", "timeout", "The remote job ran out of time: no speech in it"),
        ("cancelled", "cancelled", "The remote job was cancelled."),
    ] {
        let (plane, recording) = (Plane::start().await, recording());
        plane.statuses(&["processing", status]);
        let ran = run(&plane, &recording.task).await;
        let (why, takeover) = ran.is_local();
        assert_eq!((why.unwrap().as_str(), takeover), (word, Some(Takeover::Confirmed)));
        assert_eq!(why.unwrap().to_string(), said);
        let falling = ran.told.iter().position(|told| *told == format!("falling back {word}")).unwrap();
        assert_eq!(ran.told[falling + 1], "local 50 half of it");
        assert_eq!(plane.last(Asked::Cancel).json(), json!({"takeover": true}));
    }
}

#[tokio::test]
async fn a_result_that_is_no_document_is_a_failure() {
    for document in
        [json!({}), json!({"content": ""}), json!({"content": " \n\t"}), json!([1]), json!({"content": 7})]
    {
        let (plane, recording) = (Plane::start().await, recording());
        plane.answers(Asked::Document, [Reply::json(&document)]);
        let ran = run(&plane, &recording.task).await;
        let (why, takeover) = ran.is_local();
        assert_eq!(why.unwrap().as_str(), "unusable_result", "{document}");
        assert_eq!(takeover, Some(Takeover::CompletedUnusable));
        assert_eq!(plane.count(Asked::Cancel), 0, "a completed job cannot be taken over");
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_cannot_be_fetched_is_a_failure() {
    for (asked, reply) in [
        (Asked::Result, Reply::problem(Kind::NotFound, "Not stored any more.")),
        (Asked::Result, Reply::HangUp),
        (Asked::Document, Reply::bare(403)),
        (Asked::Document, Reply::bare(500)),
        (Asked::Document, Reply::Silence),
    ] {
        let (plane, recording) = (Plane::start().await, recording());
        plane.answers(asked, [reply.clone()]);
        let ran = run(&plane, &recording.task).await;
        let (why, takeover) = ran.is_local();
        assert_eq!(why.unwrap().as_str(), "result_unavailable", "{reply:?}");
        assert_eq!(takeover, Some(Takeover::CompletedUnusable));
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_is_fetched_again_after_a_passing_failure() {
    let (plane, recording) = (Plane::start().await, recording());
    let document = Reply::json(&json!({"content": "# Remote"}));
    plane.answers(Asked::Document, [Reply::bare(503), Reply::HangUp, document]);
    run(&plane, &recording.task).await.is_remote();
}

#[tokio::test]
async fn where_local_is_not_allowed_the_failure_is_the_end() {
    let (plane, mut recording) = (Plane::start().await, recording());
    recording.task.fallback_to_local = false;
    plane.statuses(&["failed"]);
    plane.answers(Asked::Cancel, [Reply::refused("failed")]);
    let ran = run(&plane, &recording.task).await;
    let Err(error @ ConversionError::Remote { reason, decision, .. }) = &ran.result else {
        panic!("{:?}", ran.result)
    };
    assert_eq!((reason.as_str(), error.remote_job_id()), ("failed", Some("job-1")));
    assert_eq!(error.takeover(), Some(Takeover::Confirmed));
    assert_eq!(decision.reason, Reason::WorkerAvailable);
    assert_eq!(ran.local.begun(), 0);
    assert_eq!(plane.last(Asked::Cancel).json(), json!({"takeover": false}), "it may be retried by hand");
    assert_eq!(plane.last(Asked::Create).json()["fallback_to_local"], false);
}

#[tokio::test]
async fn where_local_is_not_allowed_the_remote_one_is_tried_in_any_case() {
    let (plane, mut recording) = (Plane::start().await, recording());
    recording.task.fallback_to_local = false;
    plane.answers(Asked::Workers, [workers(false, "audio")]);
    let ran = run(&plane, &recording.task).await;
    ran.is_remote();
    let decision = &ran.ok().decision;
    assert_eq!((decision.reason, decision.figures.unwrap().live_workers), (Reason::NoFallback, Some(0)));
    assert!(
        decision
            .to_string()
            .ends_with("although: No worker that takes audio has been seen in the last 120 s.")
    );
}

#[tokio::test(start_paused = true)]
async fn without_local_and_without_time_it_ends_as_late() {
    let (plane, mut recording) = (Plane::start().await, recording());
    recording.task.fallback_to_local = false;
    recording.task.deadline = SystemTime::now();
    let ran = run(&plane, &recording.task).await;
    assert!(matches!(&ran.result, Err(ConversionError::Remote { reason: FallbackReason::Deadline, .. })));
    assert_eq!((plane.count(Asked::Uploads), plane.count(Asked::Create)), (0, 0));
}

#[tokio::test]
async fn a_failure_of_both_is_told_with_both_causes() {
    let (plane, recording) = (Plane::start().await, recording());
    plane.statuses(&["failed"]);
    let ran = run_with(&plane, &recording.task, Local::answering(Err("no converter here"))).await;
    let Err(error @ ConversionError::Local { message, fallback, .. }) = &ran.result else {
        panic!("{:?}", ran.result)
    };
    assert_eq!((message.as_str(), error.remote_job_id()), ("no converter here", Some("job-1")));
    assert_eq!(error.takeover(), Some(Takeover::Confirmed));
    assert_eq!(fallback.as_ref().unwrap().as_str(), "failed");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_holds_no_calls_is_polled_and_a_webhook_spares_most_of_it() {
    for (again, wake, calls) in
        [(Some(10), false, 32), (None, false, 32), (Some(30), false, 12), (Some(10), true, 7)]
    {
        let (plane, mut recording) = (Plane::start().await, recording());
        let mut pending = status_of("pending");
        pending["poll_again_in_seconds"] = json!(again);
        plane.answers(Asked::Status, [Reply::json(&pending)]);
        recording.task.wake = wake.then(Arc::default);
        recording.task.deadline = SystemTime::now() + Duration::from_secs(305);
        assert_eq!(run(&plane, &recording.task).await.is_local().0, Some(&FallbackReason::Deadline));
        assert_eq!(plane.count(Asked::Status), calls, "{again:?} {wake}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_looks_on_sees_it_by_the_second() {
    let (plane, mut recording) = (Plane::start().await, recording());
    recording.task.pace = Pace::Lively;
    recording.task.deadline = SystemTime::now() + Duration::from_millis(9500);
    plane.statuses(&["processing"]);
    run(&plane, &recording.task).await.is_local();
    assert_eq!(plane.count(Asked::Status), 10);
    assert!(plane.seen().iter().all(|seen| !seen.query.contains("wait_seconds")));
}

#[tokio::test(start_paused = true)]
async fn a_webhook_wakes_the_waiting() {
    let (plane, mut recording) = (Plane::start().await, recording());
    let wake = Arc::new(Notify::new());
    recording.task.wake = Some(Arc::clone(&wake));
    plane.answers(
        Asked::Status,
        [Reply::json(&status_of("pending")), Reply::Silence, Reply::json(&status_of("completed"))],
    );
    let converting = async {
        let ran = run(&plane, &recording.task).await;
        ran.is_remote();
    };
    let begun = tokio::time::Instant::now();
    tokio::join!(converting, async {
        plane.until(Asked::Status, 2).await;
        wake.notify_one();
    });
    assert!(begun.elapsed() < Duration::from_secs(1), "the held call was not waited for");
}
