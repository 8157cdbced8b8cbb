//! `POST /api/v1/webhooks/remote-jobs`: the control plane tells that a remote job has ended.
//!
//! A webhook only wakes the task that waits, which then asks the control plane itself. So the worst that a believed one
//! can do is a question too many. It is believed when its signature is right and new, and its id was not seen before.
//! The control plane sends one again whose answer it did not get: under the same id, but signed anew at that time. That is
//! answered as the first one was. One that was not signed after the one before it comes from somebody who caught it, and
//! is refused.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Json, body::Bytes, extract::State};
use client::Client;
use http::{HeaderMap, StatusCode};
use ingestion::webhook::{self, Secret, TOLERANCE, WebhookError, WebhookMessage};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use super::{Site, refusal::Refusal};
use crate::store::Seen;

/// How long the control plane is waited for when it is asked for its secret.
const ASK: Duration = Duration::from_secs(10);
/// How often it is asked again at most: whoever sends forged webhooks must not make this service ask.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Whose webhooks are believed.
pub enum Hooks {
    /// Nobody's: the control plane is asked instead.
    Off,
    /// Of whoever signs with these.
    Known(Vec<Secret>),
    /// Of whoever signs as the control plane says.
    Asked {
        /// Who asks it.
        client: Client,
        /// What it said.
        said: Mutex<Said>,
    },
}

/// What the control plane said of its secrets.
#[derive(Debug, Default)]
pub struct Said {
    /// What it said last; none before it has said anything.
    secrets: Vec<Secret>,
    /// When it was asked last, whether or not it answered.
    asked: Option<Instant>,
    /// Whether it did not.
    silent: bool,
}

impl Said {
    /// Asks, unless it was asked moments ago.
    async fn renew(&mut self, client: &Client) -> Result<(), Refusal> {
        if self.asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN) {
            (self.asked, self.silent) = (Some(Instant::now()), true);
            self.secrets = ask(client).await?;
            self.silent = false;
        }
        if self.silent { Err(unverified()) } else { Ok(()) }
    }
}

impl Hooks {
    /// As the control plane that this client asks says.
    #[must_use]
    pub fn of(client: Client) -> Self {
        Self::Asked { client, said: Mutex::default() }
    }

    /// Believes a webhook, or refuses it.
    async fn believe(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: SystemTime,
    ) -> Result<WebhookMessage, Refusal> {
        let header = |name: &'static str| headers.get(name).and_then(|value| value.to_str().ok());
        let verify =
            |secrets: &[Secret]| webhook::verify(header, body, secrets, TOLERANCE, now).map_err(refusal);
        match self {
            Self::Off => Err(Refusal::not_found(
                "This service takes no webhooks: MORAG_INGEST_WEBHOOK_URL and MORAG_WEBHOOK_SECRET are not set",
            )),
            Self::Known(secrets) => verify(secrets),
            Self::Asked { client, said } => {
                worth_asking(header, now)?;
                let mut said = said.lock().await;
                let believed = verify(&said.secrets);
                if !believed.as_ref().is_err_and(|refusal| refusal.status == StatusCode::UNAUTHORIZED) {
                    return believed;
                }
                said.renew(client).await?;
                verify(&said.secrets)
            }
        }
    }
}

/// Whether the control plane may be asked, or waited for, because of a webhook with these headers: one that no secret
/// would make believable costs nobody anything.
fn worth_asking<'h>(
    header: impl Fn(&'static str) -> Option<&'h str>,
    now: SystemTime,
) -> Result<(), Refusal> {
    let there = [webhook::ID, webhook::TIMESTAMP, webhook::SIGNATURE].map(|name| header(name).is_some());
    let signed = header(webhook::TIMESTAMP).and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let age = signed
        .and_then(|since| UNIX_EPOCH.checked_add(since))
        .map(|signed| now.duration_since(signed).unwrap_or_else(|ahead| ahead.duration()));
    if there == [true; 3] && age.is_some_and(|age| age <= TOLERANCE) {
        return Ok(());
    }
    let rule = format!("is signed within {} s of now, and says so in its headers", TOLERANCE.as_secs());
    Err(Refusal::bad(format!("This is no webhook: one {rule}")))
}

async fn ask(client: &Client) -> Result<Vec<Secret>, Refusal> {
    let asked = tokio::time::timeout(ASK, client.webhook_secret()).await;
    let why = match asked {
        Ok(Ok(answer)) => match webhook::secrets(&answer) {
            Ok(secrets) => return Ok(secrets),
            Err(error) => error.to_string(),
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", ASK.as_secs()),
    };
    tracing::warn!(why, "the control plane cannot be asked for the secret of its webhooks");
    Err(unverified())
}

fn unverified() -> Refusal {
    let detail =
        "The webhook cannot be verified now, because the control plane cannot be asked for its secret";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` takes")]
fn refusal(error: WebhookError) -> Refusal {
    let status = match error {
        WebhookError::Malformed(_) | WebhookError::Stale(_) => StatusCode::BAD_REQUEST,
        WebhookError::Forged => StatusCode::UNAUTHORIZED,
    };
    Refusal::new(status, error.to_string())
}

pub(super) async fn receive(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let now = site.pipeline.parts().clock.now();
    let moment = UNIX_EPOCH + Duration::from_millis(u64::try_from(now.0).unwrap_or_default());
    let message = site.hooks.believe(&headers, &body, moment).await.inspect_err(|refusal| {
        tracing::warn!(
            status = refusal.status.as_u16(),
            detail = refusal.detail,
            "a webhook is not believed"
        );
    })?;
    let signed = message.timestamp.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let signed = i64::try_from(signed).unwrap_or(i64::MAX);
    let seen = site.pipeline.store().hook(message.id, signed, now).await?;
    if seen == Seen::Replayed {
        return Err(Refusal::new(StatusCode::CONFLICT, "The webhook came before; it is not taken again"));
    }
    let data = &message.event.data;
    let woken = site.pipeline.wake(&data.job_id, &data.ingestion_task_id).await?;
    tracing::info!(job = data.job_id, status = data.status, woken, "the control plane told of a job's end");
    Ok(Json(json!({"status": if seen == Seen::Again { "known" } else { "accepted" }})))
}
