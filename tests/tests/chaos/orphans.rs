//! How long the jobs of converters that died wait until they run again.

use std::time::Duration;

use api::status::{AttemptView, StatusResponse};
use jiff::Timestamp;
use tokio::time::sleep;

use crate::chaos::{Chaos, MORTAL};

/// By then, with the default settings of converter and gateway, somebody else runs them.
const RUNNING_AGAIN: Duration = Duration::from_secs(90);
/// Each converter's number of conversions by default.
const SLOTS: usize = 2;

/// Kills converters that have the default settings, and waits until others run what they ran.
///
/// A job whose lease had lapsed before is left out: its next attempt waits for a backoff by design.
pub(crate) async fn run_again(chaos: &Chaos) {
    let (death, orphans) = make(chaos).await;
    let others = |orphan: &StatusResponse| running_again(orphan, &chaos.watch.job(&orphan.job_id));
    let what = "every orphaned job runs again";
    chaos
        .until_within(RUNNING_AGAIN * 2, what, || orphans.iter().all(|orphan| others(orphan).is_some()))
        .await;
    let waited: Vec<f64> = orphans
        .iter()
        .map(|orphan| {
            let attempt = others(orphan).unwrap();
            let started: Timestamp = attempt.started_at.parse().unwrap();
            started.duration_since(death).as_secs_f64()
        })
        .collect();
    println!("orphaned jobs ran again after {waited:.1?} s");
    for (orphan, waited) in orphans.iter().zip(waited) {
        let report = || chaos.report(&orphan.job_id);
        let in_time = waited <= RUNNING_AGAIN.as_secs_f64();
        assert!(in_time, "seed {}: ran again only after {waited} s: {}", chaos.seed, report());
    }
    for name in MORTAL {
        chaos.converter(name).start_again();
    }
}

/// Kills the converters while they are at work. When, and what they ran.
async fn make(chaos: &Chaos) -> (Timestamp, Vec<StatusResponse>) {
    let mut dice = chaos.dice("orphans");
    loop {
        while MORTAL.iter().any(|name| chaos.converter(name).conversions() < SLOTS) {
            chaos.create_long(&mut dice).await;
            sleep(Duration::from_millis(300)).await;
        }
        let death = Timestamp::now();
        for name in MORTAL {
            chaos.converter(name).kill();
        }
        let mut orphans = Vec::new();
        for name in MORTAL {
            orphans.extend(chaos.watch.held_by(name).await);
        }
        orphans.retain(|job| job.attempts.iter().all(|attempt| attempt.outcome != "lapsed"));
        if !orphans.is_empty() {
            return (death, orphans);
        }
        for name in MORTAL {
            chaos.converter(name).start_again();
        }
    }
}

/// The attempt that followed, of a worker that got the job and did not give it back.
fn running_again(orphan: &StatusResponse, now: &StatusResponse) -> Option<AttemptView> {
    let mut later = now.attempts.iter().skip(orphan.attempts.len());
    later.find(|attempt| ["running", "completed"].contains(&attempt.outcome.as_str())).cloned()
}
