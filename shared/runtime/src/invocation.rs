use std::time::{Duration, SystemTime};

use lambda_runtime::Context;
use tokio::time::Instant;

/// The longest time that Lambda gives any function.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// What is kept of an invocation's time for saying how it ended.
const FAREWELL: Duration = Duration::from_secs(1);

/// What Lambda says of one invocation. It travels in a request's extensions.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Lambda's id of it, which is in the lines that Lambda itself logs.
    pub request_id: String,
    /// The X-Ray trace that it belongs to, as `1-5759e988-bd862e3fe1be46a994272793`.
    pub trace_id: Option<String>,
    /// When it must have ended.
    pub deadline: Deadline,
}

/// When an invocation must have ended, or Lambda ends it with whatever it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Instant);

impl Invocation {
    /// Reads an invocation's context. `usual` is how long the function has where the context cannot be believed.
    #[must_use]
    pub fn of(context: &Context, usual: Duration) -> Self {
        Self {
            request_id: context.request_id.clone(),
            trace_id: context.xray_trace_id.as_deref().and_then(root).map(str::to_owned),
            deadline: Deadline::of(context, usual),
        }
    }
}

impl Deadline {
    /// This long from now.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// Emulators of Lambda may say anything: a time that is over, as 1970, or one that no function has.
    fn of(context: &Context, usual: Duration) -> Self {
        let left = context.deadline().duration_since(SystemTime::now()).ok();
        Self::after(left.filter(|left| *left <= LONGEST).unwrap_or(usual))
    }

    /// The moment this long before it.
    #[must_use]
    pub fn before(self, time: Duration) -> Instant {
        self.0.checked_sub(time).unwrap_or(self.0)
    }

    /// The last moment at which there is time to answer.
    #[must_use]
    pub fn answer(self) -> Instant {
        self.before(FAREWELL)
    }
}

/// The trace in `Root=1-…;Parent=…;Sampled=1`.
fn root(header: &str) -> Option<&str> {
    header.split(';').find_map(|field| field.trim().strip_prefix("Root=")).filter(|root| !root.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Duration = Duration::from_secs(28);

    fn left(deadline_ms: u64) -> Duration {
        let mut context = Context::default();
        context.deadline = deadline_ms;
        let began = Instant::now();
        Invocation::of(&context, USUAL).deadline.0 - began
    }

    fn in_ms(time: Duration) -> u64 {
        let at = SystemTime::now() + time;
        u64::try_from(at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_cannot_be_believed_is_the_usual_one() {
        for wrong in [0, 1000, in_ms(Duration::ZERO) - 5000, in_ms(LONGEST * 2), u64::MAX] {
            assert_eq!(left(wrong), USUAL, "{wrong}");
        }
        let left = left(in_ms(Duration::from_secs(5)));
        assert!(left > Duration::from_secs(4) && left <= Duration::from_secs(5), "{left:?}");
    }

    #[test]
    fn the_trace_is_the_root_of_the_header() {
        assert_eq!(root("Root=1-5759e988-bd86;Parent=53995c3f42cd8ad8;Sampled=1"), Some("1-5759e988-bd86"));
        assert_eq!(root("Parent=1; Root=1-2-3"), Some("1-2-3"));
        assert_eq!(root("Root=;Sampled=0"), None);
    }
}
