//! `/api/v1/keys`: API keys.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Answer, JOBS, Site, refusals, snapshot};

const KEYS: &str = "/api/v1/keys";

#[tokio::test]
async fn keys_are_made_listed_and_revoked() {
    let site = Site::start().await;
    let made = site.admin.post(KEYS, &json!({"name": "gpu box", "scopes": ["worker", "worker"]})).await;
    let id = made.ok()["key"]["key_id"].as_str().unwrap().to_owned();
    let client = site.admin.keyed(made.ok()["api_key"].as_str().unwrap());
    let poll = format!("{JOBS}/poll?worker_id=w&content_types=audio");
    client.get(&poll).await.ok();
    site.world.advance(Duration::from_secs(1));
    let revoked = Answer::to(site.admin.request(Method::DELETE, &format!("{KEYS}/{id}"))).await;
    assert_eq!(client.get(&poll).await.status, 401, "on one machine a revocation counts at once");
    let again = Answer::to(site.admin.request(Method::DELETE, &format!("{KEYS}/{id}"))).await;
    assert_eq!(again.ok(), revoked.ok(), "revoking again changes nothing");
    let listed = site.admin.get(KEYS).await;
    assert!(!listed.text().contains("api_key"), "a listing shows no secret");
    let names: Vec<Value> =
        listed.ok()["keys"].as_array().unwrap().iter().map(|key| key["name"].clone()).collect();
    assert_eq!(names.len(), 4, "the first start's key, the test's two, and this one: {names:?}");
    let of_this_key = |answer: &Answer| {
        let keys = answer.ok()["keys"].as_array().unwrap().clone();
        keys.into_iter().find(|key| key["key_id"] == id.as_str()).unwrap()
    };
    snapshot!(json!({
        "made": made.shown(), "revoked": revoked.shown(), "listed": of_this_key(&listed),
    }));
}

#[tokio::test]
async fn a_key_may_have_another_tenant_and_several_scopes() {
    let site = Site::start().await;
    let key = json!({"name": "Jürgen’s key", "scopes": ["ingest", "worker"], "tenant": "other", "note": 1});
    let made = site.admin.post(KEYS, &key).await.ok();
    assert_eq!(
        (&made["key"]["tenant"], &made["key"]["scopes"]),
        (&json!("other"), &json!(["ingest", "worker"]))
    );
    let null_tenant = json!({"name": "x", "scopes": ["ingest"], "tenant": ""});
    assert_eq!(site.admin.post(KEYS, &null_tenant).await.ok()["key"]["tenant"], "default");
}

#[tokio::test]
async fn a_bad_key_is_refused_with_what_is_wrong() {
    let site = Site::start().await;
    let changed = |name: &str, value: Value| {
        let mut key = json!({"name": "n", "scopes": ["worker"]});
        key[name] = value;
        site.admin.posting(KEYS, &key)
    };
    let revoke = |id: &str| site.admin.request(Method::DELETE, &format!("{KEYS}/{id}"));
    snapshot!(
        refusals([
            ("body: malformed", site.admin.posting_text(KEYS, "{\"name\"")),
            ("body: not JSON", site.admin.request(Method::POST, KEYS).body("name=n")),
            ("name: missing", changed("name", Value::Null)),
            ("name: a line break", changed("name", "a\nb".into())),
            ("name: too long", changed("name", "n".repeat(101).into())),
            ("scopes: missing", changed("scopes", Value::Null)),
            ("scopes: none", changed("scopes", json!([]))),
            ("scopes: unknown", changed("scopes", json!(["root"]))),
            ("scopes: a text", changed("scopes", "worker".into())),
            ("tenant: upper case", changed("tenant", "Other".into())),
            ("tenant: a path", changed("tenant", "../default".into())),
            ("revoke: unknown", revoke("0123456789abcdef")),
            ("revoke: not spelled like one", revoke("K!")),
        ])
        .await
    );
}

#[tokio::test]
async fn only_an_admin_handles_keys() {
    let site = Site::start().await;
    let key = json!({"name": "n", "scopes": ["admin"]});
    for client in [&site.ingest, &site.worker] {
        assert_eq!(client.post(KEYS, &key).await.status, 403);
        assert_eq!(client.get(KEYS).await.status, 403);
        let revoke = client.request(Method::DELETE, &format!("{KEYS}/0123456789abcdef"));
        assert_eq!(Answer::to(revoke).await.status, 403);
    }
}
