//! Hundreds of jobs while everything fails: requests lost and repeated, converters killed, stopped past their leases,
//! out of disk and out of time, the gateway killed. In the end every job is accounted for exactly once.
//!
//! `MORAG_TEST_SEED` repeats the dice of an earlier run, though not the moments at which the system's own tasks run.
//! How it is known that a fault has bitten, and not only happened, is said beside each. Linux only: it looks into
//! `/proc`, and replaces a clock.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a test meets unexpectedly is a failed test"
)]

mod chaos;
mod clock;
mod disk;
mod faults;
mod jobs;
mod orphans;
mod verdict;
mod watch;

use std::{sync::Arc, time::Duration};

use chaos::Chaos;
use system_tests::binary;
use tokio::{task::JoinSet, time::Instant};

/// How many callers create jobs at the same time.
const FEEDERS: usize = 4;
/// How long the last jobs may take, some of which wait out backoffs.
const LAST: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_job_is_accounted_for_exactly_once() {
    let seed = std::env::var("MORAG_TEST_SEED").map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    println!("MORAG_TEST_SEED={seed}");
    // Building them, or waiting for somebody else's build, is no part of the time that the test takes.
    for program in ["gateway", "remote-converter"] {
        tokio::task::block_in_place(|| binary(program));
    }
    let begun = Instant::now();
    let chaos = Chaos::start(seed).await;
    let mut watching = JoinSet::new();
    watching.spawn({
        let chaos = Arc::clone(&chaos);
        async move { watch::run(&chaos).await }
    });
    tokio::select! {
        () = play(&chaos, begun) => {}
        ended = watching.join_next() => std::panic::resume_unwind(ended.unwrap().unwrap_err().into_panic()),
    }
    watching.shutdown().await;
    all_stopped(&chaos).await;
    verdict::pass(&chaos).await;
    println!("took {:.0?}", begun.elapsed());
}

/// From the first job to the last.
async fn play(chaos: &Arc<Chaos>, begun: Instant) {
    let mut feeding = JoinSet::new();
    for feeder in 0..FEEDERS {
        feeding.spawn(Arc::clone(chaos).feed(feeder));
    }
    let lasting = faults::happen(chaos).await;
    println!("{:.0?}: what was to happen has happened", begun.elapsed());
    chaos.proxy.calm();
    orphans::run_again(chaos).await;
    println!("{:.0?}: the orphans run again", begun.elapsed());
    faults::all_ended(lasting).await;
    chaos.enough();
    faults::all_ended(feeding).await;
    all_completed(chaos).await;
    println!("{:.0?}: every job is completed", begun.elapsed());
}

async fn all_completed(chaos: &Chaos) {
    let jobs = chaos.jobs.lock().unwrap().len();
    let completed = || chaos.watch.of(|job| job.status == "completed").len();
    chaos.until_within(LAST, "every job is completed", || completed() == jobs).await;
}

/// Stops every converter once it has delivered what it had.
async fn all_stopped(chaos: &Chaos) {
    for name in chaos.names() {
        let is_empty = || chaos.converter(name).files_in("spool").is_empty();
        chaos.until(&format!("`{name}` has delivered every result"), is_empty).await;
        chaos.converter(name).signal("TERM");
    }
    for name in chaos.names() {
        let status = tokio::task::block_in_place(|| chaos.converter(name).ended());
        assert!(status.success(), "`{name}` ended with {status}: {}", chaos.converter(name).log());
    }
}
