//! Many workers on one queue.

use std::collections::BTreeSet;

use api::poll::PollRequest;

use crate::{
    backend::other_dynamodb,
    support::{Place, caller, polling},
};

const WORKERS: usize = 64;
const JOBS: usize = 1000;

#[tokio::test(flavor = "multi_thread")]
async fn of_64_workers_on_one_queue_each_job_goes_to_one_and_few_claims_are_lost() {
    let place = Place::new().await;
    let mut job = place.job(&place.created().await).await;
    let mut created = BTreeSet::from([job.id.to_string()]);
    while created.len() < JOBS {
        job.id = domain::JobId(uuid::Uuid::now_v7());
        place.store().jobs.create(&job).await.unwrap();
        created.insert(job.id.to_string());
    }
    let before = place.store().meter.units().lost_conditions;

    let mut workers = tokio::task::JoinSet::new();
    for at in 0..WORKERS {
        let service = place.service.clone();
        let request = PollRequest { worker_id: format!("gpu-{at}"), ..polling("document") };
        workers.spawn(async move {
            let mut claimed = Vec::new();
            // A poll may come back with nothing while others have the candidates; the end is when that repeats.
            let mut empty = 0;
            while empty < 3 {
                match service.poll(&caller(), &request, true).await.unwrap().job_id {
                    Some(id) => claimed.push(id),
                    None => empty += 1,
                }
            }
            claimed
        });
    }
    let claimed: Vec<String> = workers.join_all().await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), JOBS, "a job was claimed twice or never");
    assert_eq!(BTreeSet::from_iter(claimed), created);

    let lost = u32::try_from(place.store().meter.units().lost_conditions - before).unwrap();
    let per_claim = f64::from(lost) / f64::from(u32::try_from(JOBS).unwrap());
    println!(
        "{WORKERS} workers claimed {JOBS} jobs and lost {lost} conditions: {per_claim:.2} for each claim"
    );
    if other_dynamodb().is_none() {
        assert!(per_claim <= 0.5, "{per_claim}");
    }
}
