//! A request without a key that may make the call reaches no use case, in whichever way the functions are deployed.

use std::time::Duration;

use api::{Access, Function, ROUTES, Route, Scope};
use bytes::Bytes;
use gateway::answer;
use gateway::{Config, Gateway};
use runtime::{App, Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::scene::{Scene, function_of};

/// Keys that nobody may call with, spelled as the header `Authorization` has them.
struct BadKeys {
    /// Those that no call takes.
    invalid: Vec<Vec<u8>>,
    /// A key of each scope.
    scoped: Vec<(Scope, Vec<u8>)>,
}

fn bearer(key: &str) -> Vec<u8> {
    format!("Bearer {key}").into_bytes()
}

/// Whatever `Authorization` may say that is no key, beside what is made of `valid`.
fn malformed(valid: &str) -> Vec<Vec<u8>> {
    let (id, secret) = valid.split_once('.').unwrap();
    let texts = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer    ".to_owned(),
        format!("Basic {valid}"),
        valid.to_owned(),
        format!("Bearer {id}"),
        format!("Bearer {id}."),
        format!("Bearer .{secret}"),
        format!("Bearer {id}.{}", secret.to_uppercase()),
        format!("Bearer {id}.{secret}x"),
        format!("Bearer 0000000000000000.{secret}"),
        format!("Bearer {id}#.{secret}"),
        format!("Bearer {}.{secret}", "a".repeat(5000)),
        format!("Bearer ../{id}.{secret}"),
        format!("Bearer job#{id}.{secret}"),
        format!("Bearer {id}.{secret}, Bearer {id}.{secret}"),
    ];
    texts.into_iter().map(String::into_bytes).chain([b"Bearer \xff\xfe.\xfd".to_vec()]).collect()
}

impl BadKeys {
    async fn new(scene: &Scene) -> Self {
        let mut invalid = malformed(&scene.key);
        let app = scene.app().await;
        let revoked = scene.new_key(&Scope::ALL).await;
        app.service.keys().revoke(revoked.split('.').next().unwrap()).await.unwrap();
        invalid.push(bearer(&revoked));
        invalid.push(bearer(&scene.new_key(&[]).await));
        let mut scoped = Vec::new();
        for scope in Scope::ALL {
            scoped.push((scope, bearer(&scene.new_key(&[scope]).await)));
        }
        Self { invalid, scoped }
    }

    /// What does not let anybody make this call.
    fn of(&self, route: &Route) -> Vec<Option<&Vec<u8>>> {
        // A key without a scope is good for what any key of the tenant may see.
        let of_the_tenant = usize::from(route.access == Access::Tenant);
        let invalid = self.invalid.iter().take(self.invalid.len() - of_the_tenant);
        let wrong = self.scoped.iter().filter(|(scope, _)| match route.access {
            Access::Public | Access::Tenant => false,
            Access::Scope(needed) => *scope != needed && *scope != Scope::Admin,
        });
        std::iter::once(None).chain(invalid.chain(wrong.map(|(_, key)| key)).map(Some)).collect()
    }
}

/// A path of the route, with a parameter that names something.
fn path_of(route: &Route) -> String {
    let id = "0199f0a0-0000-7000-8000-000000000001";
    let event = format!("{id}.1.1");
    let path = route
        .path
        .replace("{event_id}", &event)
        .replace("{content_type}", "document")
        .replace("{worker_id}", "w");
    path.replace("{job_id}", id).replace("{upload_id}", id).replace("{key_id}", "0000000000000000")
}

fn request(route: &Route, authorization: Option<&Vec<u8>>) -> Request {
    let builder = http::Request::builder().method(&route.method).uri(path_of(route));
    let builder = builder.header("content-type", "application/json").header("lease-token", "any");
    let builder = match authorization {
        Some(value) => builder.header("authorization", value.as_slice()),
        None => builder,
    };
    builder.body(Bytes::from_static(b"{}")).unwrap()
}

fn guarded() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| route.access != Access::Public)
}

async fn assert_refused(scene: &Scene, app: &App, route: &Route, authorization: Option<&Vec<u8>>) {
    scene.line.begin(None);
    let status = answer(app.clone(), route.function, request(route, authorization)).await.status();
    let calls = scene.line.calls();
    let told = format!("{} {} by {:?}", route.method, route.path, authorization.map(|value| show(value)));
    assert!(matches!(status.as_u16(), 401 | 403), "{told}: {status}");
    let looks_up = |call: &crate::line::Call| {
        call.operation == "GetItem" && call.row.as_ref().is_some_and(|row| row.starts_with("key#"))
    };
    assert!(calls.len() <= 1 && calls.iter().all(looks_up), "{told}: {calls:?}");
}

fn show(value: &[u8]) -> String {
    String::from_utf8_lossy(value).chars().take(40).collect()
}

#[tokio::test(start_paused = true)]
async fn no_function_looks_at_more_than_the_key_of_a_call_that_may_not_be_made() {
    let scene = Scene::new().await;
    let bad = BadKeys::new(&scene).await;
    for route in guarded() {
        // A function that remembers the good keys as well as one that has just been started.
        let warm = scene.app().await;
        for key in bad.scoped.iter().map(|(_, key)| key).chain([&bearer(&scene.key)]) {
            answer(warm.clone(), route.function, request(route, Some(key))).await;
        }
        for authorization in bad.of(route) {
            assert_refused(&scene, &warm, route, authorization).await;
            assert_refused(&scene, &scene.app().await, route, authorization).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_be_made_goes_further() {
    let scene = Scene::new().await;
    let mut further = 0;
    for route in guarded() {
        scene.line.begin(None);
        let status = answer(scene.app().await, route.function, request(route, Some(&bearer(&scene.key))))
            .await
            .status();
        assert!(!matches!(status.as_u16(), 401 | 403), "{}: {status}", route.path);
        further += usize::from(scene.line.calls().len() > 1);
    }
    // The others refuse the empty body before they ask the store.
    assert!(further * 2 > guarded().count(), "{further}");
}

#[tokio::test(start_paused = true)]
async fn no_function_answers_the_calls_of_another() {
    let scene = Scene::new().await;
    let functions: Vec<Function> = ROUTES.iter().map(|route| route.function).collect();
    for route in &ROUTES {
        for function in functions.iter().filter(|function| **function != route.function) {
            scene.line.begin(None);
            let request = request(route, Some(&bearer(&scene.key)));
            let status = answer(scene.app().await, *function, request).await.status();
            assert_eq!(
                (status.as_u16(), scene.line.calls().len()),
                (404, 0),
                "{} at {function:?}",
                route.path
            );
        }
    }
}

/// What a server says to a request as it is written here: its status.
async fn status_of(gateway: &Gateway, route: &Route, authorization: Option<&Vec<u8>>) -> u16 {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n",
        route.method,
        path_of(route),
        gateway.address
    );
    let mut bytes = head.into_bytes();
    if let Some(value) = authorization {
        bytes.extend_from_slice(&[b"Authorization: ", value.as_slice(), b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"\r\n{}");
    stream.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn nor_does_the_gateway() {
    // Nothing else is to write meanwhile.
    let config = Config { sweep_every: Duration::from_secs(3600), ..Config::in_memory().unwrap() };
    let gateway = Gateway::start(config).await.unwrap();
    while gateway.service.store().sweeps.last().await.unwrap().seen_at.is_none() {
        tokio::task::yield_now().await;
    }
    let admin = gateway.admin_key.clone().unwrap();
    let keys = gateway.service.keys();
    let mut worker_or_ingest = Vec::new();
    for scope in [Scope::Ingest, Scope::Worker] {
        let made = keys.make("test", "default".parse().unwrap(), &[scope]).await.unwrap();
        worker_or_ingest.push((scope, bearer(&made.text)));
    }
    let bad = BadKeys { invalid: malformed(&admin), scoped: worker_or_ingest };
    for route in guarded() {
        for authorization in bad.of(route) {
            let before = gateway.service.store().meter.units();
            let status = status_of(&gateway, route, authorization).await;
            let units = gateway.service.store().meter.units();
            let told =
                format!("{} {} by {:?}", route.method, route.path, authorization.map(|value| show(value)));
            assert!(matches!(status, 401 | 403), "{told}: {status}");
            // Rounds of deliveries read besides, but nothing writes.
            assert!(units.write <= before.write, "{told}");
        }
    }
    gateway.stop().await;
}

#[test]
fn every_call_is_of_the_function_that_the_routes_say() {
    for route in &ROUTES {
        assert_eq!(function_of(route.method.as_str(), &path_of(route)), route.function, "{}", route.path);
    }
}
