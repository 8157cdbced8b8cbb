//! What is refused, and how what cannot be done is told.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};

use crate::{emulator::Emulator, functions::Scene};

const CALLED: [&str; 7] = [
    "create-job",
    "poll-jobs",
    "report-progress",
    "submit-result",
    "job-status",
    "download-source",
    "manage-job",
];

#[tokio::test]
async fn without_a_key_no_function_does_anything() {
    let scene = Scene::new().await;
    // It has the form of a key, so that its look-up is all that may be asked.
    let unknown = format!("Bearer 0000000000000000.{}", scene.functions.key().split_once('.').unwrap().1);
    let mut event = scene.event("http-api/without-key");
    for function in CALLED {
        let route = api::ROUTES
            .iter()
            .find(|route| {
                let name = format!("{:?}", route.function);
                name.to_lowercase() == function.replace('-', "") && route.access != api::Access::Public
            })
            .unwrap();
        event["requestContext"]["http"]["method"] = route.method.as_str().into();
        event["rawPath"] = route.path.replace(['{', '}'], "").into();
        let emulator = scene.start(function, 28).await;
        drop(scene.server.take_operations());
        assert_unauthorized(function, &emulator.invoke(&event).await);
        assert!(scene.server.take_operations().is_empty(), "{function}");
        let mut with_unknown = event.clone();
        with_unknown["headers"]["authorization"] = unknown.as_str().into();
        assert_unauthorized(function, &emulator.invoke(&with_unknown).await);
        assert_eq!(scene.server.take_operations(), ["GetItem"], "{function}");
    }
}

fn assert_unauthorized(function: &str, answer: &Value) {
    assert_eq!(answer["statusCode"], 401, "{function}: {answer}");
    assert_eq!(answer["headers"]["www-authenticate"], "Bearer");
    let problem: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert!(problem["type"].as_str().unwrap().ends_with("unauthorized"), "{problem}");
    assert!(problem["request_id"].is_string());
}

#[tokio::test]
async fn a_setting_that_is_missing_or_cannot_be_used_is_named_in_the_log() {
    let scene = Scene::new().await;
    let good = scene.functions.environment(&scene.server.url());
    for function in CALLED.into_iter().chain(["sweep-jobs", "deliver-events"]) {
        let mut bad = good.clone();
        bad.push(("MORAG_QUEUE_SHARDS".to_owned(), "0".to_owned()));
        refuses(function, &bad, r#"MORAG_QUEUE_SHARDS: "0" is not a whole number of 1 to 64"#).await;
    }
    let without = |name: &str| -> Vec<_> { good.iter().filter(|(set, _)| set != name).cloned().collect() };
    for name in ["MORAG_TABLE", "MORAG_BUCKET"] {
        refuses("poll-jobs", &without(name), &format!("{name} is not set")).await;
    }
    let mut loud = good.clone();
    loud.push(("MORAG_LOG_LEVEL".to_owned(), "LOUD".to_owned()));
    refuses("poll-jobs", &loud, r#"MORAG_LOG_LEVEL: "LOUD" is none of DEBUG"#).await;
}

/// A function with this environment ends before its first event, and says why.
async fn refuses(function: &str, environment: &[(String, String)], why: &str) {
    let emulator = Emulator::start(function, environment, 28).await;
    let answer = emulator.hand(&json!({})).await;
    assert_eq!(answer.status, 502, "{function}: {}", answer.text());
    let logged = emulator.stop();
    let lines: Vec<Value> = logged.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said = lines.iter().find(|line| line["message"] == "the function cannot run");
    let said = said.unwrap_or_else(|| panic!("{function} said nothing: {logged}"));
    assert_eq!(said["level"], "ERROR");
    assert!(said["cause"].as_str().unwrap().contains(why), "{function}: {said}");
}

#[tokio::test]
async fn an_event_of_nobodys_is_an_error_with_its_type_and_message() {
    let scene = Scene::new().await;
    let emulator = scene.start("job-status", 28).await;
    let answer = emulator.invoke(&json!({"hello": "world"})).await;
    assert!(answer["errorType"].is_string(), "{answer}");
    assert!(answer["errorMessage"].as_str().unwrap().contains("API Gateway"), "{answer}");
    // It goes on with the next one.
    let answer = emulator.invoke(&scene.event("http-api/unknown-path")).await;
    assert_eq!(answer["statusCode"], 404, "{answer}");
}

#[tokio::test]
async fn a_table_that_does_not_answer_is_told_before_the_functions_time_is_over() {
    let scene = Scene::new().await;
    // It takes connections and never answers.
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let environment = scene.functions.environment(&url);
    let emulator = Emulator::start("poll-jobs", &environment, 3).await;
    let began = Instant::now();
    let answer = emulator.invoke(&scene.event("rest-api/poll-multi-value")).await;
    assert_eq!(answer["statusCode"], 503, "{answer}");
    assert_eq!(answer["multiValueHeaders"]["retry-after"][0], "2", "{answer}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let emulator = Emulator::start("sweep-jobs", &environment, 3).await;
    let answer = emulator.invoke(&json!({})).await;
    let told = answer["errorMessage"].as_str().unwrap();
    assert_eq!(told, "the function's time was over; what was done stays done", "{answer}");
}
