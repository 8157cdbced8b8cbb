//! What a job's webhook is owed is written with the job's end, and has a life of its own.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{Delivery, Event, EventId, Job, Submission, Timestamp, Tried};
use store::{Due, EVENT_SHARDS, EventHint, Replacement};

use crate::{
    backend::RETENTION,
    support::{
        Item, Lost, Place, at, claimed, failure, half, loses, native, new_job, of_tenant, pk, submitted,
        success, tenant, watched, why,
    },
};

#[tokio::test]
async fn the_end_of_a_job_and_what_its_webhook_is_owed_are_written_together() {
    let place = Place::new().await;
    for (before, after) in ends() {
        let before = place.created(before).await;
        let after = place.replaced(&before, after).await;
        let event = after.event_since(&before).unwrap();
        assert_eq!(place.read(&after).await, after);
        assert_eq!(place.events.get(event.id).await.unwrap(), Some(event));
    }
}

#[tokio::test]
async fn no_event_is_written_where_nobody_is_to_be_told() {
    let place = Place::new().await;
    let job = place.created(new_job()).await;
    place.replaced(&job, job.cancel(false, at(1)).unwrap()).await;
    assert_eq!(due_everywhere(&place, at(9)).await, []);
}

#[tokio::test]
async fn an_end_that_comes_too_late_writes_neither_and_gives_the_job_as_it_is_now() {
    let place = Place::new().await;
    let job = place.created(watched()).await;
    let running = place.replaced(&job, claimed(&job, &native(1), at(1))).await;
    let ended = job.cancel(false, at(2)).unwrap();
    let lost = place.jobs.replace(&job, &ended).await.unwrap();
    assert_eq!(lost, Replacement::Lost(Some(Box::new(running.clone()))));
    assert_eq!(place.read(&job).await, running);
    assert_eq!(place.events.get(ended.event_since(&job).unwrap().id).await.unwrap(), None);
}

#[tokio::test]
async fn a_job_that_is_gone_ends_no_more_and_owes_nothing() {
    let place = Place::new().await;
    let job = place.created(watched()).await;
    place.delete_row(&pk(&job)).await;
    let ended = job.cancel(false, at(2)).unwrap();
    assert_eq!(place.jobs.replace(&job, &ended).await.unwrap(), Replacement::Lost(None));
    assert_eq!(place.jobs.get(job.id).await.unwrap(), None);
    assert_eq!(due_everywhere(&place, at(9)).await, []);
}

#[tokio::test]
async fn a_job_does_not_end_when_its_event_cannot_be_written() {
    let place = Place::new().await;
    let job = place.created(watched()).await;
    let ended = job.cancel(false, at(2)).unwrap();
    let event = ended.event_since(&job).unwrap();
    let in_the_way = Item::from([
        ("pk".to_owned(), text(&event_pk(event.id))),
        ("rev".to_owned(), AttributeValue::N("7".to_owned())),
    ]);
    place.put_row(in_the_way.clone()).await;
    let (kind, _) = why(place.jobs.replace(&job, &ended).await);
    assert_eq!(kind, "unavailable");
    assert_eq!(place.read(&job).await, job);
    assert_eq!(place.row(&event_pk(event.id)).await, Some(in_the_way));
}

#[tokio::test]
async fn an_end_whose_answer_was_lost_is_made_once_and_known_to_be_made() {
    let place = Place::new().await;
    let job = place.created(watched()).await;
    let ended = job.cancel(false, at(2)).unwrap();
    let store = place.behind(|way| loses(Lost::Answer, "TransactWriteItems", way)).await;
    assert_eq!(store.jobs.replace(&job, &ended).await.unwrap(), Replacement::Written);
    assert_eq!(place.read(&job).await, ended);
    let event = ended.event_since(&job).unwrap();
    assert_eq!(place.events.get(event.id).await.unwrap(), Some(event));
}

#[tokio::test]
async fn the_very_same_end_again_is_the_end_also_when_its_event_was_delivered_meanwhile() {
    let place = Place::new().await;
    let job = place.created(watched()).await;
    let ended = place.replaced(&job, job.cancel(false, at(2)).unwrap()).await;
    let event = ended.event_since(&job).unwrap();
    let delivered = delivered(&place, &event).await;
    assert_eq!(place.jobs.replace(&job, &ended).await.unwrap(), Replacement::Written);
    assert_eq!(place.events.get(event.id).await.unwrap(), Some(delivered));
}

#[tokio::test]
async fn what_happens_to_the_job_afterwards_leaves_its_event_as_it_is() {
    let place = Place::new().await;
    let job = place.created(watched()).await;
    let first = place.replaced(&job, job.cancel(false, at(2)).unwrap()).await;
    let retried = place.replaced(&first, first.retry(at(3)).unwrap()).await;
    let second = place.replaced(&retried, retried.cancel(true, at(4)).unwrap()).await;
    let events = [first.event_since(&job).unwrap(), second.event_since(&retried).unwrap()];
    place.delete_row(&pk(&job)).await;
    for event in &events {
        assert_eq!(place.events.get(event.id).await.unwrap().as_ref(), Some(event));
    }
    assert_eq!(due_everywhere(&place, at(9)).await, events.map(|event| event.id));
}

#[tokio::test]
async fn an_event_is_read_back_as_it_was_written_wherever_its_delivery_stands() {
    let place = Place::new().await;
    for (before, after) in ends() {
        let mut event = owed(&place, before, after).await;
        for step in [claim, fail, claim, refuse, redrive, claim, take] {
            let next = step(&event);
            assert!(place.events.replace(&event, &next).await.unwrap());
            assert_eq!(place.events.get(event.id).await.unwrap().as_ref(), Some(&next));
            event = next;
        }
        assert!(matches!(event.delivery, Delivery::Delivered(_)));
    }
}

#[tokio::test]
async fn an_event_that_never_was_is_not_there_and_is_not_replaced() {
    let place = Place::new().await;
    let job = watched();
    let event = job.cancel(false, at(2)).unwrap().event_since(&job).unwrap();
    assert_eq!(place.events.get(event.id).await.unwrap(), None);
    assert!(!place.events.replace(&event, &claim(&event)).await.unwrap());
    assert_eq!(place.events.get(event.id).await.unwrap(), None);
}

#[tokio::test]
async fn of_two_that_claim_the_same_delivery_one_does() {
    let place = Place::new().await;
    let event = one_owed(&place, "t", 2).await;
    let first = claim(&event);
    let second = event.claim(LATE.plus(Duration::from_secs(1))).unwrap();
    assert!(place.events.replace(&event, &first).await.unwrap());
    assert!(!place.events.replace(&event, &second).await.unwrap());
    assert_eq!(place.events.get(event.id).await.unwrap(), Some(first));
}

#[tokio::test]
async fn of_two_that_claim_the_same_delivery_at_the_same_moment_one_does() {
    let place = Place::new().await;
    let event = one_owed(&place, "t", 2).await;
    assert!(place.events.replace(&event, &claim(&event)).await.unwrap());
    assert!(!place.events.replace(&event, &claim(&event)).await.unwrap());
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_made_once_and_known_to_be_made() {
    let place = Place::new().await;
    let event = one_owed(&place, "t", 2).await;
    let store = place.behind(|way| loses(Lost::Answer, "PutItem", way)).await;
    assert!(store.events.replace(&event, &claim(&event)).await.unwrap());
    assert_eq!(place.events.get(event.id).await.unwrap(), Some(claim(&event)));
}

#[tokio::test]
async fn an_event_is_kept_until_it_is_told_or_given_up_and_for_the_retention_after_that() {
    let place = Place::new().await;
    let event = one_owed(&place, "t", 2).await;
    let mut steps = vec![event];
    for step in [claim, refuse, redrive, claim, take] {
        let last = &steps[steps.len() - 1];
        steps.push(step(last));
    }
    let mut kept = Vec::new();
    for step in steps.windows(2) {
        place.events.replace(&step[0], &step[1]).await.unwrap();
        kept.push(place.row(&event_pk(step[0].id)).await.unwrap().get("expires_at").cloned());
    }
    let expires = AttributeValue::N((LATE.plus(RETENTION).0 / 1000).to_string());
    assert_eq!(kept, [None, Some(expires.clone()), None, None, Some(expires)]);
}

#[tokio::test]
async fn only_what_is_due_by_now_is_found_the_longest_due_first_and_at_most_as_many_as_asked_for() {
    let place = Place::new().await;
    let mut ids = Vec::new();
    for ended in [4, 2, 3] {
        ids.push(one_owed(&place, "t", ended).await.id);
    }
    let by_age = [ids[1], ids[2], ids[0]];
    let shard = shard_of(&place, "t").await;
    assert_eq!(due(&place, shard, at(3)).await, by_age[..2]);
    assert_eq!(due(&place, shard, at(9)).await, by_age);
    let mut paged = Vec::new();
    let mut after = None;
    loop {
        let page = place.events.due(shard, at(9), 2, after).await.unwrap();
        assert!(page.hints.len() <= 2);
        paged.extend(page.hints.iter().map(|hint| hint.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(paged, by_age);
}

#[tokio::test]
async fn a_hint_says_since_when_its_event_is_due() {
    let place = Place::new().await;
    let event = one_owed(&place, "t", 2).await;
    let shard = shard_of(&place, "t").await;
    let page = place.events.due(shard, at(9), 9, None).await.unwrap();
    assert_eq!((page.hints, page.next), (vec![EventHint { at: at(2), id: event.id }], None));
}

#[tokio::test]
async fn every_event_is_in_one_shard_and_all_of_one_tenant_are_in_the_same() {
    let place = Place::new().await;
    let tenants: Vec<String> = (0..20).map(|at| format!("tenant-{at}")).collect();
    for tenant in &tenants {
        one_owed(&place, tenant, 2).await;
        one_owed(&place, tenant, 3).await;
    }
    let mut used = 0;
    let mut found = Vec::new();
    for shard in 0..EVENT_SHARDS {
        let mut of_shard = Vec::new();
        for id in due(&place, shard, at(9)).await {
            of_shard.push(place.events.get(id).await.unwrap().unwrap().tenant.to_string());
        }
        of_shard.sort();
        assert!(of_shard.chunks(2).all(|pair| pair[0] == pair[pair.len() - 1]), "{of_shard:?}");
        used += u32::from(!of_shard.is_empty());
        found.extend(of_shard);
    }
    assert_eq!((found.len(), used), (40, EVENT_SHARDS));
    assert_eq!(due(&place, EVENT_SHARDS, at(9)).await, []);
}

#[tokio::test]
async fn what_is_being_tried_told_or_given_up_is_not_due() {
    let place = Place::new().await;
    let event = one_owed(&place, "t", 2).await;
    let claimed = claim(&event);
    assert!(place.events.replace(&event, &claimed).await.unwrap());
    assert_eq!(due_everywhere(&place, LATE).await, []);
    assert_eq!(due_everywhere(&place, LATE.plus(Duration::from_secs(60))).await, [event.id]);
    let failed = fail(&claimed);
    assert!(place.events.replace(&claimed, &failed).await.unwrap());
    assert_eq!(due_everywhere(&place, LATE).await, []);
    assert_eq!(due_everywhere(&place, LATE.plus(Duration::from_secs(5))).await, [event.id]);
    for done in [take, refuse] {
        let event = one_owed(&place, "u", 2).await;
        assert!(place.events.replace(&event, &done(&event)).await.unwrap());
        assert_eq!(due_everywhere(&place, at(1_000_000)).await, [failed.id]);
    }
}

#[tokio::test]
async fn events_and_jobs_do_not_meet_in_the_index() {
    let place = Place::new().await;
    let job = place.created(watched()).await;
    let event = one_owed(&place, "t", 2).await;
    let ids = |page: store::LivePage| page.hints.into_iter().map(|hint| hint.id).collect::<Vec<_>>();
    assert_eq!(ids(place.jobs.live(0, 1, None).await.unwrap()), [job.id]);
    let content_type = job.spec.content_type.clone();
    for due in [Due::Waiting, Due::Returning] {
        let found = place.jobs.due(due, &tenant("t"), &content_type, 0, at(9), 9).await.unwrap();
        assert_eq!(found, if due == Due::Waiting { vec![job.id] } else { vec![] });
    }
    assert_eq!(due_everywhere(&place, at(9)).await, [event.id]);
}

#[tokio::test]
async fn a_tenants_dead_events_are_listed_page_by_page_the_last_one_first() {
    let place = Place::new().await;
    let mut dead = Vec::new();
    for second in 2..7 {
        let event = one_owed(&place, "t", second).await;
        let refused = event.tried(Tried::Refused("410".to_owned()), at(10 * second), half());
        assert!(place.events.replace(&event, &refused).await.unwrap());
        dead.insert(0, EventHint { at: at(10 * second), id: event.id });
    }
    let foreign = one_owed(&place, "u", 2).await;
    assert!(place.events.replace(&foreign, &refuse(&foreign)).await.unwrap());
    one_owed(&place, "t", 2).await;

    let whole = place.events.dead(&tenant("t"), 100, None).await.unwrap();
    assert_eq!((whole.hints, whole.next), (dead.clone(), None));
    let mut after = None;
    for expected in dead.chunks(2) {
        let page = place.events.dead(&tenant("t"), 2, after).await.unwrap();
        assert_eq!(page.hints, expected);
        after = page.next;
    }
    assert_eq!(after, None);
}

#[tokio::test]
async fn a_dead_event_that_was_sent_out_again_is_not_listed() {
    let place = Place::new().await;
    let event = one_owed(&place, "t", 2).await;
    let dead = refuse(&event);
    assert!(place.events.replace(&event, &dead).await.unwrap());
    assert_eq!(place.events.dead(&tenant("t"), 9, None).await.unwrap().hints.len(), 1);
    assert!(place.events.replace(&dead, &redrive(&dead)).await.unwrap());
    assert_eq!(place.events.dead(&tenant("t"), 9, None).await.unwrap().hints, []);
    assert_eq!(due_everywhere(&place, LATE).await, [event.id]);
}

/// A row that was changed behind the store's back: by what, and why it is not read.
type Tampering = (fn(&mut Item), &'static str);

const TAMPERINGS: &[Tampering] = &[
    (|row| drop(row.remove("due_key")), DELIVERY),
    (|row| drop(row.remove("due_at")), DELIVERY),
    (|row| drop(row.insert("due_key".to_owned(), text("event#9"))), DELIVERY),
    (|row| drop(row.insert("due_key".to_owned(), text("dead#t"))), DELIVERY),
    (|row| drop(row.insert("expires_at".to_owned(), AttributeValue::N("5".to_owned()))), DELIVERY),
    (|row| drop(row.insert("delivered_at".to_owned(), AttributeValue::N("5".to_owned()))), DELIVERY),
    (|row| drop(row.insert("status".to_owned(), text("pending"))), "an event of no end"),
    (|row| drop(row.insert("status".to_owned(), text("processing"))), "an event of no end"),
    (|row| drop(row.remove("url")), "missing field `url`"),
    (|row| drop(row.insert("url".to_owned(), text("ftp://h"))), "must be an http:// or https:// URL"),
];

const DELIVERY: &str = "the due index does not say where the delivery stands";

#[tokio::test]
async fn what_no_delivery_produces_is_not_read() {
    let place = Place::new().await;
    for (at, (tamper, expected)) in TAMPERINGS.iter().enumerate() {
        let event = one_owed(&place, "t", 2).await;
        let mut row = place.row(&event_pk(event.id)).await.unwrap();
        let before = row.clone();
        tamper(&mut row);
        assert_ne!(row, before, "change {at} changes nothing");
        place.put_row(row).await;
        let (kind, cause) = why(place.events.get(event.id).await);
        assert_eq!(kind, "unreadable", "change {at}: {cause}");
        assert!(cause.contains(expected), "change {at}: {cause}");
    }
}

/// When the events of these tests are tried, unless a test says otherwise.
const LATE: Timestamp = Timestamp(1_781_000_000_000 + 100_000);

/// A job with a webhook before and after each of its ends.
fn ends() -> [(Job, Job); 4] {
    let worker = native(1);
    let end = |submission: Submission| {
        let running = claimed(&watched(), &worker, at(1));
        (running.clone(), submitted(&running, &worker.0, submission, at(2)))
    };
    let (expired, cancelled) = (watched(), watched());
    [
        end(success()),
        end(failure(false)),
        (expired.clone(), expired.lapse(at(300), half()).unwrap()),
        (cancelled.clone(), cancelled.cancel(true, at(2)).unwrap()),
    ]
}

/// The event that is written when a job becomes `after`.
async fn owed(place: &Place, before: Job, after: Job) -> Event {
    let before = place.created(before).await;
    let after = place.replaced(&before, after).await;
    after.event_since(&before).unwrap()
}

/// The event of a tenant's job that was cancelled at `at(second)`.
async fn one_owed(place: &Place, of: &str, second: u64) -> Event {
    let job = of_tenant(of, watched());
    let ended = job.cancel(false, at(second)).unwrap();
    owed(place, job, ended).await
}

async fn delivered(place: &Place, event: &Event) -> Event {
    let taken = take(event);
    assert!(place.events.replace(event, &taken).await.unwrap());
    taken
}

async fn due_everywhere(place: &Place, now: Timestamp) -> Vec<EventId> {
    let mut all = Vec::new();
    for shard in 0..EVENT_SHARDS {
        all.extend(due(place, shard, now).await);
    }
    all
}

async fn due(place: &Place, shard: u32, now: Timestamp) -> Vec<EventId> {
    let page = place.events.due(shard, now, 100, None).await.unwrap();
    page.hints.into_iter().map(|hint| hint.id).collect()
}

/// The shard in which this tenant's events are.
async fn shard_of(place: &Place, of: &str) -> u32 {
    let event = one_owed(place, of, 1).await;
    for shard in 0..EVENT_SHARDS {
        if due(place, shard, at(1)).await == [event.id] {
            delivered(place, &event).await;
            return shard;
        }
    }
    panic!("an event of {of} is in no shard");
}

fn claim(event: &Event) -> Event {
    event.claim(LATE.max(due_at(event))).unwrap()
}

fn due_at(event: &Event) -> Timestamp {
    let (Delivery::Due(at) | Delivery::Delivered(at) | Delivery::Dead(at)) = event.delivery;
    at
}

fn fail(event: &Event) -> Event {
    event.tried(Tried::Failed("500".to_owned()), LATE, half())
}

fn refuse(event: &Event) -> Event {
    event.tried(Tried::Refused("410".to_owned()), LATE, half())
}

fn take(event: &Event) -> Event {
    event.tried(Tried::Taken, LATE, half())
}

fn redrive(event: &Event) -> Event {
    event.redrive(LATE).unwrap()
}

fn event_pk(id: EventId) -> String {
    format!("event#{id}")
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}
