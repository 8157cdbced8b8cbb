//! What begins rounds of deliveries and sweeps.

use async_trait::async_trait;
use deliver_events::Wanted;
use domain::Tried;
use lambda_http::{Context, LambdaEvent};
use runtime::{App, Deadline};
use serde_json::{Value, json};
use service::{Courier, Delivered, Message};
use system_tests::JOBS;

use crate::scene::Scene;

/// A receiver that takes everything.
pub(crate) struct Taking;

#[async_trait]
impl Courier for Taking {
    async fn carry(&self, _: &Message) -> Tried {
        Tried::Taken
    }
}

async fn round(scene: &Scene, name: &str) -> Delivered {
    let handle = |app: App, event: Value, deadline: Deadline| async move {
        deliver_events::handle(app, &Taking, Wanted::of(&event), deadline.answer()).await
    };
    let event = LambdaEvent::new(scene.event(name), Context::default());
    let app = scene.functions.app().await;
    runtime::see_to_event(&app, deliver_events::TIMEOUT, &handle, event).await.unwrap()
}

/// Ends a job whose webhook is to be told, and puts the event's id among the values.
async fn ended(scene: &mut Scene) {
    scene.functions.recorder.take();
    let id = scene.created(&json!({"webhook_url": "https://example.com/hook"})).await;
    let call = scene.functions.call("POST", &format!("{JOBS}/{id}/cancel"), "", &json!({})).await;
    let written = call.seen.iter().find(|seen| seen.operation == "TransactWriteItems").unwrap().json();
    let pk = written["TransactItems"][1]["Put"]["Item"]["pk"]["S"].as_str().unwrap().to_owned();
    scene.values.insert("EVENT_ID", pk.strip_prefix("event#").unwrap().to_owned());
    call.ok();
}

#[tokio::test]
async fn what_the_stream_tells_of_is_delivered_without_a_look_at_the_index() {
    let mut scene = Scene::new().await;
    ended(&mut scene).await;
    let taken = Delivered { delivered: 1, complete: true, ..Delivered::default() };
    assert_eq!(round(&scene, "events/stream").await, taken, "what is no event, or not there, is passed over");
    let seen = scene.functions.recorder.take();
    assert!(seen.iter().all(|seen| seen.operation != "Query"), "the index may not have it yet");
    let none = Delivered { complete: true, ..Delivered::default() };
    assert_eq!(round(&scene, "events/stream").await, none, "a batch may come twice");
}

#[tokio::test]
async fn a_schedule_begins_a_round_of_all_that_is_due_and_a_sweep() {
    for name in ["events/schedule", "events/schedule-rule"] {
        let mut scene = Scene::new().await;
        ended(&mut scene).await;
        assert_eq!(round(&scene, name).await.delivered, 1, "{name}");
        let sweep = |app: App, _: Value, deadline: Deadline| sweep_jobs::handle(app, deadline.answer());
        let event = LambdaEvent::new(scene.event(name), Context::default());
        let app = scene.functions.app().await;
        let swept = runtime::see_to_event(&app, sweep_jobs::TIMEOUT, &sweep, event).await.unwrap();
        assert_eq!((swept.live, swept.complete), (1, true));
    }
}
