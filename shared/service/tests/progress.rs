//! `PUT /{id}/progress`: progress, which is also the heartbeat.

use api::{manage::CancelRequest, progress::ProgressRequest};
use domain::Outcome;

use crate::support::{
    Held, Place, caller, caller_of, failure, field, full_problem, not_found, problem, progress, stale,
    success, without_token,
};

#[tokio::test]
async fn a_heartbeat_says_how_long_the_lease_lasts_and_how_often_to_report() {
    let place = Place::new().await;
    let held = place.claimed().await;
    let told = place.heartbeat(&held).await.unwrap();
    assert_eq!((told.success, told.cancelled, told.message.as_str()), (true, false, "Progress recorded"));
    assert_eq!((told.lease_expires_in_seconds, told.report_every_seconds), (60, 15));
    place.pass(15);
    assert_eq!(place.heartbeat(&held).await.unwrap().lease_expires_in_seconds, 45);
    // Less than two thirds are left: it is renewed.
    place.pass(6);
    assert_eq!(place.heartbeat(&held).await.unwrap().lease_expires_in_seconds, 60);
}

#[tokio::test]
async fn progress_is_kept_as_it_was_said_last() {
    let place = Place::new().await;
    let held = place.claimed().await;
    for (percentage, message, stage) in
        [(0, "", None), (100, "page 3 of 3", Some("writing")), (50, "ä", None)]
    {
        let said = ProgressRequest { stage: stage.map(str::to_owned), ..progress(percentage, message) };
        place.report_progress(&caller(), &held.id, held.token(), &said).await.unwrap();
        let kept = place.job(&held.id).await.progress.unwrap();
        assert_eq!(
            (u64::from(kept.percentage), kept.message.as_str(), kept.stage.as_deref()),
            (percentage, message, stage)
        );
    }
    assert_eq!(place.status_of(&held.id).await, "processing");
}

#[tokio::test]
async fn a_percentage_is_at_most_100_and_long_texts_are_cut() {
    let place = Place::new().await;
    let held = place.claimed().await;
    for percentage in [101, u64::MAX] {
        let said = place.report_progress(&caller(), &held.id, held.token(), &progress(percentage, "")).await;
        assert_eq!(problem(said), field("percentage", "must be 0 to 100"));
    }
    let said = ProgressRequest { stage: Some("s".repeat(101)), ..progress(1, &"ä".repeat(501)) };
    place.report_progress(&caller(), &held.id, held.token(), &said).await.unwrap();
    let kept = place.job(&held.id).await.progress.unwrap();
    assert_eq!(kept.message, format!("{}…", "ä".repeat(499)));
    assert_eq!(kept.stage, Some(format!("{}…", "s".repeat(99))));
}

#[tokio::test]
async fn who_has_no_such_job_is_told_so() {
    let place = Place::new().await;
    let held = place.claimed().await;
    let unknown = uuid::Uuid::now_v7().to_string();
    for id in [unknown.as_str(), "not-an-id", ""] {
        let said = place.report_progress(&caller(), id, held.token(), &progress(1, "")).await;
        assert_eq!(problem(said), not_found(id));
    }
    let said = place.report_progress(&caller_of("u", "k"), &held.id, held.token(), &progress(1, "")).await;
    assert_eq!(problem(said), not_found(&held.id));
}

#[tokio::test]
async fn only_the_token_proves_a_lease_that_was_granted_with_one() {
    let place = Place::new().await;
    let held = place.claimed().await;
    let before = place.job(&held.id).await;
    for (token, refused) in [
        (None, without_token(&held.id)),
        (Some("wrong"), stale(&held.id, "processing")),
        (Some(""), stale(&held.id, "processing")),
    ] {
        let said = place.report_progress(&caller(), &held.id, token, &progress(1, "")).await;
        assert_eq!(full_problem(said), refused);
    }
    assert_eq!(place.job(&held.id).await, before);
    // The token suffices, whichever key of the tenant it comes with.
    let other_key = caller_of("t", "other");
    assert!(place.report_progress(&other_key, &held.id, held.token(), &progress(1, "")).await.is_ok());
}

#[tokio::test]
async fn a_client_of_the_original_holds_its_job_by_its_key_and_for_the_whole_run() {
    let place = Place::new().await;
    place.created().await;
    let held = place.claim_as_original().await;
    place.pass(599);
    let told = place.heartbeat(&held).await.unwrap();
    assert_eq!((told.lease_expires_in_seconds, told.report_every_seconds), (1, 15));
    for (key, token) in [("other", None), ("k", Some("token"))] {
        let said = place.report_progress(&caller_of("t", key), &held.id, token, &progress(1, "")).await;
        assert_eq!(full_problem(said), stale(&held.id, "processing"));
    }
}

#[tokio::test]
async fn a_worker_whose_job_was_cancelled_is_told_to_stop() {
    let place = Place::new().await;
    let held = place.claimed().await;
    place.cancel(&caller(), &held.id, &CancelRequest::default()).await.unwrap();
    let told = place.heartbeat(&held).await.unwrap();
    assert_eq!((told.success, told.cancelled), (false, true));
    assert_eq!(told.message, "The job was cancelled; stop working on it");
    assert_eq!((told.lease_expires_in_seconds, told.report_every_seconds), (0, 0));
    // Whoever did not run it then is stale.
    let other = Held { token: Some("other".to_owned()), ..held.clone() };
    assert_eq!(full_problem(place.heartbeat(&other).await), stale(&held.id, "cancelled"));
}

#[tokio::test]
async fn a_worker_whose_job_ended_otherwise_is_stale() {
    let place = Place::new().await;
    let completed = place.claimed().await;
    place.submit(&completed, &success("text")).await.unwrap();
    assert_eq!(full_problem(place.heartbeat(&completed).await), stale(&completed.id, "completed"));
    let failed = place.claimed().await;
    place.submit(&failed, &failure(true)).await.unwrap();
    assert_eq!(full_problem(place.heartbeat(&failed).await), stale(&failed.id, "pending"));
}

#[tokio::test]
async fn an_attempt_past_its_timeout_is_told_to_stop() {
    let place = Place::new().await;
    let held = place.claimed().await;
    for _ in 0..20 {
        place.heartbeat(&held).await.unwrap();
        place.pass(30);
    }
    assert_eq!(
        full_problem(place.heartbeat(&held).await),
        (
            409,
            "stale-lease".to_owned(),
            format!(
                "Job {}: this attempt has run past its timeout and the job is processing; submit a result that is finished, else stop working on it.",
                held.id
            )
        )
    );
}

#[tokio::test]
async fn a_late_worker_goes_on_when_nobody_took_its_job_over() {
    let place = Place::new().await;
    let held = place.claimed().await;
    place.heartbeat(&held).await.unwrap();
    place.pass(100);
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    assert_eq!(place.sweep(until).await.unwrap().returned, 1);
    let returned = place.job(&held.id).await;
    assert_eq!((returned.attempts[0].outcome.clone(), returned.retries), (Outcome::Lapsed, 1));
    assert_eq!(place.heartbeat(&held).await.unwrap().lease_expires_in_seconds, 60);
    let job = place.job(&held.id).await;
    assert_eq!((job.attempts.len(), job.retries, job.status().as_str()), (0, 0, "processing"));
    assert_eq!(place.try_claim().await, None);
}

#[tokio::test]
async fn heartbeats_and_a_cancellation_at_once_leave_a_job_that_is_cancelled() {
    let place = Place::new().await;
    let held = place.claimed().await;
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..20 {
        let (service, held) = (place.service.clone(), held.clone());
        tasks.spawn(async move {
            if at == 10 {
                service.cancel(&caller(), &held.id, &CancelRequest::default()).await.unwrap();
                return None;
            }
            Some(service.report_progress(&caller(), &held.id, held.token(), &progress(at, "")).await.unwrap())
        });
    }
    for told in tasks.join_all().await.into_iter().flatten() {
        assert_ne!(told.success, told.cancelled);
    }
    assert_eq!(place.status_of(&held.id).await, "cancelled");
    assert!(place.heartbeat(&held).await.unwrap().cancelled);
}
