//! The SQS queues on which idle workers wait for a hint that there is work.

use std::time::{Duration, SystemTime};

use aws_config::{SdkConfig, timeout::TimeoutConfig};
use aws_credential_types::{Credentials, provider::ProvideCredentials};
use aws_sdk_sqs::{Client, types::QueueAttributeName};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4::SigningParams,
};
use http::Uri;

use crate::{Endpoint, StoreError, connect::sdk_config};

/// What the queues are made with. Their names say which: a queue that is there with others cannot be made.
const ATTRIBUTES: [(QueueAttributeName, &str); 4] = [
    // A hint that nobody takes for so long is old news, and the next sweep gives another.
    (QueueAttributeName::MessageRetentionPeriod, "120"),
    // Longer than that, so that a hint is taken once and nobody needs to delete it.
    (QueueAttributeName::VisibilityTimeout, "300"),
    (QueueAttributeName::ReceiveMessageWaitTimeSeconds, "20"),
    (QueueAttributeName::SqsManagedSseEnabled, "true"),
];

/// How long a hint may take. Who makes a job due waits for it.
const SENDING: Duration = Duration::from_secs(1);
/// How long it may take to make a queue.
const CREATING: Duration = Duration::from_secs(5);
/// How often a request is begun anew within that time: once.
const ATTEMPTS: u32 = 2;
/// How long a receiver waits for a message, in seconds: as long as SQS lets it.
const WAIT_SECONDS: u64 = 20;
/// The most messages that SQS gives at once.
const MOST_MESSAGES: u64 = 10;

/// The queues of hints, whose names begin alike.
#[derive(Clone, Debug)]
pub struct HintQueues {
    client: Client,
    config: SdkConfig,
    /// Where requests go instead of to AWS.
    endpoint: Option<String>,
    prefix: String,
}

/// A request for a hint that anyone can make who has it. It is a secret.
#[derive(Clone)]
pub struct HintUrl {
    /// The URL, signature included.
    pub url: String,
    /// How long it is valid.
    pub valid: Duration,
}

impl std::fmt::Debug for HintUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HintUrl({}?…)", self.url.split('?').next().unwrap_or_default())
    }
}

impl HintQueues {
    /// How long a hint can be held back: as long as its queue keeps it, less what a worker needs to take it.
    pub const LONGEST_DELAY: Duration = Duration::from_secs(60);

    /// What tells these queues from those that were made with other attributes. It belongs into their names.
    pub const LAYOUT: &str = "1";

    /// Makes the client. Nothing is sent yet. `prefix` is what the names of the queues begin with.
    pub async fn connect(prefix: String, endpoint: &Endpoint) -> Self {
        let config = sdk_config(endpoint).await;
        let within = aws_sdk_sqs::config::Builder::from(&config)
            .retry_config(aws_config::retry::RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(time_for(SENDING))
            .build();
        let own = std::env::var("AWS_ENDPOINT_URL_SQS").ok().filter(|url| !url.is_empty());
        let endpoint = match endpoint {
            Endpoint::Environment => own.or_else(|| config.endpoint_url().map(str::to_owned)),
            Endpoint::At { url, .. } => Some(url.clone()),
        };
        Self { client: Client::from_conf(within), config, endpoint, prefix }
    }

    /// Makes the queue of this name unless it is there, and gives its URL.
    ///
    /// # Errors
    /// [`StoreError`] when SQS does not answer.
    pub async fn create(&self, name: &str) -> Result<String, StoreError> {
        let attributes = ATTRIBUTES.map(|(name, value)| (name, value.to_owned()));
        let output = self
            .client
            .create_queue()
            .queue_name(format!("{}{name}", self.prefix))
            .set_attributes(Some(attributes.into()))
            .customize()
            .config_override(aws_sdk_sqs::config::Config::builder().timeout_config(time_for(CREATING)))
            .send()
            .await
            .map_err(|error| StoreError::of("create hint queue", error))?;
        output.queue_url.ok_or_else(|| failed("create hint queue", "the answer has no URL".to_owned()))
    }

    /// Sends a hint that can be received after `delay`, which is at most [`Self::LONGEST_DELAY`]. Takes no longer than about a
    /// second.
    ///
    /// # Errors
    /// [`StoreError`] when SQS does not take it.
    pub async fn send(&self, queue_url: &str, delay: Duration) -> Result<(), StoreError> {
        // A worker that comes a moment too early finds nothing.
        let delay = i32::try_from(delay.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
        self.client
            .send_message()
            .queue_url(queue_url)
            .message_body("hint")
            .delay_seconds(delay)
            .send()
            .await
            .map(|_| ())
            .map_err(|error| StoreError::of("send hint", error))
    }

    /// A GET that waits up to 20 seconds for hints, at most `most` of them, and that anyone can make who has it. It is
    /// valid for `valid`, or for as long as the credentials that sign it, if that is shorter.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be signed.
    pub async fn presign_receive(
        &self,
        queue_url: &str,
        most: u64,
        valid: Duration,
    ) -> Result<HintUrl, StoreError> {
        let Some(provider) = self.config.credentials_provider() else {
            return Err(failed("presign hint", "there are no credentials".to_owned()));
        };
        let credentials = provider.provide_credentials().await.map_err(|error| StoreError::Unavailable {
            operation: "presign hint",
            cause: error.to_string(),
        })?;
        let left = credentials.expiry().map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
        let valid = left.map_or(valid, |left| left.min(valid));
        let most = most.clamp(1, MOST_MESSAGES);
        let url = format!(
            "{}?Action=ReceiveMessage&MaxNumberOfMessages={most}&Version=2012-11-05&WaitTimeSeconds={WAIT_SECONDS}",
            self.reachable(queue_url)?
        );
        let url = self.signed(url, credentials, valid)?;
        Ok(HintUrl { url, valid })
    }

    /// The queue's URL at the endpoint that requests go to, which emulators of AWS do not always name themselves.
    fn reachable(&self, queue_url: &str) -> Result<String, StoreError> {
        let Some(endpoint) = &self.endpoint else { return Ok(queue_url.to_owned()) };
        let uri: Uri =
            queue_url.parse().map_err(|_| failed("presign hint", "the queue has no URL".to_owned()))?;
        Ok(format!("{}{}", endpoint.trim_end_matches('/'), uri.path()))
    }

    /// Signs a GET by its query, as SigV4 has it.
    fn signed(&self, url: String, credentials: Credentials, valid: Duration) -> Result<String, StoreError> {
        let failed = |cause: String| failed("presign hint", cause);
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(valid);
        let identity = credentials.into();
        let region = self.config.region().map_or("us-east-1", |region| region.as_ref());
        let params = SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name("sqs")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let mut request =
            http::Request::get(url.clone()).body(()).map_err(|error| failed(error.to_string()))?;
        let signable = SignableRequest::new("GET", url, std::iter::empty(), SignableBody::Bytes(&[]))
            .map_err(|error| failed(error.to_string()))?;
        let (instructions, _) =
            sign(signable, &params.into()).map_err(|error| failed(error.to_string()))?.into_parts();
        instructions.apply_to_request_http1x(&mut request);
        Ok(request.uri().to_string())
    }
}

fn time_for(whole: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().operation_attempt_timeout(whole).operation_timeout(whole).build()
}

fn failed(operation: &'static str, cause: String) -> StoreError {
    StoreError::Rejected { operation, code: None, message: None, cause }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aws_config::{BehaviorVersion, Region};
    use aws_credential_types::provider::SharedCredentialsProvider;
    use hmac::{Hmac, Mac};
    use sha2::{Digest, Sha256};

    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const HOST: &str = "sqs.eu-central-1.amazonaws.com";
    const PATH: &str = "/123456789012/stack-hints-1";

    /// The queues of a function, whose credentials come with a session token.
    fn queues() -> HintQueues {
        let credentials =
            Credentials::new("AKIDEXAMPLE", SECRET, Some("token/with+signs=".to_owned()), None, "test");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build();
        HintQueues { client: Client::new(&config), config, endpoint: None, prefix: "stack-hints-".to_owned() }
    }

    fn hmac(key: &[u8], text: &str) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    }

    /// The signature of a GET of the queue by this query, encoded as it is sent.
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>
    fn signature(query: &BTreeMap<String, String>) -> String {
        let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let nothing = hex::encode(Sha256::digest(b""));
        let canonical = format!("GET\n{PATH}\n{}\nhost:{HOST}\n\nhost\n{nothing}", pairs.join("&"));
        let date = &query["X-Amz-Date"];
        let scope = format!("{}/eu-central-1/sqs/aws4_request", &date[..8]);
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
        let key = scope.split('/').fold(format!("AWS4{SECRET}").into_bytes(), |key, part| hmac(&key, part));
        hex::encode(hmac(&key, &to_sign))
    }

    #[tokio::test]
    async fn a_url_is_signed_with_all_that_it_says() {
        let queue = format!("https://{HOST}{PATH}");
        let hint = queues().presign_receive(&queue, 3, Duration::from_secs(900)).await.unwrap();
        let (place, query) = hint.url.split_once('?').unwrap();
        assert_eq!((place, hint.valid), (queue.as_str(), Duration::from_secs(900)));
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap());
        let mut query: BTreeMap<_, _> =
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let given = query.remove("X-Amz-Signature").unwrap();
        for (name, value) in [
            ("Action", "ReceiveMessage"),
            ("MaxNumberOfMessages", "3"),
            ("WaitTimeSeconds", "20"),
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Expires", "900"),
            ("X-Amz-Security-Token", "token%2Fwith%2Bsigns%3D"),
            ("X-Amz-SignedHeaders", "host"),
        ] {
            assert_eq!(query[name], value, "{name}");
        }
        let scope = format!("%2F{}%2Feu-central-1%2Fsqs%2Faws4_request", &query["X-Amz-Date"][..8]);
        assert_eq!(query["X-Amz-Credential"], format!("AKIDEXAMPLE{scope}"));
        assert_eq!(signature(&query), given);
        for name in query.keys() {
            let mut changed = query.clone();
            changed.get_mut(name).unwrap().push('0');
            assert_ne!(signature(&changed), given, "{name}");
            changed.remove(name);
            if name != "X-Amz-Date" {
                assert_ne!(signature(&changed), given, "{name}");
            }
        }
    }
}
