use std::time::Duration;

use rand::Rng;

use crate::Error;

/// The longest wait that a server may ask for before it is given up on.
const LONGEST_ASKED: Duration = Duration::from_secs(600);

/// How often and how patiently a call is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many tries there are at most, the first one included.
    pub tries: u32,
    /// The longest wait after the first try. It doubles with every try.
    pub base: Duration,
    /// The longest wait after any try.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    /// Five tries within about ten seconds.
    fn default() -> Self {
        Self { tries: 5, base: Duration::from_millis(500), cap: Duration::from_secs(20) }
    }
}

impl RetryPolicy {
    /// How long to wait after the `failed`-th failure in a row (from 1), or none when it was the last try: full
    /// jitter below a doubling bound, and never less than the server asks for.
    #[must_use]
    pub fn wait(&self, failed: u32, error: &Error) -> Option<Duration> {
        if failed >= self.tries || !error.retryable() {
            return None;
        }
        let asked = error.retry_after().unwrap_or_default();
        if asked > LONGEST_ASKED {
            return None;
        }
        let bound = self.base.saturating_mul(1 << failed.saturating_sub(1).min(20)).min(self.cap);
        Some(asked + bound.mul_f64(rand::rng().random::<f64>()))
    }
}

/// Makes a call that may be repeated, until it succeeds, fails for good, or the policy's tries are spent.
///
/// # Errors
/// The last try's.
pub async fn retrying<T, C, F>(policy: &RetryPolicy, mut call: C) -> Result<T, Error>
where
    C: FnMut() -> F,
    F: Future<Output = Result<T, Error>>,
{
    let mut failed = 0;
    loop {
        let error = match call().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        failed += 1;
        let Some(wait) = policy.wait(failed, &error) else { return Err(error) };
        tracing::debug!(%error, failed, wait_ms = wait.as_millis(), "a call failed and is repeated");
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn refused(status: u16, retry_after: Option<u64>) -> Error {
        Error::Unreadable {
            host: "h".into(),
            status,
            reason: "nothing".into(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    async fn tries(policy: RetryPolicy, error: impl Fn() -> Error) -> u32 {
        let made = Cell::new(0);
        let result = retrying(&policy, || {
            made.set(made.get() + 1);
            std::future::ready(Err::<(), _>(error()))
        })
        .await;
        assert!(result.is_err());
        made.get()
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_pass_is_repeated() {
        assert_eq!(tries(RetryPolicy::default(), || refused(503, None)).await, 5);
        assert_eq!(tries(RetryPolicy::default(), || refused(409, None)).await, 1);
        assert_eq!(tries(RetryPolicy::default(), || refused(503, Some(100_000))).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_ends_it() {
        let made = Cell::new(0);
        let call = || {
            made.set(made.get() + 1);
            std::future::ready(if made.get() < 3 { Err(refused(502, None)) } else { Ok(made.get()) })
        };
        assert_eq!(retrying(&RetryPolicy::default(), call).await.unwrap(), 3);
    }

    #[test]
    fn waits_stay_below_their_bound_and_above_what_the_server_asks() {
        let policy = RetryPolicy::default();
        for failed in 1..policy.tries {
            let bound = policy.base * 2u32.pow(failed - 1);
            for _ in 0..100 {
                assert!(policy.wait(failed, &refused(503, None)).unwrap() <= bound);
                let asked = policy.wait(failed, &refused(429, Some(30))).unwrap();
                assert!(asked >= Duration::from_secs(30) && asked <= Duration::from_secs(30) + bound);
            }
        }
        assert_eq!(policy.wait(policy.tries, &refused(503, None)), None);
        let patient = RetryPolicy { tries: u32::MAX, ..policy };
        assert!(patient.wait(1_000_000, &refused(503, None)).unwrap() <= policy.cap);
    }
}
