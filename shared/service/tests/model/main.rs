//! A model of the jobs beside the real system: random histories of calls by many workers and callers on two servers,
//! with clocks that jump, leases that lapse, servers that die at any write and writes that arrive late. After every step
//! what was answered and what is stored must be what the model says.
//!
//! `MORAG_TEST_HISTORIES` says how many histories are lived through, `MORAG_TEST_SEED` which ones.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what the tests' helpers meet unexpectedly is a failed test"
)]

#[path = "../../../store/tests/backend/mod.rs"]
mod backend;
mod calls;
mod check;
mod coverage;
mod crash;
mod deliver;
mod events;
mod history;
mod job;
mod model;
mod mutants;
mod polls;
mod rows;
mod rules;
mod run;
mod settle;
mod steps;
mod system;
mod wishes;

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    backend::{Backend, other_dynamodb},
    coverage::{Met, demanded},
    history::{Source, length, long_history},
    mutants::Mutant,
    run::{Lived, live},
    steps::Step,
    system::Place,
};

/// How many histories there are where jobs are in the embedded engine, and where they are in a DynamoDB on the network.
const HISTORIES: u64 = 10_000;
const HISTORIES_ON_THE_NETWORK: u64 = 300;
/// One in so many is long enough for every attempt that a job can have.
const LONG_ONE_IN: u64 = 2_500;
/// How many histories a mutant may live through unnoticed.
const HISTORIES_OF_A_MUTANT: u64 = 500;
/// How often a history that failed is lived through again to find a shorter one that fails too.
const SHRINKING: usize = 150;

/// A history that may be lived through again.
#[derive(Clone, Debug)]
struct Plot {
    number: u64,
    steps: Vec<Step>,
    /// The share of the longest backoff that is waited, in hundredths.
    jitter: i64,
}

/// Lives through the history of this number, and says what it was.
async fn live_through(place: &mut Place, seed: u64, number: u64) -> (Plot, Lived) {
    // Histories of neighbouring seeds have nothing in common.
    let mut random = StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let jitter = [0, 25, 50, 75][random.random_range(0..4)];
    let lived = if number.is_multiple_of(LONG_ONE_IN) {
        let steps = long_history(&mut random);
        live(place, Source::Steps(&steps), jitter).await
    } else {
        let length = length(&mut random);
        live(place, Source::Random(&mut random, length), jitter).await
    };
    (Plot { number, steps: lived.steps.clone(), jitter }, lived)
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

fn seed() -> u64 {
    setting("MORAG_TEST_SEED").unwrap_or_else(|| rand::rng().random())
}

#[test]
fn the_system_does_what_the_model_says_whatever_happens() {
    let by_default = if other_dynamodb().is_some() { HISTORIES_ON_THE_NETWORK } else { HISTORIES };
    let histories = setting("MORAG_TEST_HISTORIES").unwrap_or(by_default);
    let seed = seed();
    println!("{histories} histories, MORAG_TEST_SEED={seed}");
    let began = Instant::now();
    let met = all(histories, seed);
    println!("lived through in {:.0?}", began.elapsed());
    for (what, times) in &met {
        println!("{times:>9}  {what}");
    }
    // Fewer histories than that need not meet everything.
    if histories >= HISTORIES {
        let missing: Vec<String> = demanded().into_iter().filter(|what| !met.contains_key(what)).collect();
        assert!(missing.is_empty(), "never met: {missing:?}");
    }
}

/// Lives through all histories, as many at once as there are processors, and panics at the first that fails.
fn all(histories: u64, seed: u64) -> Met {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let met = Mutex::new(Met::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                runtime().block_on(async {
                    let mut place = Place::new(Backend::new(), None).await;
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= histories || failed.load(Ordering::Relaxed) {
                            return;
                        }
                        let (plot, lived) = live_through(&mut place, seed, number).await;
                        if lived.fault.is_some() {
                            failed.store(true, Ordering::Relaxed);
                            fail(&mut place, seed, plot, lived).await;
                        }
                        let mut met = met.lock().unwrap_or_else(PoisonError::into_inner);
                        lived
                            .met
                            .into_iter()
                            .for_each(|(what, times)| *met.entry(what).or_default() += times);
                    }
                });
            });
        }
    });
    met.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Tells of a history that failed, by the shortest one that was found to fail too.
async fn fail(place: &mut Place, seed: u64, mut plot: Plot, mut lived: Lived) -> ! {
    let steps = plot.steps.len();
    for _ in 0..SHRINKING {
        let Some((shorter, fails)) = shorter(place, &plot).await else { break };
        (plot, lived) = (shorter, fails);
    }
    panic!(
        "history {} of MORAG_TEST_SEED={seed} fails; of its {steps} steps {} are enough:\n{}\n\n{}",
        plot.number,
        plot.steps.len(),
        lived.trace,
        lived.fault.unwrap_or_default()
    );
}

/// The history without some of its steps, if it still fails.
async fn shorter(place: &mut Place, plot: &Plot) -> Option<(Plot, Lived)> {
    for length in [8, 4, 2, 1] {
        for from in (0..plot.steps.len().saturating_sub(length - 1)).rev() {
            let mut shorter = plot.clone();
            shorter.steps.drain(from..from + length);
            // The history that failed may have left something else behind than rows.
            place.upload_sources().await;
            let lived = live(place, Source::Steps(&shorter.steps), plot.jitter).await;
            if lived.fault.is_some() {
                return Some((shorter, lived));
            }
        }
    }
    None
}

#[test]
fn a_broken_way_to_the_table_is_noticed() {
    let seed = seed();
    println!("MORAG_TEST_SEED={seed}");
    runtime().block_on(async {
        for mutant in Mutant::ALL {
            let mut place = Place::new(Backend::embedded(), Some(mutant)).await;
            let mut noticed = None;
            for number in 0..HISTORIES_OF_A_MUTANT {
                if let Some(fault) = live_through(&mut place, seed, number).await.1.fault {
                    noticed = Some((number + 1, fault));
                    break;
                }
            }
            let (histories, fault) = noticed.unwrap_or_else(|| panic!("{mutant:?} was not noticed"));
            println!("{mutant:?} was noticed in history {histories}: {}", fault.trim_end());
        }
    });
}
