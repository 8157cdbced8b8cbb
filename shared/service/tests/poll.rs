//! `GET /poll` and `POST /poll`: a worker takes jobs.

use std::{collections::BTreeSet, sync::mpsc, time::Duration};

use api::poll::{PollRequest, PollResponse};
use domain::{Outcome, TaskOptions};
use service::{Error, Service};
use tokio::time::Instant;

use crate::support::{
    Place, at, caller, caller_of, failure, field, full_problem, ids, lease, polling, problem, request,
    sha256, stale, success,
};

#[tokio::test]
async fn no_work_is_four_nulls_and_when_to_ask_again() {
    let place = Place::new().await;
    let answer = place.poll(&caller(), &polling("document"), true).await.unwrap();
    assert_eq!(
        serde_json::to_string(&answer).unwrap(),
        r#"{"job_id":null,"source_file_url":null,"content_type":null,"task_options":null,"poll_again_in_seconds":10}"#
    );
    let several = PollRequest { max_jobs: Some(2), ..polling("document") };
    assert_eq!(ids(&place.poll(&caller(), &several, true).await.unwrap().jobs.unwrap()), [""; 0]);
    let original = place.poll(&caller(), &polling("document"), false).await.unwrap();
    assert_eq!(
        serde_json::to_string(&original).unwrap(),
        r#"{"job_id":null,"source_file_url":null,"content_type":null,"task_options":null}"#
    );
}

#[tokio::test]
async fn after_a_poll_that_was_held_the_next_one_may_follow_at_once() {
    let place = in_process().await;
    tokio::time::pause();
    for (wait, again) in [(None, 10), (Some(0), 10), (Some(1), 0)] {
        let request = PollRequest { wait_seconds: wait, ..polling("document") };
        let answer = place.poll(&caller(), &request, true).await.unwrap();
        assert_eq!(answer.poll_again_in_seconds, Some(again), "{wait:?}");
    }
}

#[tokio::test]
async fn a_worker_gets_all_it_needs_to_do_the_job_and_to_keep_it() {
    let place = Place::new().await;
    let id = place.created().await;
    let answer = place.poll(&caller(), &polling("document"), true).await.unwrap();
    assert_eq!(answer.job_id.as_deref(), Some(id.as_str()));
    assert_eq!(answer.source_file_url, Some(format!("/api/v1/remote-jobs/{id}/download")));
    assert_eq!(answer.content_type.as_deref(), Some("document"));
    assert_eq!(answer.task_options, Some(serde_json::Map::new()));
    assert_eq!((answer.jobs.is_none(), answer.poll_again_in_seconds), (true, None));
    let lease = lease(&answer);
    assert_eq!(lease.lease_token.len(), 43);
    assert_eq!(
        (
            lease.attempt,
            lease.lease_expires_in_seconds,
            lease.report_every_seconds,
            lease.run_timeout_seconds
        ),
        (1, 20, 5, 600)
    );
    let download = &lease.download;
    assert_eq!((download.filename.as_str(), download.size_bytes), ("report.pdf", 5));
    assert_eq!(download.sha256, Some(hex(&sha256(b"bytes"))));
    assert_eq!(download.etag, place.job(&id).await.spec.source.etag);
    assert_eq!(download.expires_in_seconds, 900);
    assert_eq!(place.fetched(&download.url).await, (200, "bytes".into()));
    assert_eq!(place.status_of(&id).await, "processing");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_client_of_the_original_gets_its_four_fields_and_the_job_for_the_whole_run() {
    let place = Place::new().await;
    let id = place.created().await;
    place.pass(1);
    place.created().await;
    let several = PollRequest { max_jobs: Some(5), ..polling("document") };
    let answer = place.poll(&caller(), &several, false).await.unwrap();
    assert_eq!(
        serde_json::to_string(&answer).unwrap(),
        format!(
            r#"{{"job_id":"{id}","source_file_url":"/api/v1/remote-jobs/{id}/download","content_type":"document","task_options":{{}}}}"#
        )
    );
    let swept = place.sweep(soon()).await.unwrap();
    assert_eq!(swept.queues["t#document"].waiting, 1, "it took more than one job");
    place.pass(599);
    assert_eq!(place.job(&id).await.due_at().unwrap().since(place.now()), Duration::from_secs(1));
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[tokio::test]
async fn a_lease_lasts_as_long_as_it_was_asked_for_once_the_worker_is_heard_of() {
    let place = Place::new().await;
    for (asked, report_every) in [(20, 5), (100, 25), (3600, 900)] {
        place.created().await;
        let request = PollRequest { lease_seconds: Some(asked), ..polling("document") };
        let answer = place.poll(&caller(), &request, true).await.unwrap();
        // Until it is heard of, its lease is short, and so is the time to be heard of in.
        assert_eq!(lease(&answer).report_every_seconds, 5);
        assert_eq!(lease(&answer).lease_expires_in_seconds, 20);
        let held = crate::support::Held {
            id: answer.job_id.clone().unwrap(),
            token: Some(lease(&answer).lease_token.clone()),
        };
        let told = place.heartbeat(&held).await.unwrap();
        assert_eq!(told.lease_expires_in_seconds, asked.min(600));
        assert_eq!(told.report_every_seconds, report_every);
    }
}

#[tokio::test]
async fn the_job_that_waits_longest_goes_first_and_a_higher_priority_before_it() {
    use api::create::PriorityName::{High, Low};
    let place = Place::new().await;
    let low = place.created_with(|request| request.priority = Some(Low)).await;
    place.pass(1);
    let first = place.created().await;
    place.pass(1);
    let second = place.created().await;
    let high = place.created_with(|request| request.priority = Some(High)).await;
    let mut order = Vec::new();
    for _ in 0..4 {
        order.push(place.claim().await.id);
    }
    assert_eq!(order, [high, first, second, low]);
}

#[tokio::test]
async fn several_jobs_are_taken_at_once_when_asked_for() {
    let place = Place::new().await;
    let mut created = BTreeSet::new();
    for _ in 0..5 {
        created.insert(place.created().await);
    }
    let request = |most| PollRequest { max_jobs: Some(most), ..polling("document") };
    let answer = place.poll(&caller(), &request(3), true).await.unwrap();
    let jobs = answer.jobs.as_ref().unwrap();
    assert_eq!(jobs.len(), 3);
    assert_eq!(answer.job_id.as_ref(), Some(&jobs[0].job_id));
    assert_eq!(lease(&answer).lease_token, jobs[0].lease.lease_token);
    let rest = place.poll(&caller(), &request(100), true).await.unwrap().jobs.unwrap();
    assert_eq!(rest.len(), 2);
    let taken: BTreeSet<String> = ids(jobs).into_iter().chain(ids(&rest)).map(str::to_owned).collect();
    assert_eq!(taken, created);
    let tokens: BTreeSet<&str> = jobs.iter().chain(&rest).map(|job| job.lease.lease_token.as_str()).collect();
    assert_eq!(tokens.len(), 5, "two jobs have the same token");
}

#[tokio::test]
async fn a_worker_gets_jobs_of_every_type_it_converts_and_of_no_other() {
    let place = Place::new().await;
    for name in ["audio", "video", "image"] {
        place.created_with(|request| request.content_type = name.parse().unwrap()).await;
    }
    let request = PollRequest { max_jobs: Some(9), ..polling("video,audio,document") };
    let jobs = place.poll(&caller(), &request, true).await.unwrap().jobs.unwrap();
    let types: BTreeSet<&str> = jobs.iter().map(|job| job.content_type.as_str()).collect();
    assert_eq!((jobs.len(), types), (2, BTreeSet::from(["audio", "video"])));
}

#[tokio::test]
async fn a_busy_type_does_not_hide_another() {
    let place = Place::new().await;
    for _ in 0..40 {
        place.created().await;
        place.created_with(|request| request.content_type = "audio".parse().unwrap()).await;
    }
    let mut types = BTreeSet::new();
    // All of one type 40 times in a row is as likely as one in 2^39.
    for _ in 0..40 {
        types.insert(place.poll(&caller(), &polling("document,audio"), true).await.unwrap().content_type);
    }
    assert_eq!(types.len(), 2);
}

#[tokio::test]
async fn a_worker_of_another_tenant_gets_nothing() {
    let place = Place::new().await;
    place.created().await;
    let answer = place.poll(&caller_of("u", "k"), &polling("document"), true).await.unwrap();
    assert_eq!(answer.job_id, None);
}

#[tokio::test]
async fn jobs_in_every_shard_of_a_queue_are_found() {
    let place = Place::with(|connection| connection.shards = 4, |_| {}).await;
    let mut created = BTreeSet::new();
    for _ in 0..24 {
        created.insert(place.created().await);
    }
    let mut taken = BTreeSet::new();
    while let Some(held) = place.try_claim().await {
        taken.insert(held.id);
    }
    assert_eq!(taken, created);
}

#[tokio::test]
async fn a_lapsed_lease_is_found_by_a_poll_before_any_sweep_and_its_worker_is_stale_from_then_on() {
    let place = Place::new().await;
    let first = place.claimed().await;
    place.heartbeat(&first).await.unwrap();
    place.pass(59);
    assert_eq!(place.try_claim().await, None);
    place.pass(1);
    let answer = place.poll(&caller(), &polling("document"), true).await.unwrap();
    assert_eq!((answer.job_id.as_ref(), lease(&answer).attempt), (Some(&first.id), 2));
    let now = place.job(&first.id).await;
    assert_eq!((now.attempts[0].outcome.clone(), now.retries), (Outcome::Lapsed, 1));
    let refused = stale(&first.id, "processing");
    assert_eq!(full_problem(place.heartbeat(&first).await), refused);
    assert_eq!(full_problem(place.submit(&first, &success("late")).await), refused);
    assert_eq!(place.job(&first.id).await, now, "a stale worker changed the job");
}

#[tokio::test]
async fn a_job_that_comes_back_goes_before_those_that_wait() {
    let place = Place::new().await;
    let lapsed = place.claimed().await;
    let urgent = place.created_with(|request| request.priority = Some(api::create::PriorityName::High)).await;
    place.pass(20);
    assert_eq!(place.claim().await.id, lapsed.id);
    assert_eq!(place.claim().await.id, urgent);
}

#[tokio::test]
async fn a_claim_that_was_never_heard_of_again_costs_no_retry() {
    let place = Place::new().await;
    let first = place.claimed().await;
    place.pass(20);
    let second = place.claim().await;
    let job = place.job(&first.id).await;
    assert_eq!((second.id, job.retries, job.free_returns), (first.id, 0, 1));
    assert_eq!(job.attempts[0].outcome, Outcome::NeverHeardOf);
}

#[tokio::test]
async fn an_attempt_past_its_timeout_is_ended_and_followed_by_another_after_a_backoff() {
    let place = Place::new().await;
    let held = {
        place.created().await;
        place.claim_as_original().await
    };
    place.pass(600);
    assert_eq!(place.try_claim().await, None);
    let job = place.job(&held.id).await;
    assert_eq!((job.status().as_str(), &job.attempts[0].outcome), ("pending", &Outcome::TimedOut));
    place.pass(14);
    assert_eq!(place.try_claim().await, None);
    place.pass(1);
    assert_eq!(place.claim().await.id, held.id);
}

#[tokio::test]
async fn a_job_that_waited_too_long_is_ended_and_not_given_to_anybody() {
    let place = Place::new().await;
    let late = place.created_with(|request| request.queue_timeout_seconds = Some(10)).await;
    place.pass(10);
    let next = place.created().await;
    assert_eq!(place.claim().await.id, next);
    assert_eq!(place.status_of(&late).await, "timeout");
}

#[tokio::test]
async fn a_lapsed_attempt_without_a_retry_left_is_ended_by_the_poll_that_meets_it() {
    let place = Place::new().await;
    let id = place.created_with(|request| request.max_retries = Some(0)).await;
    let held = place.claim().await;
    place.heartbeat(&held).await.unwrap();
    place.pass(60);
    assert_eq!(place.try_claim().await, None);
    assert_eq!(place.status_of(&id).await, "timeout");
}

#[tokio::test]
async fn after_a_start_no_lapsed_lease_is_taken_over_for_a_minute() {
    let place = Place::new().await;
    let held = place.claimed().await;
    place.heartbeat(&held).await.unwrap();
    place.pass(100);
    place.spare_leases();
    place.pass(59);
    assert_eq!(place.try_claim().await, None);
    assert_eq!(place.sweep(soon()).await.unwrap().returned, 0);
    assert_eq!(place.status_of(&held.id).await, "processing");
    // Its worker comes back in time.
    place.heartbeat(&held).await.unwrap();
    place.pass(60);
    assert_eq!(place.claim().await.id, held.id);
}

#[tokio::test]
async fn what_is_spared_is_a_lease_and_not_a_run_past_its_timeout() {
    let place = Place::new().await;
    let id = place.created_with(|request| request.max_retries = Some(0)).await;
    place.claim_as_original().await;
    place.pass(600);
    place.spare_leases();
    assert_eq!(place.try_claim().await, None);
    assert_eq!(place.status_of(&id).await, "timeout");
}

#[tokio::test]
async fn a_clock_that_is_set_back_takes_no_job_from_its_worker() {
    let place = Place::new().await;
    place.pass(1000);
    let held = place.claimed().await;
    place.set_back(900);
    place.heartbeat(&held).await.unwrap();
    place.created().await;
    assert_ne!(place.claim().await.id, held.id);
    assert_eq!(place.sweep(soon()).await.unwrap().returned, 0);
    assert_eq!(place.submit(&held, &success("text")).await.unwrap(), "completed");
}

#[tokio::test]
async fn a_job_that_cannot_be_given_out_does_not_keep_the_others_of_its_queue() {
    let place = Place::new().await;
    let created = place.created().await;
    let mut job = place.job(&created).await;
    job.id = domain::JobId(uuid::Uuid::now_v7());
    job.spec.task_options = TaskOptions::Stored;
    job.spec.priority = domain::Priority::High;
    place.store().jobs.create(&job).await.unwrap();
    job.id = domain::JobId(uuid::Uuid::now_v7());
    job.spec.task_options = TaskOptions::Inline("no JSON".to_owned());
    place.store().jobs.create(&job).await.unwrap();
    let request = PollRequest { max_jobs: Some(3), ..polling("document") };
    let answer = place.poll(&caller(), &request, true).await.unwrap();
    assert_eq!(answer.jobs.unwrap().len(), 1);
    assert_eq!(answer.job_id, Some(created));
    assert_eq!(place.job(&job.id.to_string()).await.attempt_number(), 0);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_does_not_keep_the_others_from_being_claimed_or_swept() {
    let place = Place::new().await;
    place.unreadable().await;
    let late = place.created_with(|request| request.queue_timeout_seconds = Some(60)).await;
    place.pass(1);
    let next = place.created_with(|request| request.queue_timeout_seconds = Some(600)).await;
    place.pass(59);
    let swept = place.sweep(soon()).await.unwrap();
    assert_eq!((swept.timed_out, swept.complete), (1, true));
    assert_eq!(place.status_of(&late).await, "timeout");
    assert_eq!(place.claim().await.id, next);
    assert_eq!(place.try_claim().await, None);
}

#[tokio::test]
async fn a_lapsed_job_and_the_one_after_it_are_both_taken_by_one_poll() {
    let place = Place::new().await;
    let lapsed = place.claimed().await;
    let waiting = place.created().await;
    place.pass(20);
    let request = PollRequest { max_jobs: Some(9), ..polling("document") };
    let jobs = place.poll(&caller(), &request, true).await.unwrap().jobs.unwrap();
    assert_eq!(ids(&jobs), [lapsed.id.as_str(), waiting.as_str()]);
    assert_eq!(jobs.iter().map(|job| job.lease.attempt).collect::<Vec<_>>(), [2, 1]);
}

#[tokio::test]
async fn every_field_has_bounds() {
    let place = Place::new().await;
    let refused = async |change: fn(&mut PollRequest)| {
        let mut request = polling("document");
        change(&mut request);
        problem(place.poll(&caller(), &request, true).await)
    };
    let worker = field("worker_id", "must be 1 to 255 characters without control characters");
    assert_eq!(refused(|r| r.worker_id = String::new()).await, worker);
    assert_eq!(refused(|r| r.worker_id = "a\tb".to_owned()).await, worker);
    assert_eq!(refused(|r| r.worker_id = "w".repeat(256)).await, worker);
    let jobs = field("max_jobs", "must be 1 to 100");
    assert_eq!(refused(|r| r.max_jobs = Some(0)).await, jobs);
    assert_eq!(refused(|r| r.max_jobs = Some(101)).await, jobs);
    assert_eq!(refused(|r| r.wait_seconds = Some(21)).await, field("wait_seconds", "must be 0 to 20"));
    let seconds = field("lease_seconds", "must be 20 to 3600");
    assert_eq!(refused(|r| r.lease_seconds = Some(19)).await, seconds);
    assert_eq!(refused(|r| r.lease_seconds = Some(3601)).await, seconds);
}

/// Keeps the runtime's paused clock from moving by itself.
pub(crate) struct Still(Option<mpsc::Sender<()>>);

impl Still {
    pub(crate) fn stand() -> Self {
        tokio::time::pause();
        let (sender, receiver) = mpsc::channel::<()>();
        // The clock does not move while a blocking task runs.
        tokio::task::spawn_blocking(move || receiver.recv());
        Self(Some(sender))
    }

    /// From now on the clock jumps to whatever is waited for.
    pub(crate) fn go(&mut self) {
        self.0 = None;
    }
}

/// A poll that is held open, having looked once and found nothing.
pub(crate) async fn held_open(
    place: &Place,
    wait: u64,
) -> tokio::task::JoinHandle<Result<PollResponse, Error>> {
    let before = place.store().meter.units().read;
    let service: Service = place.service.clone();
    let request = PollRequest { wait_seconds: Some(wait), ..polling("document") };
    let poll = tokio::spawn(async move { service.poll(&caller(), &request, true).await });
    while place.store().meter.units().read < before + 1.0 {
        tokio::task::yield_now().await;
    }
    poll
}

pub(crate) async fn in_process() -> Place {
    Place::in_process(|rules| rules.longest_wait = Duration::from_secs(20)).await
}

#[tokio::test]
async fn a_poll_that_is_held_open_wakes_at_once_when_a_job_is_created() {
    let place = in_process().await;
    let mut still = Still::stand();
    let begin = Instant::now();
    let poll = held_open(&place, 20).await;
    let id = place.created().await;
    still.go();
    assert_eq!(poll.await.unwrap().unwrap().job_id, Some(id));
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_poll_that_is_held_open_wakes_at_once_when_a_job_is_given_back() {
    let place = in_process().await;
    let held = place.claimed().await;
    let mut still = Still::stand();
    let begin = Instant::now();
    let poll = held_open(&place, 20).await;
    let release = api::result::ReleaseRequest::default();
    place.release(&caller(), &held.id, held.token(), &release).await.unwrap();
    still.go();
    assert_eq!(poll.await.unwrap().unwrap().job_id, Some(held.id));
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_poll_that_is_held_open_finds_what_becomes_due_by_the_passing_of_time() {
    let place = in_process().await;
    let held = place.claimed().await;
    place.submit(&held, &failure(true)).await.unwrap();
    let mut still = Still::stand();
    let begin = Instant::now();
    let poll = held_open(&place, 20).await;
    place.pass(15);
    still.go();
    assert_eq!(poll.await.unwrap().unwrap().job_id, Some(held.id));
    assert!(begin.elapsed() <= Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_poll_that_finds_nothing_is_held_for_as_long_as_it_asked() {
    let place = in_process().await;
    for (wait, seconds) in [(20, 20), (3, 3), (0, 0)] {
        tokio::time::pause();
        let begin = Instant::now();
        let request = PollRequest { wait_seconds: Some(wait), ..polling("document") };
        assert_eq!(place.poll(&caller(), &request, true).await.unwrap().job_id, None);
        assert_eq!(begin.elapsed().as_secs(), seconds);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn where_waiting_costs_money_no_poll_is_held() {
    let place = Place::in_process(|_| {}).await;
    tokio::time::pause();
    let begin = Instant::now();
    let request = PollRequest { wait_seconds: Some(20), ..polling("document") };
    assert_eq!(place.poll(&caller(), &request, true).await.unwrap().poll_again_in_seconds, Some(10));
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_client_of_the_original_is_never_held() {
    let place = in_process().await;
    tokio::time::pause();
    let begin = Instant::now();
    let request = PollRequest { wait_seconds: Some(20), ..polling("document") };
    assert_eq!(place.poll(&caller(), &request, false).await.unwrap().job_id, None);
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_server_that_stops_lets_go_of_every_poll_and_holds_none_any_more() {
    let place = in_process().await;
    let mut still = Still::stand();
    let begin = Instant::now();
    let poll = held_open(&place, 20).await;
    place.drain();
    still.go();
    assert_eq!(poll.await.unwrap().unwrap().job_id, None);
    let request = PollRequest { wait_seconds: Some(20), ..polling("document") };
    assert_eq!(place.poll(&caller(), &request, true).await.unwrap().job_id, None);
    assert_eq!(begin.elapsed(), Duration::ZERO);
    let id = place.created().await;
    assert_eq!(place.claim().await.id, id, "a job is still given to who asks");
}

#[tokio::test]
async fn a_job_created_at_another_server_is_found_by_looking_again() {
    let place = in_process().await;
    let source = request(&place.uploaded("a.pdf").await);
    let other = place.another().await;
    let mut still = Still::stand();
    let begin = Instant::now();
    let poll = held_open(&place, 20).await;
    let created = other.create(&caller(), &source, None).await.unwrap();
    still.go();
    let answer = poll.await.unwrap().unwrap();
    assert_eq!(answer.job_id, Some(created.job_id));
    assert!(begin.elapsed() <= Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_eq!(created.created_at, at(0));
}
