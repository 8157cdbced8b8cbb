//! What goes wrong, in an order that the seed decides.

use std::{sync::Arc, time::Duration};

use api::status::{AttemptView, StatusResponse};
use jiff::Timestamp;
use rand::{Rng, rngs::StdRng, seq::SliceRandom};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::chaos::{Chaos, FULL, KILLED, WRONG_CLOCK, ZOMBIE};

/// How long a converter may take to finish something.
const SOME_RESULT: Duration = Duration::from_secs(90);
/// How long others may take to take over: the gateway may be killed again meanwhile, and spares leases then.
const TAKEOVER: Duration = Duration::from_secs(180);

/// How long a disk stays full after that has met an attempt.
const FULL_FOR: Duration = Duration::from_secs(8);
/// How many jobs a converter may take on a full disk, before it knows: twice as many as it runs at the same time.
const MOST_TAKEN: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Fault {
    KillConverting(&'static str),
    KillSubmitting(&'static str),
    KillGateway,
    StopConverter,
    FillDisk,
}

/// Lets everything happen. What may go on for a minute afterwards, because a gateway that has just started takes
/// nothing over, is given back to be waited for.
pub(crate) async fn happen(chaos: &Arc<Chaos>) -> JoinSet<()> {
    let mut dice = chaos.dice("faults");
    let mut faults = [
        KILLED.map(Fault::KillConverting).as_slice(),
        &KILLED.map(Fault::KillSubmitting),
        &[Fault::KillConverting(WRONG_CLOCK)],
        &[Fault::KillGateway; 3],
        &[Fault::StopConverter, Fault::FillDisk],
    ]
    .concat();
    faults.shuffle(&mut dice);
    let (mut stopped, mut full) = (JoinSet::new(), JoinSet::new());
    for fault in faults {
        // Any moment will do; what must be so at that moment is waited for below.
        sleep(Duration::from_millis(dice.random_range(300..3000))).await;
        println!("{fault:?}");
        match fault {
            Fault::KillConverting(name) => kill_converting(chaos, name, &mut dice).await,
            Fault::KillSubmitting(name) => kill_submitting(chaos, name, &mut dice).await,
            Fault::KillGateway => {
                chaos.restart_gateway(Duration::from_millis(dice.random_range(0..1500))).await;
            }
            Fault::StopConverter => drop(stopped.spawn(stop_converter(Arc::clone(chaos)))),
            Fault::FillDisk => drop(full.spawn(fill_disk(Arc::clone(chaos)))),
        }
    }
    all_ended(full).await;
    stopped
}

/// Waits for tasks, and fails as they do.
pub(crate) async fn all_ended(mut tasks: JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
    }
}

async fn until_busy(chaos: &Chaos, name: &str) {
    chaos.until(&format!("{name} converts"), || chaos.converter(name).conversions() > 0).await;
}

async fn kill_converting(chaos: &Chaos, name: &str, dice: &mut StdRng) {
    until_busy(chaos, name).await;
    sleep(Duration::from_millis(dice.random_range(0..500))).await;
    chaos.converter(name).kill();
    start_again(chaos, name, dice).await;
}

/// Kills a converter that has a result to deliver, which its next start must deliver then.
async fn kill_submitting(chaos: &Chaos, name: &str, dice: &mut StdRng) {
    let until = Instant::now() + SOME_RESULT;
    let undelivered = || {
        let spooled = chaos.converter(name).files_in("spool");
        spooled.into_iter().find(|file| file.ends_with(".json"))
    };
    loop {
        assert!(Instant::now() < until, "seed {}: `{name}` finished nothing", chaos.seed);
        // A result waits for a few milliseconds, unless its delivery meets a fault.
        sleep(Duration::from_millis(1)).await;
        if undelivered().is_none() {
            continue;
        }
        chaos.converter(name).kill();
        let left = undelivered();
        start_again(chaos, name, dice).await;
        if let Some(left) = left {
            println!("`{name}` died with {left} in its spool");
            return;
        }
    }
}

async fn start_again(chaos: &Chaos, name: &str, dice: &mut StdRng) {
    sleep(Duration::from_millis(dice.random_range(0..2000))).await;
    chaos.converter(name).start_again();
}

/// Stops a converter until others have taken over what it held, and lets it go on as if nothing had happened.
async fn stop_converter(chaos: Arc<Chaos>) {
    loop {
        until_busy(&chaos, ZOMBIE).await;
        chaos.converter(ZOMBIE).signal("STOP");
        let held = chaos.watch.held_by(ZOMBIE).await;
        let moved_on = |job: &StatusResponse| {
            let now = chaos.watch.job(&job.job_id);
            now.attempts.len() > job.attempts.len() || now.status == "completed"
        };
        let what = "others take over what a stopped converter holds";
        chaos.until_within(TAKEOVER, what, || held.iter().all(moved_on)).await;
        chaos.converter(ZOMBIE).signal("CONT");
        let taken_over = held
            .iter()
            .filter(|job| chaos.watch.job(&job.job_id).attempts.len() > job.attempts.len())
            .count();
        if taken_over > 0 {
            println!("{taken_over} jobs were taken over from a converter that then went on");
            return;
        }
    }
}

/// Fills a converter's disk, with all that it has and its log on it. No job may lose a retry to that, the converter
/// must leave the others' jobs alone, and must go on by itself once there is room again.
async fn fill_disk(chaos: Arc<Chaos>) {
    until_busy(&chaos, FULL).await;
    let filled = Timestamp::now();
    let ended_since = |moment: Timestamp| {
        chaos
            .watch
            .attempts_of(FULL)
            .into_iter()
            .filter(move |attempt| is_after(attempt.ended_at.as_ref(), moment))
    };
    let met = async {
        chaos.until("an attempt ends on a full disk", || ended_since(filled).next().is_some()).await;
        sleep(FULL_FOR).await;
    };
    let filling = async {
        loop {
            chaos.disk.fill(&chaos.converter(FULL));
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! { () = met => {} () = filling => {} }
    let met: Vec<AttemptView> = ended_since(filled).collect();
    println!(
        "attempts that ended on a full disk: {:?}",
        met.iter().map(|one| &one.outcome).collect::<Vec<_>>()
    );
    let seed = chaos.seed;
    let spent = met.iter().any(|attempt| attempt.outcome == "failed");
    assert!(!spent, "seed {seed}: a full disk spent a retry: {met:#?}");
    let taken = met.iter().filter(|attempt| is_after(Some(&attempt.started_at), filled)).count();
    assert!(taken <= MOST_TAKEN, "seed {seed}: a converter with a full disk took {taken} jobs: {met:#?}");
    let emptied = Timestamp::now();
    chaos.disk.empty(&chaos.converter(FULL));
    let works = || ended_since(emptied).any(|attempt| attempt.outcome == "completed");
    chaos.until("a converter works again once its disk has room", works).await;
}

fn is_after(time: Option<&String>, moment: Timestamp) -> bool {
    time.is_some_and(|time| time.parse::<Timestamp>().unwrap() > moment)
}
