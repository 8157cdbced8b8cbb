//! `PUT /{id}/result`: what an attempt came to.

use api::{
    manage::CancelRequest,
    result::{ResultDocument, ResultRequest},
    uploads::CreateResultUploadRequest,
};
use domain::Outcome;
use serde_json::json;
use store::StorageKey;

use crate::support::{
    Held, Place, caller, caller_of, failure, field, full_problem, not_found, options, problem, sha256, stale,
    success, without_token,
};

#[tokio::test]
async fn a_result_is_stored_as_a_document_before_the_job_names_it() {
    let place = Place::new().await;
    let held = place.claimed().await;
    place.pass(9);
    let result = ResultRequest {
        metadata: Some(options(json!({"pages": 3}))),
        processing_time: Some(8.5),
        ..success("# Title")
    };
    assert_eq!(place.submit(&held, &result).await.unwrap(), "completed");
    let url = place.result_url(&caller(), &held.id).await.unwrap();
    let (status, body) = place.fetched(&url).await;
    let document: ResultDocument = serde_json::from_slice(&body).unwrap();
    let expected = ResultDocument {
        content: "# Title".to_owned(),
        metadata: options(json!({"pages": 3})),
        processing_time: Some(8.5),
    };
    assert_eq!((status, document), (200, expected));
    let job = place.job(&held.id).await;
    assert_eq!(job.attempts[0].outcome, Outcome::Completed);
    assert_eq!(job.ending().unwrap().at, place.now());
}

#[tokio::test]
async fn an_empty_result_is_a_result() {
    let place = Place::new().await;
    let held = place.claimed().await;
    let empty = ResultRequest { success: true, ..ResultRequest::default() };
    assert_eq!(place.submit(&held, &empty).await.unwrap(), "completed");
    let url = place.result_url(&caller(), &held.id).await.unwrap();
    assert_eq!(place.fetched(&url).await.1, r#"{"content":"","metadata":{},"processing_time":null}"#);
}

#[tokio::test]
async fn a_submission_that_is_repeated_gets_its_first_answer_and_changes_nothing() {
    let place = Place::new().await;
    let completed = place.claimed().await;
    assert_eq!(place.submit(&completed, &success("first")).await.unwrap(), "completed");
    let before = place.job(&completed.id).await;
    place.pass(1);
    assert_eq!(place.submit(&completed, &success("second")).await.unwrap(), "completed");
    assert_eq!(place.job(&completed.id).await, before);

    let failed = place.claimed().await;
    assert_eq!(place.submit(&failed, &failure(true)).await.unwrap(), "pending");
    // Also when the job has gone on meanwhile.
    place.pass(15);
    let second = place.claim().await;
    assert_eq!(place.submit(&failed, &failure(true)).await.unwrap(), "pending");
    assert_eq!(place.submit(&second, &failure(false)).await.unwrap(), "failed");
    assert_eq!(place.submit(&second, &failure(true)).await.unwrap(), "failed");
    assert_eq!(place.submit(&failed, &failure(true)).await.unwrap(), "pending");
}

#[tokio::test]
async fn the_opposite_of_what_was_submitted_is_refused() {
    let place = Place::new().await;
    let completed = place.claimed().await;
    place.submit(&completed, &success("text")).await.unwrap();
    let failed = place.claimed().await;
    place.submit(&failed, &failure(true)).await.unwrap();
    for (held, opposite, first, status) in
        [(completed, failure(true), "completed", "completed"), (failed, success(""), "failed", "pending")]
    {
        let text = format!(
            "Job {}: this attempt was already reported as {first} and the job is {status}; the first report counts, forget the job.",
            held.id
        );
        let refused = full_problem(place.submit(&held, &opposite).await);
        assert_eq!(refused, (409, "stale-lease".to_owned(), text));
    }
}

#[tokio::test]
async fn one_result_submitted_many_times_at_once_is_accepted_once() {
    let place = Place::new().await;
    let held = place.claimed().await;
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..10 {
        let (service, held) = (place.service.clone(), held.clone());
        tasks.spawn(async move {
            let result = success(&format!("result {at}"));
            service.submit_result(&caller(), &held.id, held.token(), &result).await.unwrap().status
        });
    }
    assert_eq!(tasks.join_all().await, ["completed"; 10]);
    assert_eq!(place.job(&held.id).await.attempts.len(), 1);
}

#[tokio::test]
async fn a_failure_is_followed_by_another_attempt_until_no_retry_is_left() {
    let place = Place::new().await;
    let id = place.created_with(|request| request.max_retries = Some(1)).await;
    let first = place.claim().await;
    assert_eq!(place.submit(&first, &failure(true)).await.unwrap(), "pending");
    assert_eq!(place.try_claim().await, None, "no backoff");
    place.pass(15);
    let second = place.claim().await;
    assert_eq!(place.submit(&second, &failure(true)).await.unwrap(), "failed");
    let job = place.job(&id).await;
    assert_eq!((job.retries, job.ending().unwrap().error), (1, Some("no text in it")));
}

#[tokio::test]
async fn a_failure_that_would_repeat_itself_ends_the_job_at_once() {
    let place = Place::new().await;
    let held = place.claimed().await;
    assert_eq!(place.submit(&held, &failure(false)).await.unwrap(), "failed");
}

#[tokio::test]
async fn a_failure_is_retried_unless_it_says_otherwise_and_its_message_is_kept_up_to_a_length() {
    let place = Place::new().await;
    for (message, kept) in [
        (None, "the worker reported a failure without a message".to_owned()),
        (Some("ä".repeat(200)), "ä".repeat(200)),
        (Some("ä".repeat(201)), format!("{}…", "ä".repeat(200))),
    ] {
        let held = place.claimed().await;
        let failed = ResultRequest { error_message: message, ..ResultRequest::default() };
        assert_eq!(place.submit(&held, &failed).await.unwrap(), "pending");
        let Outcome::Failed { error, .. } = place.job(&held.id).await.attempts[0].outcome.clone() else {
            panic!("it did not fail")
        };
        assert_eq!(error, kept);
    }
    for (message, kept) in
        [("ä".repeat(2000), "ä".repeat(2000)), ("ä".repeat(2001), format!("{}…", "ä".repeat(1999)))]
    {
        let held = place.claimed().await;
        let failed = ResultRequest { error_message: Some(message), ..failure(false) };
        assert_eq!(place.submit(&held, &failed).await.unwrap(), "failed");
        assert_eq!(place.job(&held.id).await.ending().unwrap().error, Some(kept.as_str()));
    }
}

#[tokio::test]
async fn who_has_no_such_job_is_told_so() {
    let place = Place::new().await;
    let held = place.claimed().await;
    let refused = place.submit_result(&caller_of("u", "k"), &held.id, held.token(), &success("")).await;
    assert_eq!(problem(refused), not_found(&held.id));
    let refused = place.submit_result(&caller(), "x", held.token(), &success("")).await;
    assert_eq!(problem(refused), not_found("x"));
}

#[tokio::test]
async fn a_worker_whose_job_was_taken_over_changes_nothing() {
    let place = Place::new().await;
    let first = place.claimed().await;
    place.pass(20);
    let second = place.claim().await;
    let before = place.job(&first.id).await;
    for result in [success("late"), failure(true)] {
        assert_eq!(full_problem(place.submit(&first, &result).await), stale(&first.id, "processing"));
    }
    assert_eq!(place.job(&first.id).await, before);
    assert_eq!(place.submit(&second, &success("text")).await.unwrap(), "completed");
    assert_eq!(full_problem(place.submit(&first, &success("late")).await), stale(&first.id, "completed"));
}

#[tokio::test]
async fn a_result_after_the_run_timeout_is_accepted_while_nobody_has_the_job() {
    let place = Place::new().await;
    for swept in [false, true] {
        let held = place.claimed().await;
        place.heartbeat(&held).await.unwrap();
        place.pass(600);
        if swept {
            assert_eq!(place.swept().await.returned, 1);
            assert_eq!(
                (place.status_of(&held.id).await, place.job(&held.id).await.retries),
                ("pending".to_owned(), 1)
            );
        }
        assert_eq!(place.submit(&held, &success("late")).await.unwrap(), "completed");
        let job = place.job(&held.id).await;
        assert_eq!((job.attempts.len(), job.retries), (1, 0));
    }
}

#[tokio::test]
async fn a_late_worker_whose_job_nobody_took_is_accepted() {
    let place = Place::new().await;
    // Once while nobody has noticed, once after a sweep.
    for swept in [false, true] {
        let held = place.claimed().await;
        place.heartbeat(&held).await.unwrap();
        place.pass(200);
        if swept {
            place.sweep(tokio::time::Instant::now() + std::time::Duration::from_secs(60)).await.unwrap();
            assert_eq!(place.status_of(&held.id).await, "pending");
        }
        assert_eq!(place.submit(&held, &success("late")).await.unwrap(), "completed");
        let job = place.job(&held.id).await;
        assert_eq!((job.attempts.len(), job.retries), (1, 0));
    }
}

#[tokio::test]
async fn a_result_of_a_cancelled_job_is_refused() {
    let place = Place::new().await;
    let held = place.claimed().await;
    place.cancel(&caller(), &held.id, &CancelRequest { takeover: true }).await.unwrap();
    assert_eq!(full_problem(place.submit(&held, &success("late")).await), stale(&held.id, "cancelled"));
}

#[tokio::test]
async fn a_client_of_the_original_submits_by_its_key_alone() {
    let place = Place::new().await;
    place.created().await;
    let held = place.claim_as_original().await;
    let other = place.submit_result(&caller_of("t", "other"), &held.id, None, &success("")).await;
    assert_eq!(full_problem(other), stale(&held.id, "processing"));
    assert_eq!(place.submit(&held, &success("text")).await.unwrap(), "completed");
    assert_eq!(place.submit(&held, &success("text")).await.unwrap(), "completed");
}

#[tokio::test]
async fn a_client_of_the_original_is_stale_once_a_worker_with_a_token_has_its_job() {
    let place = Place::new().await;
    place.created().await;
    let original = place.claim_as_original().await;
    place.pass(600);
    assert_eq!(place.try_claim().await, None);
    place.pass(15);
    let native = place.claim().await;
    assert_eq!(native.id, original.id);
    assert_eq!(full_problem(place.submit(&original, &success("late")).await), without_token(&native.id));
}

/// The place for a result that the worker uploads.
async fn result_key(place: &Place, held: &Held, body: &[u8]) -> String {
    let request = CreateResultUploadRequest { size_bytes: body.len() as u64, sha256: sha256(body) };
    let upload = place.create_result_upload(&caller(), &held.id, held.token(), &request).await.unwrap();
    let put = upload.put.unwrap();
    let (answer, _) = place.backend.send(&put.method, &put.url, &put.headers, body.to_vec()).await;
    assert_eq!(answer.status.as_u16(), 200);
    upload.source_file_path
}

fn by_key(key: &str) -> ResultRequest {
    ResultRequest { success: true, result_key: Some(key.to_owned()), ..ResultRequest::default() }
}

#[tokio::test]
async fn an_uploaded_result_is_the_result() {
    let place = Place::new().await;
    let held = place.claimed().await;
    let body = br##"{"content":"# Long","metadata":{},"processing_time":1}"##;
    let key = result_key(&place, &held, body).await;
    assert_eq!(place.submit(&held, &by_key(&key)).await.unwrap(), "completed");
    let url = place.result_url(&caller(), &held.id).await.unwrap();
    assert_eq!(place.fetched(&url).await, (200, body.to_vec().into()));
}

#[tokio::test]
async fn a_result_is_either_sent_or_uploaded() {
    let place = Place::new().await;
    let held = place.claimed().await;
    let key = result_key(&place, &held, b"{}").await;
    let both = ResultRequest { content: Some("text".to_owned()), ..by_key(&key) };
    assert_eq!(
        problem(place.submit(&held, &both).await),
        field("result_key", "takes the place of `content`; send one of them")
    );
}

#[tokio::test]
async fn a_result_that_was_uploaded_for_anything_else_is_refused() {
    let place = Place::new().await;
    let first = place.claimed().await;
    let of_first_attempt = result_key(&place, &first, b"{}").await;
    place.pass(20);
    let second = place.claim().await;
    let other = place.claimed().await;
    let of_other_job = result_key(&place, &other, b"{}").await;
    let of_other_tenant = of_first_attempt.replace("results/t/", "results/u/").replace("/1-", "/2-");
    let source = place.uploaded("a.pdf").await;
    for key in [&of_first_attempt, &of_other_job, &of_other_tenant, &source, "", "results", "/etc/passwd"] {
        assert_eq!(
            problem(place.submit(&second, &by_key(key)).await),
            field("result_key", "is not what POST result-upload answered for this attempt"),
            "{key}"
        );
    }
    assert_eq!(place.status_of(&second.id).await, "processing");
}

#[tokio::test]
async fn a_result_that_was_never_uploaded_is_refused() {
    let place = Place::new().await;
    let held = place.claimed().await;
    let request = CreateResultUploadRequest { size_bytes: 2, sha256: sha256(b"{}") };
    let upload = place.create_result_upload(&caller(), &held.id, held.token(), &request).await.unwrap();
    assert_eq!(
        problem(place.submit(&held, &by_key(&upload.source_file_path)).await),
        field("result_key", "names a result that was not uploaded")
    );
}

#[tokio::test]
async fn a_result_whose_bytes_are_others_than_its_key_says_is_refused() {
    let place = Place::new().await;
    let held = place.claimed().await;
    let key = StorageKey::Result {
        tenant: "t".parse().unwrap(),
        job: held.id.parse().unwrap(),
        attempt: 1,
        sha256: sha256(b"announced"),
    };
    place.store().handoff.put(&key, "others".into(), &sha256(b"others")).await.unwrap();
    assert_eq!(
        problem(place.submit(&held, &by_key(&key.to_string())).await),
        field("result_key", "names a result whose bytes are not those that were announced")
    );
}
