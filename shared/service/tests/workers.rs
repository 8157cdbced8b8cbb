//! Which workers there are.

use std::{collections::BTreeSet, time::Duration};

use api::{
    poll::PollRequest,
    workers::{ListWorkersRequest, ListWorkersResponse, WorkerView},
};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use service::{Caller, Service};
use store::{Connection, Endpoint};

use crate::support::{Place, at, caller, caller_of, field, polling, polling_as, problem, progress, success};

async fn listed(service: &Service, caller: &Caller, content_type: Option<&str>) -> ListWorkersResponse {
    let content_type = content_type.map(|name| name.parse().unwrap());
    service.list_workers(caller, &ListWorkersRequest { content_type }).await.unwrap()
}

async fn all(place: &Place) -> Vec<WorkerView> {
    listed(place, &caller(), None).await.workers
}

/// The only worker there is.
async fn worker(place: &Place) -> WorkerView {
    let mut workers = all(place).await;
    assert_eq!(workers.len(), 1, "{workers:?}");
    workers.remove(0)
}

async fn poll(service: &Service, request: &PollRequest) {
    service.poll(&caller(), request, true).await.unwrap();
}

#[tokio::test]
async fn a_worker_is_live_for_two_minutes_after_a_poll_was_noted() {
    let place = Place::new().await;
    assert!(all(&place).await.is_empty());
    poll(&place, &PollRequest { version: Some("own/1.2 (rest)".to_owned()), ..polling("document,x-own") })
        .await;
    let known = worker(&place).await;
    assert_eq!((known.worker_id.as_str(), known.version.as_deref()), ("gpu-1", Some("own/1.2")));
    assert_eq!(known.content_types, ["document", "x-own"]);
    assert_eq!((known.last_seen, known.live, known.running_jobs.len()), (at(0), true, 0));
    assert_eq!(listed(&place, &caller(), None).await.live_within_seconds, 120);
    place.pass(120);
    assert!(worker(&place).await.live);
    place.pass(1);
    assert!(!worker(&place).await.live);
    poll(&place, &polling("document,x-own")).await;
    let again = worker(&place).await;
    assert_eq!((again.last_seen, again.live, again.version), (at(121), true, None));
}

#[tokio::test]
async fn a_client_of_the_original_is_known_as_well() {
    let place = Place::new().await;
    place.poll(&caller(), &polling("document"), false).await.unwrap();
    assert!(worker(&place).await.live);
    let id = place.created().await;
    place.poll(&caller(), &polling("document"), false).await.unwrap();
    place.pass(599);
    let busy = worker(&place).await;
    assert_eq!((busy.live, busy.running_jobs), (true, vec![id]), "its lease lasts for the whole run");
    place.pass(1);
    let over = worker(&place).await;
    assert_eq!((over.live, over.running_jobs.len()), (false, 0));
}

#[tokio::test]
async fn a_worker_that_runs_a_job_is_live_until_its_lease_lapses_though_it_does_not_poll() {
    let place = Place::new().await;
    let held = place.claimed().await;
    for _ in 0..20 {
        place.pass(15);
        place.report_progress(&caller(), &held.id, held.token(), &progress(50, "half")).await.unwrap();
    }
    let busy = worker(&place).await;
    assert_eq!((busy.live, &busy.running_jobs, busy.last_seen), (true, &vec![held.id.clone()], at(300)));
    place.pass(15);
    assert!(worker(&place).await.live);
    place.pass(45);
    let lapsed = worker(&place).await;
    assert_eq!((lapsed.live, lapsed.running_jobs.len(), lapsed.last_seen), (false, 0, at(0)));
    // The lease has run out and nobody has taken the job: it is still the worker's.
    place.submit(&held, &success("text")).await.unwrap();
    assert!(worker(&place).await.running_jobs.is_empty());
}

#[tokio::test]
async fn each_job_is_its_workers_whatever_others_run() {
    let place = Place::new().await;
    let mut made = BTreeSet::new();
    for _ in 0..3 {
        made.insert(place.created().await);
    }
    poll(&place, &PollRequest { max_jobs: Some(2), ..polling_as("a", "document") }).await;
    poll(&place, &polling_as("b", "document,audio")).await;
    poll(&place, &polling_as("c", "audio")).await;
    let workers = all(&place).await;
    let run: Vec<usize> = workers.iter().map(|worker| worker.running_jobs.len()).collect();
    assert_eq!(run, [2, 1, 0]);
    assert_eq!(workers.iter().flat_map(|worker| worker.running_jobs.clone()).collect::<BTreeSet<_>>(), made);
    let ids = |known: ListWorkersResponse| -> Vec<String> {
        known.workers.into_iter().map(|worker| worker.worker_id).collect()
    };
    assert_eq!(ids(listed(&place, &caller(), Some("audio")).await), ["b", "c"]);
    assert_eq!(ids(listed(&place, &caller(), Some("video")).await), [""; 0]);
}

#[tokio::test]
async fn the_live_ones_come_first() {
    let place = Place::new().await;
    for name in ["b", "a", "d"] {
        poll(&place, &polling_as(name, "document")).await;
    }
    place.pass(300);
    for name in ["d", "c"] {
        poll(&place, &polling_as(name, "document")).await;
    }
    let order: Vec<String> = all(&place).await.into_iter().map(|worker| worker.worker_id).collect();
    assert_eq!(order, ["c", "d", "a", "b"]);
}

#[tokio::test]
async fn who_says_goodbye_is_known_no_more_until_it_starts_again() {
    let place = Place::new().await;
    poll(&place, &polling("document")).await;
    let left = place.leave(&caller(), "gpu-1").await.unwrap();
    assert_eq!((left.worker_id.as_str(), left.left), ("gpu-1", true));
    assert!(all(&place).await.is_empty());
    assert!(!place.leave(&caller(), "gpu-1").await.unwrap().left, "it is not there any more");
    poll(&place, &polling("document")).await;
    assert!(worker(&place).await.live);
    // Another process is told of the goodbye, as on AWS, where polls have a function of their own.
    assert!(place.another().await.leave(&caller(), "gpu-1").await.unwrap().left);
    poll(&place, &PollRequest { starting: true, ..polling("document") }).await;
    assert!(worker(&place).await.live);
}

#[tokio::test]
async fn a_goodbye_leaves_a_running_job_to_its_worker() {
    let place = Place::new().await;
    let held = place.claimed().await;
    place.leave(&caller(), "gpu-1").await.unwrap();
    assert!(all(&place).await.is_empty(), "nobody is to count on it");
    place.submit(&held, &success("text")).await.unwrap();
}

#[tokio::test]
async fn workers_are_each_tenants_own() {
    let place = Place::new().await;
    let other = caller_of("u", "k2");
    poll(&place, &polling("document")).await;
    place.created().await;
    poll(&place, &polling("document")).await;
    assert!(listed(&place, &other, None).await.workers.is_empty());
    assert!(!place.leave(&other, "gpu-1").await.unwrap().left);
    // Of the same name they are two.
    place.poll(&other, &polling("audio"), true).await.unwrap();
    let of_other = listed(&place, &other, None).await.workers;
    assert_eq!(
        (of_other[0].content_types.as_slice(), of_other[0].running_jobs.len()),
        (&["audio".to_owned()][..], 0)
    );
    assert!(place.leave(&other, "gpu-1").await.unwrap().left);
    assert_eq!(worker(&place).await.running_jobs.len(), 1);
}

#[tokio::test]
async fn a_worker_may_be_called_anything_that_a_worker_may_be_called() {
    let place = Place::new().await;
    let longest = "é".repeat(127);
    for name in ["a/b", "50%", "%2F", "#", "t#gpu", "..", " ", "17", "ключ ✓", &longest] {
        poll(&place, &polling_as(name, "document")).await;
        assert_eq!(worker(&place).await.worker_id, *name);
        assert!(place.leave(&caller(), name).await.unwrap().left, "{name}");
        assert!(all(&place).await.is_empty());
    }
    for wrong in ["", "a\nb", &"x".repeat(256)] {
        let refused = problem(place.leave(&caller(), wrong).await);
        assert_eq!(refused, field("worker_id", "must be 1 to 255 characters without control characters"));
    }
}

#[tokio::test]
async fn what_a_worker_says_it_is_is_cut_and_has_no_control_characters() {
    let place = Place::new().await;
    for (said, kept) in [
        ("own/1 (Linux)", Some("own/1".to_owned())),
        (" ", None),
        ("\u{1b}[31mred/1", Some("[31mred/1".to_owned())),
        (&"v".repeat(9000), Some("v".repeat(100))),
    ] {
        poll(&place, &PollRequest { version: Some(said.to_owned()), starting: true, ..polling("document") })
            .await;
        assert_eq!(worker(&place).await.version, kept);
    }
}

#[tokio::test]
async fn a_worker_that_changes_is_noted_after_a_minute_at_the_earliest() {
    let place = Place::with_rules(|rules| rules.seen_every = Duration::from_secs(600)).await;
    let of_version = |version: &str| PollRequest { version: Some(version.to_owned()), ..polling("document") };
    poll(&place, &of_version("own/1")).await;
    place.pass(59);
    poll(&place, &of_version("own/2")).await;
    assert_eq!(worker(&place).await.version.as_deref(), Some("own/1"));
    place.pass(1);
    poll(&place, &of_version("own/2")).await;
    assert_eq!(worker(&place).await.version.as_deref(), Some("own/2"));
}

#[tokio::test]
async fn a_clock_that_is_set_back_keeps_no_worker_from_being_noted() {
    let place = Place::new().await;
    poll(&place, &polling("document")).await;
    place.set_back(3600);
    poll(&place, &polling("document")).await;
    assert!(worker(&place).await.live);
    // From then on it is noted as often as ever.
    place.pass(3600 - 1);
    assert!(worker(&place).await.live, "it was seen an hour ahead of the clock");
    let before = place.store().meter.units().write;
    place.pass(120);
    poll(&place, &polling("document")).await;
    assert!(place.store().meter.units().write > before);
    assert!(worker(&place).await.live);
}

#[tokio::test]
async fn workers_of_one_name_and_different_types_do_not_hide_each_other() {
    let place = Place::new().await;
    let id = place.created().await;
    for types in ["document", "audio,video", "video,audio"] {
        poll(&place, &polling(types)).await;
    }
    let live = async |content_type: &str| {
        let known = listed(&place, &caller(), Some(content_type)).await.workers;
        known.into_iter().filter(|worker| worker.live).map(|worker| worker.running_jobs).collect::<Vec<_>>()
    };
    assert_eq!(all(&place).await.len(), 2, "in another order they are the same types");
    assert_eq!(live("document").await, [vec![id]]);
    assert_eq!(live("audio").await, [Vec::<String>::new()]);
    // What one of them runs says nothing of the other.
    place.pass(121);
    assert_eq!(live("audio").await.len(), 0);
    poll(&place, &polling("audio,video")).await;
    assert!(place.leave(&caller(), "gpu-1").await.unwrap().left);
    assert!(all(&place).await.is_empty(), "a goodbye does not say of which of them it is");
    poll(&place, &polling("audio,video")).await;
    assert_eq!(live("video").await.len(), 1, "who is still there is noted by its next poll");
}

#[tokio::test]
async fn processes_that_remember_nothing_note_an_idle_worker_once_in_a_while() {
    let place = Place::new().await;
    let mut writes = Vec::new();
    for minute in 0..60 {
        let process = place.another_with(|rules| rules.seen_every = Duration::from_secs(600)).await;
        let request = PollRequest { idle_seconds: Some(minute * 60), ..polling("document") };
        poll(&process, &request).await;
        if process.store().meter.units().write > 0.0 {
            writes.push(minute);
        }
        assert!(listed(&process, &caller(), None).await.workers[0].live);
        place.pass(60);
    }
    assert_eq!(writes, [0, 10, 20, 30, 40, 50]);
}

#[tokio::test]
async fn who_polls_under_ever_new_names_has_so_many_rows_written_at_a_time_and_fills_no_answer() {
    let place = Place::new().await;
    for at in 0..2010 {
        poll(&place, &polling_as(&format!("w-{at}"), "document")).await;
    }
    let rows = place.rows().await;
    assert_eq!(rows.iter().filter(|row| row.starts_with("worker#")).count(), 2000);
    let known = listed(&place, &caller(), None).await;
    assert_eq!((known.workers.len(), known.more), (1000, true));
    // Another tenant is not kept from it, and with time there is room again.
    place.poll(&caller_of("u", "k2"), &polling("document"), true).await.unwrap();
    assert_eq!(listed(&place, &caller_of("u", "k2"), None).await.workers.len(), 1);
    // Those who are not seen for days are what is left out.
    place.pass(2 * 24 * 3600);
    poll(&place, &polling_as("a newcomer", "document")).await;
    let known = listed(&place, &caller(), None).await;
    assert_eq!((known.workers.len(), known.workers[0].worker_id.as_str()), (1000, "a newcomer"));
}

#[tokio::test]
async fn who_was_not_seen_for_a_week_is_forgotten() {
    let place = Place::new().await;
    poll(&place, &polling("document")).await;
    place.pass(7 * 24 * 3600 - 1);
    assert!(!worker(&place).await.live);
    place.pass(1);
    assert!(all(&place).await.is_empty());
}

/// Refuses every write of a worker's row.
#[derive(Debug)]
struct Unwilling(SharedHttpConnector);

impl HttpConnector for Unwilling {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        if !(target.ends_with("PutItem") && body.contains("\"worker#")) {
            return self.0.call(request);
        }
        let refusal = r#"{"__type":"com.amazon.coral.validate#ValidationException","message":"no"}"#;
        let status = StatusCode::try_from(400).unwrap();
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(refusal))))
    }
}

fn unwilling(connection: &mut Connection) {
    let Endpoint::At { http, .. } = &mut connection.dynamodb else { panic!("no test goes to AWS") };
    let network = || aws_smithy_http_client::Builder::new().build_http();
    let way = http.take().unwrap_or_else(network);
    *http = Some(http_client_fn(move |settings, components| {
        use aws_smithy_runtime_api::client::http::HttpClient;
        SharedHttpConnector::new(Unwilling(way.http_connector(settings, components)))
    }));
}

#[tokio::test]
async fn a_worker_that_cannot_be_noted_is_given_jobs_all_the_same() {
    let place = Place::with(unwilling, |_| {}).await;
    let held = place.claimed().await;
    place.submit(&held, &success("text")).await.unwrap();
    assert!(place.try_claim().await.is_none());
    assert!(all(&place).await.is_empty());
}

#[tokio::test]
async fn a_row_that_cannot_be_read_hides_no_other_worker() {
    use aws_sdk_dynamodb::types::AttributeValue;
    let place = Place::new().await;
    poll(&place, &polling("document")).await;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let broken = [
        ("pk", text("worker#t#broken")),
        ("day", text("t#workers")),
        ("created_at", AttributeValue::N("1".to_owned())),
    ];
    place.put_row(broken.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()).await;
    assert_eq!(worker(&place).await.worker_id, "gpu-1");
}
