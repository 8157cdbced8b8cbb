//! Who may make which call.

use std::{collections::BTreeMap, time::Duration};

use api::{Access, Function, ROUTES, Route, Scope};
use aws_sdk_dynamodb::types::AttributeValue;
use futures::future::join_all;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use system_tests::{Client, JOBS};
use uuid::Uuid;

use crate::{
    tenant::{Tenant, answer},
    until,
};

/// The calls that there are on AWS.
fn routes() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| route.function != Function::Gateway)
}

/// A request to a route that would do something to this job if it were let through.
fn request(client: &Client, route: &Route, job: &str) -> RequestBuilder {
    let path: Vec<&str> = route
        .path
        .split('/')
        .map(|part| match part {
            "{content_type}" => "audio",
            part if part.starts_with('{') => job,
            part => part,
        })
        .collect();
    let body = json!({
        "filename": "f.mp3", "size_bytes": 1, "sha256": "ab".repeat(32),
        "source_file_path": "sources/t/u/f.mp3", "content_type": "audio", "ingestion_task_id": "t",
        "worker_id": "w", "content_types": ["audio"], "percentage": 1, "message": "m", "success": true,
        "content": "x",
    });
    let request = client.request(route.method.clone(), &path.join("/"));
    if route.method == reqwest::Method::GET {
        return request.query(&[("worker_id", "w"), ("content_types", "audio")]);
    }
    request.json(&body)
}

/// The value with every map in the order of its keys.
fn shown(value: &AttributeValue) -> String {
    match value {
        AttributeValue::M(map) => {
            let sorted: BTreeMap<&String, String> =
                map.iter().map(|(name, value)| (name, shown(value))).collect();
            format!("{sorted:?}")
        }
        AttributeValue::L(list) => format!("{:?}", list.iter().map(shown).collect::<Vec<_>>()),
        other => format!("{other:?}"),
    }
}

/// The rows that no other test writes, but for what a sweep notes.
async fn rows(tenant: &Tenant) -> Vec<String> {
    let pages = tenant.deployment.dynamodb().scan().table_name(&tenant.deployment.table);
    let items = pages.consistent_read(true).into_paginator().items().send();
    let items = items.collect::<Result<Vec<_>, _>>().await.unwrap();
    let mut rows: Vec<String> = items
        .iter()
        .filter(|item| {
            let pk = item["pk"].as_s().unwrap();
            pk != "sweep" && !pk.starts_with("depth#")
        })
        .map(|item| shown(&AttributeValue::M(item.clone())))
        .filter(|row| row.contains(&tenant.name) || !row.contains("test-"))
        .collect();
    rows.sort();
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_right_key_every_call_is_refused_and_nothing_changes() {
    let tenant = Tenant::new().await;
    let job = tenant.job(&json!({})).await;
    let (id, secret) = tenant.ingest.key().split_once('.').unwrap();
    let keys = [
        None,
        Some(format!("{id}.{}", secret.chars().rev().collect::<String>())),
        Some(format!("0123456789abcdef.{secret}")),
        Some("no key".to_owned()),
    ];
    let before = (rows(&tenant).await, tenant.deployment.objects_of(&tenant.name).await);
    assert!(before.0.iter().any(|row| row.contains(&job)), "{before:?}");
    for route in routes() {
        let refusals = keys.iter().map(|key| {
            let client = tenant.ingest.anonymous();
            let client = key.as_ref().map_or(client.clone(), |key| client.keyed(key));
            answer(request(&client, route, &job))
        });
        for answer in join_all(refusals).await {
            let name = format!("{} {}", route.method, route.path);
            if route.access == Access::Public {
                assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            } else {
                assert_eq!(answer.problem().0, 401, "{name}: {}", answer.text());
                assert!(!answer.text().contains(secret), "{name} repeats the key");
            }
        }
    }
    assert_eq!((rows(&tenant).await, tenant.deployment.objects_of(&tenant.name).await), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_needs_a_key_with_its_scope() {
    let tenant = Tenant::new().await;
    let job = tenant.job(&json!({})).await;
    for route in routes() {
        let refused: Vec<&Client> = match route.access {
            Access::Public | Access::Tenant => Vec::new(),
            Access::Scope(Scope::Ingest) => vec![&tenant.worker],
            Access::Scope(Scope::Worker) => vec![&tenant.ingest],
            Access::Scope(Scope::Admin) => vec![&tenant.ingest, &tenant.worker],
        };
        for client in refused {
            let answer = answer(request(client, route, &job)).await;
            assert_eq!(answer.problem().0, 403, "{} {}: {}", route.method, route.path, answer.text());
        }
    }
    assert_eq!(tenant.status(&job).await["status"], "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_job_does_not_exist() {
    let (tenant, stranger) = tokio::join!(Tenant::new(), Tenant::new());
    let stranger = stranger.client(&["admin"]).await;
    let job = tenant.job(&json!({})).await;
    let unknown = Uuid::new_v4().to_string();
    for route in routes().filter(|route| route.path.contains("{job_id}")) {
        let (of_other, of_none) = tokio::join!(
            answer(request(&stranger, route, &job)),
            answer(request(&stranger, route, &unknown))
        );
        let name = format!("{} {}", route.method, route.path);
        // A call that names no source of its own is refused for its body first, and the same way for both.
        assert!([404, 422].contains(&of_other.status), "{name}: {}", of_other.text());
        let told = |answer: &system_tests::Answer, id: &str| answer.problem().1.replace(id, "[id]");
        assert_eq!(
            (of_other.status, told(&of_other, &job)),
            (of_none.status, told(&of_none, &unknown)),
            "{name} tells that the job is there"
        );
    }
    let poll = json!({"worker_id": "w", "content_types": ["audio"]});
    let polled = answer(stranger.posting(&format!("{JOBS}/poll"), &poll)).await.ok();
    assert_eq!(polled["job_id"], Value::Null);
    assert_eq!(answer(stranger.request(reqwest::Method::GET, JOBS)).await.ok()["jobs"], json!([]));
    let taken = json!({
        "source_file_path": tenant.upload("talk.mp3", b"sound").await,
        "content_type": "audio", "ingestion_task_id": "t",
    });
    assert_eq!(answer(stranger.posting(JOBS, &taken)).await.problem().0, 422, "another tenant's upload");
    assert_eq!(tenant.status(&job).await["status"], "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_stops_working_within_a_minute() {
    let tenant = Tenant::new().await;
    let key = tenant.client(&["ingest"]).await;
    let list = || answer(key.request(reqwest::Method::GET, JOBS));
    list().await.ok();
    tenant.revoke(&key).await;
    let refused = until("the key is refused", Duration::from_secs(75), async || {
        let listed = list().await;
        (listed.status != 200).then_some(listed)
    })
    .await;
    assert_eq!(refused.problem().0, 401);
}
