//! Tells the tasks' webhooks how tasks ended: at least once, always under the same message id, over restarts.

use std::time::Duration;

use domain::{Jitter, Tried};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::{
    pipeline::Pipeline,
    seams::Message,
    store::{StoreError, Telling, Told},
};

/// The longest waits before the second and every later try, in seconds, as the control plane's for its own webhooks: 16
/// tries within three to six days.
const WAITS: [u64; 15] = [
    5, 300, 1800, 7200, 18_000, 36_000, 36_000, 36_000, 43_200, 43_200, 43_200, 57_600, 57_600, 57_600,
    57_600,
];
/// How many are tried at once.
const AT_ONCE: usize = 8;
/// How many are read at once.
const MOST: u32 = 32;
/// The longest wait for the next one to be due, and the wait after a failure to read them.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// The message id of a task's end.
#[must_use]
pub fn message_id(task: uuid::Uuid) -> String {
    format!("ingestion.{task}")
}

/// Tells what is due until `stop`.
pub(crate) async fn run(pipeline: Pipeline, stop: CancellationToken) {
    loop {
        let wait = match round(&pipeline, &stop).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::error!(%error, "the ends to tell cannot be read or written; trying again");
                AFTER_FAILURE
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = pipeline.owed().notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Tells everything that is due, and returns how long it is until more will be.
async fn round(pipeline: &Pipeline, stop: &CancellationToken) -> Result<Duration, StoreError> {
    loop {
        let now = pipeline.parts().clock.now();
        let (due, next) = pipeline.store().due(now, MOST).await?;
        if due.is_empty() {
            // A millisecond more, so that it is due then.
            let until = next.map_or(LONGEST_WAIT, |next| next.since(now) + Duration::from_millis(1));
            return Ok(until.min(LONGEST_WAIT));
        }
        let telling = futures::stream::iter(due)
            .map(|telling| tell(pipeline, telling))
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<Result<(), StoreError>>>();
        // What is cut off is told again, under the same id.
        let Some(told) = stop.run_until_cancelled(telling).await else { return Ok(LONGEST_WAIT) };
        told.into_iter().collect::<Result<(), _>>()?;
    }
}

async fn tell(pipeline: &Pipeline, telling: Telling) -> Result<(), StoreError> {
    let parts = pipeline.parts();
    let (id, timestamp) = (message_id(telling.task), parts.clock.now().0 / 1000);
    let signature = parts.secret.signature(&id, timestamp, &telling.body);
    let Telling { task, url, body, tries } = telling;
    let tried = parts.courier.carry(&Message { id, timestamp, signature, url, body }).await;
    let told = after(tried, tries, Jitter::new(rand::random()));
    if let Told::Later(why, _) | Told::GivenUp(why) = &told {
        tracing::warn!(%task, why, "a task's webhook could not be told");
    }
    parts.store.tried(task, told, parts.clock.now()).await
}

/// What follows from a try that `before` others came before.
fn after(tried: Tried, before: u32, jitter: Jitter) -> Told {
    match tried {
        Tried::Taken => Told::Taken,
        Tried::Refused(why) => Told::GivenUp(why),
        Tried::Failed(why) => match usize::try_from(before).ok().and_then(|before| WAITS.get(before)) {
            Some(seconds) => {
                let half = Duration::from_secs(*seconds) / 2;
                Told::Later(why, half + jitter.of(half))
            }
            None => Told::GivenUp(format!("{why}, {} times", WAITS.len() + 1)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tried_sixteen_times_over_days() {
        let mut whole = Duration::ZERO;
        for before in 0..15 {
            let Told::Later(_, wait) = after(Tried::Failed("no".to_owned()), before, Jitter::new(0.0)) else {
                panic!("given up after {before}");
            };
            whole += wait;
        }
        assert!(whole > Duration::from_secs(3 * 24 * 3600 / 2 * 2 - 86_400), "{whole:?}");
        let last = after(Tried::Failed("no".to_owned()), 15, Jitter::new(0.5));
        assert_eq!(last, Told::GivenUp("no, 16 times".to_owned()));
        assert_eq!(
            after(Tried::Refused("gone".to_owned()), 0, Jitter::new(0.5)),
            Told::GivenUp("gone".to_owned())
        );
    }
}
