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
        /// What it said, and when it was asked.
        said: Mutex<Option<(Instant, Vec<Secret>)>>,
    },
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
                let mut said = said.lock().await;
                if let Some((asked, secrets)) = said.as_ref() {
                    let believed = verify(secrets);
                    let forged =
                        believed.as_ref().is_err_and(|refusal| refusal.status == StatusCode::UNAUTHORIZED);
                    if !forged || asked.elapsed() < ASK_AGAIN {
                        return believed;
                    }
                }
                let secrets = ask(client).await?;
                let believed = verify(&secrets);
                *said = Some((Instant::now(), secrets));
                believed
            }
        }
    }
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
    let detail =
        "The webhook cannot be verified now, because the control plane cannot be asked for its secret";
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail))
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
