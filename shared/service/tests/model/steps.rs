//! What can happen: jobs of several shapes, workers of several kinds, and the steps that they take.

use crate::{
    calls::Verdict,
    crash::Plan,
    deliver::Script,
    job::{Asked, Millis},
};

pub(crate) const HOUR: Millis = 3_600_000;
pub(crate) const DAY: Millis = 24 * HOUR;
const HOOK: Option<&str> = Some("https://hooks.example/jobs");

/// What jobs are created with.
pub(crate) const SHAPES: [Asked; 8] = [
    Asked {
        content_type: "document",
        queue: 300_000,
        run: 600_000,
        total: None,
        max_retries: 3,
        credit: HOUR,
        webhook: None,
        large_options: false,
    },
    Asked {
        content_type: "document",
        queue: DAY,
        run: 120_000,
        total: None,
        max_retries: 1,
        credit: 2 * HOUR,
        webhook: HOOK,
        large_options: false,
    },
    Asked {
        content_type: "audio",
        queue: 300_000,
        run: HOUR,
        total: Some(400_000),
        max_retries: 3,
        credit: 0,
        webhook: HOOK,
        large_options: false,
    },
    Asked {
        content_type: "audio",
        queue: 60_000,
        run: 30_000,
        total: None,
        max_retries: 0,
        credit: HOUR,
        webhook: HOOK,
        large_options: false,
    },
    // A run shorter than a first lease.
    Asked {
        content_type: "document",
        queue: 1_000_000,
        run: 10_000,
        total: None,
        max_retries: 2,
        credit: HOUR,
        webhook: None,
        large_options: false,
    },
    Asked {
        content_type: "document",
        queue: 30 * DAY,
        run: DAY,
        total: None,
        max_retries: 20,
        credit: 0,
        webhook: None,
        large_options: true,
    },
    Asked {
        content_type: "audio",
        queue: DAY,
        run: 600_000,
        total: Some(DAY),
        max_retries: 5,
        credit: 2 * HOUR,
        webhook: HOOK,
        large_options: false,
    },
    // One that only its attempts can end.
    Asked {
        content_type: "document",
        queue: 30 * DAY,
        run: DAY,
        total: None,
        max_retries: 20,
        credit: HOUR,
        webhook: HOOK,
        large_options: false,
    },
];

/// The shape of a job that only its attempts can end.
pub(crate) const PATIENT: usize = 7;

/// Somebody who polls.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) name: &'static str,
    pub(crate) tenant: &'static str,
    pub(crate) key: &'static str,
    /// Whether it knows leases.
    pub(crate) native: bool,
}

pub(crate) const WORKERS: [Worker; 6] = [
    Worker { name: "gpu-1", tenant: "t", key: "k-1", native: true },
    Worker { name: "gpu-2", tenant: "t", key: "k-1", native: true },
    Worker { name: "gpu-3", tenant: "u", key: "k-2", native: true },
    Worker { name: "old-1", tenant: "t", key: "k-1", native: false },
    Worker { name: "old-2", tenant: "t", key: "k-3", native: false },
    Worker { name: "old-3", tenant: "u", key: "k-2", native: false },
];

/// The most jobs of one history.
pub(crate) const MOST_JOBS: usize = 6;

/// One step. Jobs, grants and events are named by a number, which stands for one of those that there are when the step is
/// taken.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Call {
        server: usize,
        wish: Wish,
    },
    /// A call whose server meets its fate at a write, and is restarted then. Whether it spares leases afterwards.
    Doomed {
        server: usize,
        wish: Wish,
        plan: Plan,
        spares: bool,
    },
    /// A call whose write arrives only after these others.
    HeldUp {
        wish: Wish,
        meanwhile: Vec<Step>,
    },
    Clock(Turn),
    /// A server is restarted, or notices that its clock has jumped.
    Spare {
        server: usize,
        restart: bool,
    },
    /// Nobody comes any more: time alone ends every job, and every webhook is told.
    LeaveAlone,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    By(Millis),
    /// To so many milliseconds from the moment when a job is due.
    Due(Pick, Millis),
    Deadline(Pick, Millis),
}

/// One of the jobs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pick {
    pub(crate) among: Among,
    pub(crate) number: usize,
}

/// Of what kind the job is to be. Now and then it is any other when there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Among {
    All,
    /// A worker may claim them.
    Due,
    Running,
    /// They run, and their worker was not heard of yet; or it was.
    Unheard,
    Heard,
    /// Their last attempt was ended by time, and nobody took them since.
    Lapsed,
    Over,
}

/// A call that is not resolved yet.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Create {
        tenant: &'static str,
        shape: usize,
        key: Option<u8>,
    },
    /// By any worker, or by one that sees this job.
    Poll {
        job: Pick,
        worker: usize,
        all_types: bool,
        most: u64,
        lease: Option<u64>,
    },
    Heartbeat(Someone, u8),
    Submit(Someone, Verdict),
    Release(Someone),
    Cancel {
        job: Pick,
        takeover: bool,
        foreign: bool,
    },
    Retry {
        job: Pick,
        foreign: bool,
    },
    Delete {
        job: Pick,
        foreign: bool,
    },
    Status {
        job: Pick,
        foreign: bool,
    },
    Result {
        job: Pick,
        foreign: bool,
    },
    Pause {
        tenant: &'static str,
        content_type: &'static str,
        resume: bool,
    },
    /// Only when there is something to do, or anyway.
    Sweep {
        anyway: bool,
    },
    Deliver {
        script: Script,
        anyway: bool,
    },
    Redrive {
        event: usize,
        foreign: bool,
    },
}

/// Who calls about which job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Someone {
    pub(crate) job: Pick,
    pub(crate) is: Is,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Is {
    /// Whoever was given the job last.
    Holder,
    /// Whoever was given it at some time.
    Earlier(usize),
    /// With a token that was never granted.
    Stranger,
    /// Without a token, under a key that may have claimed the job.
    Keyholder(&'static str),
    /// The holder's token under another tenant's key.
    Foreigner,
}
