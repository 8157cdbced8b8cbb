//! `POST /import`: jobs of the original system go on here.

use api::{
    import::{ImportRequest, ImportResponse},
    list::ListRequest,
    result::ResultDocument,
    status::StatusRequest,
};
use domain::{ContentType, Status};
use serde_json::{Value, json};
use service::Error;
use store::EVENT_SHARDS;
use uuid::Uuid;

use crate::support::{
    Place, at, caller, caller_of, field, full_problem, not_found, options, problem, success,
};

/// A job as the original wrote it, in the last year before this clock's beginning.
fn history(status: Status) -> ImportRequest {
    ImportRequest {
        job_id: Uuid::new_v4().to_string(),
        status,
        content_type: ContentType::Document,
        source_file_path: "/tmp/morag/uploads/Minutes of May.pdf".to_owned(),
        task_options: serde_json::Map::new(),
        ingestion_task_id: "task-1".to_owned(),
        worker_id: Some("gpu-box".to_owned()),
        created_at: "2099-11-30T08:00:00.123456".to_owned(),
        started_at: Some("2099-11-30T08:01:00".to_owned()),
        completed_at: Some("2099-11-30T08:03:30.500000".to_owned()),
        error_message: None,
        result_data: None,
        retry_count: Some(1),
        max_retries: Some(2),
    }
}

/// A job that is still to be done, with its file where it was uploaded to.
async fn open(place: &Place, status: Status) -> ImportRequest {
    ImportRequest {
        source_file_path: place.uploaded("report.pdf").await,
        completed_at: None,
        ..history(status)
    }
}

fn document() -> ResultDocument {
    let metadata = options(json!({"pages": 3}));
    ResultDocument { content: "# Minutes".to_owned(), metadata, processing_time: Some(150.5) }
}

async fn import(place: &Place, request: &ImportRequest) -> Result<ImportResponse, Error> {
    place.import(&caller(), request).await
}

/// Imports a job that was not here before.
async fn imported(place: &Place, request: &ImportRequest) -> String {
    let answer = import(place, request).await.unwrap();
    assert!(answer.imported);
    assert_eq!((&answer.job_id, answer.status), (&request.job_id, place.status_of(&request.job_id).await));
    answer.job_id
}

#[tokio::test]
async fn a_job_that_is_not_done_begins_anew_under_its_id() {
    let place = Place::new().await;
    for status in [Status::Pending, Status::Processing] {
        let mut request = open(&place, status).await;
        request.task_options = options(json!({"language": "de"}));
        let id = imported(&place, &request).await;
        let told = place.status(&caller(), &id, StatusRequest::default()).await.unwrap();
        assert_eq!((told.status.as_str(), told.retry_count, told.max_retries), ("pending", 1, 2));
        assert_eq!(told.created_at, "2099-11-30T08:00:00.123Z");
        // Its waiting begins here, and so does its time limit.
        assert_eq!(told.timeout_at, Some(at(86_400)));
        assert_eq!((told.worker_id, told.attempts.len()), (None, 0));
        let held = place.claim().await;
        assert_eq!(held.id, id);
        assert_eq!(place.submit(&held, &success("text")).await.unwrap(), "completed");
    }
}

#[tokio::test]
async fn a_completed_job_keeps_its_result_its_worker_and_its_times() {
    let place = Place::new().await;
    let request = ImportRequest { result_data: Some(document()), ..history(Status::Completed) };
    let id = imported(&place, &request).await;
    let told = place.status(&caller(), &id, StatusRequest::default()).await.unwrap();
    assert_eq!((told.status.as_str(), told.percentage), ("completed", 100));
    assert_eq!(told.worker_id.as_deref(), Some("gpu-box"));
    assert_eq!(told.started_at.as_deref(), Some("2099-11-30T08:01:00.000Z"));
    assert_eq!(told.completed_at.as_deref(), Some("2099-11-30T08:03:30.500Z"));
    let (status, body) = place.fetched(&place.result_url(&caller(), &id).await.unwrap()).await;
    let stored: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, stored),
        (200, json!({"content": "# Minutes", "metadata": {"pages": 3}, "processing_time": 150.5}))
    );
    let of_day = ListRequest { day: Some("2099-11-30".parse().unwrap()), ..ListRequest::default() };
    assert_eq!(place.list(&caller(), &of_day).await.unwrap().jobs[0].filename, "Minutes_of_May.pdf");
}

#[tokio::test]
async fn a_job_that_ended_otherwise_is_history_whose_source_is_gone() {
    let place = Place::new().await;
    for (status, error) in
        [(Status::Failed, Some("no text in it")), (Status::Timeout, None), (Status::Cancelled, None)]
    {
        let request = ImportRequest { error_message: error.map(str::to_owned), ..history(status) };
        let id = imported(&place, &request).await;
        let told = place.status(&caller(), &id, StatusRequest::default()).await.unwrap();
        assert_eq!((told.status.as_str(), told.max_retries), (status.as_str(), 2));
        let expected = match status {
            Status::Failed => error,
            Status::Timeout => Some("the original system did not say why"),
            _ => None,
        };
        assert_eq!(told.error_message.as_deref(), expected);
        let refused = full_problem(place.retry(&caller(), &id).await);
        assert_eq!((refused.0, refused.1.as_str()), (409, "source-expired"));
        assert_eq!(place.delete(&caller(), &id).await.unwrap().deleted_objects, 0);
    }
}

#[tokio::test]
async fn importing_again_changes_nothing() {
    let place = Place::new().await;
    let done = ImportRequest { result_data: Some(document()), ..history(Status::Completed) };
    let waiting = open(&place, Status::Pending).await;
    for request in [&done, &waiting] {
        let id = imported(&place, request).await;
        let (job, objects) = (place.job(&id).await, place.objects().await);
        place.pass(5);
        let changed =
            ImportRequest { status: Status::Failed, error_message: Some("x".to_owned()), ..request.clone() };
        for again in [request, &changed] {
            let answer = import(&place, again).await.unwrap();
            assert_eq!((answer.imported, answer.status), (false, job.status().to_string()));
        }
        assert_eq!((place.job(&id).await, place.objects().await), (job, objects));
    }
    let held = place.claim().await;
    place.submit(&held, &success("text")).await.unwrap();
    assert_eq!(import(&place, &waiting).await.unwrap().status, "completed");
}

#[tokio::test]
async fn imports_at_once_import_it_once() {
    let place = Place::new().await;
    let request = ImportRequest { result_data: Some(document()), ..history(Status::Completed) };
    let mut tasks = tokio::task::JoinSet::new();
    for ahead in 0..8 {
        // No two servers' clocks agree to the millisecond.
        let (service, request) = (place.another_ahead(ahead).await, request.clone());
        tasks.spawn(async move { service.import(&caller(), &request).await.unwrap().imported });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|imported| *imported).count(), 1);
}

#[tokio::test]
async fn an_id_that_is_another_tenants_job_is_refused_without_a_word_about_it() {
    let place = Place::new().await;
    let theirs = place.created().await;
    let before = place.job(&theirs).await;
    let foreign = caller_of("u", "k");
    for status in [Status::Pending, Status::Failed] {
        let request = ImportRequest { job_id: theirs.clone(), ..history(status) };
        assert_eq!(problem(place.import(&foreign, &request).await), not_found(&theirs));
    }
    assert_eq!(place.job(&theirs).await, before);
}

#[tokio::test]
async fn nobody_is_told_of_an_end_that_was_elsewhere_and_it_is_not_counted() {
    let place = Place::new().await;
    imported(&place, &ImportRequest { result_data: Some(document()), ..history(Status::Completed) }).await;
    imported(&place, &history(Status::Failed)).await;
    for shard in 0..EVENT_SHARDS {
        assert!(place.store().events.due(shard, place.now(), 10, None).await.unwrap().hints.is_empty());
    }
    assert!(place.statistics(&caller(), &Default::default()).await.unwrap().queues.is_empty());
}

#[tokio::test]
async fn a_time_from_the_future_becomes_the_present() {
    let place = Place::new().await;
    let request =
        ImportRequest { created_at: "2190-01-01T00:00:00Z".to_owned(), ..history(Status::Cancelled) };
    let id = imported(&place, &request).await;
    assert_eq!(place.job(&id).await.created_at, place.now());
}

#[tokio::test]
async fn what_the_original_did_not_note_is_made_up_from_what_it_did() {
    let place = Place::new().await;
    let request = ImportRequest {
        worker_id: None,
        started_at: None,
        completed_at: None,
        retry_count: None,
        max_retries: None,
        result_data: Some(document()),
        ..history(Status::Completed)
    };
    let id = imported(&place, &request).await;
    let told = place.status(&caller(), &id, StatusRequest::default()).await.unwrap();
    assert_eq!((told.worker_id.as_deref(), told.max_retries), (Some("unknown"), 3));
    assert_eq!(told.completed_at.as_ref(), Some(&told.created_at));
}

#[tokio::test]
async fn every_field_is_checked_and_named() {
    let place = Place::new().await;
    let refused = async |change: &dyn Fn(&mut ImportRequest)| {
        let mut request = open(&place, Status::Pending).await;
        change(&mut request);
        problem(import(&place, &request).await)
    };
    let time = "must be a time, 2026-01-31T23:59:59.123Z or, in UTC, without the Z";
    assert_eq!(refused(&|r| r.job_id = "job-17".to_owned()).await, field("job_id", "is not a UUID"));
    assert_eq!(refused(&|r| r.created_at = "yesterday".to_owned()).await, field("created_at", time));
    assert_eq!(refused(&|r| r.started_at = Some("2026-01-31".to_owned())).await, field("started_at", time));
    assert_eq!(refused(&|r| r.completed_at = Some("17".to_owned())).await, field("completed_at", time));
    assert_eq!(refused(&|r| r.max_retries = Some(21)).await, field("max_retries", "must be 0 to 20"));
    assert_eq!(
        refused(&|r| r.retry_count = Some(u64::MAX)).await,
        field("retry_count", "must be a number of retries")
    );
    let name = "must be 1 to 255 characters without control characters";
    assert_eq!(refused(&|r| r.worker_id = Some("a\tb".to_owned())).await, field("worker_id", name));
    assert_eq!(refused(&|r| r.ingestion_task_id = "x".repeat(256)).await, field("ingestion_task_id", name));
    let large = options(json!({"x": "x".repeat(300_000)}));
    assert_eq!(
        refused(&|r| r.task_options = large.clone()).await,
        field("task_options", "must be at most 256 KiB of JSON")
    );
    let missing = field("result_data", "is missing, and the job is completed");
    assert_eq!(problem(import(&place, &history(Status::Completed)).await), missing);
    let no_upload = "names no uploaded file; name the source_file_path that POST /uploads answered, after uploading to it";
    for path in [
        "talk.mp3".to_owned(),
        format!("sources/t/{}/a.pdf", Uuid::nil()),
        format!("sources/u/{}/a.pdf", Uuid::nil()),
    ] {
        assert_eq!(
            refused(&|r| r.source_file_path.clone_from(&path)).await,
            field("source_file_path", no_upload)
        );
    }
    let outside = "names a local file outside the folders of MORAG_SOURCE_ROOTS; upload it instead";
    assert_eq!(
        refused(&|r| r.source_file_path = "/tmp/morag/a.pdf".to_owned()).await,
        field("source_file_path", outside)
    );
    assert!(place.rows().await.is_empty(), "a refused job was stored");
}

#[tokio::test]
async fn large_options_go_to_an_object_of_their_own() {
    let place = Place::new().await;
    let mut request = open(&place, Status::Pending).await;
    request.task_options = options(json!({"prompt": "p".repeat(2000)}));
    let id = imported(&place, &request).await;
    let answer = place.poll(&caller(), &crate::support::polling("document"), true).await.unwrap();
    assert_eq!((answer.job_id, answer.task_options), (Some(id), Some(request.task_options)));
}

#[tokio::test]
async fn an_import_without_a_table_to_reach_says_so() {
    let service = Place::out_of_reach().await;
    assert_eq!(problem(service.import(&caller(), &history(Status::Failed)).await).0, 503);
}
