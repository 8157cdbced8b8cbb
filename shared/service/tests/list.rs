//! `GET /`: a tenant's jobs, page by page.

use std::{collections::BTreeSet, time::Duration};

use api::list::{JobSummary, ListRequest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{ContentType, Imported, Job, JobId, ResultRef, Spec, Status, TaskOptions, Tenant, Timestamp};
use futures::{StreamExt, stream};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use uuid::Uuid;

use crate::support::{Place, at, caller, caller_of, failure, field, problem, progress, success};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn of_status(status: Status) -> ListRequest {
    ListRequest { status: Some(status), ..ListRequest::default() }
}

/// The ids on every page and how many pages there were. Between pages `meanwhile` happens.
async fn paged(
    place: &Place,
    request: &ListRequest,
    mut meanwhile: impl AsyncFnMut(),
) -> (Vec<JobSummary>, usize) {
    let mut request = request.clone();
    let mut jobs = Vec::new();
    for pages in 1.. {
        let page = place.list(&caller(), &request).await.unwrap();
        assert!(page.jobs.len() <= usize::try_from(request.limit.unwrap_or(50)).unwrap());
        jobs.extend(page.jobs);
        request.cursor = page.cursor;
        if request.cursor.is_none() {
            return (jobs, pages);
        }
        meanwhile().await;
    }
    unreachable!("the pages never end")
}

async fn all(place: &Place, request: &ListRequest) -> Vec<String> {
    paged(place, request, async || {}).await.0.into_iter().map(|job| job.job_id).collect()
}

/// What a job of this place is asked for.
async fn spec(place: &Place) -> Spec {
    let id = place.created().await;
    let spec = place.job(&id).await.spec;
    place.cancel(&caller(), &id, &api::manage::CancelRequest::default()).await.unwrap();
    place.delete(&caller(), &id).await.unwrap();
    spec
}

fn tenant() -> Tenant {
    "t".parse().unwrap()
}

fn waiting(spec: &Spec, created_at: Timestamp) -> Job {
    Job::create(JobId(Uuid::now_v7()), tenant(), spec.clone(), created_at)
}

async fn stored(place: &Place, jobs: &[Job]) {
    stream::iter(jobs)
        .for_each_concurrent(16, |job| async {
            place.store().jobs.create(job).await.unwrap();
        })
        .await;
}

#[tokio::test]
async fn a_tenant_without_jobs_has_a_list_without_jobs() {
    let place = Place::new().await;
    place
        .store()
        .jobs
        .create(&Job { tenant: "u".parse().unwrap(), ..waiting(&spec(&place).await, place.now()) })
        .await
        .unwrap();
    let (jobs, pages) = paged(&place, &ListRequest::default(), async || {}).await;
    // 90 days, of which a call looks at 31.
    assert_eq!((jobs.len(), pages), (0, 3));
}

#[tokio::test]
async fn each_job_is_told_briefly() {
    let place = Place::new().await;
    let waiting = place.created().await;
    place.pass(1);
    let running = place.claimed_after(&waiting).await;
    place.pass(2);
    place.report_progress(&caller(), &running.id, running.token(), &progress(40, "page 2")).await.unwrap();
    place.pass(3);
    let failed = place.claimed_after(&waiting).await;
    place.submit(&failed, &failure(false)).await.unwrap();
    place.pass(1);
    let completed = place.claimed_after(&waiting).await;
    place.submit(&completed, &success("text")).await.unwrap();
    let page = place.list(&caller(), &ListRequest::default()).await.unwrap();
    let told: Vec<_> = page
        .jobs
        .iter()
        .map(|job| (job.job_id.as_str(), job.status.as_str(), job.percentage, job.worker_id.as_deref()))
        .collect();
    let worker = Some("gpu-1");
    assert_eq!(
        told,
        [
            (completed.id.as_str(), "completed", 100, worker),
            (&failed.id, "failed", 0, worker),
            (&running.id, "processing", 40, worker),
            (&waiting, "pending", 0, None),
        ]
    );
    let failed = &page.jobs[1];
    assert_eq!((failed.created_at.clone(), failed.updated_at.clone()), (at(6), at(6)));
    assert_eq!(
        (failed.completed_at.clone(), failed.error_message.as_deref()),
        (Some(at(6)), Some("no text in it"))
    );
    let running = &page.jobs[2];
    assert_eq!((running.created_at.clone(), running.updated_at.clone()), (at(1), at(3)));
    assert_eq!((running.completed_at.as_ref(), running.retry_count), (None, 0));
    assert_eq!(
        (running.content_type.as_str(), running.filename.as_str(), running.ingestion_task_id.as_str()),
        ("document", "report.pdf", "task-1")
    );
}

#[tokio::test]
async fn ten_thousand_jobs_are_listed_once_each_while_others_are_added() {
    const JOBS: usize = 10_000;
    let place = Place::new().await;
    let spec = spec(&place).await;
    let mut random = StdRng::seed_from_u64(1);
    // Over ten days, and often several in one moment.
    let moment = |random: &mut StdRng| {
        place.now().minus(DAY * 10).plus(Duration::from_secs(random.random_range(0..864_000 / 100) * 100))
    };
    let jobs: Vec<Job> = (0..JOBS).map(|_| waiting(&spec, moment(&mut random))).collect();
    stored(&place, &jobs).await;
    let request = ListRequest { limit: Some(200), ..ListRequest::default() };
    let mut added = 0;
    let (listed, pages) = paged(&place, &request, async || {
        let new: Vec<Job> = (0..10).map(|_| waiting(&spec, place.now())).collect();
        stored(&place, &new).await;
        added += new.len();
        place.pass(1);
    })
    .await;
    assert!(pages >= JOBS / 200 && added >= pages * 10 - 10, "{pages} pages, {added} added");
    assert!(listed.windows(2).all(|two| two[0].created_at >= two[1].created_at));
    assert_eq!(listed.len(), JOBS);
    let listed: BTreeSet<String> = listed.into_iter().map(|job| job.job_id).collect();
    assert_eq!(listed, jobs.iter().map(|job| job.id.to_string()).collect());
}

#[tokio::test]
async fn jobs_of_one_moment_are_listed_once_each_whatever_the_page() {
    let place = Place::new().await;
    let spec = spec(&place).await;
    let jobs: Vec<Job> = (0..100).map(|_| waiting(&spec, place.now())).collect();
    stored(&place, &jobs).await;
    let expected: BTreeSet<String> = jobs.iter().map(|job| job.id.to_string()).collect();
    for task in [None, Some("task-1".to_owned())] {
        for limit in [1, 7, 33, 99, 100, 200] {
            let request =
                ListRequest { limit: Some(limit), ingestion_task_id: task.clone(), ..ListRequest::default() };
            let listed = all(&place, &request).await;
            assert_eq!((listed.len(), BTreeSet::from_iter(listed)), (100, expected.clone()), "{limit}");
        }
    }
}

/// A job of any status, type, task and day.
fn any(random: &mut StdRng, spec: &Spec, now: Timestamp) -> Job {
    let spec = Spec {
        content_type: [ContentType::Audio, ContentType::Document, "x-own".parse().unwrap()]
            .choose(random)
            .unwrap()
            .clone(),
        ingestion_task_id: format!("task-{}", random.random_range(0..4)),
        ..spec.clone()
    };
    // Days of their own, some of them empty, and moments that several share.
    let created_at =
        now.minus(DAY * random.random_range(0..20)).minus(Duration::from_secs(random.random_range(0..20)));
    let id = JobId(Uuid::now_v7());
    let (at, error) = (created_at, "why".to_owned());
    let imported = match random.random_range(0..5) {
        0 => Imported::Open { retries: 0 },
        1 => Imported::Failed { at, error },
        2 => Imported::Timeout { at, error },
        3 => Imported::Cancelled { at },
        _ => {
            let result = ResultRef { key: "results/t/x".to_owned(), size_bytes: 1, sha256: [1; 32] };
            Imported::Completed { worker: "w".parse().unwrap(), started_at: at, at, result }
        }
    };
    Job::import(id, tenant(), spec, imported, (created_at, now), "k".parse().unwrap())
}

/// Any filters, each as likely given as not.
fn any_filters(random: &mut StdRng, now: Timestamp) -> ListRequest {
    let types = ["audio", "document", "x-own", "video"];
    ListRequest {
        status: random.random_bool(0.5).then(|| *Status::ALL.choose(random).unwrap()),
        content_type: random.random_bool(0.5).then(|| types.choose(random).unwrap().parse().unwrap()),
        day: random.random_bool(0.4).then(|| now.minus(DAY * random.random_range(0..22)).day()),
        ingestion_task_id: random.random_bool(0.5).then(|| format!("task-{}", random.random_range(0..5))),
        limit: random.random_bool(0.8).then(|| random.random_range(1..40)),
        cursor: None,
    }
}

fn fits(request: &ListRequest, job: &Job) -> bool {
    request.status.is_none_or(|status| job.status() == status)
        && request.content_type.as_ref().is_none_or(|wanted| job.spec.content_type == *wanted)
        && request.day.is_none_or(|day| job.created_at.day() == day)
        && request.ingestion_task_id.as_ref().is_none_or(|task| job.spec.ingestion_task_id == *task)
}

#[tokio::test]
async fn every_filter_finds_what_a_plain_list_of_the_jobs_has() {
    let place = Place::new().await;
    let spec = spec(&place).await;
    let mut random = StdRng::seed_from_u64(2);
    let mut jobs: Vec<Job> = (0..400).map(|_| any(&mut random, &spec, place.now())).collect();
    stored(&place, &jobs).await;
    jobs.sort_by_key(|job| std::cmp::Reverse(job.created_at));
    let mut found = 0;
    for _ in 0..100 {
        let request = any_filters(&mut random, place.now());
        let (listed, _) = paged(&place, &request, async || {}).await;
        let expected: Vec<&Job> = jobs.iter().filter(|job| fits(&request, job)).collect();
        let times = |jobs: &[&Job]| jobs.iter().map(|job| api::rfc3339(job.created_at)).collect::<Vec<_>>();
        assert_eq!(
            listed.iter().map(|job| job.created_at.clone()).collect::<Vec<_>>(),
            times(&expected),
            "{request:?}"
        );
        let ids: BTreeSet<String> = listed.into_iter().map(|job| job.job_id).collect();
        assert_eq!(ids, expected.iter().map(|job| job.id.to_string()).collect(), "{request:?}");
        found += expected.len();
    }
    assert!(found > 700, "the filters hardly found anything: {found}");
}

#[tokio::test]
async fn what_is_older_than_ninety_days_is_found_by_its_day_and_by_its_task() {
    let place = Place::new().await;
    let spec = spec(&place).await;
    let ages = [0, 1, 89, 90, 400];
    let jobs: Vec<Job> = ages.iter().map(|age| waiting(&spec, place.now().minus(DAY * *age))).collect();
    stored(&place, &jobs).await;
    let ids: Vec<String> = jobs.iter().map(|job| job.id.to_string()).collect();
    assert_eq!(all(&place, &ListRequest::default()).await, ids[..3]);
    let of_task = ListRequest { ingestion_task_id: Some("task-1".to_owned()), ..ListRequest::default() };
    assert_eq!(all(&place, &of_task).await, ids);
    let of_day = ListRequest { day: Some(jobs[4].created_at.day()), ..ListRequest::default() };
    assert_eq!(all(&place, &of_day).await, ids[4..]);
    assert_eq!(all(&place, &ListRequest { day: of_day.day, ..of_task }).await, ids[4..]);
}

#[tokio::test]
async fn a_server_whose_clock_is_ahead_over_midnight_creates_jobs_that_are_listed() {
    let place = Place::new().await;
    let spec = spec(&place).await;
    let midnight = Timestamp(place.now().day().end().0 + 1);
    place.pass(midnight.since(place.now()).as_secs() - 2);
    let job = waiting(&spec, midnight.plus(Duration::from_secs(5)));
    stored(&place, std::slice::from_ref(&job)).await;
    assert_eq!(all(&place, &ListRequest::default()).await, [job.id.to_string()]);
}

#[tokio::test]
async fn a_call_that_finds_little_ends_in_time_and_says_where_to_go_on() {
    let place = Place::new().await;
    let spec = spec(&place).await;
    let jobs: Vec<Job> = (0..1200).map(|_| waiting(&spec, place.now())).collect();
    stored(&place, &jobs).await;
    let before = place.store().meter.units().read;
    let page = place.list(&caller(), &of_status(Status::Failed)).await.unwrap();
    assert_eq!((page.jobs.len(), page.cursor.is_some()), (0, true));
    let read = place.store().meter.units().read - before;
    assert!((500.0..=510.0).contains(&read), "it read {read} units");
    let (listed, pages) = paged(&place, &of_status(Status::Failed), async || {}).await;
    assert_eq!((listed.len(), pages), (0, 5));
}

#[tokio::test]
async fn rows_that_together_are_too_large_for_one_answer_are_listed_all_the_same() {
    let place = Place::new().await;
    let mut spec = spec(&place).await;
    spec.task_options = TaskOptions::Inline(format!("{{\"x\":\"{}\"}}", "x".repeat(380_000)));
    // 45 times 380 KB is more than the 16 MB of one answer.
    let jobs: Vec<Job> = (0..45).map(|_| waiting(&spec, place.now())).collect();
    stored(&place, &jobs).await;
    let page =
        place.list(&caller(), &ListRequest { limit: Some(200), ..ListRequest::default() }).await.unwrap();
    assert_eq!(page.jobs.len(), 45);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_does_not_keep_the_others_from_being_listed() {
    let place = Place::new().await;
    place.unreadable().await;
    let id = place.created().await;
    assert!(all(&place, &ListRequest::default()).await.contains(&id));
}

#[tokio::test]
async fn what_was_deleted_meanwhile_is_left_out() {
    let place = Place::new().await;
    let (first, second) = (place.created().await, place.created().await);
    let page =
        place.list(&caller(), &ListRequest { limit: Some(1), ..ListRequest::default() }).await.unwrap();
    let listed = &page.jobs[0].job_id;
    for id in [&first, &second] {
        place.cancel(&caller(), id, &api::manage::CancelRequest::default()).await.unwrap();
        place.delete(&caller(), id).await.unwrap();
    }
    // Where the cursor stands is no job any more.
    let rest = ListRequest { cursor: page.cursor, limit: Some(1), ..ListRequest::default() };
    assert_eq!(all(&place, &rest).await, [""; 0], "after {listed}");
}

#[tokio::test]
async fn another_tenants_jobs_are_never_listed() {
    let place = Place::new().await;
    for _ in 0..3 {
        place.created().await;
    }
    let foreign = caller_of("u", "k");
    let of_task = ListRequest { ingestion_task_id: Some("task-1".to_owned()), ..ListRequest::default() };
    for request in [ListRequest::default(), of_task] {
        assert!(place.list(&foreign, &request).await.unwrap().jobs.is_empty());
        let limited = ListRequest { limit: Some(1), ..request.clone() };
        let cursor = place.list(&caller(), &limited).await.unwrap().cursor;
        assert!(cursor.is_some());
        let refused = place.list(&foreign, &ListRequest { cursor, ..request }).await;
        assert_eq!(problem(refused), bad_cursor());
    }
}

fn bad_cursor() -> (u16, String) {
    field("cursor", "is not what a call with the same filters answered; begin without one")
}

#[tokio::test]
async fn a_cursor_of_other_filters_or_of_nobodys_making_is_refused() {
    let place = Place::new().await;
    for _ in 0..3 {
        place.created().await;
    }
    let first = ListRequest { limit: Some(1), ..ListRequest::default() };
    let cursor = place.list(&caller(), &first).await.unwrap().cursor.unwrap();
    let with = |cursor: &str| ListRequest { cursor: Some(cursor.to_owned()), ..ListRequest::default() };
    assert!(place.list(&caller(), &with(&cursor)).await.is_ok(), "another limit is no other filter");
    let day = Some(place.now().day());
    for other in [
        ListRequest { status: Some(Status::Pending), ..with(&cursor) },
        ListRequest { content_type: Some(ContentType::Audio), ..with(&cursor) },
        ListRequest { day, ..with(&cursor) },
        ListRequest { ingestion_task_id: Some("task-1".to_owned()), ..with(&cursor) },
    ] {
        assert_eq!(problem(place.list(&caller(), &other).await), bad_cursor(), "{other:?}");
    }
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(&cursor).unwrap()).unwrap();
    let day = place.now().day().to_string();
    let changed = |from: &str, to: &str| {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text);
        URL_SAFE_NO_PAD.encode(changed)
    };
    let bad = [
        "x".to_owned(),
        "{}".to_owned(),
        cursor[1..].to_owned(),
        URL_SAFE_NO_PAD.encode("{}"),
        changed(&day, "2026-02-30"),
        changed(&day, "2001-01-01"),
        changed(&place.now().0.to_string(), "17"),
        changed("\"day\"", "\"yad\""),
    ];
    for cursor in bad {
        assert_eq!(problem(place.list(&caller(), &with(&cursor)).await), bad_cursor(), "{cursor}");
    }
}

#[tokio::test]
async fn every_field_has_bounds() {
    let place = Place::new().await;
    let limited = async |limit| {
        problem(place.list(&caller(), &ListRequest { limit: Some(limit), ..ListRequest::default() }).await)
    };
    for limit in [0, 201, u64::MAX] {
        assert_eq!(limited(limit).await, field("limit", "must be 1 to 200"));
    }
    let text = field("ingestion_task_id", "must be 1 to 255 characters without control characters");
    for task in ["x".repeat(256), "a\nb".to_owned()] {
        let request = ListRequest { ingestion_task_id: Some(task), ..ListRequest::default() };
        assert_eq!(problem(place.list(&caller(), &request).await), text);
    }
}

#[tokio::test]
async fn a_list_without_a_table_to_reach_says_so() {
    let service = Place::out_of_reach().await;
    assert_eq!(problem(service.list(&caller(), &ListRequest::default()).await).0, 503);
}
