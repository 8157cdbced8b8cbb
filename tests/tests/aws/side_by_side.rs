//! Two stacks in one account and region.

use serde_json::json;
use system_tests::JOBS;

use crate::{
    deployment::Deployment,
    tenant::{Tenant, answer},
};

/// Needs a second stack, which `SECOND_STACK_OUTPUTS` describes. It is said aloud where there is none.
#[tokio::test(flavor = "multi_thread")]
async fn two_stacks_do_not_know_each_others_keys_and_jobs() {
    let second = "SECOND_STACK_OUTPUTS";
    if std::env::var_os(second).is_none() {
        eprintln!("NOT TESTED: two stacks side by side, because {second} describes none");
        return;
    }
    let here = Tenant::new().await;
    let there = Tenant::of(Deployment::described_by(second).await).await;
    assert_ne!(here.deployment.base, there.deployment.base);
    assert_ne!(here.deployment.table, there.deployment.table);
    assert_ne!(here.deployment.bucket, there.deployment.bucket);
    let job = here.job(&json!({})).await;
    let path = format!("{JOBS}/{job}/status");
    let stranger = system_tests::Client::new(&there.deployment.base).keyed(here.ingest.key());
    assert_eq!(stranger.get(&path).await.problem().0, 401, "a key of the first stack");
    // The same tenant, so that only the stack differs.
    let twin = Tenant { name: here.name.clone(), ..Tenant::of(Deployment::described_by(second).await).await };
    let twin = twin.client(&["admin"]).await;
    assert_eq!(answer(twin.request(reqwest::Method::GET, &path)).await.problem().0, 404);
    let poll = json!({"worker_id": "gpu-1", "content_types": ["audio"]});
    assert_eq!(answer(twin.posting(&format!("{JOBS}/poll"), &poll)).await.ok()["job_id"], json!(null));
    assert_eq!(here.claim().await.job_id, job);
}
