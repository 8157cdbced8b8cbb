//! Random histories.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    calls::Verdict,
    crash::{Moment, Plan},
    deliver::Script,
    events::Try,
    steps::{Among, DAY, HOUR, Is, MOST_JOBS, PATIENT, Pick, SHAPES, Someone, Step, Turn, WORKERS, Wish},
};

/// What comes next in a history.
pub(crate) enum Source<'a> {
    /// So many steps at random, of those that there is something to do for.
    Random(&'a mut StdRng, usize),
    /// Just these.
    Steps(&'a [Step]),
}

/// Whether a random history goes on until everything has ended, which costs much.
pub(crate) fn is_left_alone(random: &mut StdRng) -> bool {
    random.random_bool(0.03)
}

/// How many steps a random history has.
pub(crate) fn length(random: &mut StdRng) -> usize {
    if random.random_bool(0.85) { random.random_range(SHORT) } else { random.random_range(LONG) }
}

/// A step of a random history: creations at first, then anything.
pub(crate) fn random_step(random: &mut StdRng, taken: usize) -> Step {
    if taken == 0 || (taken == 1 && random.random_bool(0.6)) {
        let wish = create(random);
        return call(random, wish);
    }
    step(random)
}

/// How many steps most histories have, and the others.
const SHORT: std::ops::RangeInclusive<usize> = 8..=12;
const LONG: std::ops::RangeInclusive<usize> = 20..=40;

/// So many attempts of one job that it can have no more.
pub(crate) fn long_history(random: &mut StdRng) -> Vec<Step> {
    let mut steps = vec![call(random, Wish::Create { tenant: "t", shape: PATIENT, key: None })];
    let job = Pick { among: Among::All, number: 0 };
    let holder = Someone { job, is: Is::Holder };
    for round in 0..110 {
        steps.push(call(random, Wish::Poll { job, worker: 0, all_types: false, most: 1, lease: None }));
        let end = match round % 4 {
            0 => Wish::Submit(holder, Verdict::Failed { retryable: true }),
            1 => Wish::Submit(holder, Verdict::Failed { retryable: false }),
            _ => Wish::Release(holder),
        };
        steps.push(call(random, end));
        steps.push(call(random, Wish::Retry { job, foreign: false }));
        steps.push(Step::Clock(Turn::Due(job, 0)));
    }
    steps
}

fn call(random: &mut StdRng, wish: Wish) -> Step {
    Step::Call { server: usize::from(random.random_bool(0.3)), wish }
}

fn step(random: &mut StdRng) -> Step {
    match random.random_range(0..100) {
        0..26 => Step::Clock(turn(random)),
        26..29 => {
            Step::Spare { server: usize::from(random.random_bool(0.3)), restart: random.random_bool(0.5) }
        }
        29..42 => doomed(random),
        42..50 => held_up(random),
        _ => {
            let wish = wish(random);
            call(random, wish)
        }
    }
}

fn doomed(random: &mut StdRng) -> Step {
    let wish = match random.random_range(0..40) {
        0 => Wish::Delete { job: pick(random, Among::Over), foreign: false },
        1 => Wish::Redrive { event: random.random_range(0..8), foreign: false },
        2 => Wish::Deliver { script: script(random), anyway: false },
        _ => writing(random),
    };
    let objects = matches!(wish, Wish::Submit(..) | Wish::Create { .. }) && random.random_bool(0.3);
    let nth = if objects || random.random_bool(0.7) { 1 } else { random.random_range(2..=4) };
    let moment = if random.random_bool(0.5) { Moment::Before } else { Moment::After };
    let server = usize::from(random.random_bool(0.3));
    Step::Doomed { server, wish, plan: Plan::Kill { objects, nth, moment }, spares: random.random_bool(0.5) }
}

fn held_up(random: &mut StdRng) -> Step {
    let wish = writing(random);
    // The first server is busy with the call that is held up.
    let meanwhile = (0..random.random_range(1..=3))
        .map(|_| match random.random_range(0..12) {
            0..3 => Step::Clock(turn(random)),
            // Somebody else wants the same at the same time.
            3..6 => Step::Call { server: 1, wish: wish.clone() },
            _ => Step::Call { server: 1, wish: writing(random) },
        })
        .collect();
    Step::HeldUp { wish, meanwhile }
}

fn pick(random: &mut StdRng, among: Among) -> Pick {
    Pick { among, number: random.random_range(0..MOST_JOBS) }
}

fn turn(random: &mut StdRng) -> Turn {
    let among =
        *[Among::Heard, Among::Heard, Among::Running, Among::All].choose(random).unwrap_or(&Among::All);
    let job = pick(random, among);
    match random.random_range(0..20) {
        0..2 => Turn::By(random.random_range(1..5_000)),
        2..5 => Turn::By(random.random_range(5_000..75_000)),
        5..7 => Turn::By(random.random_range(60_000..700_000)),
        7 => Turn::By(random.random_range(HOUR..2 * DAY)),
        8..15 => Turn::Due(job, random.random_range(-1..=1)),
        15..18 => Turn::Deadline(job, random.random_range(-1..=1)),
        18 => Turn::By(-random.random_range(1..120_000)),
        _ => Turn::By(random.random_range(-HOUR..HOUR)),
    }
}

fn create(random: &mut StdRng) -> Wish {
    let key = random.random_bool(0.4).then(|| random.random_range(0..3));
    Wish::Create { tenant: tenant(random), shape: random.random_range(0..SHAPES.len()), key }
}

fn tenant(random: &mut StdRng) -> &'static str {
    if random.random_bool(0.8) { "t" } else { "u" }
}

fn poll(random: &mut StdRng) -> Wish {
    let among = if random.random_bool(0.8) { Among::Due } else { Among::All };
    let most = if random.random_bool(0.75) { 1 } else { random.random_range(2..=4) };
    let lease = random.random_bool(0.5).then(|| *[20, 30, 120, 600].choose(random).unwrap_or(&60));
    let worker = random.random_range(0..WORKERS.len());
    Wish::Poll { job: pick(random, among), worker, all_types: random.random_bool(0.15), most, lease }
}

fn someone(random: &mut StdRng) -> Someone {
    let is = match random.random_range(0..20) {
        0..15 => Is::Holder,
        15 => Is::Earlier(random.random_range(0..8)),
        16 => Is::Stranger,
        17..19 => Is::Keyholder(WORKERS.choose(random).map_or("k-1", |worker| worker.key)),
        _ => Is::Foreigner,
    };
    let among = match random.random_range(0..20) {
        0..11 => Among::Running,
        11..17 => Among::Lapsed,
        17..19 => Among::Over,
        _ => Among::All,
    };
    Someone { job: pick(random, among), is }
}

fn verdict(random: &mut StdRng) -> Verdict {
    match random.random_range(0..10) {
        0..3 => Verdict::Inline,
        3 => Verdict::Uploaded,
        4..8 => Verdict::Failed { retryable: true },
        _ => Verdict::Failed { retryable: false },
    }
}

/// Any call.
fn wish(random: &mut StdRng) -> Wish {
    let (job, foreign) = (pick(random, Among::All), random.random_bool(0.05));
    match random.random_range(0..40) {
        0..2 => Wish::Status { job, foreign },
        2 => Wish::Result { job: Pick { among: Among::Over, ..job }, foreign },
        3 => Wish::Pause {
            tenant: tenant(random),
            content_type: SHAPES[random.random_range(0..SHAPES.len())].content_type,
            resume: random.random_bool(0.6),
        },
        _ => writing(random),
    }
}

/// A call that usually changes a job or an event.
fn writing(random: &mut StdRng) -> Wish {
    let (job, foreign) = (pick(random, Among::All), random.random_bool(0.05));
    match random.random_range(0..100) {
        0..7 => create(random),
        7..30 => poll(random),
        30..38 => {
            let job = pick(random, Among::Unheard);
            Wish::Heartbeat(Someone { job, is: Is::Holder }, random.random_range(0..=100))
        }
        38..50 => Wish::Heartbeat(someone(random), random.random_range(0..=100)),
        50..68 => Wish::Submit(someone(random), verdict(random)),
        68..74 => Wish::Release(someone(random)),
        74..79 => Wish::Cancel { job, takeover: random.random_bool(0.3), foreign },
        79..86 => {
            let among = if random.random_bool(0.85) { Among::Over } else { Among::All };
            Wish::Retry { job: Pick { among, ..job }, foreign }
        }
        86..92 => Wish::Sweep { anyway: random.random_bool(0.05) },
        92..96 => Wish::Deliver { script: script(random), anyway: random.random_bool(0.05) },
        96..99 => Wish::Redrive { event: random.random_range(0..8), foreign },
        _ => Wish::Delete { job: Pick { among: Among::Over, ..job }, foreign },
    }
}

fn script(random: &mut StdRng) -> Script {
    let any = |random: &mut StdRng| {
        *[Try::Taken, Try::Failed, Try::Failed, Try::Refused].choose(random).unwrap_or(&Try::Taken)
    };
    (0..4).map(|_| any(random)).collect()
}
