//! Idle workers wait for hints where holding their calls open would cost too much.
//!
//! Workers of one tenant that serve the same content types are a class and wait on one queue, so that no hint is taken
//! by a worker that may not do the job. Whoever makes a job due gives one hint to each class that may be waiting for it.
//! A hint is never the truth: a worker that has one polls. One that is lost costs time only, because a sweep gives
//! another to the classes of every queue in which jobs wait, and because a worker asks again after a while anyway.

use std::{collections::BTreeMap, time::Duration};

use api::poll::HintGrant;
use domain::{ContentType, Tenant, Timestamp};
use futures::{
    StreamExt,
    stream::{self, FuturesUnordered},
};
use rand::Rng;
use sha2::{Digest, Sha256};
use store::{HintClass, HintClasses, HintQueues, StoreError};
use tokio::time::Instant;

use crate::{Error, Service};

/// When a worker that waits for a hint asks again without one.
pub(crate) const POLL_AGAIN: Duration = Duration::from_secs(300);
/// How long a class is live after its row was written.
const LIVE: Duration = Duration::from_secs(900);
/// A class that is live for less than this is written anew: that long a worker may be waiting that is answered now,
/// with its last request and however late it asks again.
const LEAST_LIVE: Duration = Duration::from_secs(400);
/// How long the URL of a queue is valid: as long as AWS takes what was signed by a query.
const URL_VALID: Duration = Duration::from_secs(900);
/// The most classes of a tenant that can wait at once. One hint is sent to each.
const MOST_CLASSES: usize = 8;
/// The most hints that are given to a class at once.
pub(crate) const MOST_HINTS: u64 = 10;
/// How often a tenant's row is written in a race with others.
const MOST_ROUNDS: usize = 4;
/// How long whoever makes a job due waits for the hints to be sent.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How many tenants a sweep gives hints to at once.
const TENANTS_AT_ONCE: usize = 4;
/// After this many tenants in a row whose hints could not be given, the others are not tried: what cannot be reached now
/// would be waited for with each of them.
const MOST_FAILURES: usize = 8;

/// How many jobs each tenant has in each of its queues that a worker may take now.
pub(crate) type Ready = BTreeMap<Tenant, BTreeMap<ContentType, u64>>;

/// Where a worker that found nothing can wait.
pub(crate) struct Waiting {
    pub(crate) grant: HintGrant,
    /// Whether nobody was hinting at this place until now, so that a job may have become due unnoticed.
    pub(crate) is_new: bool,
}

impl Service {
    /// Tells each class of idle workers that may be waiting for such a job. It takes a moment at most, and failing is
    /// not the caller's concern.
    pub(crate) async fn hint(
        &self,
        tenant: &Tenant,
        content_type: &ContentType,
        count: u64,
        delay: Duration,
    ) {
        let Some(queues) = &self.hint_queues else { return };
        // Nobody would keep it so long. The sweep after that moment sees the job.
        if delay > HintQueues::LONGEST_DELAY {
            return;
        }
        let hinting = async {
            let classes = self.store.hints.get(tenant).await?;
            let mut hints = Vec::new();
            for class in classes.live(self.now()) {
                if class.content_types.contains(content_type) {
                    hints.push((class.queue_url.as_str(), count));
                }
            }
            give(queues, hints, delay).await
        };
        let why = match tokio::time::timeout(PATIENCE, hinting).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it took longer than {PATIENCE:?}"),
        };
        tracing::warn!(%tenant, %content_type, cause = why, "no hint was given");
    }

    /// Where a worker that serves these types, and has room for `most` jobs, can wait. `None` where there is no such
    /// place, or none left.
    pub(crate) async fn waiting_place(
        &self,
        tenant: &Tenant,
        content_types: &[ContentType],
        most: u64,
    ) -> Option<Waiting> {
        let queues = self.hint_queues.as_ref()?;
        match self.place(queues, tenant, content_types, most).await {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::warn!(%tenant, cause = %error, "there is no place to wait for hints");
                None
            }
        }
    }

    async fn place(
        &self,
        queues: &HintQueues,
        tenant: &Tenant,
        content_types: &[ContentType],
        most: u64,
    ) -> Result<Option<Waiting>, Error> {
        let mut content_types = content_types.to_vec();
        content_types.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        let name = class_name(tenant, &content_types);
        let read = self.store.hints.get(tenant).await?;
        let now = self.now();
        let known = read.classes.get(&name).cloned();
        let is_new = known.as_ref().is_none_or(|class| class.live_until <= now);
        let queue_url = match known {
            Some(class) if class.live_until >= now.plus(LEAST_LIVE) => class.queue_url,
            Some(_) | None => {
                if is_new && read.live(now).count() >= MOST_CLASSES {
                    tracing::info!(%tenant, most = MOST_CLASSES, "no class of workers more can wait for hints");
                    return Ok(None);
                }
                let queue_url = queues.create(&name).await?;
                let class = HintClass { content_types, queue_url, live_until: now.plus(LIVE) };
                let queue_url = class.queue_url.clone();
                if !self.write_class(tenant, read, &name, &class).await? {
                    return Ok(None);
                }
                queue_url
            }
        };
        let hint = queues.presign_receive(&queue_url, most, URL_VALID).await?;
        let grant = HintGrant { hint_url: hint.url, hint_url_expires_in_seconds: hint.valid.as_secs() };
        Ok(Some(Waiting { grant, is_new }))
    }

    /// Writes that a class is live. False when there is no room for it, or others keep writing.
    async fn write_class(
        &self,
        tenant: &Tenant,
        mut read: HintClasses,
        name: &str,
        class: &HintClass,
    ) -> Result<bool, StoreError> {
        for _ in 0..MOST_ROUNDS {
            let now = self.now();
            let mut classes = still_live(&read, now);
            classes.insert(name.to_owned(), class.clone());
            if classes.len() > MOST_CLASSES {
                return Ok(false);
            }
            match self.store.hints.replace(tenant, &read, classes).await? {
                Ok(()) => return Ok(true),
                Err(there) => read = there,
            }
        }
        Ok(false)
    }

    /// Gives hints of the jobs that are ready to the classes that may be waiting: what was lost of earlier ones, and what no
    /// hint was given of. It ends at `until`, and failing is not the caller's concern.
    pub(crate) async fn hint_again(&self, ready: Ready, until: Instant) {
        let Some(queues) = &self.hint_queues else { return };
        let mut ready: Vec<_> = ready.into_iter().collect();
        // Another tenant comes first each time, so that where time runs out it is not always for the same ones.
        let first = rand::rng().random_range(0..ready.len().max(1));
        ready.rotate_left(first);
        let tenants = ready.len();
        if tokio::time::timeout_at(until, self.remind_all(queues, ready)).await.is_err() {
            tracing::warn!(tenants, "there was no time left to give all hints again");
        }
    }

    async fn remind_all(&self, queues: &HintQueues, ready: Vec<(Tenant, BTreeMap<ContentType, u64>)>) {
        let reminding = ready.into_iter().map(|(tenant, waiting)| self.remind_one(queues, tenant, waiting));
        let mut reminding = stream::iter(reminding).buffer_unordered(TENANTS_AT_ONCE);
        let mut failed_in_a_row = 0;
        while let Some(reminded) = reminding.next().await {
            failed_in_a_row = if reminded { 0 } else { failed_in_a_row + 1 };
            if failed_in_a_row >= MOST_FAILURES {
                tracing::warn!(failed_in_a_row, "hints are not given again until the next sweep");
                return;
            }
        }
    }

    async fn remind_one(
        &self,
        queues: &HintQueues,
        tenant: Tenant,
        waiting: BTreeMap<ContentType, u64>,
    ) -> bool {
        let Err(error) = self.remind(queues, &tenant, &waiting).await else { return true };
        tracing::warn!(%tenant, cause = %error, "no hints were given again");
        false
    }

    async fn remind(
        &self,
        queues: &HintQueues,
        tenant: &Tenant,
        waiting: &BTreeMap<ContentType, u64>,
    ) -> Result<(), StoreError> {
        let classes = self.store.hints.get(tenant).await?;
        let live: Vec<&HintClass> = classes.live(self.now()).collect();
        let mut open = BTreeMap::new();
        for (content_type, count) in waiting {
            let served = live.iter().any(|class| class.content_types.contains(content_type));
            if served && !self.store.queues.is_paused(tenant, content_type).await? {
                open.insert(content_type, *count);
            }
        }
        let mut hints = Vec::new();
        for class in live {
            let count: u64 = class.content_types.iter().filter_map(|served| open.get(served)).sum();
            if count > 0 {
                hints.push((class.queue_url.as_str(), count.min(MOST_HINTS)));
            }
        }
        give(queues, hints, Duration::ZERO).await
    }
}

/// Sends so many hints to each queue. All are tried, and the first failure is what is told.
async fn give(queues: &HintQueues, hints: Vec<(&str, u64)>, delay: Duration) -> Result<(), StoreError> {
    let mut sending = FuturesUnordered::new();
    for (queue_url, count) in hints {
        for _ in 0..count {
            sending.push(queues.send(queue_url, delay));
        }
    }
    let mut given = Ok(());
    while let Some(sent) = sending.next().await {
        given = given.and(sent);
    }
    given
}

fn still_live(read: &HintClasses, now: Timestamp) -> BTreeMap<String, HintClass> {
    let live = read.classes.iter().filter(|(_, class)| class.live_until > now);
    live.map(|(name, class)| (name.clone(), class.clone())).collect()
}

/// What the queue of a class is called after the prefix: 24 hexadecimal digits, which tell no tenant's name.
fn class_name(tenant: &Tenant, sorted: &[ContentType]) -> String {
    let types: Vec<&str> = sorted.iter().map(ContentType::as_str).collect();
    // Neither a tenant nor a content type has a line break.
    let text = format!("{}\n{tenant}\n{}", HintQueues::LAYOUT, types.join("\n"));
    hex::encode(&Sha256::digest(text)[..12])
}
