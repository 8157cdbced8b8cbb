use std::{sync::OnceLock, time::Duration};

use async_trait::async_trait;
use domain::{InvalidValue, Tried};
use reqwest::{Client, Response, StatusCode, Url, header::CONTENT_TYPE, redirect::Policy};
use service::{Courier, Message, WebhookNetworks};

use crate::resolver::AdmittedAddresses;

/// How long a connection may take to be made, and one try as a whole. The Standard Webhooks specification advises 15
/// to 30 seconds.
const CONNECT: Duration = Duration::from_secs(5);
const WHOLE_TRY: Duration = Duration::from_secs(15);
/// How much of an answer's body is read, and for how long, so that a receiver can finish its answer. Nobody looks at
/// it.
const MOST_BODY: usize = 16 << 10;
const BODY: Duration = Duration::from_secs(1);

/// Carries messages over HTTP/1.1, to admitted addresses only.
pub struct HttpCourier {
    networks: WebhookNetworks,
    whole_try: Duration,
    // Made when they are needed: reading what authorities the system trusts takes longer than a function's start may.
    encrypted: OnceLock<Client>,
    plain: OnceLock<Client>,
}

impl HttpCourier {
    /// A courier that may speak to `networks` besides globally routable addresses.
    #[must_use]
    pub fn new(networks: WebhookNetworks) -> Self {
        Self::within(networks, WHOLE_TRY)
    }

    /// As [`HttpCourier::new`], with another time for a whole try.
    #[must_use]
    pub fn within(networks: WebhookNetworks, whole_try: Duration) -> Self {
        Self { networks, whole_try, encrypted: OnceLock::new(), plain: OnceLock::new() }
    }

    /// The client for one kind of connection.
    fn client(&self, encrypted: bool) -> Result<Client, reqwest::Error> {
        let kept = if encrypted { &self.encrypted } else { &self.plain };
        if let Some(client) = kept.get() {
            return Ok(client.clone());
        }
        let made = client(self.networks.clone(), encrypted, self.whole_try)?;
        // Somebody else may have been faster, and made the same.
        Ok(kept.get_or_init(|| made).clone())
    }

    async fn send(&self, url: Url, message: &Message) -> Result<Response, reqwest::Error> {
        self.client(url.scheme() == "https")?
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", message.id.to_string())
            .header("webhook-timestamp", message.timestamp)
            .header("webhook-signature", &message.signature)
            .body(message.body.clone())
            .send()
            .await
    }

    fn failure(&self, error: &reqwest::Error) -> String {
        if error.is_timeout() && error.is_connect() {
            return format!("no connection within {} s", CONNECT.min(self.whole_try).as_secs_f32());
        }
        if error.is_timeout() {
            return format!("no answer within {} s", self.whole_try.as_secs_f32());
        }
        // The outer errors say that a request failed and repeat its URL; the innermost says why.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        cause.to_string()
    }
}

#[async_trait]
impl Courier for HttpCourier {
    async fn carry(&self, message: &Message) -> Tried {
        let url = match self.networks.url(&message.url) {
            Ok(url) => url,
            // An address does not change, so waiting helps nobody; an operator who changes the setting redrives.
            Err(InvalidValue(wrong)) => return Tried::Refused(format!("the URL {wrong}")),
        };
        match self.send(url, message).await {
            Ok(response) => answered(response).await,
            Err(error) => Tried::Failed(self.failure(&error.without_url())),
        }
    }
}

fn client(networks: WebhookNetworks, encrypted: bool, whole_try: Duration) -> Result<Client, reqwest::Error> {
    // Whoever comes first installs it; that it is there already is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("remote-jobs/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(AdmittedAddresses { networks, encrypted })
        // A proxy would resolve the name itself.
        .no_proxy()
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        .timeout(whole_try)
        .http1_only()
        // What is frozen between two rounds, as a Lambda is, wakes up to connections that are long gone.
        .pool_max_idle_per_host(0)
        .https_only(encrypted)
        .build()
}

async fn answered(response: Response) -> Tried {
    let status = response.status();
    // What matters has arrived; how the rest of it goes changes nothing.
    let _ = tokio::time::timeout(BODY, finished(response)).await;
    match status {
        status if status.is_success() => Tried::Taken,
        StatusCode::GONE => Tried::Refused(format!("the receiver answered {status}")),
        status if status.is_redirection() => Tried::Failed(format!(
            "the receiver answered {status}; redirects are not followed, name the URL that it leads to in webhook_url"
        )),
        status => Tried::Failed(format!("the receiver answered {status}")),
    }
}

/// Reads a little of a body.
async fn finished(mut response: Response) {
    let mut read = 0;
    while read < MOST_BODY {
        match response.chunk().await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) | Err(_) => return,
        }
    }
}
