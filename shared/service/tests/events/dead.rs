//! Retries, death, and what an operator does about it.

use std::{collections::BTreeSet, time::Duration};

use api::events::{ListEventsRequest, ListEventsResponse};
use bytes::Bytes;
use domain::{Delivery, Event, EventId, Facts, Status, Tried};
use service::Delivered;

use super::{Script, dead, delivered, ended, nothing, only, round};
use crate::support::{Place, at, caller, caller_of, field, full_problem, problem};

#[tokio::test]
async fn a_failed_try_is_repeated_until_the_event_is_dead_16_tries_later() {
    let place = Place::new().await;
    ended(&place).await;
    let courier = Script::failing();
    let mut waits = Vec::new();
    for tries in 1..=15 {
        assert_eq!(round(&place, &courier).await, Delivered { failed: 1, ..nothing() });
        assert_eq!(round(&place, &courier).await, nothing(), "not before its time");
        let event = only(&place).await;
        assert_eq!(event.tries, tries);
        let Delivery::Due(due) = event.delivery else { panic!("{event:?}") };
        waits.push(due.since(place.now()).as_secs());
        assert_eq!(dead(&place).await, [] as [String; 0]);
        place.pass(waits[waits.len() - 1] + 1);
    }
    // Three quarters of the longest, by the world's jitter of one half.
    assert_eq!(waits[..4], [3, 225, 1350, 5400]);
    let days = waits.iter().sum::<u64>() / 86_400;
    assert!((3..=6).contains(&days), "{days} days");
    assert_eq!(round(&place, &courier).await, Delivered { dead: 1, ..nothing() });
    assert_eq!(courier.carried().len(), 16);
    assert_eq!(dead(&place).await.len(), 1);
    place.pass(30 * 24 * 3600);
    assert_eq!(round(&place, &courier).await, nothing());
    let bodies: BTreeSet<Bytes> = courier.carried().into_iter().map(|told| told.body).collect();
    assert_eq!(bodies.len(), 1, "byte for byte the same in every try");
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_tried_once() {
    let place = Place::new().await;
    let id = ended(&place).await;
    let gone = Script::always(Tried::Refused("the receiver answered 410 Gone".to_owned()));
    assert_eq!(round(&place, &gone).await, Delivered { dead: 1, ..nothing() });
    let listed = place.list_events(&caller(), &ListEventsRequest::default()).await.unwrap();
    let [event] = listed.events.as_slice() else { panic!("{listed:?}") };
    assert_eq!((event.job_id.as_str(), event.status.as_str(), event.tries), (id.as_str(), "cancelled", 1));
    assert_eq!(event.url, "https://hooks.example/ends", "the query may be a secret");
    assert_eq!((event.delivery.as_str(), &event.at, &event.ended_at), ("dead", &at(0), &at(0)));
    assert_eq!(event.last_error.as_deref(), Some("the receiver answered 410 Gone"));
}

#[tokio::test]
async fn an_error_of_any_length_is_kept_in_part() {
    let place = Place::new().await;
    ended(&place).await;
    round(&place, &Script::always(Tried::Failed("x".repeat(10_000)))).await;
    assert_eq!(only(&place).await.last_error.unwrap().chars().count(), 300);
}

#[tokio::test]
async fn an_operator_sends_a_dead_event_out_again() {
    let place = Place::new().await;
    ended(&place).await;
    round(&place, &Script::always(Tried::Refused("gone".to_owned()))).await;
    let ids = dead(&place).await;
    let [id] = ids.as_slice() else { panic!("{ids:?}") };
    place.pass(100);
    let view = place.redrive_event(&caller(), id).await.unwrap();
    assert_eq!((view.delivery.as_str(), view.tries, view.at), ("due", 0, at(100)));
    tokio::time::timeout(Duration::from_secs(60), place.event_recorded()).await.unwrap();
    assert_eq!(dead(&place).await, [] as [String; 0]);
    let due =
        format!("Event {id} is on its way: its next try is due at {}, and nothing is left to do.", at(100));
    assert_eq!(full_problem(place.redrive_event(&caller(), id).await), (409, "refused".to_owned(), due));
    let courier = Script::taking();
    assert_eq!(round(&place, &courier).await, delivered(1));
    assert_eq!(courier.one().id.to_string(), *id);
    let (status, detail) = problem(place.redrive_event(&caller(), id).await);
    let job = id.split('.').next().unwrap();
    let was_delivered = format!(
        "Event {id} was delivered at {}; its receiver reads how the job stands by GET /api/v1/remote-jobs/{job}/status.",
        at(100)
    );
    assert_eq!((status, detail), (409, was_delivered));
}

#[tokio::test]
async fn an_event_of_nobody_or_of_another_tenant_is_not_found() {
    let place = Place::new().await;
    ended(&place).await;
    round(&place, &Script::always(Tried::Refused("gone".to_owned()))).await;
    let id = dead(&place).await.remove(0);
    let other = caller_of("other", "k");
    assert_eq!(place.list_events(&other, &ListEventsRequest::default()).await.unwrap().events.len(), 0);
    let unknown = format!("{}.1.1", uuid::Uuid::now_v7());
    for (caller, id) in [(&other, id.as_str()), (&caller(), &unknown), (&caller(), "event-17")] {
        let detail = format!("Event {id} not found; GET /api/v1/events lists the dead ones.");
        assert_eq!(problem(place.redrive_event(caller, id).await), (404, detail));
    }
    assert_eq!(dead(&place).await, [id]);
}

#[tokio::test]
async fn dead_events_are_listed_page_by_page_the_last_one_first() {
    let place = Place::new().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        place.pass(1);
        ids.insert(0, ended(&place).await);
        round(&place, &Script::always(Tried::Refused("gone".to_owned()))).await;
    }
    let mut listed = Vec::new();
    let mut request = ListEventsRequest { limit: Some(2), cursor: None };
    for page in [2, 2, 1] {
        let ListEventsResponse { events, cursor } = place.list_events(&caller(), &request).await.unwrap();
        assert_eq!(events.len(), page);
        listed.extend(events.into_iter().map(|event| event.job_id));
        request.cursor = cursor;
    }
    assert_eq!((listed, request.cursor), (ids, None));
    for limit in [0, 101] {
        let request = ListEventsRequest { limit: Some(limit), cursor: None };
        let refused = place.list_events(&caller(), &request).await;
        assert_eq!(problem(refused), field("limit", "must be 1 to 100"));
    }
    for cursor in ["x", "AAAA", "!", "MSAy", &"A".repeat(10_000)] {
        let request = ListEventsRequest { limit: None, cursor: Some(cursor.to_owned()) };
        let refused = place.list_events(&caller(), &request).await;
        assert_eq!(problem(refused), field("cursor", "is not the cursor of an earlier answer"));
    }
}

/// Makes the row of a waiting event one that no version of this system writes.
async fn break_row(place: &Place, event: &Event) {
    let facts = Facts { status: Status::Pending, ..event.facts.clone() };
    let broken = Event { facts, revision: event.revision + 1, ..event.clone() };
    assert!(place.store().events.replace(event, &broken).await.unwrap());
}

#[tokio::test]
async fn an_event_that_cannot_be_read_keeps_no_other_from_being_delivered_or_listed() {
    let place = Place::new().await;
    ended(&place).await;
    break_row(&place, &only(&place).await).await;
    place.pass(1);
    ended(&place).await;
    let gone = Script::always(Tried::Refused("gone".to_owned()));
    assert_eq!(round(&place, &gone).await, Delivered { dead: 1, ..nothing() });
    let id: EventId = dead(&place).await[0].parse().unwrap();
    break_row(&place, &place.store().events.get(id).await.unwrap().unwrap()).await;
    assert_eq!(dead(&place).await, [] as [String; 0]);
}
