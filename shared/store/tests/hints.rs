//! Where a tenant's idle workers wait for hints.

use std::collections::BTreeMap;

use store::{HintClass, HintClasses};

use crate::support::{Lost, Place, at, loses};

fn classes(until: u64) -> BTreeMap<String, HintClass> {
    let class = HintClass {
        content_types: vec!["audio".parse().unwrap(), "x-own".parse().unwrap()],
        queue_url: "https://sqs.example/1/hints-a".to_owned(),
        live_until: at(until),
    };
    BTreeMap::from([("a".to_owned(), class)])
}

#[tokio::test]
async fn classes_are_read_back_as_they_were_written_and_are_each_tenants_own() {
    let place = Place::new().await;
    let (tenant, other) = ("t".parse().unwrap(), "u".parse().unwrap());
    let none = place.hints.get(&tenant).await.unwrap();
    assert_eq!(none, HintClasses::default());
    place.hints.replace(&tenant, &none, classes(9)).await.unwrap().unwrap();
    let read = place.hints.get(&tenant).await.unwrap();
    assert_eq!(read.classes, classes(9));
    assert_eq!((read.live(at(8)).count(), read.live(at(9)).count()), (1, 0));
    assert_eq!(place.hints.get(&other).await.unwrap(), none);
}

#[tokio::test]
async fn of_two_who_write_at_once_one_is_told_what_the_other_wrote() {
    let place = Place::new().await;
    let tenant = "t".parse().unwrap();
    let none = HintClasses::default();
    place.hints.replace(&tenant, &none, classes(1)).await.unwrap().unwrap();
    let there = place.hints.replace(&tenant, &none, classes(2)).await.unwrap().unwrap_err();
    assert_eq!(there.classes, classes(1));
    place.hints.replace(&tenant, &there, classes(2)).await.unwrap().unwrap();
    let stale = place.hints.replace(&tenant, &there, classes(3)).await.unwrap().unwrap_err();
    assert_eq!(stale.classes, classes(2));
}

#[tokio::test]
async fn a_write_that_was_sent_twice_leaves_what_it_wrote() {
    let place = Place::new().await;
    let tenant = "t".parse().unwrap();
    let store = place.behind(|way| loses(Lost::Answer, "PutItem", way)).await;
    let there = store.hints.replace(&tenant, &HintClasses::default(), classes(1)).await.unwrap();
    assert_eq!(there.unwrap_err().classes, classes(1), "its writer sees it as somebody else's, and it holds");
}
