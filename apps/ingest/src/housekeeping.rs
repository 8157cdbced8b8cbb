//! What is done beside the tasks: remote jobs that nobody waits for any more, and tasks that ended long ago.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{pipeline::Pipeline, store::StoreError};

/// How often a control plane that could not be reached is asked again to cancel what nobody waits for.
const ABANDON_EVERY: Duration = Duration::from_secs(60);
/// How often ended tasks are looked through.
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// How long webhooks that came are remembered: longer than the control plane sends one again.
const HOOKS: Duration = Duration::from_secs(8 * 24 * 3600);

/// Cancels the remote jobs that tasks left behind.
pub(crate) async fn abandon(pipeline: Pipeline, stop: CancellationToken) {
    loop {
        let open = stop.run_until_cancelled(abandon_all(&pipeline)).await;
        let again = match open {
            None => return,
            Some(Ok(open)) => open > 0,
            Some(Err(error)) => {
                tracing::error!(%error, "the remote jobs that nobody waits for cannot be found; trying again");
                true
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = pipeline.left().notified() => {}
            () = tokio::time::sleep(ABANDON_EVERY), if again => {}
        }
    }
}

/// Returns how many could not be cancelled.
async fn abandon_all(pipeline: &Pipeline) -> Result<usize, StoreError> {
    let mut open = 0;
    for (task, job) in pipeline.store().abandoned().await? {
        match pipeline.parts().conversion.abandon(&job).await {
            Ok(how) => pipeline.store().seen_to(task, how, pipeline.parts().clock.now()).await?,
            Err(why) => {
                open += 1;
                tracing::warn!(%task, job, why, "a remote job that nobody waits for is not cancelled yet");
            }
        }
    }
    Ok(open)
}

/// Forgets what ended long ago.
pub(crate) async fn forget(pipeline: Pipeline, stop: CancellationToken) {
    let mut tick = tokio::time::interval(FORGET_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        match forget_all(&pipeline).await {
            Ok((0, 0)) => {}
            Ok((tasks, hooks)) => tracing::info!(tasks, hooks, "what ended long ago is forgotten"),
            Err(error) => tracing::error!(%error, "ended tasks cannot be removed; trying again later"),
        }
    }
}

async fn forget_all(pipeline: &Pipeline) -> Result<(usize, usize), StoreError> {
    let parts = pipeline.parts();
    let now = parts.clock.now();
    let tasks = parts.store.forget(now.minus(parts.limits.retention)).await?;
    Ok((tasks, parts.store.forget_hooks(now.minus(HOOKS)).await?))
}
