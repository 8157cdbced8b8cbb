//! The stack, as its outputs describe it.

use std::collections::BTreeMap;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::{Builder, tls};

pub(crate) struct Deployment {
    /// What the API's URLs begin with.
    pub(crate) base: String,
    /// The table's name.
    pub(crate) table: String,
    /// The handoff bucket's name.
    pub(crate) bucket: String,
    /// What clients of the AWS SDK are made of.
    pub(crate) sdk: SdkConfig,
}

impl Deployment {
    /// The stack of `STACK_OUTPUTS`.
    pub(crate) async fn find() -> Self {
        Self::described_by("STACK_OUTPUTS").await
    }

    /// The stack whose outputs are in this environment variable, as `infra/aws/stack.py outputs` prints them.
    pub(crate) async fn described_by(variable: &str) -> Self {
        let text = std::env::var(variable).unwrap_or_else(|_| {
            panic!("{variable} must be a stack's outputs as JSON; `make test-aws` deploys one and sets it")
        });
        let outputs: BTreeMap<String, String> = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("{variable} must be a JSON object of texts, not {text:?}: {error}")
        });
        let output = |name: &str| {
            outputs.get(name).unwrap_or_else(|| panic!("{variable} has no output {name}: {text}")).clone()
        };
        Self {
            base: output("ApiUrl"),
            table: output("TableName"),
            bucket: output("BucketName"),
            sdk: sdk().await,
        }
    }

    /// Whether the API answers what no route takes by itself, instead of asking a function.
    pub(crate) fn is_rest(&self) -> bool {
        self.base.ends_with("/live")
    }

    /// Whether it is another server than AWS.
    pub(crate) fn is_emulated(&self) -> bool {
        self.sdk.endpoint_url().is_some()
    }

    /// A client of the table's service.
    pub(crate) fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.sdk)
    }

    /// A client of the object store.
    pub(crate) fn s3(&self) -> aws_sdk_s3::Client {
        // A server on this machine has no name for each bucket.
        let config = aws_sdk_s3::config::Builder::from(&self.sdk).force_path_style(self.is_emulated());
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// The keys of all objects of a tenant.
    pub(crate) async fn objects_of(&self, tenant: &str) -> Vec<String> {
        let s3 = self.s3();
        let mut keys = Vec::new();
        for folder in ["sources", "options", "results"] {
            let list = s3.list_objects_v2().bucket(&self.bucket).prefix(format!("{folder}/{tenant}/"));
            let page = list.send().await.unwrap();
            keys.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
        }
        keys
    }
}

async fn sdk() -> SdkConfig {
    let http = Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring));
    aws_config::defaults(BehaviorVersion::latest()).http_client(http.build_https()).load().await
}
