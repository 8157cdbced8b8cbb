//! Which workers there are.

use std::{collections::BTreeSet, time::Duration};

use domain::{Tenant, Timestamp};
use store::{Due, Store, WorkerRecord};

use crate::support::{Lost, Place, claimed, failure, loses, native, new_job, submitted};

/// A moment ahead of the machine's clock, so that no row is past its time to live.
fn at(seconds: u64) -> Timestamp {
    Timestamp(4_102_444_800_000).plus(Duration::from_secs(seconds))
}

/// What stands in the keys of workers of these types: the beginning of the SHA-256 of `audio,x-own,`.
const AUDIO_AND_OWN: &str = "424b9e7a";

fn seen(id: &str, seconds: u64) -> WorkerRecord {
    WorkerRecord {
        id: id.parse().unwrap(),
        content_types: vec!["audio".parse().unwrap(), "x-own".parse().unwrap()],
        version: Some("own/1".to_owned()),
        seen_at: at(seconds),
    }
}

fn tenant() -> Tenant {
    "t".parse().unwrap()
}

async fn listed(store: &Store, tenant: &Tenant) -> Vec<WorkerRecord> {
    let mut workers: Vec<WorkerRecord> =
        store.workers.list(tenant, 1000).await.unwrap().records.into_iter().map(Result::unwrap).collect();
    workers.sort_by(|a, b| a.id.cmp(&b.id));
    workers
}

#[tokio::test]
async fn workers_are_listed_as_they_were_noted_and_are_each_tenants_own() {
    let place = Place::new().await;
    let (a, b) = (seen("a", 1), WorkerRecord { version: None, ..seen("b#/%", 2) });
    for worker in [&b, &a] {
        place.workers.note(&tenant(), worker).await.unwrap();
    }
    assert_eq!(listed(&place, &tenant()).await, [a, b]);
    assert!(listed(&place, &"u".parse().unwrap()).await.is_empty());
}

#[tokio::test]
async fn what_was_seen_later_stays() {
    let place = Place::new().await;
    for seconds in [5, 3] {
        place.workers.note(&tenant(), &seen("a", seconds)).await.unwrap();
    }
    assert_eq!(listed(&place, &tenant()).await, [seen("a", 5)]);
    let changed = WorkerRecord { version: None, ..seen("a", 5) };
    place.workers.note(&tenant(), &changed).await.unwrap();
    assert_eq!(listed(&place, &tenant()).await, [changed]);
}

#[tokio::test]
async fn who_is_forgotten_is_listed_no_more() {
    let place = Place::new().await;
    place.workers.note(&tenant(), &seen("a", 1)).await.unwrap();
    let id = "a".parse().unwrap();
    assert!(!place.workers.forget(&"u".parse().unwrap(), &id).await.unwrap());
    assert!(place.workers.forget(&tenant(), &id).await.unwrap());
    assert!(!place.workers.forget(&tenant(), &id).await.unwrap());
    assert!(listed(&place, &tenant()).await.is_empty());
}

#[tokio::test]
async fn workers_of_one_name_and_different_types_do_not_hide_each_other() {
    let place = Place::new().await;
    let of = |types: &[&str], seconds| WorkerRecord {
        content_types: types.iter().map(|name| name.parse().unwrap()).collect(),
        ..seen("a#b", seconds)
    };
    let (first, second) = (of(&["audio", "video"], 1), of(&["document"], 2));
    for worker in [&first, &second] {
        place.workers.note(&tenant(), worker).await.unwrap();
    }
    let mut known = listed(&place, &tenant()).await;
    known.sort_by_key(|worker| worker.seen_at);
    assert_eq!(known, [first, second.clone()]);
    // In another order they are the same types.
    let turned = of(&["video", "audio"], 3);
    place.workers.note(&tenant(), &turned).await.unwrap();
    let mut known = listed(&place, &tenant()).await;
    known.sort_by_key(|worker| worker.seen_at);
    assert_eq!(known, [second, turned]);
    place.workers.note(&tenant(), &seen("b", 4)).await.unwrap();
    assert!(place.workers.forget(&tenant(), &"a#b".parse().unwrap()).await.unwrap());
    assert_eq!(listed(&place, &tenant()).await, [seen("b", 4)]);
}

#[tokio::test]
async fn more_than_are_asked_for_are_told_and_those_of_earlier_days_left_out() {
    let place = Place::new().await;
    let day = 24 * 3600;
    for number in 0..230 {
        place.workers.note(&tenant(), &seen(&format!("old-{number}"), 1)).await.unwrap();
    }
    for number in 0..3 {
        place.workers.note(&tenant(), &seen(&format!("new-{number}"), 2 * day)).await.unwrap();
    }
    let some = place.workers.list(&tenant(), 120).await.unwrap();
    assert_eq!((some.records.len(), some.more), (120, true));
    let ids: BTreeSet<String> =
        some.records.into_iter().map(|worker| worker.unwrap().id.to_string()).collect();
    assert!((0..3).all(|number| ids.contains(&format!("new-{number}"))));
    let every = place.workers.list(&tenant(), 233).await.unwrap();
    assert_eq!((every.records.len(), every.more), (233, false));
}

#[tokio::test]
async fn a_note_whose_answer_is_lost_is_one_note() {
    let place = Place::new().await;
    let store = place.behind(|way| loses(Lost::Answer, "PutItem", way)).await;
    store.workers.note(&tenant(), &seen("a", 1)).await.unwrap();
    assert_eq!(listed(&place, &tenant()).await, [seen("a", 1)]);
}

#[tokio::test]
async fn a_row_goes_by_itself_a_week_after() {
    let place = Place::new().await;
    place.workers.note(&tenant(), &seen("a", 0)).await.unwrap();
    let row = place.row(&format!("worker#t#{AUDIO_AND_OWN}#a")).await.unwrap();
    let number = |name: &str| row[name].as_n().unwrap().parse::<i64>().unwrap();
    assert_eq!(number("expires_at"), number("seen_at") / 1000 + 7 * 24 * 3600);
}

#[tokio::test]
async fn jobs_that_run_are_told_from_those_that_wait_or_have_lapsed() {
    let place = Place::new().await;
    let waiting = place.created(new_job()).await;
    let job = place.created(new_job()).await;
    let now = crate::support::at(1);
    let running = place.replaced(&job, claimed(&job, &native(1), now)).await;
    let (tenant, content_type) = (&waiting.tenant, &waiting.spec.content_type);
    // One that waits for the end of a backoff stands in the same index.
    let job = place.created(new_job()).await;
    let worker = native(2);
    let job = place.replaced(&job, claimed(&job, &worker, now)).await;
    let failed_at = crate::support::at(2);
    place.replaced(&job, submitted(&job, &worker.0, failure(true), failed_at)).await;
    let found = place.jobs.running(tenant, content_type, 0, now, 10).await.unwrap();
    assert_eq!(found, [running.id]);
    let lapses_at = running.due_at().unwrap();
    assert!(place.jobs.running(tenant, content_type, 0, lapses_at, 10).await.unwrap().is_empty());
    let returning = place.jobs.due(Due::Returning, tenant, content_type, 0, lapses_at, 10).await.unwrap();
    assert!(returning.contains(&running.id));
}
