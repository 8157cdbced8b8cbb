//! What is decided by what the control plane tells.

use std::time::Duration;

use api::Kind;
use domain::ContentType;

use super::*;
use crate::{Decision, Method, Reason};

async fn decided(plane: &Plane, within: u64) -> Decision {
    plane.ingestion().decide(&ContentType::Audio, true, Duration::from_secs(within)).await
}

#[tokio::test]
async fn a_live_worker_is_a_reason_for_it() {
    let plane = Plane::start().await;
    plane.answers(Asked::Statistics, [queue(2, false, Some(60.0))]);
    let decision = decided(&plane, 1800).await;
    assert_eq!((decision.method, decision.reason), (Method::Remote, Reason::WorkerAvailable));
    assert_eq!(decision.to_string(), "1 live worker takes audio. 2 jobs wait before it.");
    assert_eq!(
        serde_json::to_value(decision.figures).unwrap(),
        json!({
            "live_workers": 1, "queue_depth": 2, "running": 0, "run_time_p50_seconds": 60.0,
            "run_time_p90_seconds": 120.0, "expected_wait_seconds": 120.0, "deadline_seconds": 1800,
            "paused": false,
        })
    );
    for asked in [Asked::Workers, Asked::Statistics] {
        assert_eq!(plane.last(asked).query, "content_type=audio");
    }
    assert_eq!(plane.seen().len(), 2, "nothing but the two questions");
}

#[tokio::test]
async fn nobody_is_asked_when_the_rules_are_against_it() {
    let plane = Plane::start().await;
    let ingestion = plane.ingestion();
    let hour = Duration::from_secs(3600);
    let local = [
        ingestion.decide(&ContentType::Audio, false, hour).await,
        ingestion.decide(&ContentType::Document, true, hour).await,
        Ingestion::new(plane.client(), RemoteSettings::default())
            .decide(&ContentType::Audio, true, hour)
            .await,
        ingestion.decide(&ContentType::Audio, true, Duration::ZERO).await,
    ];
    let reasons = local.map(|decision| decision.reason);
    assert_eq!(
        reasons,
        [Reason::NotRequested, Reason::TypeNotSupported, Reason::NotEnabled, Reason::DeadlineExhausted]
    );
    assert!(plane.seen().is_empty());
}

#[tokio::test]
async fn without_a_live_worker_of_the_type_it_is_local() {
    let plane = Plane::start().await;
    for (live, takes) in [(false, "audio"), (true, "video")] {
        plane.answers(Asked::Workers, [workers(live, takes)]);
        let decision = decided(&plane, 1800).await;
        assert_eq!(decision.reason, Reason::NoLiveWorker);
        assert_eq!(decision.to_string(), "No worker that takes audio has been seen in the last 120 s.");
        assert_eq!(decision.figures.unwrap().live_workers, Some(0));
    }
    assert_eq!(plane.count(Asked::Statistics), 0, "how long the queue is decides nothing");
}

#[tokio::test]
async fn a_live_worker_may_be_among_those_that_were_left_out() {
    let plane = Plane::start().await;
    let some = json!({"workers": [], "live_within_seconds": 120, "more": true});
    plane.answers(Asked::Workers, [Reply::json(&some)]);
    let decision = decided(&plane, 1800).await;
    assert_eq!((decision.reason, decision.method), (Reason::WorkersUnknown, Method::Remote));
    assert_eq!(decision.figures.unwrap().live_workers, None);
}

#[tokio::test]
async fn a_paused_queue_is_a_reason_against_it() {
    let plane = Plane::start().await;
    plane.answers(Asked::Statistics, [queue(0, true, None)]);
    let decision = decided(&plane, 1800).await;
    assert_eq!((decision.reason, decision.method), (Reason::QueuePaused, Method::Local));
    assert_eq!(decision.to_string(), "The queue of audio is paused.");
}

#[tokio::test]
async fn what_would_not_be_over_in_time_is_local_and_says_so() {
    let plane = Plane::start().await;
    for (waiting, median, within, reason, said) in [
        (0, 100.0, 100, Reason::WorkerAvailable, "1 live worker takes audio."),
        (
            0,
            100.5,
            100,
            Reason::TooSlow,
            "Half of the conversions of audio took longer than 100 s, and 100 s are left.",
        ),
        (1, 50.0, 100, Reason::WorkerAvailable, "1 live worker takes audio. 1 job waits before it."),
        (
            3,
            50.0,
            199,
            Reason::QueueTooLong,
            "3 jobs are before it: about 150 s, then 50 s of its own, and 199 s are left.",
        ),
    ] {
        plane.answers(Asked::Statistics, [queue(waiting, false, Some(median))]);
        let decision = decided(&plane, within).await;
        assert_eq!((decision.reason, decision.to_string().as_str()), (reason, said));
        assert_eq!(decision.figures.unwrap().queue_depth, Some(waiting));
    }
}

#[tokio::test]
async fn jobs_that_run_count_as_far_as_they_leave_no_worker_free() {
    let plane = Plane::start().await;
    for (live, waiting, running, wait, reason) in [
        (1, 0, 0, 0.0, Reason::WorkerAvailable),
        (1, 0, 1, 60.0, Reason::QueueTooLong),
        (1, 1, 1, 120.0, Reason::QueueTooLong),
        (2, 0, 1, 0.0, Reason::WorkerAvailable),
        (2, 0, 2, 30.0, Reason::WorkerAvailable),
        (2, 1, 3, 90.0, Reason::QueueTooLong),
    ] {
        plane.answers(Asked::Workers, [live_workers(live)]);
        plane.answers(Asked::Statistics, [busy_queue(waiting, running, false, Some(60.0))]);
        let decision = decided(&plane, 100).await;
        assert_eq!(decision.reason, reason, "{live} {waiting} {running}: {decision}");
        assert_eq!(decision.figures.unwrap().expected_wait_seconds, Some(wait), "{live} {waiting} {running}");
    }
    plane.answers(Asked::Workers, [workers(true, "audio")]);
    plane.answers(Asked::Statistics, [busy_queue(0, 1, false, Some(60.0))]);
    let said = "1 job is before it: about 60 s, then 60 s of its own, and 100 s are left.";
    assert_eq!(decided(&plane, 100).await.to_string(), said);
}

#[tokio::test]
async fn an_older_server_that_does_not_tell_is_no_reason_against_it() {
    let plane = Plane::start().await;
    for unknown in [
        Reply::problem(Kind::NotFound, "No such path."),
        Reply::bare(404),
        Reply::bare(405),
        Reply::bare(403),
    ] {
        plane.answers(Asked::Workers, [unknown.clone()]);
        let decision = decided(&plane, 1800).await;
        assert_eq!((decision.reason, decision.method), (Reason::WorkersUnknown, Method::Remote));
        assert_eq!(decision.figures.unwrap().live_workers, None);
        plane.answers(Asked::Statistics, [unknown]);
        assert_eq!(decided(&plane, 1800).await.figures.unwrap().queue_depth, None);
    }
}

#[tokio::test]
async fn a_control_plane_that_fails_is_asked_no_further() {
    for away in [
        Reply::HangUp,
        Reply::bare(500),
        Reply::bare(502),
        Reply::problem(Kind::Unavailable, "Later."),
        Reply::bare(200),
    ] {
        for asked in [Asked::Workers, Asked::Statistics] {
            let plane = Plane::start().await;
            plane.answers(asked, [away.clone()]);
            let decision = decided(&plane, 1800).await;
            assert_eq!(decision.reason, Reason::Unreachable, "{away:?}: {decision}");
            assert!(decision.to_string().starts_with("The control plane cannot be asked: "));
            // A connection that is closed before an answer may be tried once more by the HTTP client itself.
            assert!(plane.count(asked) <= 2);
        }
    }
}

#[tokio::test]
async fn nobody_at_the_address_is_unreachable() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = Client::new(format!("http://{free}").parse().unwrap(), None, "test/0").unwrap();
    let decision =
        Ingestion::new(client, enabled()).decide(&ContentType::Audio, true, Duration::from_secs(9)).await;
    assert_eq!(decision.reason, Reason::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn a_silent_control_plane_is_waited_for_some_seconds_and_no_longer() {
    for asked in [Asked::Workers, Asked::Statistics] {
        let plane = Plane::start().await;
        plane.answers(asked, [Reply::Silence]);
        let begun = tokio::time::Instant::now();
        let decision = decided(&plane, 1800).await;
        assert_eq!(decision.reason, Reason::Unreachable);
        assert!(decision.to_string().ends_with("it has not answered within 5 s"), "{decision}");
        assert_eq!(begun.elapsed().as_secs(), 5);
        decided(&plane, 2).await;
        assert_eq!(begun.elapsed().as_secs(), 7, "no longer than there is time");
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_question_is_asked_again_and_not_for_long() {
    let plane = Plane::start().await;
    let throttled = Reply::problem(Kind::TooManyRequests, "Slowly.");
    plane.answers(Asked::Workers, [throttled.clone(), throttled.clone(), workers(true, "audio")]);
    assert_eq!(decided(&plane, 1800).await.reason, Reason::WorkerAvailable);
    plane.answers(Asked::Workers, [throttled]);
    assert_eq!(decided(&plane, 1800).await.reason, Reason::Unreachable);
    assert_eq!(plane.count(Asked::Workers), 6);
}

#[tokio::test]
async fn a_key_that_is_not_taken_is_told_as_such() {
    for denied in [
        Reply::problem(Kind::Unauthorized, "Unknown key."),
        Reply::problem(Kind::Forbidden, "Needs ingest."),
        Reply::bare(401),
    ] {
        for asked in [Asked::Workers, Asked::Statistics] {
            let plane = Plane::start().await;
            plane.answers_all(&Reply::HangUp);
            plane.answers(Asked::Workers, [workers(true, "audio")]);
            plane.answers(asked, [denied.clone()]);
            let decision = decided(&plane, 1800).await;
            assert_eq!((decision.reason, decision.method), (Reason::Unauthorized, Method::Local));
        }
    }
}
