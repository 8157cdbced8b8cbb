use std::{sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_credential_types::Credentials;
use aws_smithy_http_client::{Builder, tls};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use crate::{
    EventTable, Handoff, HintTable, JobTable, KeyTable, Meter, QueueTable, StatisticsTable, StoreError,
    SweepTable, WebhookSecretTable, WorkerTable, dynamodb::Table, table::Layout,
};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(2);
/// How long one attempt at a call of DynamoDB or S3 may take, besides the sending of what is large.
const ATTEMPT: Duration = Duration::from_secs(3);
/// How long such a call may take with all its attempts. A use case gives up at the first call that fails; the one that
/// asks for something else then makes two calls, so that even they and a slow look-up of the key fit into the time of a
/// function. What lasts longer is the caller's to repeat.
pub(crate) const OPERATION: Duration = Duration::from_secs(8);
/// What is slower than this many bytes in a second does not arrive.
pub(crate) const SLOWEST: u64 = 5_000_000;

/// How long a call may take that sends this many bytes.
pub(crate) fn time_for(size_bytes: u64) -> TimeoutConfig {
    let sending = Duration::from_secs(size_bytes / SLOWEST);
    TimeoutConfig::builder()
        .operation_attempt_timeout(ATTEMPT + sending)
        .operation_timeout(OPERATION + sending)
        .build()
}

/// How long it may take to make or set up a table or a bucket. No function does that, and on a slow disk it takes long.
pub(crate) fn time_to_make() -> TimeoutConfig {
    let whole = Duration::from_secs(60);
    TimeoutConfig::builder().operation_attempt_timeout(whole).operation_timeout(whole).build()
}

/// Where the table and the bucket are, and how they are laid out.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The table's name.
    pub table: String,
    /// The handoff bucket's name.
    pub bucket: String,
    /// How many partitions each queue is spread over: 1 for up to 500 short jobs a second, or about 15,000 that run
    /// at once. It may be changed at any time: where there are fewer than before, the next sweep moves the jobs of the others.
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
    /// Where idle workers wait for a hint.
    pub hints: HintTable,
    /// What events are signed with.
    pub webhook_secrets: WebhookSecretTable,
    /// Which workers there are.
    pub workers: WorkerTable,
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
            hints: HintTable { table: table.clone() },
            webhook_secrets: WebhookSecretTable { table: table.clone() },
            workers: WorkerTable { table: table.clone() },
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

pub(crate) async fn sdk_config(endpoint: &Endpoint) -> SdkConfig {
    let http = match endpoint {
        Endpoint::At { http: Some(http), .. } => http.clone(),
        Endpoint::At { http: None, .. } | Endpoint::Environment => Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_https(),
    };
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(
            RetryConfig::standard().with_max_attempts(3).with_max_backoff(Duration::from_millis(500)),
        )
        .timeout_config(time_for(0).into_builder().connect_timeout(CONNECT).build());
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
