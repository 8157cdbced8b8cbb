//! The API keys in the table.

use aws_sdk_dynamodb::types::AttributeValue;
use store::KeyRecord;

use crate::support::{Lost, Place, at, loses, new_job, why};

fn key(id: &str) -> KeyRecord {
    KeyRecord {
        id: id.parse().unwrap(),
        name: "laptop".to_owned(),
        tenant: "t".parse().unwrap(),
        scopes: vec!["ingest".to_owned(), "worker".to_owned()],
        secret_sha256: [7; 32],
        created_at: at(0),
        revoked_at: None,
        expires_at: None,
    }
}

#[tokio::test]
async fn a_key_is_read_back_as_it_was_created() {
    let place = Place::new().await;
    assert!(place.keys.create(&key("a")).await.unwrap());
    assert_eq!(place.keys.get(&key("a").id).await.unwrap(), Some(key("a")));
    assert_eq!(place.keys.get(&key("b").id).await.unwrap(), None);
}

#[tokio::test]
async fn an_id_is_given_once() {
    let place = Place::new().await;
    let other = KeyRecord { secret_sha256: [8; 32], ..key("a") };
    assert!(place.keys.create(&key("a")).await.unwrap());
    assert!(!place.keys.create(&other).await.unwrap());
    assert_eq!(place.keys.get(&key("a").id).await.unwrap(), Some(key("a")));
}

#[tokio::test]
async fn a_key_whose_creation_was_sent_twice_is_created() {
    let place = Place::new().await;
    let store = place.behind(|way| loses(Lost::Answer, "PutItem", way)).await;
    assert!(store.keys.create(&key("a")).await.unwrap());
}

#[tokio::test]
async fn a_key_is_revoked_once_and_stays_as_it_was_otherwise() {
    let place = Place::new().await;
    place.keys.create(&key("a")).await.unwrap();
    assert!(place.keys.revoke(&key("a"), at(5)).await.unwrap());
    assert!(!place.keys.revoke(&key("a"), at(6)).await.unwrap());
    let revoked = KeyRecord { revoked_at: Some(at(5)), ..key("a") };
    assert_eq!(place.keys.get(&key("a").id).await.unwrap(), Some(revoked));
}

#[tokio::test]
async fn a_key_that_is_not_the_one_that_was_read_is_not_revoked() {
    let place = Place::new().await;
    let other = KeyRecord { secret_sha256: [8; 32], ..key("a") };
    assert!(!place.keys.revoke(&key("a"), at(5)).await.unwrap());
    place.keys.create(&other).await.unwrap();
    assert!(!place.keys.revoke(&key("a"), at(5)).await.unwrap());
    assert_eq!(place.keys.get(&other.id).await.unwrap(), Some(other));
}

#[tokio::test]
async fn the_list_is_of_keys_alone_oldest_first_and_over_all_pages() {
    let place = Place::new().await;
    assert_eq!(place.keys.list().await.unwrap(), []);
    let (young, old) = (KeyRecord { created_at: at(9), ..key("a") }, key("b"));
    place.keys.create(&young).await.unwrap();
    place.keys.create(&old).await.unwrap();
    place.keys.revoke(&old, at(10)).await.unwrap();
    let job = place.created(new_job()).await;
    // A page ends at 1 MB, whatever is on it.
    for at in 0..6 {
        let mut row = place.row_of(&job).await;
        row.insert("pk".to_owned(), AttributeValue::S(format!("job#{at}")));
        row.insert("filling".to_owned(), AttributeValue::S("f".repeat(350_000)));
        place.put_row(row).await;
    }
    let before = place.meter.units().read;
    let revoked = KeyRecord { revoked_at: Some(at(10)), ..old };
    assert_eq!(place.keys.list().await.unwrap(), [revoked, young]);
    assert!(place.meter.units().read - before > 200.0, "it did not read the whole table");
}

#[tokio::test]
async fn a_row_that_is_no_key_is_not_read() {
    let place = Place::new().await;
    place.keys.create(&key("a")).await.unwrap();
    let row = place.row("key#a").await.unwrap();
    for (name, value, expected) in [
        ("tenant", AttributeValue::S("A/B".to_owned()), "must be 1 to 64"),
        ("secret_sha256", AttributeValue::B(vec![1; 31].into()), ""),
        ("scopes", AttributeValue::S("admin".to_owned()), ""),
    ] {
        let mut row = row.clone();
        row.insert(name.to_owned(), value);
        place.put_row(row).await;
        let (kind, cause) = why(place.keys.get(&key("a").id).await);
        assert!(kind == "unreadable" && cause.contains(expected), "{name}: {kind}: {cause}");
    }
    let mut row = row.clone();
    row.insert("pk".to_owned(), AttributeValue::S("key#NO ID".to_owned()));
    place.put_row(row).await;
    place.delete_row("key#a").await;
    let (kind, cause) = why(place.keys.list().await);
    assert_eq!((kind, cause.as_str()), ("unreadable", "it is no API key's"));
}

#[tokio::test]
async fn a_key_is_rotated_once_and_the_new_one_is_written_with_it() {
    let place = Place::new().await;
    place.keys.create(&key("a")).await.unwrap();
    assert!(place.keys.rotate(&key("a"), at(5), &key("b")).await.unwrap());
    let ending = KeyRecord { expires_at: Some(at(5)), ..key("a") };
    assert_eq!(place.keys.get(&key("a").id).await.unwrap(), Some(ending.clone()));
    assert_eq!(place.keys.get(&key("b").id).await.unwrap(), Some(key("b")));
    assert!(!place.keys.rotate(&ending, at(9), &key("c")).await.unwrap());
    assert_eq!(place.keys.get(&key("c").id).await.unwrap(), None);
    assert!(place.keys.revoke(&ending, at(6)).await.unwrap(), "one that ends can still be revoked");
}

#[tokio::test]
async fn of_two_rotations_to_the_same_end_one_is_told_that_it_lost() {
    let place = Place::new().await;
    place.keys.create(&key("a")).await.unwrap();
    let (old, other) = (key("a"), KeyRecord { secret_sha256: [9; 32], ..key("c") });
    assert!(place.keys.rotate(&old, at(5), &key("b")).await.unwrap());
    assert!(!place.keys.rotate(&old, at(5), &other).await.unwrap());
    assert_eq!(place.keys.get(&other.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_revoked_key_is_not_rotated() {
    let place = Place::new().await;
    place.keys.create(&key("a")).await.unwrap();
    place.keys.revoke(&key("a"), at(1)).await.unwrap();
    assert!(!place.keys.rotate(&key("a"), at(5), &key("b")).await.unwrap());
    assert_eq!(place.keys.get(&key("b").id).await.unwrap(), None);
}

#[tokio::test]
async fn a_rotation_that_was_sent_twice_is_done() {
    let place = Place::new().await;
    place.keys.create(&key("a")).await.unwrap();
    let store = place.behind(|way| loses(Lost::Answer, "TransactWriteItems", way)).await;
    assert!(store.keys.rotate(&key("a"), at(5), &key("b")).await.unwrap());
    assert_eq!(place.keys.get(&key("b").id).await.unwrap(), Some(key("b")));
}
