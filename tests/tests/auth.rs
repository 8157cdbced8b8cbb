//! Who may make which call.

use std::net::SocketAddr;

use api::{Access, ROUTES, Route, Scope};
use reqwest::RequestBuilder;
use serde_json::json;
use system_tests::{Answer, Client, JOBS, Site, network_address, refusals, snapshot};

/// A request to a route that names nothing that exists.
fn request(client: &Client, route: &Route) -> RequestBuilder {
    let id = "0b8f3c5e-0000-7000-8000-000000000000";
    let path = ["{job_id}", "{upload_id}", "{key_id}"]
        .iter()
        .fold(route.path.to_owned(), |path, name| path.replace(name, id));
    client.request(route.method.clone(), &path).json(&json!({}))
}

#[tokio::test]
async fn every_call_but_the_public_ones_needs_a_key() {
    let site = Site::start().await;
    for route in &ROUTES {
        let answer = Answer::to(request(&site.admin.anonymous(), route)).await;
        if route.access == Access::Public {
            assert_eq!(answer.status, 200, "{} {}", route.method, route.path);
        } else {
            assert_eq!(answer.status, 401, "{} {}", route.method, route.path);
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
    }
    snapshot!(
        site.admin.anonymous().get(&format!("{JOBS}/poll?worker_id=w&content_types=audio")).await.shown()
    );
}

#[tokio::test]
async fn every_call_needs_its_scope() {
    let site = Site::start().await;
    let of_scope = async |scope: Scope| site.client("default", &[scope.as_str()]).await;
    let clients = [
        (Scope::Ingest, of_scope(Scope::Ingest).await),
        (Scope::Worker, of_scope(Scope::Worker).await),
        (Scope::Admin, of_scope(Scope::Admin).await),
    ];
    for route in &ROUTES {
        for (scope, client) in &clients {
            let admitted = match route.access {
                Access::Public | Access::Tenant => true,
                Access::Scope(needed) => needed == *scope || *scope == Scope::Admin,
            };
            let status = Answer::to(request(client, route)).await.status;
            let name = format!("{} {} as {}", route.method, route.path, scope.as_str());
            if admitted {
                assert!(![401, 403].contains(&status), "{name}: {status}");
            } else {
                assert_eq!(status, 403, "{name}");
            }
        }
    }
    let uploads = |client: &Client| client.posting(&format!("{JOBS}/uploads"), &json!({}));
    let keys = |client: &Client| client.request(reqwest::Method::GET, "/api/v1/keys");
    let poll = |client: &Client| client.posting(&format!("{JOBS}/poll"), &json!({}));
    snapshot!(
        refusals([
            ("a worker uploads", uploads(&site.worker)),
            ("an ingestion service polls", poll(&site.ingest)),
            ("a key of both lists keys", keys(&site.client("default", &["ingest", "worker"]).await)),
        ])
        .await
    );
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_not_repeated() {
    let site = Site::start().await;
    let key = site.ingest.key().to_owned();
    let (id, secret) = key.split_once('.').unwrap();
    let path = format!("{JOBS}/0b8f3c5e-0000-7000-8000-000000000000/status");
    let with = |value: String| {
        site.admin.anonymous().request(reqwest::Method::GET, &path).header("Authorization", value)
    };
    let revoked = site.client("default", &["ingest"]).await;
    let revoked_id = revoked.key().split_once('.').unwrap().0;
    let delete = site.admin.request(reqwest::Method::DELETE, &format!("/api/v1/keys/{revoked_id}"));
    Answer::to(delete).await.ok();
    let answers = refusals([
        ("another secret", with(format!("Bearer {id}.{}", secret.to_uppercase()))),
        ("another id", with(format!("Bearer 0123456789abcdef.{secret}"))),
        ("an id that is none", with(format!("Bearer key#x.{secret}"))),
        ("no dot", with(format!("Bearer {id}{secret}"))),
        ("only the id", with(format!("Bearer {id}."))),
        ("a revoked one", with(format!("Bearer {}", revoked.key()))),
        ("nothing behind Bearer", with("Bearer ".to_owned())),
        ("another scheme", with(format!("Basic {key}"))),
        ("no scheme", with(key.clone())),
        ("not ASCII", with("Bearer ключ.ключ".to_owned())),
    ])
    .await;
    assert!(!answers.to_string().contains(secret));
    snapshot!(answers);
    // The scheme's case does not matter; what is wrong from here on is the job.
    assert_eq!(Answer::to(with(format!("bearer {key}"))).await.status, 404);
}

#[tokio::test]
async fn keys_are_waived_for_programs_on_this_machine_only() {
    let site = Site::with(|config| config.no_auth = true).await;
    let local = site.admin.anonymous();
    let port = site.gateway.address.port();
    let poll =
        || local.posting(&format!("{JOBS}/poll"), &json!({"worker_id": "w", "content_types": ["audio"]}));
    for host in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        assert_eq!(Answer::to(poll().header("Host", host)).await.status, 200);
    }
    assert_eq!(local.get("/api/v1/keys").await.status, 200, "with every scope");
    snapshot!(
        refusals([
            ("through a proxy", poll().header("X-Forwarded-For", "203.0.113.9")),
            ("through a proxy, by its standard", poll().header("Forwarded", "for=203.0.113.9")),
            ("through nginx", poll().header("X-Real-IP", "203.0.113.9")),
            ("from a page", poll().header("Origin", "https://elsewhere.example")),
            ("from a page of unknown origin", poll().header("Origin", "null")),
            ("from a page without CORS", poll().header("Sec-Fetch-Site", "cross-site")),
            ("by a name that resolves to loopback", poll().header("Host", format!("rebound.example:{port}"))),
            ("by a name that looks like loopback", poll().header("Host", "127.0.0.1.example")),
            ("with a wrong key", poll().bearer_auth("0123456789abcdef.wrong")),
        ])
        .await
    );
    let proxied = poll().header("X-Forwarded-For", "203.0.113.9").bearer_auth(site.worker.key());
    assert_eq!(Answer::to(proxied).await.status, 200, "a key opens what an origin does not");
}

#[tokio::test]
async fn keys_are_demanded_off_loopback_even_when_they_are_waived() {
    let site = Site::with(|config| {
        config.no_auth = true;
        config.listen = SocketAddr::from(([0, 0, 0, 0], 0));
        config.public_url = Some("http://box.test:8000".to_owned());
    })
    .await;
    let outside = format!("http://{}:{}", network_address(), site.gateway.address.port());
    let outside = Client::new(&outside);
    let path = format!("{JOBS}/poll?worker_id=w&content_types=audio");
    let claimed_local = outside.request(reqwest::Method::GET, &path).header("Host", "localhost");
    assert_eq!(Answer::to(claimed_local).await.status, 401, "a Host header proves nothing");
    assert_eq!(outside.get("/api/v1/keys").await.status, 401);
    assert_eq!(outside.get("/health").await.status, 200);
    assert_eq!(outside.keyed(site.worker.key()).get(&path).await.status, 200);
    assert_eq!(site.admin.anonymous().get(&path).await.status, 200, "on loopback they are waived");
    snapshot!(outside.get(&path).await.refusal());
}
