use api::{Verb, uploads::*};
use serde_json::{Value, json};

use super::*;

/// An answer that fits the verb, as few fields as its type admits.
fn answer(verb: Verb) -> Value {
    let upload = json!({"upload_id": "u", "source_file_path": "p", "uploaded": true});
    let key = json!({"key_id": "k", "name": "n", "scopes": [], "tenant": "t", "created_at": "", "revoked_at": null});
    match verb {
        Verb::CreateUpload | Verb::CreateResultUpload => upload,
        Verb::SignUploadParts | Verb::SignResultParts => json!({"parts": []}),
        Verb::CompleteUpload | Verb::CompleteResultUpload => {
            json!({"source_file_path": "p", "size_bytes": 1})
        }
        Verb::AbortUpload | Verb::AbortResultUpload => json!({"aborted": true}),
        Verb::Create => json!({"job_id": "j", "status": "pending", "created_at": ""}),
        Verb::Poll => json!({"job_id": null, "poll_again_in_seconds": 5, "new_field": 1}),
        Verb::ReportProgress => json!({
            "success": true, "message": "", "cancelled": false, "lease_expires_in_seconds": 60,
            "report_every_seconds": 15
        }),
        Verb::SubmitResult => json!({"status": "completed", "ingestion_continued": false}),
        Verb::Release | Verb::Cancel | Verb::Retry => json!({"job_id": "j", "status": "pending"}),
        Verb::List => json!({"jobs": [], "cursor": "next"}),
        Verb::Statistics => json!({"as_of": null, "queues": []}),
        Verb::ListWorkers => json!({"workers": [{
            "worker_id": "w", "content_types": ["audio"], "version": null, "last_seen": "", "live": true,
            "running_jobs": []
        }], "live_within_seconds": 120}),
        Verb::Leave => json!({"worker_id": "w", "left": true}),
        Verb::Delete => json!({"job_id": "j", "deleted_objects": 2}),
        Verb::Import => json!({"job_id": "j", "status": "completed", "imported": false}),
        Verb::PauseQueue | Verb::ResumeQueue => json!({"content_type": "audio", "paused": true}),
        Verb::ListEvents => json!({"events": []}),
        Verb::RedriveEvent => json!({
            "event_id": "e", "job_id": "j", "status": "failed", "url": "https://h", "delivery": "due", "tries": 0,
            "last_error": null, "ended_at": "", "at": ""
        }),
        Verb::WebhookSecret | Verb::RotateWebhookSecret => json!({"secret": "whsec_x"}),
        Verb::Status => json!({
            "job_id": "j", "status": "pending", "created_at": "", "retry_count": 0, "percentage": 0,
            "updated_at": "", "max_retries": 3, "attempts": [], "ingestion_task_id": "t", "content_type": "audio"
        }),
        Verb::CreateKey | Verb::RotateKey => json!({"api_key": "secret", "key": key}),
        Verb::ListKeys => json!({"keys": [key]}),
        Verb::RevokeKey => key,
        Verb::Health => json!({"status": "ok", "version": "1"}),
        Verb::Result | Verb::Download | Verb::OpenApi | Verb::Docs => Value::Null,
    }
}

/// A server that answers by the route table, under a path prefix.
async fn server() -> Arc<Server> {
    Server::start(|server, seen| {
        if seen.path.starts_with("/bucket/") {
            return Reply::json(json!({"content": "# Text", "more": 1}));
        }
        let path = seen.path.strip_prefix("/prod").unwrap();
        let verb = api::find(&seen.method, path).unwrap().route.verb;
        if matches!(verb, Verb::Result | Verb::Download) {
            return Reply::new(307).header("location", server.url("/bucket/object?signed"));
        }
        Reply::json(answer(verb))
    })
    .await
}

fn parts() -> (SignPartsRequest, CompleteUploadRequest, AbortUploadRequest) {
    let (source_file_path, multipart_upload_id) = ("p".to_owned(), "m".to_owned());
    (
        SignPartsRequest {
            source_file_path: source_file_path.clone(),
            multipart_upload_id: multipart_upload_id.clone(),
            parts: vec![],
        },
        CompleteUploadRequest {
            source_file_path: source_file_path.clone(),
            multipart_upload_id: multipart_upload_id.clone(),
            parts: vec![],
        },
        AbortUploadRequest { source_file_path, multipart_upload_id },
    )
}

/// The verb of the last call, and the headers that tell who made it.
fn last(server: &Server) -> (Verb, String, bool) {
    let seen = server.seen().pop().unwrap();
    let found = api::find(&seen.method, seen.path.strip_prefix("/prod").unwrap()).unwrap();
    assert_eq!(seen.header("authorization"), Some("Bearer k1.very-secret"));
    assert_eq!(seen.header("user-agent"), Some("test/0"));
    (found.route.verb, found.id, seen.header("lease-token") == Some("lease-secret"))
}

fn client(server: &Server) -> Client {
    Client::new(server.url("/prod/").parse().unwrap(), Some(ApiKey::from(KEY)), "test/0").unwrap()
}

#[tokio::test]
async fn the_ingestion_sides_calls_have_their_routes() {
    let server = server().await;
    let client = client(&server);
    let (sign, complete, abort) = parts();
    let upload = CreateUploadRequest { filename: "a".into(), size_bytes: 1, sha256: [7; 32] };
    client.create_upload(&upload, Some("key")).await.unwrap();
    assert_eq!(last(&server), (Verb::CreateUpload, String::new(), false));
    let sent = server.seen().pop().unwrap();
    assert_eq!(sent.header("idempotency-key"), Some("key"));
    assert_eq!(sent.json::<Value>()["sha256"], "07".repeat(32));

    client.sign_upload_parts("u/1", &sign).await.unwrap();
    assert_eq!(last(&server), (Verb::SignUploadParts, "u/1".into(), false));
    client.complete_upload("u", &complete).await.unwrap();
    assert_eq!(last(&server).0, Verb::CompleteUpload);
    client.abort_upload("u", &abort).await.unwrap();
    assert_eq!(last(&server).0, Verb::AbortUpload);

    let job = api::json(br#"{"source_file_path":"p","content_type":"x-a","ingestion_task_id":"t"}"#).unwrap();
    client.create_job(&job, None).await.unwrap();
    assert_eq!(last(&server).0, Verb::Create);
    assert_eq!(server.seen().pop().unwrap().header("idempotency-key"), None);
    client.status("j").await.unwrap();
    assert_eq!(last(&server), (Verb::Status, "j".into(), false));
    client.cancel("j", &Default::default()).await.unwrap();
    assert_eq!(last(&server).0, Verb::Cancel);
    client.retry("j").await.unwrap();
    assert_eq!(last(&server).0, Verb::Retry);
    assert_eq!(client.delete_job("j/1").await.unwrap().deleted_objects, 2);
    assert_eq!(last(&server), (Verb::Delete, "j/1".into(), false));
    client.statistics().await.unwrap();
    assert_eq!((last(&server).0, server.seen().pop().unwrap().query.as_str()), (Verb::Statistics, ""));
    let request = api::statistics::StatisticsRequest { content_type: "x-a".parse().ok() };
    client.statistics_of(&request).await.unwrap();
    assert_eq!(
        (last(&server).0, server.seen().pop().unwrap().query.as_str()),
        (Verb::Statistics, "content_type=x-a")
    );
    let request = api::workers::ListWorkersRequest { content_type: "x-a".parse().ok() };
    assert!(client.list_workers(&request).await.unwrap().workers[0].live);
    assert_eq!(
        (last(&server).0, server.seen().pop().unwrap().query.as_str()),
        (Verb::ListWorkers, "content_type=x-a")
    );
    assert_eq!(client.webhook_secret().await.unwrap().secret, "whsec_x");
    assert_eq!(last(&server).0, Verb::WebhookSecret);
}

#[tokio::test]
async fn only_the_filters_that_are_given_are_sent() {
    let server = server().await;
    let client = client(&server);
    assert_eq!(client.list_jobs(&Default::default()).await.unwrap().cursor.as_deref(), Some("next"));
    assert_eq!((last(&server).0, server.seen().pop().unwrap().query.as_str()), (Verb::List, ""));
    let filters: api::list::ListRequest = api::json(
        br#"{"status":"failed","content_type":"x-a","day":"2026-02-03","ingestion_task_id":"a&b ","limit":7,"cursor":"c="}"#,
    )
    .unwrap();
    client.list_jobs(&filters).await.unwrap();
    let query = server.seen().pop().unwrap().query;
    assert_eq!(
        query,
        "status=failed&content_type=x-a&day=2026-02-03&ingestion_task_id=a%26b+&limit=7&cursor=c%3D"
    );
    let read: api::list::ListRequest = api::query(&query).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), serde_json::to_value(filters).unwrap());
    client.status_within("j", 20).await.unwrap();
    assert_eq!(last(&server), (Verb::Status, "j".into(), false));
    assert_eq!(server.seen().pop().unwrap().query, "wait_seconds=20");
}

#[tokio::test]
async fn a_workers_calls_have_their_routes_and_prove_the_lease() {
    let server = server().await;
    let client = client(&server);
    let (lease, (sign, complete, abort)) = (lease(), parts());
    let poll = api::json(br#"{"worker_id":"w","content_types":["audio"]}"#).unwrap();
    assert_eq!(client.poll(&poll).await.unwrap().poll_again_in_seconds, Some(5));
    assert_eq!(last(&server), (Verb::Poll, String::new(), false));
    assert_eq!(server.seen().pop().unwrap().method, hyper::Method::POST);

    let of_job = |verb| (verb, "job-1".to_owned(), true);
    client.report_progress(&lease, &api::json(br#"{"percentage":5}"#).unwrap()).await.unwrap();
    assert_eq!(last(&server), of_job(Verb::ReportProgress));
    let upload = CreateResultUploadRequest { size_bytes: 1, sha256: [7; 32] };
    client.create_result_upload(&lease, &upload).await.unwrap();
    assert_eq!(last(&server), of_job(Verb::CreateResultUpload));
    client.sign_result_parts(&lease, &sign).await.unwrap();
    assert_eq!(last(&server), of_job(Verb::SignResultParts));
    client.complete_result_upload(&lease, &complete).await.unwrap();
    assert_eq!(last(&server), of_job(Verb::CompleteResultUpload));
    client.abort_result_upload(&lease, &abort).await.unwrap();
    assert_eq!(last(&server), of_job(Verb::AbortResultUpload));
    client.submit_result(&lease, &Default::default()).await.unwrap();
    assert_eq!(last(&server), of_job(Verb::SubmitResult));
    client.release(&lease, &Default::default()).await.unwrap();
    assert_eq!(last(&server), of_job(Verb::Release));
    assert!(client.leave("gpu/1 %").await.unwrap().left);
    assert_eq!(last(&server), (Verb::Leave, "gpu/1 %".into(), false));
    let url = client.download_url(&lease).await.unwrap();
    assert_eq!(last(&server), of_job(Verb::Download));
    assert_eq!(url.reveal(), server.url("/bucket/object?signed"));
}

#[tokio::test]
async fn an_operators_calls_have_their_routes() {
    let server = server().await;
    let client = client(&server);
    let request = api::json(br#"{"name":"n","scopes":["worker"]}"#).unwrap();
    assert_eq!(client.create_key(&request).await.unwrap().api_key, "secret");
    assert_eq!(last(&server).0, Verb::CreateKey);
    assert_eq!(client.list_keys().await.unwrap().keys.len(), 1);
    assert_eq!(last(&server).0, Verb::ListKeys);
    client.rotate_key("k", &Default::default()).await.unwrap();
    assert_eq!(last(&server), (Verb::RotateKey, "k".into(), false));
    client.revoke_key("k").await.unwrap();
    assert_eq!(last(&server), (Verb::RevokeKey, "k".into(), false));
    assert!(client.pause_queue("x-a").await.unwrap().paused);
    assert_eq!(last(&server), (Verb::PauseQueue, "x-a".into(), false));
    client.resume_queue("audio").await.unwrap();
    assert_eq!(last(&server), (Verb::ResumeQueue, "audio".into(), false));
    let job = api::json(
        br#"{"job_id":"j","status":"cancelled","content_type":"audio","source_file_path":"a","ingestion_task_id":"t",
            "created_at":"2025-01-01T00:00:00"}"#,
    );
    assert!(!client.import_job(&job.unwrap()).await.unwrap().imported);
    assert_eq!(last(&server), (Verb::Import, String::new(), false));
    client.list_events(&api::events::ListEventsRequest { limit: Some(2), cursor: None }).await.unwrap();
    assert_eq!(last(&server).0, Verb::ListEvents);
    assert_eq!(server.seen().pop().unwrap().query, "limit=2");
    client.redrive_event("e.1.2").await.unwrap();
    assert_eq!(last(&server), (Verb::RedriveEvent, "e.1.2".into(), false));
    client.rotate_webhook_secret().await.unwrap();
    assert_eq!(last(&server).0, Verb::RotateWebhookSecret);
    assert_eq!(client.health().await.unwrap().status, "ok");
    assert_eq!(last(&server).0, Verb::Health);
    assert!(client.probe().await.unwrap().server_time.is_some());
}

#[tokio::test]
async fn a_result_is_fetched_without_the_key() {
    let server = server().await;
    let document = client(&server).result("j").await.unwrap();
    assert_eq!(document.content, "# Text");
    let fetched = server.seen().pop().unwrap();
    assert_eq!((fetched.path.as_str(), fetched.query.as_str()), ("/bucket/object", "signed"));
    assert_eq!(fetched.header("authorization"), None);
}

#[tokio::test]
async fn a_result_that_is_no_document_is_corrupt() {
    let server = Server::start(|server, seen| match seen.path.as_str() {
        "/bucket/object" => Reply::new(200).body("<html>"),
        _ => Reply::new(307).header("location", server.url("/bucket/object")),
    })
    .await;
    let error = server.client().result("j").await.unwrap_err();
    assert!(matches!(error, crate::Error::Corrupt { .. }), "{error:?}");
}

#[tokio::test]
async fn a_redirect_that_leads_nowhere_is_unreadable() {
    for reply in [Reply::new(307), Reply::new(307).header("location", "file:///etc/passwd"), Reply::new(200)]
    {
        let server = Server::start(move |_, _| reply.clone()).await;
        let error = server.client().download_url(&lease()).await.unwrap_err();
        assert!(matches!(error, crate::Error::Unreadable { .. }), "{error:?}");
    }
}
