//! At least once, by whomever, and not twice without need.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::Tried;
use futures::FutureExt;
use service::Delivered;
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

use super::{Script, URL, crowd, delivered, ended, nothing, round, waiting};
use crate::support::{Place, problem};

#[tokio::test]
async fn who_claimed_an_event_and_died_leaves_it_to_others() {
    let place = Place::new().await;
    ended(&place).await;
    let begun = Arc::new(Notify::new());
    let signal = Arc::clone(&begun);
    let dying = Script::new(move |_| {
        signal.notify_one();
        std::future::pending().boxed()
    });
    tokio::select! {
        _ = round(&place, &dying) => panic!("it had no answer"),
        () = begun.notified() => {}
    }
    let first = dying.one();
    let courier = Script::taking();
    place.pass(59);
    assert_eq!(round(&place, &courier).await, nothing(), "somebody may be at it");
    place.pass(1);
    assert_eq!(round(&place, &courier).await, delivered(1));
    let second = courier.one();
    assert_eq!((first.id, &first.body), (second.id, &second.body), "a receiver knows it again");
    assert_eq!(second.timestamp, first.timestamp + 60, "every try is signed anew");
    assert_ne!(first.signature, second.signature);
}

#[tokio::test]
async fn two_who_deliver_at_once_send_nothing_twice() {
    let place = Place::new().await;
    for _ in 0..20 {
        ended(&place).await;
    }
    let (one, other) = (Script::taking(), Script::taking());
    let another = place.another().await;
    let (mine, theirs) = tokio::join!(round(&place, &one), round(&another, &other));
    assert_eq!(mine.delivered + theirs.delivered, 20);
    let carried = [one.carried(), other.carried()].concat();
    assert_eq!(carried.len(), 20);
    assert_eq!(carried.iter().map(|told| told.id).collect::<BTreeSet<_>>().len(), 20);
}

#[tokio::test]
async fn an_event_recorded_during_a_round_is_told_in_it() {
    let place = Arc::new(Place::new().await);
    ended(&place).await;
    let (begun, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (signal, gate, count) = (Arc::clone(&begun), Arc::clone(&release), Mutex::new(0));
    let courier = Script::new(move |_| {
        let mut count = count.lock().unwrap();
        *count += 1;
        let (signal, gate, first) = (Arc::clone(&signal), Arc::clone(&gate), *count == 1);
        async move {
            // The first is not answered before the second has come.
            if first {
                signal.notify_one();
                gate.notified().await;
            } else {
                gate.notify_one();
            }
            Tried::Taken
        }
        .boxed()
    });
    let second = async {
        begun.notified().await;
        ended(&place).await;
    };
    let (done, ()) = tokio::join!(round(&place, &courier), second);
    assert_eq!(done, delivered(2));
}

#[tokio::test]
async fn a_round_stops_in_time_and_says_so() {
    let place = Place::new().await;
    ended(&place).await;
    let courier = Script::taking();
    let over = place.deliver_events(&courier, Instant::now()).await.unwrap();
    assert_eq!(over, Delivered::default());
    place.drain();
    let until = Instant::now() + Duration::from_secs(60);
    assert_eq!(place.deliver_events(&courier, until).await.unwrap(), Delivered::default());
    assert_eq!(courier.carried(), []);
    assert_eq!(round(&place.another().await, &courier).await, delivered(1));
}

#[tokio::test]
async fn a_server_that_stops_ends_with_the_tries_in_hand() {
    let place = Place::new().await;
    crowd(&place, "t", URL, 10).await;
    let (begun, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (signal, opened) = (Arc::clone(&begun), Arc::clone(&gate));
    let courier = Script::new(move |_| {
        let (signal, opened) = (Arc::clone(&signal), Arc::clone(&opened));
        async move {
            signal.add_permits(1);
            drop(opened.acquire().await.unwrap());
            Tried::Taken
        }
        .boxed()
    });
    let until = Instant::now() + Duration::from_secs(3600);
    let stopping = async {
        drop(begun.acquire_many(4).await.unwrap());
        place.drain();
        gate.add_permits(4);
    };
    let (done, ()) = tokio::join!(place.deliver_events(&courier, until), stopping);
    assert_eq!(done.unwrap(), Delivered { delivered: 4, ..Delivered::default() });
    let left = waiting(&place).await;
    assert_eq!((left.len(), left.iter().map(|event| event.tries).max()), (6, Some(0)));
}

#[tokio::test]
async fn a_store_out_of_reach_is_an_error() {
    let service = Place::out_of_reach().await;
    let until = Instant::now() + Duration::from_secs(60);
    let (status, _) = problem(service.deliver_events(&Script::taking(), until).await);
    assert_eq!(status, 503);
}
