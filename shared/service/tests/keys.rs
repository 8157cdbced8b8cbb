//! API keys: who calls, and what they may do.

use api::{
    Access, Scope,
    keys::{CreateKeyRequest, RotateKeyRequest, ScopeName},
};
use service::{Caller, NewKey, Service};

use crate::support::{Place, at, caller, caller_of, field, full_problem, problem};

const INVALID: &str = "The API key is not valid; check it, or ask an operator for a new one.";

async fn key(place: &Service, scopes: &[Scope]) -> NewKey {
    place.keys().make("laptop", "t".parse().unwrap(), scopes).await.unwrap()
}

#[tokio::test]
async fn a_key_says_whose_jobs_its_caller_sees_and_what_it_may_do() {
    let place = Place::new().await;
    let key = key(&place, &[Scope::Ingest, Scope::Worker]).await;
    let expected = Caller {
        tenant: "t".parse().unwrap(),
        key: key.record.id.clone(),
        scopes: vec![Scope::Ingest, Scope::Worker],
    };
    assert_eq!(place.keys().authenticate(&key.text).await.unwrap(), expected);
}

#[tokio::test]
async fn what_is_no_key_or_not_this_key_is_refused_without_saying_which() {
    let place = Place::new().await;
    let key = key(&place, &[Scope::Admin]).await;
    let (id, secret) = key.text.split_once('.').unwrap();
    let other_id = if id.starts_with('0') { "1" } else { "0" };
    let unknown = format!("{other_id}{}.{secret}", &id[1..]);
    for text in [
        "",
        ".",
        id,
        secret,
        &format!("{id}."),
        &format!("{id}.{secret}x"),
        &format!("{id}.{}", &secret[1..]),
        &format!("{}.{secret}", id.to_uppercase() + "A"),
        &unknown,
        &format!(" {id}.{secret}"),
    ] {
        let refused = full_problem(place.keys().authenticate(text).await);
        assert_eq!(refused, (401, "unauthorized".to_owned(), INVALID.to_owned()), "{text}");
    }
}

#[tokio::test]
async fn the_secret_is_stored_nowhere() {
    let place = Place::new().await;
    let key = key(&place, &[Scope::Admin]).await;
    let (_, secret) = key.text.split_once('.').unwrap();
    assert_eq!(secret.len(), 43);
    assert!(!format!("{:?}", place.store().keys.list().await.unwrap()).contains(secret));
}

#[tokio::test]
async fn a_revoked_key_stops_working_at_once_here_and_within_a_minute_elsewhere() {
    let place = Place::new().await;
    let key = key(&place, &[Scope::Worker]).await;
    let elsewhere = place.another().await;
    assert!(elsewhere.keys().authenticate(&key.text).await.is_ok());
    assert!(place.keys().authenticate(&key.text).await.is_ok());
    place.pass(1);
    let revoked = place.keys().revoke(key.record.id.as_str()).await.unwrap();
    assert_eq!(revoked.revoked_at, Some(at(1)));
    assert_eq!(problem(place.keys().authenticate(&key.text).await), (401, INVALID.to_owned()));
    place.pass(58);
    assert!(elsewhere.keys().authenticate(&key.text).await.is_ok());
    place.pass(1);
    assert_eq!(problem(elsewhere.keys().authenticate(&key.text).await), (401, INVALID.to_owned()));
}

#[tokio::test]
async fn a_key_is_read_once_a_minute() {
    let place = Place::new().await;
    let key = key(&place, &[Scope::Worker]).await;
    let reads = async |passed| {
        place.pass(passed);
        let before = place.store().meter.units().read;
        place.keys().authenticate(&key.text).await.unwrap();
        place.store().meter.units().read - before
    };
    assert_eq!(reads(0).await, 1.0);
    assert_eq!(reads(0).await, 0.0);
    assert_eq!(reads(59).await, 0.0);
    assert_eq!(reads(1).await, 1.0);
}

#[tokio::test]
async fn an_unknown_key_is_not_remembered_as_unknown() {
    let place = Place::new().await;
    let elsewhere = place.another().await;
    let key = key(&elsewhere, &[Scope::Worker]).await;
    assert!(place.keys().authenticate("0123.x").await.is_err());
    assert!(place.keys().authenticate(&key.text).await.is_ok());
}

#[tokio::test]
async fn revoking_again_changes_nothing() {
    let place = Place::new().await;
    let key = key(&place, &[Scope::Worker]).await;
    let first = place.keys().revoke(key.record.id.as_str()).await.unwrap();
    place.pass(9);
    let second = place.keys().revoke(key.record.id.as_str()).await.unwrap();
    assert_eq!((first.revoked_at, second.revoked_at), (Some(at(0)), Some(at(0))));
}

#[tokio::test]
async fn a_key_that_is_not_there_cannot_be_revoked_and_is_not_repeated() {
    let place = Place::new().await;
    for id in ["0123456789abcdef", "0123.secret", ""] {
        let (status, kind, text) = full_problem(place.keys().revoke(id).await);
        assert_eq!((status, kind.as_str()), (404, "not-found"));
        assert!(!text.contains("0123"), "{text}");
    }
}

fn wanted(name: &str, scopes: &[ScopeName], tenant: Option<&str>) -> CreateKeyRequest {
    CreateKeyRequest { name: name.to_owned(), scopes: scopes.to_vec(), tenant: tenant.map(str::to_owned) }
}

#[tokio::test]
async fn a_key_is_made_for_the_callers_tenant_unless_another_is_named() {
    let place = Place::new().await;
    let scopes = [ScopeName::Worker, ScopeName::Ingest, ScopeName::Worker];
    let made = place.keys().create(&caller().tenant, &wanted("GPU box", &scopes, None)).await.unwrap();
    assert_eq!((made.key.name.as_str(), made.key.tenant.as_str()), ("GPU box", "t"));
    assert_eq!((made.key.created_at, made.key.revoked_at), (at(0), None));
    assert_eq!(made.key.scopes, ["ingest", "worker"]);
    let caller = place.keys().authenticate(&made.api_key).await.unwrap();
    assert_eq!(
        (caller.key.as_str(), caller.scopes),
        (made.key.key_id.as_str(), vec![Scope::Ingest, Scope::Worker])
    );
    let made =
        place.keys().create(&caller_of("t", "k").tenant, &wanted("u", &scopes, Some("u"))).await.unwrap();
    assert_eq!(place.keys().authenticate(&made.api_key).await.unwrap().tenant.as_str(), "u");
}

#[tokio::test]
async fn a_key_has_a_name_a_scope_and_a_tenant_that_can_be_one() {
    let place = Place::new().await;
    let scopes = [ScopeName::Admin];
    let refused = async |request| problem(place.keys().create(&caller().tenant, &request).await);
    let name = field("name", "must be 1 to 100 characters without control characters");
    assert_eq!(refused(wanted(&"ä".repeat(101), &scopes, None)).await, name);
    assert_eq!(refused(wanted("a\nb", &scopes, None)).await, name);
    assert_eq!(refused(wanted("", &scopes, None)).await, name);
    assert_eq!(
        refused(wanted("a", &[], None)).await,
        field("scopes", "must name at least one of ingest, worker and admin")
    );
    assert_eq!(
        refused(wanted("a", &scopes, Some("A"))).await,
        field("tenant", "must be 1 to 64 of a-z, 0-9, - and _")
    );
    assert!(place.keys().create(&caller().tenant, &wanted(&"ä".repeat(100), &scopes, None)).await.is_ok());
}

#[tokio::test]
async fn every_key_is_listed_oldest_first() {
    let place = Place::new().await;
    let first = key(&place, &[Scope::Admin]).await.record.id.to_string();
    place.pass(1);
    let second = key(&place, &[Scope::Worker]).await.record.id.to_string();
    place.created().await;
    place.keys().revoke(&first).await.unwrap();
    let listed = place.keys().list().await.unwrap().keys;
    let listed: Vec<_> = listed.into_iter().map(|key| (key.key_id, key.revoked_at)).collect();
    assert_eq!(listed, [(first, Some(at(1))), (second, None)]);
}

#[test]
fn a_scope_admits_its_calls_and_admin_all() {
    let with = |scopes: &[Scope]| Caller { scopes: scopes.to_vec(), ..caller() };
    let ingest = Access::Scope(Scope::Ingest);
    let worker = Access::Scope(Scope::Worker);
    let admin = Access::Scope(Scope::Admin);
    for (scopes, may) in [
        (&[][..], [false, false, false]),
        (&[Scope::Ingest], [true, false, false]),
        (&[Scope::Worker], [false, true, false]),
        (&[Scope::Ingest, Scope::Worker], [true, true, false]),
        (&[Scope::Admin], [true, true, true]),
    ] {
        let caller = with(scopes);
        assert_eq!([ingest, worker, admin].map(|access| caller.may(access)), may, "{scopes:?}");
        assert!(caller.may(Access::Public) && caller.may(Access::Tenant));
    }
}

/// When a key ends, as the list says.
async fn end_of(place: &Service, key: &NewKey) -> Option<String> {
    let listed = place.keys().list().await.unwrap().keys;
    listed.into_iter().find(|listed| listed.key_id == key.record.id.as_str()).unwrap().expires_at
}

fn overlap(seconds: u64) -> RotateKeyRequest {
    RotateKeyRequest { overlap_seconds: Some(seconds) }
}

#[tokio::test]
async fn a_rotated_key_works_until_its_end_and_the_new_one_is_like_it() {
    let place = Place::new().await;
    let old = key(&place, &[Scope::Ingest, Scope::Worker]).await;
    let rotated = place.keys().rotate(old.record.id.as_str(), &overlap(3600)).await.unwrap();
    let (before, after) = (
        place.keys().authenticate(&old.text).await.unwrap(),
        place.keys().authenticate(&rotated.api_key).await.unwrap(),
    );
    assert_eq!((&before.tenant, &before.scopes), (&after.tenant, &after.scopes));
    assert_eq!((rotated.key.name.as_str(), rotated.key.expires_at), ("laptop", None));
    place.pass(3599);
    assert!(place.keys().authenticate(&old.text).await.is_ok());
    place.pass(1);
    assert_eq!(problem(place.keys().authenticate(&old.text).await), (401, INVALID.to_owned()));
    assert!(place.keys().authenticate(&rotated.api_key).await.is_ok());
    assert_eq!(end_of(&place, &old).await, Some(at(3600)));
}

#[tokio::test]
async fn an_end_by_rotation_reaches_a_server_that_remembers_the_key_within_a_minute() {
    let place = Place::new().await;
    let old = key(&place, &[Scope::Worker]).await;
    let elsewhere = place.another().await;
    assert!(elsewhere.keys().authenticate(&old.text).await.is_ok());
    place.keys().rotate(old.record.id.as_str(), &overlap(0)).await.unwrap();
    assert!(place.keys().authenticate(&old.text).await.is_err());
    place.pass(59);
    assert!(elsewhere.keys().authenticate(&old.text).await.is_ok());
    place.pass(1);
    assert!(elsewhere.keys().authenticate(&old.text).await.is_err());
}

#[tokio::test]
async fn a_rotation_overlaps_for_a_day_unless_it_says_otherwise() {
    let place = Place::new().await;
    let old = key(&place, &[Scope::Worker]).await;
    place.keys().rotate(old.record.id.as_str(), &RotateKeyRequest::default()).await.unwrap();
    assert_eq!(end_of(&place, &old).await, Some(at(24 * 3600)));
}

#[tokio::test]
async fn a_key_that_is_over_or_replaced_is_not_rotated() {
    let place = Place::new().await;
    let (replaced, revoked) = (key(&place, &[Scope::Worker]).await, key(&place, &[Scope::Worker]).await);
    let (replaced, revoked) = (replaced.record.id.as_str(), revoked.record.id.as_str());
    place.keys().rotate(replaced, &overlap(60)).await.unwrap();
    place.keys().revoke(revoked).await.unwrap();
    let refused = async |id, request| problem(place.keys().rotate(id, &request).await);
    let (status, text) = refused(replaced, overlap(60)).await;
    assert_eq!(status, 409);
    assert!(text.contains("rotate the one that took its place"), "{text}");
    let (status, text) = refused(revoked, overlap(60)).await;
    assert_eq!((status, text.as_str()), (409, "This key was revoked; create a new one."));
    assert_eq!(refused("0123456789abcdef", overlap(60)).await.0, 404);
    let too_long = field("overlap_seconds", "must be 0 to 7776000");
    assert_eq!(refused(replaced, overlap(7_776_001)).await, too_long);
}
