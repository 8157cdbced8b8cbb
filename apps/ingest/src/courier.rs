//! Carries the service's own webhooks over HTTP.

use std::time::Duration;

use async_trait::async_trait;
use domain::{InvalidValue, Tried, WebhookUrl};
use reqwest::{Client, Response, StatusCode, Url, header::CONTENT_TYPE, redirect::Policy};

use crate::{
    networks::{AdmittedAddresses, Networks},
    seams::{Courier, Message},
};

/// How long a connection may take to be made, and one try as a whole.
const CONNECT: Duration = Duration::from_secs(5);
const WHOLE_TRY: Duration = Duration::from_secs(15);

/// Carries messages over HTTP/1.1, to admitted addresses only.
pub struct HttpCourier {
    networks: Networks,
    encrypted: Client,
    plain: Client,
}

impl HttpCourier {
    /// A courier that may speak to `networks` besides globally routable addresses.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(networks: Networks) -> Result<Self, reqwest::Error> {
        // Whoever comes first installs it; that it is there already is what is wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            encrypted: client(networks.clone(), true)?,
            plain: client(networks.clone(), false)?,
            networks,
        })
    }

    fn url(&self, text: &str) -> Result<Url, InvalidValue> {
        self.networks.url(&text.parse::<WebhookUrl>()?)
    }

    async fn send(&self, url: Url, message: &Message) -> Result<Response, reqwest::Error> {
        let client = if url.scheme() == "https" { &self.encrypted } else { &self.plain };
        client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", message.timestamp)
            .header("webhook-signature", &message.signature)
            .body(message.body.clone())
            .send()
            .await
    }
}

#[async_trait]
impl Courier for HttpCourier {
    async fn carry(&self, message: &Message) -> Tried {
        let url = match self.url(&message.url) {
            Ok(url) => url,
            // The setting was another one when the task was accepted.
            Err(InvalidValue(wrong)) => return Tried::Refused(format!("the URL {wrong}")),
        };
        match self.send(url, message).await {
            Ok(response) => answered(response.status()),
            Err(error) => Tried::Failed(failure(&error.without_url())),
        }
    }
}

fn client(networks: Networks, encrypted: bool) -> Result<Client, reqwest::Error> {
    Client::builder()
        .user_agent(concat!("morag-ingest/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(AdmittedAddresses { networks, encrypted })
        // A proxy would resolve the name itself.
        .no_proxy()
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        .timeout(WHOLE_TRY)
        .http1_only()
        .pool_max_idle_per_host(0)
        .https_only(encrypted)
        .build()
}

fn answered(status: StatusCode) -> Tried {
    match status {
        status if status.is_success() => Tried::Taken,
        StatusCode::GONE => Tried::Refused(format!("the receiver answered {status}")),
        status if status.is_redirection() => Tried::Failed(format!(
            "the receiver answered {status}; redirects are not followed, name the URL that it leads to in webhook_url"
        )),
        status => Tried::Failed(format!("the receiver answered {status}")),
    }
}

fn failure(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", WHOLE_TRY.as_secs());
    }
    // The outer errors say that a request failed; the innermost says why.
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
