//! One receiver does not hold up another.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::{Delivery, Tried};
use futures::FutureExt;
use tokio::sync::Semaphore;

use super::{Script, URL, crowd, failed, round, waiting};
use crate::support::Place;

#[tokio::test]
async fn a_dead_receiver_holds_up_neither_other_receivers_nor_other_tenants() {
    let place = Place::new().await;
    // What is due the longest is first in line: the dead receiver's.
    crowd(&place, "t", "https://dead.example/a", 120).await;
    place.pass(1);
    crowd(&place, "t", "https://alive.example/a", 10).await;
    crowd(&place, "other", "https://dead.example/b", 10).await;
    let (all, gate) = (Arc::new(Mutex::new(0)), Arc::new(Semaphore::new(0)));
    let courier = Script::new(move |message| {
        let (all, gate) = (Arc::clone(&all), Arc::clone(&gate));
        let is_dead = message.url.as_str() == "https://dead.example/a";
        async move {
            if is_dead {
                // It has no answer before all others have theirs: were one of them held up, nothing would end.
                drop(gate.acquire().await.unwrap());
                return failed();
            }
            let mut all = all.lock().unwrap();
            *all += 1;
            if *all == 20 {
                gate.add_permits(1000);
            }
            Tried::Taken
        }
        .boxed()
    });
    let done = round(&place, &courier).await;
    assert_eq!(done.delivered, 20);
    // Four at once, and one more in the place of the first that failed.
    assert!((2..=5).contains(&done.failed), "{done:?}");
    assert_eq!(done.failed + done.deferred, 120);
    let tried: u32 = waiting(&place).await.iter().map(|event| event.tries).sum();
    assert_eq!(u64::from(tried), done.failed, "what was put off has used up no try");
}

#[tokio::test]
async fn a_tenant_with_many_slow_receivers_leaves_tries_to_the_others() {
    let place = Place::new().await;
    for receiver in 0..20 {
        crowd(&place, "t", &format!("https://slow-{receiver}.example/a"), 4).await;
    }
    place.pass(1);
    crowd(&place, "other", "https://quick.example/b", 10).await;
    let (quick, gate) = (Arc::new(Mutex::new(0)), Arc::new(Semaphore::new(0)));
    let courier = Script::new(move |message| {
        let (quick, gate) = (Arc::clone(&quick), Arc::clone(&gate));
        let is_slow = message.url.as_str().contains("slow");
        async move {
            if is_slow {
                // It has no answer before all others have theirs: were they held up, nothing would end.
                drop(gate.acquire().await.unwrap());
            } else {
                let mut quick = quick.lock().unwrap();
                *quick += 1;
                if *quick == 10 {
                    gate.add_permits(1000);
                }
            }
            Tried::Taken
        }
        .boxed()
    });
    assert_eq!(round(&place, &courier).await.delivered, 90);
}

#[tokio::test]
async fn what_was_put_off_comes_back_soon_and_later_the_older_it_is() {
    let place = Place::new().await;
    crowd(&place, "t", URL, 20).await;
    let (mut at_first, mut later) = (Vec::new(), Vec::new());
    for (wait, waits) in [(0, &mut at_first), (24 * 3600, &mut later)] {
        place.pass(wait);
        let done = round(&place, &Script::failing()).await;
        assert!(done.failed <= 5 && done.failed + done.deferred == 20, "{done:?}");
        for event in waiting(&place).await.iter().filter(|event| event.tries == 0) {
            let Delivery::Due(due) = event.delivery else { panic!("{event:?}") };
            waits.push(due.since(place.now()).as_millis());
        }
    }
    assert!(at_first.iter().all(|wait| *wait == 7_500), "{at_first:?}");
    assert!(!later.is_empty() && later.iter().all(|wait| *wait == 2_700_000), "{later:?}");
    place.pass(45 * 60 + 60);
    let courier = Script::taking();
    let mut told = 0;
    while told < 20 {
        told += round(&place, &courier).await.delivered;
        place.pass(600);
    }
    assert_eq!(courier.carried().len(), 20);
}

#[tokio::test]
async fn a_receiver_that_fails_now_and_then_gets_everything() {
    let place = Place::new().await;
    crowd(&place, "t", URL, 40).await;
    let count = Mutex::new(0);
    let courier = Script::new(move |_| {
        let mut count = count.lock().unwrap();
        *count += 1;
        std::future::ready(if *count % 5 == 0 { failed() } else { Tried::Taken }).boxed()
    });
    let done = round(&place, &courier).await;
    assert_eq!((done.delivered, done.failed, done.deferred), (32, 8, 0), "never two failures in a row");
}

#[tokio::test]
async fn a_slow_receiver_is_sent_what_it_takes_and_the_rest_comes_back() {
    let place = Place::in_process(|_| {}).await;
    crowd(&place, "t", URL, 60).await;
    tokio::time::pause();
    let courier = Script::new(|_| {
        async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            Tried::Taken
        }
        .boxed()
    });
    let done = round(&place, &courier).await;
    // Four at once, for as long as an event waits for its receiver.
    assert_eq!((done.delivered, done.deferred), (12, 48));
}
