//! What deliveries are signed with.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Script, delivered, ended, round, signed};
use crate::support::{Place, at, caller, caller_of};

#[tokio::test]
async fn a_delivery_is_signed_by_the_tenants_secret_and_for_a_day_by_the_one_before_it() {
    let place = Place::new().await;
    let secret = place.webhook_secret(&caller()).await.unwrap();
    assert_eq!(place.webhook_secret(&caller()).await.unwrap().secret, secret.secret);
    let other = place.webhook_secret(&caller_of("other", "k")).await.unwrap();
    assert_ne!(other.secret, secret.secret, "every tenant has its own");
    let told = async || {
        ended(&place).await;
        let courier = Script::taking();
        assert_eq!(round(&place, &courier).await, delivered(1));
        courier.one()
    };
    let first = told().await;
    assert_eq!(first.signature, signed(&secret.secret, &first));
    let rotated = place.rotate_webhook_secret(&caller()).await.unwrap();
    assert_eq!(rotated.previous, Some(secret.secret.clone()));
    assert_eq!(rotated.previous_until, Some(at(24 * 3600)));
    assert_ne!(rotated.secret, secret.secret);
    place.pass(24 * 3600 - 1);
    let both = told().await;
    let expected = format!("{} {}", signed(&rotated.secret, &both), signed(&secret.secret, &both));
    assert_eq!(both.signature, expected);
    place.pass(1);
    let later = told().await;
    assert_eq!(later.signature, signed(&rotated.secret, &later));
    assert_eq!(place.webhook_secret(&caller()).await.unwrap().previous, None);
    assert!(!format!("{rotated:?}").contains(&rotated.secret));
}

#[tokio::test]
async fn a_secret_replaced_again_and_again_is_used_for_its_day() {
    let place = Place::new().await;
    let first = place.webhook_secret(&caller()).await.unwrap().secret;
    for _ in 0..2 {
        place.rotate_webhook_secret(&caller()).await.unwrap();
    }
    ended(&place).await;
    let courier = Script::taking();
    round(&place, &courier).await;
    let told = courier.one();
    let signatures: Vec<&str> = told.signature.split(' ').collect();
    assert_eq!(signatures.len(), 3);
    assert!(signatures.contains(&signed(&first, &told).as_str()), "as who repeats a rotation expects");
    for _ in 0..10 {
        place.rotate_webhook_secret(&caller()).await.unwrap();
    }
    ended(&place).await;
    let courier = Script::taking();
    round(&place, &courier).await;
    assert_eq!(courier.one().signature.split(' ').count(), 5, "the header stays short");
}

#[tokio::test]
async fn who_asks_for_the_secret_first_at_the_same_time_gets_the_same() {
    let place = Place::new().await;
    let mut asking = Vec::new();
    for _ in 0..8 {
        let service = place.another().await;
        asking.push(async move { service.webhook_secret(&caller()).await.unwrap().secret });
    }
    let secrets: BTreeSet<String> = futures::future::join_all(asking).await.into_iter().collect();
    assert_eq!(secrets.len(), 1);
}

#[tokio::test]
async fn no_secret_is_shown_for_debugging() {
    let place = Place::new().await;
    let shown = place.webhook_secret(&caller()).await.unwrap();
    let stored = place.store().webhook_secrets.get(&"t".parse().unwrap()).await.unwrap().unwrap();
    let secret = shown.secret.strip_prefix("whsec_").unwrap();
    assert_eq!(STANDARD.encode(stored.current.bytes()), secret);
    let bytes = format!("{:?}", stored.current.bytes());
    for debugged in [format!("{shown:?}"), format!("{stored:?}"), format!("{stored:#?}")] {
        assert!(!debugged.contains(secret) && !debugged.contains(&bytes), "{debugged}");
    }
}
