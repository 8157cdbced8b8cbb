//! Polls at 100 and at 100,000 pending jobs, and 64 workers on one queue.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use domain::ContentType;
use futures::{StreamExt, stream};
use service::{Caller, Service};
use system_tests::percentile;

use crate::{
    report::Report,
    scene::{pending, poll_request, service_in_memory},
};

const FEW: usize = 100;
const MANY: usize = 100_000;
const SAMPLES: usize = 1000;

pub(crate) async fn measure(report: &mut Report) {
    let (service, caller) = service_in_memory().await;
    fill(&service, FEW).await;
    let (mut few, mut many) = (Vec::new(), Vec::new());
    sample(&service, &caller, &mut few).await;
    fill(&service, MANY - FEW).await;
    sample(&service, &caller, &mut many).await;
    let ratio = percentile(&mut many, 99).as_secs_f64() / percentile(&mut few, 99).as_secs_f64();
    report.budget(
        "poll p99 with 100,000 pending against 100 pending",
        format!("{ratio:.2} x ({:.1?} against {:.1?})", percentile(&mut many, 99), percentile(&mut few, 99)),
        "<= 1.5 x",
        ratio <= 1.5,
    );
    crowd(report).await;
}

async fn fill(service: &Service, count: usize) {
    stream::iter(0..count)
        .for_each_concurrent(64, |number| async move {
            service.store().jobs.create(&pending(service.now(), number as u128)).await.unwrap();
        })
        .await;
}

/// Polls that each claim a job, which is replaced by a new one so that as many wait as before.
async fn sample(service: &Service, caller: &Caller, times: &mut Vec<Duration>) {
    for number in 0..SAMPLES {
        let started = Instant::now();
        let answer = service.poll(caller, &poll_request("w", ContentType::Audio), true).await.unwrap();
        times.push(started.elapsed());
        assert!(answer.job_id.is_some());
        service.store().jobs.create(&pending(service.now(), number as u128)).await.unwrap();
    }
}

async fn crowd(report: &mut Report) {
    const WORKERS: usize = 64;
    const JOBS: usize = 1000;
    let (service, caller) = service_in_memory().await;
    fill(&service, JOBS).await;
    let claimed = AtomicU64::new(0);
    let before = service.store().meter.units().lost_conditions;
    let workers = (0..WORKERS).map(|worker| {
        let (service, caller, claimed) = (service.clone(), caller.clone(), &claimed);
        async move {
            let request = poll_request(&format!("w{worker}"), ContentType::Audio);
            while service.poll(&caller, &request, true).await.unwrap().job_id.is_some() {
                claimed.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    stream::iter(workers).for_each_concurrent(WORKERS, |worker| worker).await;
    let lost = service.store().meter.units().lost_conditions - before;
    let claimed = claimed.into_inner();
    assert_eq!(claimed, JOBS as u64, "each job is claimed exactly once");
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let per_claim = lost as f64 / claimed as f64;
    report.budget(
        "claims lost per claim, 64 workers on one queue",
        format!("{per_claim:.3}"),
        "<= 0.5",
        per_claim <= 0.5,
    );
}
