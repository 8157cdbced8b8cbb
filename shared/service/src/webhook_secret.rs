use std::time::Duration;

use api::{events::WebhookSecretResponse, rfc3339};
use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{EventId, Tenant, Timestamp};
use hmac::{Hmac, Mac};
use rand::Rng;
use sha2::Sha256;
use store::{PreviousSecret, SigningSecret, WebhookSecrets};

use crate::{Caller, Error, Service};

/// How long events are signed with a replaced secret too, so that receivers have time to learn the new one.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);
/// The most replaced secrets that are kept. Who replaces them faster needs the oldest ones no more.
const MOST_PREVIOUS: usize = 4;

impl Service {
    /// What the caller's events are signed with. It is made when it is first asked for.
    ///
    /// # Errors
    /// The store.
    pub async fn webhook_secret(&self, caller: &Caller) -> Result<WebhookSecretResponse, Error> {
        Ok(view(&self.webhook_secrets(&caller.tenant).await?, self.now()))
    }

    /// Replaces what the caller's events are signed with. For a day they are signed with the replaced secret too.
    ///
    /// # Errors
    /// The store.
    pub async fn rotate_webhook_secret(&self, caller: &Caller) -> Result<WebhookSecretResponse, Error> {
        let read = self.webhook_secrets(&caller.tenant).await?;
        let now = self.now();
        let replaced = PreviousSecret { secret: read.current.clone(), until: now.plus(OVERLAP) };
        let previous = std::iter::once(replaced).chain(valid(&read, now).cloned()).take(MOST_PREVIOUS);
        let new = WebhookSecrets {
            revision: read.revision + 1,
            current: random(),
            previous: previous.collect(),
            ..read.clone()
        };
        // Who replaced it at the same moment has done what this call was to do.
        let holds = self.store.webhook_secrets.replace(&read, new).await?;
        tracing::info!(tenant = %caller.tenant, key_id = %caller.key, "the webhook secret was replaced");
        Ok(view(&holds, now))
    }

    /// A tenant's secrets, made now if there are none.
    pub(crate) async fn webhook_secrets(&self, tenant: &Tenant) -> Result<WebhookSecrets, Error> {
        if let Some(secrets) = self.store.webhook_secrets.get(tenant).await? {
            return Ok(secrets);
        }
        let first =
            WebhookSecrets { tenant: tenant.clone(), revision: 1, current: random(), previous: Vec::new() };
        Ok(self.store.webhook_secrets.create(first).await?)
    }
}

/// The value of `webhook-signature`, by
/// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>: a signature by every
/// secret that is valid at `now`, the newest first. `timestamp` is in seconds.
pub(crate) fn signature(
    secrets: &WebhookSecrets,
    id: EventId,
    timestamp: i64,
    body: &[u8],
    now: Timestamp,
) -> Result<String, Error> {
    let previous = valid(secrets, now).map(|previous| &previous.secret);
    let signatures = std::iter::once(&secrets.current).chain(previous).map(|secret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.bytes())
            .map_err(|error| Error::Internal(error.to_string()))?;
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    });
    Ok(signatures.collect::<Result<Vec<_>, Error>>()?.join(" "))
}

fn valid(secrets: &WebhookSecrets, now: Timestamp) -> impl Iterator<Item = &PreviousSecret> {
    secrets.previous.iter().filter(move |previous| previous.until > now)
}

fn random() -> SigningSecret {
    SigningSecret::new(rand::rng().random())
}

fn view(secrets: &WebhookSecrets, now: Timestamp) -> WebhookSecretResponse {
    let previous = valid(secrets, now).next();
    WebhookSecretResponse {
        secret: spelled(&secrets.current),
        previous: previous.map(|previous| spelled(&previous.secret)),
        previous_until: previous.map(|previous| rfc3339(previous.until)),
    }
}

fn spelled(secret: &SigningSecret) -> String {
    format!("whsec_{}", STANDARD.encode(secret.bytes()))
}
