//! `DELETE /{id}`: an ended job goes with everything that is stored of it.

use api::{create::CreateJobRequest, list::ListRequest, manage::CancelRequest, status::StatusRequest};
use serde_json::json;
use service::Error;
use store::{EVENT_SHARDS, StorageKey};

use crate::support::{
    Place, caller, caller_of, failure, full_problem, not_found, options, polling, problem, sha256, success,
};

async fn delete(place: &Place, id: &str) -> Result<u64, Error> {
    let answer = place.delete(&caller(), id).await?;
    assert_eq!(answer.job_id, id);
    Ok(answer.deleted_objects)
}

async fn cancelled(place: &Place, id: &str) {
    place.cancel(&caller(), id, &CancelRequest::default()).await.unwrap();
}

/// A completed job with everything that can be stored of one: large options, and what an earlier attempt uploaded late.
async fn completed(place: &Place) -> String {
    let large = options(json!({"prompt": "p".repeat(2000)}));
    let id = place.created_with(|request| request.task_options = large).await;
    let tenant = caller().tenant;
    let late = StorageKey::Result { tenant, job: id.parse().unwrap(), attempt: 1, sha256: sha256(b"late") };
    place.store().handoff.put(&late, "late".into(), &sha256(b"late")).await.unwrap();
    let held = place.claim().await;
    place.submit(&held, &success("text")).await.unwrap();
    assert_eq!(held.id, id);
    id
}

#[tokio::test]
async fn nothing_of_a_deleted_job_is_left() {
    let place = Place::new().await;
    let id = completed(&place).await;
    assert_eq!(place.objects().await.len(), 4, "source, options and two results");
    assert_eq!(delete(&place, &id).await.unwrap(), 4);
    assert_eq!(place.objects().await, [""; 0]);
    assert!(
        place.rows().await.iter().all(|row| row.starts_with("stat#") || row.starts_with("worker#")),
        "{:?}",
        place.rows().await
    );
    assert_eq!(problem(place.status(&caller(), &id, StatusRequest::default()).await), not_found(&id));
    assert!(place.list(&caller(), &ListRequest::default()).await.unwrap().jobs.is_empty());
    assert_eq!(problem(delete(&place, &id).await), not_found(&id));
}

#[tokio::test]
async fn what_is_not_this_jobs_stays() {
    let place = Place::new().await;
    let (id, other) = (completed(&place).await, completed(&place).await);
    assert_eq!(delete(&place, &id).await.unwrap(), 4);
    assert_eq!(place.objects().await.len(), 4);
    let url = place.result_url(&caller(), &other).await.unwrap();
    assert_eq!(place.fetched(&url).await.0, 200);
}

#[tokio::test]
async fn a_job_that_has_not_ended_is_not_deleted() {
    let place = Place::new().await;
    let waiting = place.created().await;
    let running = place.claimed_after(&waiting).await;
    for (id, status) in [(&waiting, "pending"), (&running.id, "processing")] {
        let text = format!("Job {id}: the job is {status}; cancel it first, then delete it.");
        assert_eq!(full_problem(delete(&place, id).await), (409, "refused".to_owned(), text));
    }
    assert_eq!(place.objects().await.len(), 2);
    assert_eq!(place.submit(&running, &success("text")).await.unwrap(), "completed");
}

#[tokio::test]
async fn who_has_no_such_job_is_told_so() {
    let place = Place::new().await;
    let id = completed(&place).await;
    assert_eq!(problem(place.delete(&caller_of("u", "k"), &id).await), not_found(&id));
    let unknown = uuid::Uuid::now_v7().to_string();
    for id in [unknown.as_str(), "x", ""] {
        assert_eq!(problem(delete(&place, id).await), not_found(id));
    }
    assert_eq!(place.objects().await.len(), 4);
}

#[tokio::test]
async fn a_deletion_that_was_cut_off_is_finished_by_another() {
    let place = Place::new().await;
    let id = completed(&place).await;
    // Whoever died had come this far.
    let objects = place.objects().await;
    place.store().handoff.delete(&objects[..3]).await.unwrap();
    assert_eq!(place.status_of(&id).await, "completed");
    assert_eq!(delete(&place, &id).await.unwrap(), 1);
    assert_eq!(place.objects().await, [""; 0]);
}

#[tokio::test]
async fn deletions_at_once_all_find_it_gone() {
    let place = Place::new().await;
    let id = completed(&place).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (service, id) = (place.service.clone(), id.clone());
        tasks.spawn(
            async move { service.delete(&caller(), &id).await.map_err(|error| error.problem().status) },
        );
    }
    let done = tasks.join_all().await;
    assert!(done.iter().any(Result::is_ok));
    assert!(done.iter().all(|done| done.is_ok() || matches!(done, Err(404))));
    assert_eq!(place.objects().await, [""; 0]);
}

#[tokio::test]
async fn of_a_deletion_and_a_retry_at_once_exactly_one_wins() {
    let place = Place::new().await;
    for _ in 0..20 {
        let id = place.created().await;
        cancelled(&place, &id).await;
        let (service, retried) = (place.service.clone(), id.clone());
        let retrying = tokio::spawn(async move { service.retry(&caller(), &retried).await.is_ok() });
        let deleted = delete(&place, &id).await.is_ok();
        assert_ne!(retrying.await.unwrap(), deleted);
        let left = place.store().jobs.get(id.parse().unwrap()).await.unwrap();
        assert_eq!(left.is_none(), deleted);
        if !deleted {
            cancelled(&place, &id).await;
        }
    }
}

#[tokio::test]
async fn an_event_that_was_not_delivered_yet_outlives_its_job() {
    let place = Place::new().await;
    let webhook = "https://example.org/hook".parse().unwrap();
    let id = place.created_with(|request| request.webhook_url = Some(webhook)).await;
    cancelled(&place, &id).await;
    delete(&place, &id).await.unwrap();
    let mut due = Vec::new();
    for shard in 0..EVENT_SHARDS {
        let page = place.store().events.due(shard, place.now(), 10, None).await.unwrap();
        due.extend(page.hints.into_iter().map(|hint| hint.id.job.to_string()));
    }
    assert_eq!(due, [id]);
}

#[tokio::test]
async fn the_same_idempotency_key_creates_anew_afterwards() {
    let place = Place::new().await;
    let request = place.request().await;
    let create =
        async |request: &CreateJobRequest| place.create(&caller(), request, Some("k")).await.unwrap();
    let first = create(&request).await.job_id;
    let held = place.claim().await;
    place.submit(&held, &failure(false)).await.unwrap();
    assert_eq!(create(&request).await.status, "failed");
    delete(&place, &first).await.unwrap();
    let again = create(&place.request().await).await;
    assert_eq!((again.job_id.as_str(), again.status.as_str()), (first.as_str(), "pending"));
    assert_eq!(problem(place.submit(&held, &success("late")).await).0, 409, "the first job's worker");
    assert_eq!(place.claim().await.id, first);
}

#[tokio::test]
async fn a_source_that_another_job_of_the_task_needs_goes_with_the_last_of_them() {
    let place = Place::new().await;
    let request = place.request().await;
    let create = async |task: &str| {
        let request = CreateJobRequest { ingestion_task_id: task.to_owned(), ..request.clone() };
        place.create(&caller(), &request, None).await.unwrap().job_id
    };
    let (done, failed, waiting) = (create("a").await, create("a").await, create("a").await);
    cancelled(&place, &failed).await;
    cancelled(&place, &done).await;
    assert_eq!(delete(&place, &done).await.unwrap(), 0, "one waits, and one can be retried");
    let held = place.claim().await;
    assert_eq!(held.id, waiting);
    assert!(place.download(&caller(), &held.id, held.token()).await.is_ok());
    place.submit(&held, &success("text")).await.unwrap();
    assert_eq!(delete(&place, &waiting).await.unwrap(), 1, "its result");
    assert!(place.retry(&caller(), &failed).await.is_ok());
    cancelled(&place, &failed).await;
    assert_eq!(delete(&place, &failed).await.unwrap(), 1, "the source");
    assert_eq!(place.objects().await, [""; 0]);
}

#[tokio::test]
async fn a_job_of_another_task_that_names_the_same_source_finds_it_gone() {
    let place = Place::new().await;
    let request = place.request().await;
    let first = place.create(&caller(), &request, None).await.unwrap().job_id;
    let other = CreateJobRequest { ingestion_task_id: "other".to_owned(), ..request };
    let other = place.create(&caller(), &other, None).await.unwrap().job_id;
    cancelled(&place, &first).await;
    assert_eq!(delete(&place, &first).await.unwrap(), 1);
    let answer = place.poll(&caller(), &polling("document"), true).await.unwrap();
    let token = answer.lease.unwrap().lease_token;
    assert_eq!(answer.job_id.as_ref(), Some(&other));
    let refused = full_problem(place.download(&caller(), &other, Some(&token)).await);
    assert_eq!((refused.0, refused.1.as_str()), (409, "source-expired"));
}

#[tokio::test]
async fn where_a_task_has_too_many_jobs_to_look_at_the_source_stays() {
    let place = Place::new().await;
    let id = place.created().await;
    let mut other = place.job(&id).await;
    cancelled(&place, &id).await;
    other.spec.source.key = "sources/t/00000000-0000-0000-0000-000000000001/a.pdf".to_owned();
    for _ in 0..101 {
        other.id = domain::JobId(uuid::Uuid::now_v7());
        place.store().jobs.create(&other).await.unwrap();
    }
    assert_eq!(delete(&place, &id).await.unwrap(), 0);
}

#[tokio::test]
async fn a_deletion_without_a_table_to_reach_says_so() {
    let service = Place::out_of_reach().await;
    assert_eq!(problem(service.delete(&caller(), &uuid::Uuid::nil().to_string()).await).0, 503);
}
