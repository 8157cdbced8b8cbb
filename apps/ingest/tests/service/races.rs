//! Whatever races with whatever, a task ends once, goes on with one conversion, and its document is stored once.
//!
//! The conversion follows the rules of the ingestion client over a control plane in memory: a task has one remote job,
//! local work begins once that job is taken over, and a job that was completed first is used instead. While the control
//! plane is away it goes on locally without asking, so that both a remote and a local conversion may come to an end: then
//! only the service's own transaction decides.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, UNIX_EPOCH},
};

use domain::Tried;
use ingest::{
    clock::Clock,
    deliveries::message_id,
    seams::{Heard, Made, ShelfError, Work},
    store::{Cancelled, Note, Seen},
    task::{Phase, Spec, Stage},
};
use proptest::prelude::*;
use uuid::Uuid;

use crate::bench::{Bench, World, made, spec};

/// What happens from outside.
#[derive(Clone, Debug)]
enum Act {
    /// A file is posted for one of a few documents.
    Accept { document: u8, remote: bool, replace: bool, timeout: u64 },
    /// A worker completes the job of a task.
    Complete(usize),
    /// A worker fails the job of a task.
    Fail(usize),
    /// The control plane tells of a task's job, perhaps not for the first time.
    Tell { task: usize, message: u8 },
    /// Somebody cancels a task.
    Cancel(usize),
    /// The service is killed and started again.
    Crash,
    /// The service is stopped and started again.
    Restart,
    /// The control plane goes away or comes back.
    Away(bool),
    /// The library or the webhooks' receivers fail for a while.
    Failing(bool),
    /// Time passes, in milliseconds.
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let task = 0_usize..6;
    prop_oneof![
        4 => (0_u8..3, prop::bool::weighted(0.7), any::<bool>(), 1_u64..40)
            .prop_map(|(document, remote, replace, timeout)| Act::Accept { document, remote, replace, timeout }),
        4 => task.clone().prop_map(Act::Complete),
        1 => task.clone().prop_map(Act::Fail),
        3 => (task.clone(), 0_u8..4).prop_map(|(task, message)| Act::Tell { task, message }),
        2 => task.prop_map(Act::Cancel),
        2 => Just(Act::Crash),
        1 => Just(Act::Restart),
        1 => any::<bool>().prop_map(Act::Away),
        1 => any::<bool>().prop_map(Act::Failing),
        6 => prop_oneof![0_u64..5, 5_u64..50, 1000_u64..30_000].prop_map(Act::Wait),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Pending,
    Completed,
    Failed,
    Cancelled,
}

/// The control plane, and what fails at present.
#[derive(Debug, Default)]
struct Far {
    jobs: HashMap<Uuid, Job>,
    away: bool,
    failing: bool,
}

impl Far {
    fn end(&mut self, task: Uuid, end: Job) {
        if let Some(job) = self.jobs.get_mut(&task).filter(|job| **job == Job::Pending) {
            *job = end;
        }
    }
}

/// A conversion by the rules of the ingestion client.
async fn convert(far: Arc<Mutex<Far>>, clock: Arc<dyn Clock>, work: Work) -> Result<Made, String> {
    let id = work.task.id;
    if work.task.spec.remote {
        if far.lock().unwrap().away {
            return local(&work).await;
        }
        far.lock().unwrap().jobs.entry(id).or_insert(Job::Pending);
        let created = Note::of("remote_job_created", "").at(Stage::WaitingForRemoteCompletion);
        work.notes.note(Note { remote_job_id: Some(id.to_string()), ..created });
        loop {
            let (job, away) = {
                let far = far.lock().unwrap();
                (far.jobs[&id], far.away)
            };
            let over = UNIX_EPOCH + Duration::from_millis(clock.now().0.try_into().unwrap()) >= work.deadline;
            match job {
                Job::Completed if !away => return Ok(made("remote words", "remote")),
                Job::Failed | Job::Cancelled if !away => break,
                _ if over => break,
                _ => {}
            }
            tokio::select! {
                () = work.wake.notified() => {}
                () = work.cancel.cancelled() => {
                    far.lock().unwrap().end(id, Job::Cancelled);
                    return Err("Cancelled.".to_owned());
                }
                () = tokio::time::sleep(Duration::from_secs(10)) => {}
            }
        }
        let mut far = far.lock().unwrap();
        if !far.away {
            far.end(id, Job::Cancelled);
            if far.jobs[&id] == Job::Completed {
                return Ok(made("remote words", "remote"));
            }
        }
        drop(far);
        work.notes.note(Note::of("falling_back", "").at(Stage::LocalProcessing));
    }
    local(&work).await
}

async fn local(work: &Work) -> Result<Made, String> {
    for percentage in [0, 50, 100] {
        work.notes.say(Heard::Local { percentage, message: "Converting".to_owned() });
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    // A source must be there as long as anybody converts it.
    std::fs::metadata(&work.source).map_err(|error| error.to_string())?;
    Ok(made("local words", "local"))
}

fn world(far: &Arc<Mutex<Far>>) -> World {
    let world = World::new();
    let (of_conversion, clock) = (Arc::clone(far), Arc::clone(&world.clock) as Arc<dyn Clock>);
    let (of_shelf, of_courier) = (Arc::clone(far), Arc::clone(far));
    world
        .converting(move |work| convert(Arc::clone(&of_conversion), Arc::clone(&clock), work))
        .storing(move |_| {
            let failing = of_shelf.lock().unwrap().failing;
            async move {
                tokio::time::sleep(Duration::from_millis(3)).await;
                let message = "The library is away.".to_owned();
                if failing { Err(ShelfError { message, retryable: true }) } else { Ok(()) }
            }
        })
        .carrying(move |_| {
            let failing = of_courier.lock().unwrap().failing;
            async move {
                tokio::time::sleep(Duration::from_millis(3)).await;
                if failing { Tried::Failed("no".to_owned()) } else { Tried::Taken }
            }
        })
}

async fn accept(bench: &Bench, document: u8, remote: bool, replace: bool, timeout: u64) -> Uuid {
    let webhook_url = Some("https://hooks.example/x".parse().unwrap());
    let spec = Spec {
        remote,
        replace_existing: replace,
        remote_timeout: Some(timeout),
        webhook_url,
        ..spec(&format!("document {document}"))
    };
    bench.accept(spec, "words").await
}

async fn run(acts: Vec<Act>) {
    let far = Arc::new(Mutex::new(Far::default()));
    let mut bench = Bench::new(world(&far)).await;
    let (mut ids, mut cancelled): (Vec<Uuid>, HashSet<Uuid>) = (Vec::new(), HashSet::new());
    for act in acts {
        let one = |n: usize| ids.get(n % ids.len().max(1)).copied();
        match act {
            Act::Accept { document, remote, replace, timeout } => {
                if ids.len() < 6 {
                    ids.push(accept(&bench, document, remote, replace, timeout).await);
                }
            }
            Act::Complete(n) => {
                let _ = one(n).map(|id| far.lock().unwrap().end(id, Job::Completed));
            }
            Act::Fail(n) => {
                let _ = one(n).map(|id| far.lock().unwrap().end(id, Job::Failed));
            }
            Act::Tell { task, message } => {
                let Some(id) = one(task) else { continue };
                let seen =
                    bench.pipeline.store().hook(format!("m{message}"), 5, bench.world.clock.now()).await;
                // Waking is harmless also where a replay would have been refused.
                let _ = seen.unwrap();
                bench.pipeline.wake(&id.to_string(), "").await.unwrap();
            }
            Act::Cancel(n) => {
                let Some(id) = one(n) else { continue };
                if bench.pipeline.cancel(id).await.unwrap() == Cancelled::Done {
                    assert!(cancelled.insert(id), "cancelled twice");
                }
            }
            Act::Crash => bench = bench.crash().await,
            Act::Restart => bench = bench.restart().await,
            Act::Away(away) => far.lock().unwrap().away = away,
            Act::Failing(failing) => far.lock().unwrap().failing = failing,
            Act::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
    }
    {
        let mut far = far.lock().unwrap();
        (far.away, far.failing) = (false, false);
    }
    bench = bench.crash().await;
    for id in &ids {
        let ended = tokio::time::timeout(Duration::from_secs(7 * 86_400), bench.ended(*id));
        ended.await.unwrap_or_else(|_| panic!("a task does not end"));
    }
    check(&bench, &ids, &cancelled).await;
}

async fn check(bench: &Bench, ids: &[Uuid], cancelled: &HashSet<Uuid>) {
    let mut told: BTreeMap<String, HashSet<Vec<u8>>> = BTreeMap::new();
    for message in bench.world.told.lock().unwrap().iter() {
        told.entry(message.id.clone()).or_default().insert(message.body.clone());
    }
    let mut stored: HashMap<String, Vec<(String, String)>> = HashMap::new();
    for ((_, task, _), (text, said)) in bench.world.chunks.lock().unwrap().iter() {
        let method = said["processing_method"].as_str().unwrap().to_owned();
        stored.entry(task.clone()).or_default().push((text.clone(), method));
    }
    let mut last_of: HashMap<String, (Uuid, bool)> = HashMap::new();
    for id in ids {
        let (task, events) = (bench.task(*id).await, bench.events(*id).await);
        let count = |event: &str| events.iter().filter(|found| *found == event).count();
        let succeeded = task.phase == Phase::Succeeded;
        assert_eq!(count("continued"), usize::from(succeeded), "continuations: {events:?}");
        assert_eq!(count("completed") + count("failed") + count("cancelled"), 1, "ends: {events:?}");
        assert_eq!(succeeded, !cancelled.contains(id), "only who was cancelled fails: {events:?}");
        assert_eq!(count("webhook_told"), 1, "{events:?}");
        assert_eq!(
            told.remove(&message_id(*id)).map(|bodies| bodies.len()),
            Some(1),
            "one message, one body"
        );
        match stored.get(&id.to_string()) {
            // A later task may have replaced it.
            Some(chunks) if succeeded => {
                let method = task.processing_method.unwrap();
                assert_eq!(
                    chunks[..],
                    [(format!("{method} words"), method)],
                    "what was taken is what is stored"
                );
            }
            Some(chunks) => panic!("stored of a task that was not taken: {chunks:?}"),
            None => {}
        }
        if succeeded {
            last_of.insert(task.spec.document_id.clone(), (*id, task.spec.replace_existing));
        }
    }
    for (document, (id, replaced)) in last_of {
        let chunks = bench.world.chunks.lock().unwrap();
        let tasks: HashSet<&str> =
            chunks.keys().filter(|(of, ..)| *of == document).map(|(_, task, _)| task.as_str()).collect();
        assert!(tasks.contains(id.to_string().as_str()), "the last one is there");
        assert!(!replaced || tasks.len() == 1, "and alone if it replaced the others: {tasks:?}");
    }
    assert_eq!(told.len(), 0, "somebody was told of no task");
    assert_eq!(bench.files(), 0, "a source is left");
    assert!(bench.pipeline.store().unended().await.unwrap().is_empty());
}

/// A runtime whose time passes when there is nothing to do.
fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn each_task_ends_once_and_goes_on_with_one_conversion(acts in prop::collection::vec(act(), 5..40)) {
        paused().block_on(run(acts));
    }
}

#[test]
fn a_remote_end_a_cancel_and_a_local_end_race_at_every_moment() {
    // The remote job ends as the deadline passes and the local conversion begins; the cancel and the crash come at
    // every moment around that.
    for moment in (9_980..11_300).step_by(60) {
        for disturbance in [Act::Cancel(0), Act::Crash, Act::Away(true), Act::Tell { task: 0, message: 1 }] {
            paused().block_on(run(vec![
                Act::Accept { document: 0, remote: true, replace: true, timeout: 10 },
                Act::Wait(moment),
                disturbance,
                Act::Complete(0),
                Act::Wait(1),
                Act::Cancel(0),
            ]));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_webhook_is_remembered_over_a_crash() {
    let bench = Bench::new(World::new()).await;
    let now = bench.world.clock.now();
    assert_eq!(bench.pipeline.store().hook("m".to_owned(), 5, now).await.unwrap(), Seen::First);
    let bench = bench.crash().await;
    assert_eq!(bench.pipeline.store().hook("m".to_owned(), 5, now).await.unwrap(), Seen::Replayed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_real_threads_one_of_many_continuations_and_cancels_wins() {
    let world = World::new().converting(|_| async { Ok(made("words", "local")) });
    let bench = Bench::new(world).await;
    let mut ids = Vec::new();
    for n in 0..40 {
        let id = bench.accept(spec(&format!("{n}")), "x").await;
        let pipeline = bench.pipeline.clone();
        tokio::spawn(async move { pipeline.cancel(id).await.unwrap() });
        ids.push(id);
    }
    for id in &ids {
        let task = bench.ended(*id).await;
        let events = bench.events(*id).await;
        let taken = events.iter().filter(|event| *event == "continued").count();
        assert_eq!(taken, usize::from(task.phase == Phase::Succeeded), "{events:?}");
        assert_eq!(bench.world.texts(&task.spec.document_id).len(), taken);
    }
}
