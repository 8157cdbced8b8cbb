//! Many conversions at once whose ends race each other, by dice: the worker's, the deadline's, somebody else's, the local
//! one's, with lines that are cut or lose requests, and runs that crash and begin again.

use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use ingestion::{ConversionTask, Ingestion, Method, Outcome, Takeover};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use system_tests::{Client, FaultyProxy, JOBS};
use tokio::time::sleep;

use crate::scene::{Local, Scene, content_of};

const ROUNDS: u64 = 96;
const AT_ONCE: usize = 12;
const WORKERS: u64 = 4;

/// What else happens in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misfortune {
    Nothing,
    /// The line is cut for a while.
    Away,
    /// Requests and answers are lost and repeated.
    Faults,
    /// Somebody cancels the job.
    Meddler,
    /// The run ends half-way and is begun again.
    Crashes,
}

const MISFORTUNES: [Misfortune; 5] =
    [Misfortune::Nothing, Misfortune::Away, Misfortune::Faults, Misfortune::Meddler, Misfortune::Crashes];

struct Round {
    task_id: String,
    misfortune: Misfortune,
    outcome: Outcome,
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_result_continues_and_the_jobs_end_agrees() {
    let scene = Scene::start().await;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let shift = Shift { is_over: AtomicBool::new(false), accepted: Mutex::default() };
    let workers = stream::iter(0..WORKERS).for_each_concurrent(None, |number| {
        let dice = StdRng::seed_from_u64(seed.wrapping_sub(number + 1));
        shift.work(scene.site.worker.clone(), number, dice)
    });
    let rounds = async {
        let played = stream::iter(0..ROUNDS).map(|number| round(&scene, seed.wrapping_add(number)));
        let rounds: Vec<Round> = played.buffer_unordered(AT_ONCE).collect().await;
        shift.is_over.store(true, Ordering::SeqCst);
        rounds
    };
    let (rounds, ()) = tokio::join!(rounds, workers);
    let accepted = shift.accepted.into_inner().unwrap();
    let remote = rounds.iter().filter(|round| round.outcome.method == Method::Remote).count();
    println!("{remote} of {ROUNDS} remote, {} results accepted", accepted.len());
    for round in &rounds {
        judge(&scene, round, &accepted).await;
    }
}

/// The hours of all workers.
struct Shift {
    is_over: AtomicBool,
    /// The jobs whose results were accepted.
    accepted: Mutex<HashSet<String>>,
}

impl Shift {
    async fn work(&self, api: Client, number: u64, mut dice: StdRng) {
        let poll =
            json!({"worker_id": format!("gpu-{number}"), "content_types": ["audio"], "wait_seconds": 1});
        while !self.is_over.load(Ordering::SeqCst) {
            let granted = api.post(&format!("{JOBS}/poll"), &poll).await.ok();
            let Some(job_id) = granted["job_id"].as_str() else { continue };
            sleep(millis(&mut dice, 300)).await;
            let result = match dice.random_range(0..10) {
                // Never heard of again.
                0 => continue,
                1 => json!({"success": false, "error_message": "no speech in it", "retryable": false}),
                _ => json!({"success": true, "content": content_of(job_id)}),
            };
            let token = granted["lease_token"].as_str().unwrap();
            let path = format!("{JOBS}/{job_id}/result");
            let submitted = api.leased(reqwest::Method::PUT, &path, token, &result).await;
            if submitted.status == 200 && submitted.json()["status"] == "completed" {
                assert!(self.accepted.lock().unwrap().insert(job_id.to_owned()), "{job_id} twice");
            }
        }
    }
}

fn millis(dice: &mut StdRng, most: u64) -> Duration {
    Duration::from_millis(dice.random_range(0..most))
}

async fn round(scene: &Scene, seed: u64) -> Round {
    let mut dice = StdRng::seed_from_u64(seed);
    let misfortune = MISFORTUNES[dice.random_range(0..MISFORTUNES.len())];
    let share = if misfortune == Misfortune::Faults { 0.15 } else { 0.0 };
    let line = scene.line(seed, share).await;
    let ingestion = scene.ingestion(&line, millis(&mut dice, 300));
    let task = scene.task(&format!("task-{seed}"), millis(&mut dice, 2000));
    let local = Local::taking(millis(&mut dice, 400));
    let mut others = StdRng::seed_from_u64(dice.random());
    let (outcome, ()) = tokio::join!(
        run(&ingestion, &task, &local, misfortune, &mut dice),
        meddle(scene, &line, &task, misfortune, &mut others),
    );
    assert_eq!(local.running.load(Ordering::SeqCst), 0, "{}", task.task_id);
    Round { task_id: task.task_id, misfortune, outcome }
}

async fn run(
    ingestion: &Ingestion,
    task: &ConversionTask,
    local: &Local,
    misfortune: Misfortune,
    dice: &mut StdRng,
) -> Outcome {
    let crashes = if misfortune == Misfortune::Crashes { dice.random_range(1..4) } else { 0 };
    for _ in 0..crashes {
        tokio::select! {
            outcome = ingestion.convert(task, local, &()) => return outcome.unwrap(),
            () = sleep(millis(dice, 500)) => {}
        }
    }
    ingestion.convert(task, local, &()).await.unwrap()
}

async fn meddle(
    scene: &Scene,
    line: &FaultyProxy,
    task: &ConversionTask,
    misfortune: Misfortune,
    dice: &mut StdRng,
) {
    sleep(millis(dice, 700)).await;
    match misfortune {
        Misfortune::Nothing | Misfortune::Faults | Misfortune::Crashes => {}
        Misfortune::Away => {
            line.close();
            sleep(millis(dice, 1000)).await;
            line.open();
        }
        Misfortune::Meddler => {
            for job in scene.jobs(&task.task_id).await {
                let path = format!("{JOBS}/{}/cancel", job["job_id"].as_str().unwrap());
                // It may have ended by then.
                scene.site.ingest.post(&path, &json!({})).await;
            }
        }
    }
}

/// Compares what a task continued with and what has become of its job.
async fn judge(scene: &Scene, round: &Round, accepted: &HashSet<String>) {
    let Round { task_id, misfortune, outcome } = round;
    let jobs = scene.jobs(task_id).await;
    let said = format!("{task_id}, {misfortune:?}: {outcome:?}, {jobs:?}");
    assert!(jobs.len() <= 1, "{said}");
    let job_id = jobs.first().map(|job| job["job_id"].as_str().unwrap());
    let is_completed = job_id.is_some_and(|job_id| accepted.contains(job_id));
    assert_eq!(jobs.first().is_some_and(|job| job["status"] == "completed"), is_completed, "{said}");
    match (outcome.method, outcome.takeover) {
        (Method::Remote, None) => {
            let job_id = job_id.unwrap();
            assert!(is_completed && outcome.converted.content == content_of(job_id), "{said}");
        }
        (Method::Local, Some(Takeover::Confirmed)) => {
            assert!(!is_completed && outcome.remote_job_id.as_deref() == job_id, "{said}");
            assert!(scene.is_taken_over(job_id.unwrap()).await, "{said}");
        }
        // A run that crashed may have left a creation on its way that the next one cannot see.
        (Method::Local, Some(Takeover::NoJob)) => {
            assert!(jobs.is_empty() || *misfortune == Misfortune::Crashes, "{said}");
        }
        (Method::Local, Some(Takeover::Unconfirmed)) => {
            assert!(matches!(misfortune, Misfortune::Away | Misfortune::Faults), "{said}");
        }
        (Method::Local, Some(Takeover::CompletedUnusable) | None) | (Method::Remote, Some(_)) => {
            panic!("{said}")
        }
    }
    if outcome.method == Method::Local {
        assert_eq!(outcome.converted.content, format!("# Local {task_id}"));
    }
}
