//! The job, its lease and its transitions.
//!
//! Everything here is pure and synchronous: the clock and randomness are arguments, and a transition returns the
//! job as it will be without touching the one it was given. Storage writes that job on the condition that the
//! stored [`Job::revision`] is still the one that was read.

#![warn(clippy::wildcard_enum_match_arm)]

mod content_type;
mod error;
mod event;
mod ids;
mod imported;
mod job;
mod limits;
mod name;
mod routable;
mod run_times;
mod time;
mod transitions;

pub use content_type::ContentType;
pub use error::{Inconsistent, InvalidValue, Refused};
pub use event::{DELIVERY_CLAIM, Delivery, Event, EventId, Facts, Tried};
pub use ids::{JobId, KeyId, Tenant, TokenHash, WebhookUrl, WorkerId};
pub use imported::Imported;
pub use job::{
    Attempt, Credential, Ending, Holder, Job, Outcome, Pending, Priority, Progress, ResultRef, Running,
    Source, Spec, State, Status, TaskOptions, Wait,
};
pub use limits::{LeaseTerms, Limits, MAX_ATTEMPTS, MAX_FREE_RETURNS, MAX_RETRIES};
pub use name::FileName;
pub use routable::is_globally_routable;
pub use run_times::{Bucket, RunTimes};
pub use time::{Day, Jitter, Timestamp};
pub use transitions::{Renewal, Submission, Submitted};
