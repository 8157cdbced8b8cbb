use std::time::{Duration, Instant};

use deliver_events::{HttpCourier, LONGEST_ROUND, Wanted};
use engines::Engines;
use runtime::App;
use service::Service;
use sweep_jobs::LONGEST_SWEEP;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often expired rows and objects are removed.
const ENGINES_EVERY: Duration = Duration::from_secs(600);
/// How often due deliveries are looked for. The soonest retry comes after 2.5 seconds.
const DELIVERIES_EVERY: Duration = Duration::from_secs(5);
/// A clock that is this much off from where it should be has jumped.
const JUMP: Duration = Duration::from_secs(15);

/// Sweeps jobs on a timer.
pub(crate) async fn sweep_jobs(app: App, every: Duration, stop: CancellationToken) {
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while next(&mut tick, &stop).await {
        if let Err(error) = sweep_jobs::handle(app.clone(), tokio::time::Instant::now() + LONGEST_SWEEP).await
        {
            tracing::error!(%error, "the sweep failed; the next one sees to the rest");
        }
    }
}

/// Notices when the clock jumps or the machine slept, and then spares the leases that nobody could renew. It looks more
/// often than a held poll does, so that no lease is taken over in between.
pub(crate) async fn watch_clock(service: Service, every: Duration, stop: CancellationToken) {
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = (service.now(), Instant::now());
    while next(&mut tick, &stop).await {
        let (clock, steady) = (service.now(), Instant::now());
        let expected = last.0.plus(steady.duration_since(last.1));
        if expected.since(clock).max(clock.since(expected)) > JUMP {
            tracing::warn!("the clock jumped; lapsed leases are spared for another term");
            service.spare_leases();
        }
        last = (clock, steady);
    }
}

/// Delivers events at once when one was recorded here, and otherwise on a timer, because a retry is due by the passing
/// of time. A round that runs takes up what is recorded in the meantime. Once the service drains, it ends with the tries
/// in hand.
pub(crate) async fn deliver_events(app: App, courier: HttpCourier, stop: CancellationToken) {
    let mut tick = tokio::time::interval(DELIVERIES_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = app.service.event_recorded() => {}
            _ = tick.tick() => {}
        }
        let until = tokio::time::Instant::now() + LONGEST_ROUND;
        if let Err(error) = deliver_events::handle(app.clone(), &courier, Wanted::Due, until).await {
            tracing::error!(%error, "the deliveries failed; the next round sees to the rest");
        }
    }
}

/// Removes expired rows and objects on a timer.
pub(crate) async fn sweep_engines(engines: Engines, service: Service, stop: CancellationToken) {
    let mut tick = tokio::time::interval(ENGINES_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while next(&mut tick, &stop).await {
        match engines.sweep(service.now().0).await {
            Ok(swept) => tracing::info!(
                expired_items = swept.expired_items,
                expired_objects = swept.expired_objects,
                aborted_uploads = swept.aborted_uploads,
                removed_files = swept.removed_files,
                "housekeeping"
            ),
            Err(error) => tracing::error!(%error, "housekeeping failed; the next one sees to the rest"),
        }
    }
}

async fn next(tick: &mut tokio::time::Interval, stop: &CancellationToken) -> bool {
    tokio::select! {
        _ = tick.tick() => true,
        () = stop.cancelled() => false,
    }
}
