//! What a job's webhook is owed, and how often it is tried.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy takes helpers of tests for code")]

mod support;

use std::time::Duration;

use domain::{
    DELIVERY_CLAIM, Delivery, Event, EventId, Facts, Jitter, Job, Status, Submission, Submitted, Timestamp,
    Tried, WebhookUrl,
};
use support::{Worker, at, half, new_job, result};

/// The longest waits between the 16 tries, in seconds.
const WAITS: [u64; 15] = [
    5, 300, 1800, 7200, 18_000, 36_000, 36_000, 36_000, 43_200, 43_200, 43_200, 57_600, 57_600, 57_600,
    57_600,
];

/// How long ago an event's job ended, and the longest that the event is put off then, in seconds.
const LONGEST_PUT_OFF: [(u64, u64); 5] = [(0, 10), (19, 10), (100, 50), (7198, 3599), (1_000_000, 3600)];

#[test]
fn every_end_owes_an_event_that_says_how_it_came_about() {
    let worker = Worker::native(1);
    let (waiting, running) = (watched(), worker.claim(&watched(), at(1)).unwrap());
    let ends = [
        (Status::Completed, &running, submitted(&running, &worker, success()), None),
        (Status::Failed, &running, submitted(&running, &worker, failure()), Some("it broke")),
        (
            Status::Timeout,
            &waiting,
            waiting.lapse(at(300), half()).unwrap(),
            Some("no worker took this document job within its queue timeout of 300 s"),
        ),
        (Status::Cancelled, &running, running.cancel(false, at(7)).unwrap(), None),
        (Status::Cancelled, &waiting, waiting.cancel(true, at(7)).unwrap(), None),
    ];
    for (status, before, after, error) in ends {
        let ended_at = after.ending().unwrap().at;
        let expected = Event {
            id: EventId { job: after.id, ended_at, revision: after.revision },
            tenant: after.tenant.clone(),
            url: url(),
            facts: Facts {
                status,
                content_type: after.spec.content_type.clone(),
                ingestion_task_id: "task-1".to_owned(),
                error: error.map(str::to_owned),
                continued_locally: after.continued_locally,
                attempts: u32::try_from(after.attempts.len()).unwrap(),
                created_at: at(0),
                ended_at,
            },
            revision: 1,
            tries: 0,
            last_error: None,
            delivery: Delivery::Due(ended_at),
        };
        assert_eq!(after.event_since(before), Some(expected), "{status}");
        assert_eq!(after.event_since(&after), None, "what had ended before ends no second time: {status}");
    }
}

#[test]
fn what_is_no_end_owes_nothing() {
    let worker = Worker::legacy("k");
    let waiting = watched();
    let running = worker.claim(&waiting, at(1)).unwrap();
    let failed = submitted(&running, &worker, Submission::Failed { error: "e".to_owned(), retryable: true });
    let cancelled = running.cancel(false, at(2)).unwrap();
    let taken_over = cancelled.cancel(true, at(3)).unwrap();
    let retried = cancelled.retry(at(3)).unwrap();
    for (after, before) in
        [(&running, &waiting), (&failed, &running), (&taken_over, &cancelled), (&retried, &cancelled)]
    {
        assert_eq!(after.event_since(before), None, "{}", after.status());
    }
}

#[test]
fn a_job_without_a_webhook_owes_nothing() {
    let job = new_job();
    assert_eq!(job.cancel(false, at(1)).unwrap().event_since(&job), None);
}

#[test]
fn two_ends_of_one_job_are_two_events_also_at_the_same_moment() {
    let job = watched();
    let first = job.cancel(false, at(1)).unwrap();
    let retried = first.retry(at(1)).unwrap();
    let second = retried.cancel(false, at(1)).unwrap();
    let ids = [first.event_since(&job).unwrap().id, second.event_since(&retried).unwrap().id];
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn an_event_is_claimed_by_one_at_a_time_and_only_when_it_is_due() {
    let event = owed();
    assert_eq!(event.claim(at(0)), None, "before it is due");
    let claimed = event.claim(at(1)).unwrap();
    let until = at(1).plus(DELIVERY_CLAIM);
    assert_eq!(claimed, Event { revision: 2, tries: 1, delivery: Delivery::Due(until), ..event });
    assert_eq!(claimed.claim(Timestamp(until.0 - 1)), None, "while somebody tries");
    let anew = claimed.claim(until).unwrap();
    assert_eq!((anew.tries, anew.revision), (2, 3), "who claimed it has died");
}

#[test]
fn what_was_taken_is_delivered_and_what_was_refused_is_dead() {
    let claimed = owed().claim(at(1)).unwrap();
    let taken = claimed.tried(Tried::Taken, at(2), half());
    assert_eq!(taken, Event { revision: 3, delivery: Delivery::Delivered(at(2)), ..claimed.clone() });
    let refused = claimed.tried(Tried::Refused("410".to_owned()), at(2), half());
    let last_error = Some("410".to_owned());
    assert_eq!(refused, Event { revision: 3, last_error, delivery: Delivery::Dead(at(2)), ..claimed });
    for done in [taken, refused] {
        assert_eq!(done.claim(at(1_000_000)), None);
    }
}

#[test]
fn what_was_taken_after_all_has_no_error() {
    let failed = owed().claim(at(1)).unwrap().tried(Tried::Failed("500".to_owned()), at(2), half());
    let taken = failed.claim(at(1000)).unwrap().tried(Tried::Taken, at(1001), half());
    assert_eq!((failed.last_error.as_deref(), taken.last_error), (Some("500"), None));
}

#[test]
fn a_failed_delivery_is_tried_16_times_with_waits_between_half_and_all_of_the_longest() {
    let mut event = owed();
    let mut now = at(1);
    for (tries, longest) in (1..).zip(WAITS) {
        let claimed = event.claim(now).unwrap();
        assert_eq!(claimed.tries, tries);
        let wait = |jitter| match failed(&claimed, now, jitter).delivery {
            Delivery::Due(at) => at.since(now),
            done => panic!("given up after {tries} tries: {done:?}"),
        };
        let longest = Duration::from_secs(longest);
        assert_eq!((wait(0.0), wait(0.5)), (longest / 2, longest * 3 / 4));
        assert!(wait(1.0) < longest);
        event = failed(&claimed, now, 0.0);
        now = now.plus(wait(0.0));
    }
    let last = event.claim(now).unwrap();
    assert_eq!(last.tries, 16);
    let dead = failed(&last, now, 0.0);
    assert_eq!((dead.delivery, dead.last_error.as_deref()), (Delivery::Dead(now), Some("500")));
}

#[test]
fn the_tries_of_one_event_span_between_two_and_six_days() {
    let longest: u64 = WAITS.iter().sum();
    assert!((2 * 86_400..6 * 86_400).contains(&(longest / 2)) && longest < 6 * 86_400, "{longest}");
}

#[test]
fn a_due_event_is_put_off_without_a_try_by_up_to_half_its_age_between_10_seconds_and_an_hour() {
    let event = owed();
    assert_eq!(event.put_off(at(0), half()), None, "before it is due");
    for (age, longest) in LONGEST_PUT_OFF {
        let now = at(1 + age);
        let wait = |jitter| match event.put_off(now, Jitter::new(jitter)).unwrap().delivery {
            Delivery::Due(at) => at.since(now),
            done => panic!("put off is not {done:?}"),
        };
        let longest = Duration::from_secs(longest);
        assert_eq!((wait(0.0), wait(0.5)), (longest / 2, longest * 3 / 4), "{age}");
    }
    let later = event.put_off(at(1), half()).unwrap();
    assert_eq!(later, Event { revision: 2, delivery: later.delivery, ..event.clone() });
    let claimed = event.claim(at(1)).unwrap();
    let refused = claimed.tried(Tried::Refused("410".to_owned()), at(2), half());
    for other in [claimed.tried(Tried::Taken, at(2), half()), refused, claimed] {
        assert_eq!(other.put_off(at(2), half()), None);
    }
}

#[test]
fn a_dead_event_is_sent_out_again_by_hand_with_all_its_tries_and_nothing_else_is() {
    let claimed = owed().claim(at(1)).unwrap();
    let dead = claimed.tried(Tried::Refused("410".to_owned()), at(2), half());
    let again = dead.redrive(at(9)).unwrap();
    assert_eq!(again, Event { revision: 4, tries: 0, delivery: Delivery::Due(at(9)), ..dead });
    assert_eq!(again.last_error.as_deref(), Some("410"), "what went wrong stays known until the next try");
    assert_eq!(again.claim(at(9)).unwrap().tries, 1);
    for live in [owed(), claimed.clone(), claimed.tried(Tried::Taken, at(2), half())] {
        assert_eq!(live.redrive(at(9)), None);
    }
}

#[test]
fn an_events_id_is_read_as_it_is_written_and_in_no_other_way() {
    let id = owed().id;
    let text = id.to_string();
    assert_eq!(text, "01890a5d-ac96-774b-bcce-b302099a8057.1750000001000.2");
    assert_eq!(text.parse::<EventId>(), Ok(id));
    let before_1970 = EventId { ended_at: Timestamp(-5), ..id };
    assert_eq!(before_1970.to_string().parse::<EventId>(), Ok(before_1970));
    for wrong in [
        "",
        "..",
        "01890a5d-ac96-774b-bcce-b302099a8057",
        "01890a5d-ac96-774b-bcce-b302099a8057.1750000001000",
        "01890a5d-ac96-774b-bcce-b302099a8057.1750000001000.2.3",
        "01890a5d-ac96-774b-bcce-b302099a8057.1750000001000.02",
        "01890a5d-ac96-774b-bcce-b302099a8057.+1750000001000.2",
        "01890a5d-ac96-774b-bcce-b302099a8057.1750000001000.-2",
        "01890A5D-AC96-774B-BCCE-B302099A8057.1750000001000.2",
        "01890a5d-ac96-774b-bcce-b302099a8057.then.2",
    ] {
        let error = wrong.parse::<EventId>().unwrap_err();
        assert_eq!(error.0, "is not the id of an event", "{wrong}");
    }
}

#[test]
fn a_webhook_is_an_http_url_that_names_nobody_and_no_place_in_a_page() {
    let longest = format!("https://h.example/{}", "p".repeat(1000 - "https://h.example/".len()));
    for right in ["http://h", "https://h.example:8443/hook?key=1", "https://[::1]/hook", longest.as_str()] {
        assert_eq!(right.parse::<WebhookUrl>().unwrap().as_str(), right);
    }
    let too_long = format!("{longest}p");
    for wrong in [
        "",
        "https://",
        "https:///hook",
        "https://?key=1",
        "ftp://h.example",
        "h.example/hook",
        "https://user:secret@h.example",
        "https://h.example/hook#part",
        "https://h.example\\hook",
        "https://h.example/a hook",
        "https://h.example/ä",
        "https://h.example/\n",
        too_long.as_str(),
    ] {
        assert!(wrong.parse::<WebhookUrl>().is_err(), "{wrong}");
    }
}

fn url() -> WebhookUrl {
    "https://hooks.example/jobs".parse().unwrap()
}

/// A job whose webhook is to be told.
fn watched() -> Job {
    let mut job = new_job();
    job.spec.webhook = Some(url());
    job
}

/// An event that has been due since `at(1)`.
fn owed() -> Event {
    let job = watched();
    job.cancel(false, at(1)).unwrap().event_since(&job).unwrap()
}

fn failed(claimed: &Event, now: Timestamp, jitter: f64) -> Event {
    claimed.tried(Tried::Failed("500".to_owned()), now, Jitter::new(jitter))
}

fn success() -> Submission {
    Submission::Completed(result("r"))
}

fn failure() -> Submission {
    Submission::Failed { error: "it broke".to_owned(), retryable: false }
}

fn submitted(job: &Job, worker: &Worker, submission: Submission) -> Job {
    match job.submit(&worker.credential, submission, at(7), half()) {
        Ok(Submitted::Accepted(job)) => *job,
        other => panic!("not accepted: {other:?}"),
    }
}
