//! No invocation lasts until Lambda ends it.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn},
    orchestrator::HttpRequest,
};
use deliver_events::Wanted;
use domain::Tried;
use lambda_http::{Context, LambdaEvent};
use runtime::{App, Auth, Deadline, JobSettings};
use serde_json::{Value, json};
use service::{Courier, Message, Service, SystemWorld};
use store::{Connection, Endpoint, Store};
use system_tests::{BUCKET, JOBS};
use tokio::time::Instant;

use crate::scene::{Scene, answered, context};

/// A server that takes requests and answers none.
struct Silent;

impl fmt::Debug for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("silent")
    }
}

impl HttpConnector for Silent {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(std::future::pending())
    }
}

/// A receiver that takes messages and answers none.
struct Mute;

#[async_trait]
impl Courier for Mute {
    async fn carry(&self, _: &Message) -> Tried {
        std::future::pending().await
    }
}

/// The use cases over a table that does not answer.
async fn stalled() -> App {
    let http: SharedHttpClient = http_client_fn(|_, _| SharedHttpConnector::new(Silent));
    let silent = Endpoint::At {
        url: "http://127.0.0.1:9".to_owned(),
        credentials: ("any".to_owned(), "any".to_owned()),
        http: Some(http),
    };
    let connection = Connection {
        table: "jobs".to_owned(),
        bucket: BUCKET.to_owned(),
        shards: 1,
        retention: Duration::from_secs(24 * 3600),
        dynamodb: silent.clone(),
        s3: silent,
    };
    let rules = JobSettings::from_env().unwrap().rules(Duration::ZERO).unwrap();
    let store = Store::connect(&connection).await;
    App { service: Service::new(store, rules, std::sync::Arc::new(SystemWorld)), auth: Auth::Keys }
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_answered_before_lambda_ends_it() {
    let scene = Scene::new().await;
    let event = scene.event("http-api/status");
    let app = stalled().await;
    // Not before, because a clock that stands still runs on to the next timeout while the engines work.
    tokio::time::pause();
    for limit in [2, 3, 5] {
        let began = Instant::now();
        let answer = answered(app.clone(), &event, context(Duration::from_secs(limit))).await;
        let given_up = answer.problem(503);
        assert!(given_up.contains("repeat it"), "{given_up}");
        assert_eq!(answer.headers["retry-after"], "2");
        assert!(began.elapsed() < Duration::from_secs(limit), "{:?}", began.elapsed());
    }
    // Where nothing can be believed, the function has its usual time, and the store gives up before that.
    let began = Instant::now();
    answered(app, &event, Context::default()).await.problem(503);
    assert!(began.elapsed() < runtime::CALL);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_over_a_table_that_does_not_answer_ends_in_time() {
    let app = stalled().await;
    for time in [3, 60] {
        let sweep = |app: App, _: Value, deadline: Deadline| {
            sweep_jobs::handle(app, deadline.before(sweep_jobs::TIMEOUT - sweep_jobs::LONGEST_SWEEP))
        };
        let event = LambdaEvent::new(json!({}), context(Duration::from_secs(time)));
        let began = Instant::now();
        assert!(runtime::see_to_event(&app, sweep_jobs::TIMEOUT, &sweep, event).await.is_err());
        assert!(began.elapsed() < Duration::from_secs(time));
    }
}

#[tokio::test]
async fn a_round_with_a_receiver_that_does_not_answer_ends_in_time_and_loses_no_event() {
    let scene = Scene::new().await;
    let path = format!("{JOBS}/{}", scene.created(&json!({"webhook_url": "https://example.com/hook"})).await);
    scene.functions.call("POST", &format!("{path}/cancel"), "", &json!({})).await.ok();
    let app = scene.functions.app().await;
    let round = |app: App, event: Value, deadline: Deadline| async move {
        let until = deadline.before(deliver_events::TIMEOUT - deliver_events::LONGEST_ROUND);
        deliver_events::handle(app, &Mute, Wanted::of(&event), until).await
    };
    let event = LambdaEvent::new(json!({}), Context::default());
    tokio::time::pause();
    let began = Instant::now();
    let cut_off = runtime::see_to_event(&app, deliver_events::TIMEOUT, &round, event).await.unwrap_err();
    assert_eq!(cut_off.to_string(), "the function's time was over; what was done stays done");
    assert!(began.elapsed() < deliver_events::TIMEOUT);
    tokio::time::resume();
    scene.functions.world.advance(domain::DELIVERY_CLAIM);
    let (delivered, ..) = scene.functions.deliver(&crate::rounds::Taking).await;
    assert_eq!(delivered.delivered, 1);
}
