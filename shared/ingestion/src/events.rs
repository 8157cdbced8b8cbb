use crate::{Decision, FallbackReason};

/// What happens during a conversion, for a task's progress and its history.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// It is decided how the document is converted, and why. Always the first.
    Decided(&'a Decision),
    /// The file is on its way.
    Uploading {
        /// How many bytes have left.
        done: u64,
        /// How many there are.
        total: u64,
    },
    /// The remote job is there, newly created or from an earlier run of the same task. A caller that remembers the id
    /// and gives it to the next run ([`crate::ConversionTask::remote_job_id`]) finds the job again by itself.
    Created {
        /// The job's id.
        job_id: &'a str,
    },
    /// A remote job that is not waited for was found when it was to be ended: an earlier run of the same task had created
    /// it, or the creation was not answered. A caller remembers its id as it does after [`Event::Created`].
    Found {
        /// The job's id.
        job_id: &'a str,
    },
    /// The remote job has changed.
    Remote {
        /// `pending`, `processing`, `completed`, `failed`, `timeout` or `cancelled`.
        status: &'a str,
        /// How far the running or last attempt is, 0 to 100.
        percentage: u8,
        /// What the worker said last, or why an attempt failed.
        message: Option<&'a str>,
    },
    /// The remote conversion has come to nothing. Local work begins once the remote job is cancelled.
    FallingBack {
        /// Why.
        reason: &'a FallbackReason,
    },
    /// The remote job was completed before it could be cancelled, so that its result is used after all.
    RemoteAfterAll {
        /// The job's id.
        job_id: &'a str,
    },
    /// The local conversion goes on.
    Local {
        /// How far it is, 0 to 100.
        percentage: u8,
        /// What it does.
        message: &'a str,
    },
}

/// Who is told what happens. It is told from the task that converts, which waits meanwhile.
pub trait Events: Sync {
    /// Takes notice.
    fn tell(&self, event: Event<'_>);
}

/// Nobody wants to know.
impl Events for () {
    fn tell(&self, _: Event<'_>) {}
}

impl<F: Fn(Event<'_>) + Sync> Events for F {
    fn tell(&self, event: Event<'_>) {
        self(event);
    }
}
