//! Deadlines, takeovers, crashes and cancellations: whose result it is in the end.

use api::Kind;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{ConversionError, FallbackReason, Method, Outcome, Reason, Takeover};

const IN_TIME: Duration = Duration::from_secs(60);

/// A recording whose job never ends by itself.
async fn endless() -> (Arc<Plane>, Recording) {
    let (plane, mut recording) = (Plane::start().await, recording());
    plane.statuses(&["processing"]);
    recording.task.deadline = SystemTime::now() + IN_TIME;
    (plane, recording)
}

async fn convert(plane: &Plane, recording: &Recording, local: &Local) -> (Outcome, Vec<String>) {
    let told = Told::default();
    let outcome = plane.ingestion().convert(&recording.task, local, &told).await.unwrap();
    (outcome, told.words())
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_late_is_taken_over_before_local_work_begins() {
    let ((plane, recording), local) = (endless().await, Local::new());
    let begun = tokio::time::Instant::now();
    let (outcome, told) = convert(&plane, &recording, &local).await;
    // The clock of the test stands still, and the machine's has moved on a little since the deadline was set.
    let late = IN_TIME.saturating_sub(begun.elapsed());
    assert!(late < Duration::from_secs(5) && begun.elapsed() <= IN_TIME, "{:?}", begun.elapsed());
    assert_eq!((outcome.method, outcome.fallback), (Method::Local, Some(FallbackReason::Deadline)));
    assert_eq!(outcome.takeover, Some(Takeover::Confirmed));
    assert_eq!(told[told.len() - 2..], ["falling back deadline", "local 50 half of it"]);
    assert_eq!(plane.last(Asked::Cancel).json(), json!({"takeover": true}));
}

#[tokio::test(start_paused = true)]
async fn a_takeover_that_comes_too_late_takes_the_remote_result() {
    let ((plane, recording), local) = (endless().await, Local::new());
    plane.answers(Asked::Cancel, [Reply::refused("completed")]);
    let (outcome, told) = convert(&plane, &recording, &local).await;
    assert_eq!((outcome.method, outcome.converted.content.as_str()), (Method::Remote, "# Remote"));
    assert_eq!((outcome.fallback, outcome.takeover, local.begun()), (None, None, 0));
    assert_eq!(told[told.len() - 2..], ["falling back deadline", "remote after all job-1"]);
}

#[tokio::test(start_paused = true)]
async fn where_local_is_not_allowed_a_late_job_is_cancelled_unless_it_is_completed() {
    let (plane, mut recording) = endless().await;
    recording.task.fallback_to_local = false;
    let local = Local::new();
    let late = plane.ingestion().convert(&recording.task, &local, &()).await.unwrap_err();
    assert_eq!(late.to_string(), "The remote job was not over in time.");
    assert_eq!(plane.last(Asked::Cancel).json(), json!({"takeover": false}));
    plane.answers(Asked::Cancel, [Reply::refused("completed")]);
    recording.task.deadline = SystemTime::now() + IN_TIME;
    assert_eq!(convert(&plane, &recording, &local).await.0.method, Method::Remote);
    assert_eq!(local.begun(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_late_result_that_cannot_be_used_is_replaced_by_a_local_one() {
    let ((plane, recording), local) = (endless().await, Local::new());
    plane.answers(Asked::Cancel, [Reply::refused("completed")]);
    plane.answers(Asked::Document, [Reply::json(&json!({"content": " "}))]);
    let (outcome, told) = convert(&plane, &recording, &local).await;
    assert_eq!(outcome.fallback.unwrap().as_str(), "unusable_result");
    assert_eq!(outcome.takeover, Some(Takeover::CompletedUnusable));
    assert_eq!(
        told[told.len() - 3..],
        ["falling back deadline", "falling back unusable_result", "local 50 half of it"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_late_result_that_does_not_arrive_is_waited_for_some_seconds_and_no_longer() {
    let ((plane, recording), local) = (endless().await, Local::new());
    plane.answers(Asked::Cancel, [Reply::refused("completed")]);
    plane.answers(Asked::Document, [Reply::Silence]);
    let begun = tokio::time::Instant::now();
    let (outcome, _) = convert(&plane, &recording, &local).await;
    assert!(begun.elapsed() <= IN_TIME + Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(outcome.fallback.unwrap().as_str(), "result_unavailable");
    assert_eq!((outcome.method, outcome.takeover), (Method::Local, Some(Takeover::CompletedUnusable)));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_gone_needs_no_takeover() {
    let ((plane, recording), local) = (endless().await, Local::new());
    let gone = Reply::problem(Kind::NotFound, "Job job-1 not found.");
    plane.answers(Asked::Status, [Reply::json(&status_of("processing")), gone.clone()]);
    plane.answers(Asked::Cancel, [gone]);
    let (outcome, _) = convert(&plane, &recording, &local).await;
    assert_eq!(
        (outcome.fallback, outcome.takeover),
        (Some(FallbackReason::JobGone), Some(Takeover::Confirmed))
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_revoked_while_it_is_waited_ends_the_waiting() {
    let ((plane, recording), local) = (endless().await, Local::new());
    let revoked = Reply::problem(Kind::Unauthorized, "Revoked.");
    plane.answers(Asked::Status, [Reply::json(&status_of("processing")), revoked.clone()]);
    plane.answers(Asked::Cancel, [revoked]);
    let (outcome, _) = convert(&plane, &recording, &local).await;
    assert_eq!(outcome.fallback.unwrap().as_str(), "unauthorized");
    assert_eq!(outcome.takeover, Some(Takeover::Unconfirmed));
}

#[tokio::test(start_paused = true)]
async fn an_outage_while_it_is_waited_is_borne() {
    let ((plane, mut recording), local) = (endless().await, Local::new());
    recording.task.deadline = SystemTime::now() + Duration::from_secs(1800);
    let mut statuses = vec![Reply::json(&status_of("processing"))];
    let strange = [Reply::HangUp, Reply::bare(502), Reply::bare(404), Reply::bare(200)];
    statuses.extend(strange.iter().cycle().take(12).cloned());
    statuses.push(Reply::json(&status_of("completed")));
    plane.answers(Asked::Status, statuses);
    let (outcome, _) = convert(&plane, &recording, &local).await;
    assert_eq!((outcome.method, local.begun()), (Method::Remote, 0));
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_stays_away_is_waited_for_and_then_done_without() {
    let ((plane, mut recording), local) = (endless().await, Local::new());
    recording.task.deadline = SystemTime::now() + Duration::from_secs(1800);
    plane.answers(Asked::Status, [Reply::json(&status_of("processing")), Reply::HangUp]);
    plane.answers(Asked::Cancel, [Reply::HangUp]);
    let begun = tokio::time::Instant::now();
    let (outcome, _) = convert(&plane, &recording, &local).await;
    let patience = enabled().patience;
    assert!(begun.elapsed() >= patience && begun.elapsed() < patience * 2, "{:?}", begun.elapsed());
    assert_eq!(outcome.fallback.unwrap().as_str(), "unreachable");
    assert_eq!(outcome.takeover, Some(Takeover::Unconfirmed));
    assert_eq!(outcome.remote_job_id.as_deref(), Some("job-1"));
}

/// A conversion whose takeover is not answered until local work is under way, and then like this; the local work ends
/// before or after that.
async fn confirmed_late(answer: Reply, local_first: bool) -> (Outcome, Local, Vec<String>) {
    let (plane, recording) = endless().await;
    let gate = Arc::new(Notify::new());
    let (local, told) = (Local::new().behind(&gate), Told::default());
    // A proxy's own page, which says nothing of the job.
    plane.answers(Asked::Cancel, [Reply::bare(404)]);
    let ingestion = plane.ingestion();
    let converting = ingestion.convert(&recording.task, &local, &told);
    let (outcome, ()) = tokio::join!(converting, async {
        while local.begun() == 0 {
            plane.asked.notified().await;
        }
        let asked = plane.count(Asked::Cancel);
        if local_first {
            plane.answers(Asked::Cancel, [answer]);
            gate.notify_one();
        } else {
            plane.answers(Asked::Cancel, [Reply::HangUp, answer]);
            plane.until(Asked::Cancel, asked + 2).await;
            // A confirmed takeover leaves the local work to end by itself.
            gate.notify_one();
        }
    });
    let outcome = outcome.unwrap();
    (outcome, local, told.words())
}

#[tokio::test(start_paused = true)]
async fn local_work_that_began_without_a_takeover_is_dropped_for_a_remote_result() {
    for local_first in [false, true] {
        let (outcome, local, told) = confirmed_late(Reply::refused("completed"), local_first).await;
        assert_eq!((outcome.method, outcome.converted.content.as_str()), (Method::Remote, "# Remote"));
        assert_eq!((local.begun(), local.running()), (1, 0));
        assert_eq!(told.last().unwrap(), "remote after all job-1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_takeover_that_is_confirmed_during_local_work_is_told() {
    for local_first in [false, true] {
        let cancelled =
            Reply::json(&json!({"job_id": "job-1", "status": "cancelled", "continued_by": "local"}));
        let (outcome, local, _) = confirmed_late(cancelled, local_first).await;
        assert_eq!((outcome.method, outcome.takeover), (Method::Local, Some(Takeover::Confirmed)));
        assert_eq!((outcome.fallback, local.begun()), (Some(FallbackReason::Deadline), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_local_failure_does_not_lose_a_remote_result_that_came_meanwhile() {
    let (plane, recording) = endless().await;
    let gate = Arc::new(Notify::new());
    let local = Local::answering(Err("no converter here")).behind(&gate);
    plane.answers(Asked::Cancel, [Reply::HangUp]);
    let ingestion = plane.ingestion();
    let converting = ingestion.convert(&recording.task, &local, &());
    let (outcome, ()) = tokio::join!(converting, async {
        while local.begun() == 0 {
            plane.asked.notified().await;
        }
        plane.answers(Asked::Cancel, [Reply::refused("completed")]);
        gate.notify_one();
    });
    assert_eq!(outcome.unwrap().method, Method::Remote);
}

#[tokio::test]
async fn a_job_of_an_earlier_run_is_found_and_not_created_again() {
    for remembered in [false, true] {
        let (plane, mut recording, local) = (Plane::start().await, recording(), Local::new());
        if remembered {
            recording.task.remote_job_id = Some("job-1".to_owned());
        } else {
            plane.answers(Asked::List, [listed()]);
        }
        // What would be decided now is not asked any more.
        plane.answers(Asked::Workers, [workers(false, "audio")]);
        let (outcome, told) = convert(&plane, &recording, &local).await;
        assert_eq!((outcome.method, outcome.decision.reason), (Method::Remote, Reason::Resumed));
        assert_eq!(told[..2], ["decided resumed", "created job-1"]);
        assert_eq!((plane.count(Asked::Uploads), plane.count(Asked::Create), local.begun()), (0, 0, 0));
    }
}

#[tokio::test]
async fn a_job_that_was_completed_while_nobody_was_there_counts_though_it_is_late() {
    let (plane, mut recording, local) = (Plane::start().await, recording(), Local::new());
    recording.task.deadline = SystemTime::now() - Duration::from_secs(3600);
    plane.answers(Asked::List, [listed()]);
    assert_eq!(convert(&plane, &recording, &local).await.0.method, Method::Remote);
    plane.statuses(&["processing"]);
    let (outcome, _) = convert(&plane, &recording, &local).await;
    assert_eq!((outcome.method, outcome.fallback), (Method::Local, Some(FallbackReason::Deadline)));
    assert_eq!(outcome.takeover, Some(Takeover::Confirmed));
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_starts_again_with_the_caller_is_waited_for() {
    let (plane, mut recording, local) = (Plane::start().await, recording(), Local::new());
    recording.task.remote_job_id = Some("job-1".to_owned());
    plane.answers(
        Asked::Status,
        [Reply::HangUp, Reply::HangUp, Reply::bare(502), Reply::json(&status_of("completed"))],
    );
    assert_eq!(convert(&plane, &recording, &local).await.0.method, Method::Remote);
    assert_eq!(local.begun(), 0);
}

#[tokio::test]
async fn a_crash_during_local_work_leads_to_local_work_again() {
    let (plane, recording) = (Plane::start().await, recording());
    plane.answers(Asked::List, [listed()]);
    // What the job is since the earlier run has taken it over.
    plane.statuses(&["cancelled"]);
    let (outcome, _) = convert(&plane, &recording, &Local::new()).await;
    assert_eq!((outcome.method, outcome.takeover), (Method::Local, Some(Takeover::Confirmed)));
}

#[tokio::test]
async fn a_creation_under_other_settings_is_recognised_as_the_tasks_own() {
    let (plane, recording, local) = (Plane::start().await, recording(), Local::new());
    plane.answers(Asked::Create, [Reply::problem(Kind::IdempotencyMismatch, "Another request.")]);
    // The listing is behind at first.
    plane.answers(Asked::List, [Reply::json(&json!({"jobs": []})), listed()]);
    assert_eq!(convert(&plane, &recording, &local).await.0.method, Method::Remote);
    assert_eq!(local.begun(), 0);
}

#[tokio::test]
async fn a_run_can_be_dropped_at_any_call_and_run_again() {
    let calls = [
        Asked::List,
        Asked::Uploads,
        Asked::Object,
        Asked::Create,
        Asked::Status,
        Asked::Result,
        Asked::Document,
    ];
    for stops_at in calls {
        let (plane, recording, local) = (Plane::start().await, recording(), Local::new());
        let usual: Vec<Reply> = plane.script.lock().unwrap()[&stops_at].clone();
        plane.answers(stops_at, [Reply::Silence]);
        let ingestion = plane.ingestion();
        tokio::select! {
            result = ingestion.convert(&recording.task, &local, &()) => panic!("{result:?}"),
            () = plane.until(stops_at, 1) => {}
        }
        plane.answers(stops_at, usual);
        let created = plane.count(Asked::Create) > 0;
        if created {
            plane.answers(Asked::List, [listed()]);
        }
        let (outcome, _) = convert(&plane, &recording, &local).await;
        assert_eq!((outcome.method, local.begun()), (Method::Remote, 0), "{stops_at:?}");
        assert_eq!((plane.count(Asked::Create), plane.count(Asked::Cancel)), (1, 0), "{stops_at:?}");
    }
}

#[tokio::test]
async fn a_task_that_is_cancelled_cancels_its_job_and_converts_nothing() {
    let ((plane, recording), local) = (endless().await, Local::new());
    let ingestion = plane.ingestion();
    let converting = ingestion.convert(&recording.task, &local, &());
    let (result, ()) = tokio::join!(converting, async {
        plane.until(Asked::Status, 1).await;
        recording.task.cancel.cancel();
    });
    let error = result.unwrap_err();
    assert!(matches!(error, ConversionError::Cancelled { .. }));
    assert_eq!((error.remote_job_id(), error.takeover()), (Some("job-1"), Some(Takeover::Confirmed)));
    assert_eq!(plane.last(Asked::Cancel).json(), json!({"takeover": false}));
    assert_eq!(local.begun(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_cancelled_while_its_job_is_created_cancels_what_it_finds() {
    for found in [true, false] {
        let ((plane, recording), local) = (endless().await, Local::new());
        let usual = plane.script.lock().unwrap()[&Asked::Create].clone();
        plane.answers(Asked::Create, [Reply::Silence]);
        let ingestion = plane.ingestion();
        let converting = ingestion.convert(&recording.task, &local, &());
        let (result, ()) = tokio::join!(converting, async {
            plane.until(Asked::Create, 1).await;
            if found {
                plane.answers(Asked::Create, usual);
            }
            recording.task.cancel.cancel();
        });
        let Err(ConversionError::Cancelled { job_id, takeover }) = result else { panic!("{result:?}") };
        assert_eq!(job_id.is_some(), found);
        assert_eq!(takeover, Some(if found { Takeover::Confirmed } else { Takeover::Unconfirmed }));
        assert_eq!(plane.count(Asked::Cancel), usize::from(found));
    }
}

#[tokio::test]
async fn a_task_that_is_cancelled_before_anything_is_known_cancels_the_job_of_an_earlier_run() {
    let ((plane, recording), local) = (endless().await, Local::new());
    plane.answers(Asked::List, [listed()]);
    recording.task.cancel.cancel();
    let result = plane.ingestion().convert(&recording.task, &local, &()).await;
    assert!(matches!(result, Err(ConversionError::Cancelled { job_id: Some(_), .. })));
    assert_eq!((plane.count(Asked::Cancel), plane.count(Asked::Create)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn giving_up_does_not_wait_for_a_control_plane_that_is_away() {
    let ((plane, mut recording), local) = (endless().await, Local::new());
    recording.task.remote_job_id = Some("job-1".to_owned());
    recording.task.cancel = CancellationToken::new();
    recording.task.cancel.cancel();
    for reply in [Reply::HangUp, Reply::Silence] {
        plane.answers_all(&reply);
        let begun = tokio::time::Instant::now();
        let result = plane.ingestion().convert(&recording.task, &local, &()).await;
        assert!(matches!(result, Err(ConversionError::Cancelled { .. })));
        assert!(begun.elapsed() <= Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn cancelling_during_local_work_drops_it() {
    let (plane, recording) = (Plane::start().await, recording());
    plane.answers(Asked::Workers, [workers(false, "audio")]);
    let gate = Arc::new(Notify::new());
    let local = Local::new().behind(&gate);
    let cancel = recording.task.cancel.clone();
    let told = |event: Event<'_>| {
        if matches!(event, Event::Local { .. }) {
            cancel.cancel();
        }
    };
    let result = plane.ingestion().convert(&recording.task, &local, &told).await;
    assert!(matches!(result, Err(ConversionError::Cancelled { job_id: None, .. })));
    assert_eq!((local.begun(), local.running()), (1, 0));
    assert_eq!(plane.count(Asked::Cancel), 0);
}

#[test]
fn a_conversion_can_be_spawned() {
    fn is_send<T: Send>(_: T) {}
    let _ = |ingestion: Ingestion, task: ConversionTask, local: Local| {
        is_send(async move { ingestion.convert(&task, &local, &()).await });
    };
}
