use std::time::Duration;

use crate::{Error, RetryPolicy};

/// How patient a transfer is with each of its pieces, and with the calls it makes.
pub(super) const PATIENT: RetryPolicy =
    RetryPolicy { tries: 7, base: Duration::from_millis(500), cap: Duration::from_secs(30) };

/// How many new URLs are tried in a row before a refusal is believed.
const NEW_URLS: u32 = 2;

/// The failures in a row of one piece of a transfer.
#[derive(Default)]
pub(super) struct Tries {
    failed: u32,
    refused: u32,
}

impl Tries {
    /// Something moved, so what failed before does not count.
    pub(super) fn moved(&mut self) {
        *self = Self::default();
    }

    /// Waits for the next try.
    ///
    /// # Errors
    /// `error` itself, when there is no use in another one.
    pub(super) async fn again(&mut self, error: Error) -> Result<(), Error> {
        if expired(&error) {
            self.refused += 1;
            return if self.refused > NEW_URLS { Err(error) } else { Ok(()) };
        }
        self.failed += 1;
        let Some(wait) = PATIENT.wait(self.failed, &error) else { return Err(error) };
        tracing::debug!(%error, failed = self.failed, wait_ms = wait.as_millis(), "a transfer is taken up again");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Whether the object store may have refused the URL for its age, so that a new one helps.
pub(super) fn expired(error: &Error) -> bool {
    match error {
        Error::Transfer { status, code, .. } => {
            *status == Some(403)
                || code.as_deref().is_some_and(|code| matches!(code, "ExpiredToken" | "RequestExpired"))
        }
        Error::Refused { .. }
        | Error::Unreachable { .. }
        | Error::Untrusted { .. }
        | Error::TimedOut { .. }
        | Error::Unreadable { .. }
        | Error::File { .. }
        | Error::Corrupt { .. }
        | Error::Invalid { .. } => false,
    }
}
