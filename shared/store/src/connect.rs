use std::{sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_credential_types::Credentials;
use aws_smithy_http_client::{Builder, tls};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use crate::{
    EventTable, Handoff, JobTable, KeyTable, Meter, QueueTable, StatisticsTable, StoreError, SweepTable,
    WebhookSecretTable, dynamodb::Table, table::Layout,
};

/// Where the table and the bucket are, and how they are laid out.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The table's name.
    pub table: String,
    /// The handoff bucket's name.
    pub bucket: String,
    /// How many partitions each queue is spread over: 1 for up to about 250 jobs a second. Changing it strands no
    /// job only while no job is live.
    pub shards: u32,
    /// How long a job's row stays after its end.
    pub retention: Duration,
    /// Where DynamoDB is.
    pub dynamodb: Endpoint,
    /// Where S3 is.
    pub s3: Endpoint,
}

/// A service to talk to.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// As the environment says: AWS, or what `AWS_ENDPOINT_URL` names.
    Environment,
    /// An engine in this process, or a server on this machine.
    At {
        /// Its URL. For S3 it is also what presigned URLs begin with.
        url: String,
        /// The access key id and secret access key to sign with.
        credentials: (String, String),
        /// What carries the requests instead of the network.
        http: Option<SharedHttpClient>,
    },
}

/// The table and the handoff.
#[derive(Clone, Debug)]
pub struct Store {
    /// The jobs.
    pub jobs: JobTable,
    /// What their webhooks are to be told.
    pub events: EventTable,
    /// Which queues are paused.
    pub queues: QueueTable,
    /// How many jobs ended, and how long conversions took.
    pub statistics: StatisticsTable,
    /// What the sweeps saw.
    pub sweeps: SweepTable,
    /// The API keys.
    pub keys: KeyTable,
    /// What events are signed with.
    pub webhook_secrets: WebhookSecretTable,
    /// The files.
    pub handoff: Handoff,
    /// What DynamoDB has charged.
    pub meter: Arc<Meter>,
}

impl Store {
    /// Makes the clients. Nothing is sent yet.
    pub async fn connect(connection: &Connection) -> Self {
        let client = aws_sdk_dynamodb::Client::new(&sdk_config(&connection.dynamodb).await);
        let layout = Layout { shards: connection.shards.max(1), retention: connection.retention };
        let handoff = Handoff::new(&sdk_config(&connection.s3).await, connection.bucket.clone());
        let table = Table { client, name: connection.table.clone(), meter: Arc::default() };
        Self::over(&table, layout, handoff)
    }

    fn over(table: &Table, layout: Layout, handoff: Handoff) -> Self {
        Self {
            jobs: JobTable { table: table.clone(), layout },
            events: EventTable { table: table.clone(), retention: layout.retention },
            queues: QueueTable { table: table.clone() },
            statistics: StatisticsTable { table: table.clone() },
            sweeps: SweepTable { table: table.clone() },
            keys: KeyTable { table: table.clone() },
            webhook_secrets: WebhookSecretTable { table: table.clone() },
            handoff,
            meter: Arc::clone(&table.meter),
        }
    }

    /// The same store with a meter of its own, for work whose units are counted apart. They count in this one's too.
    #[must_use]
    pub fn metered(&self) -> Self {
        let meter = Arc::new(Meter::within(&self.meter));
        let table = Table { meter, ..self.jobs.table.clone() };
        Self::over(&table, self.jobs.layout, self.handoff.clone())
    }

    /// Makes the table and the bucket if they are not there: on one machine and in tests.
    ///
    /// # Errors
    /// [`StoreError`] when either cannot be made.
    pub async fn ensure(&self) -> Result<(), StoreError> {
        self.jobs.table.ensure().await?;
        self.handoff.ensure().await
    }
}

async fn sdk_config(endpoint: &Endpoint) -> SdkConfig {
    let http = match endpoint {
        Endpoint::At { http: Some(http), .. } => http.clone(),
        Endpoint::At { http: None, .. } | Endpoint::Environment => Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_https(),
    };
    // Three tries within a few seconds fit into every function's time; what lasts longer is the caller's to repeat.
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(
            RetryConfig::standard().with_max_attempts(3).with_max_backoff(Duration::from_millis(500)),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(2))
                .operation_attempt_timeout(Duration::from_secs(8))
                .operation_timeout(Duration::from_secs(20))
                .build(),
        );
    match endpoint {
        Endpoint::Environment => loader.load().await,
        Endpoint::At { url, credentials: (id, secret), .. } => {
            loader
                .region(Region::from_static("us-east-1"))
                .endpoint_url(url)
                .credentials_provider(Credentials::new(id, secret, None, None, "endpoint"))
                .load()
                .await
        }
    }
}
