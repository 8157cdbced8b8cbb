//! The DynamoDB table of jobs and the S3 handoff. Only this crate imports the AWS SDK.
//!
//! There is one implementation, and it talks to AWS, LocalStack, DynamoDB Local or the embedded engines: only the
//! endpoint differs. No write but the counting of ended jobs is unconditional, and a failed condition is a
//! typed outcome, never an error.

mod connect;
mod dynamodb;
mod environment;
mod error;
mod events;
mod handoff;
mod hint_queues;
mod hints;
mod keys;
mod listing;
mod meter;
mod queues;
mod row;
mod schema;
mod statistics;
mod storage_key;
mod sweeps;
mod table;
mod webhook_secrets;
mod workers;

pub use connect::{Connection, Endpoint, Store};
pub use environment::{Environment, EnvironmentError, Resource};
pub use error::StoreError;
pub use events::{EVENT_SHARDS, EventHint, EventPage, EventTable};
pub use handoff::{Handoff, Object, Part, Presigned, SignedPart};
pub use hint_queues::{HintQueues, HintUrl};
pub use hints::{HintClass, HintClasses, HintTable};
pub use keys::{KeyRecord, KeyTable};
pub use listing::{Place, Shelf, Stretch};
pub use meter::{Meter, Units};
pub use queues::QueueTable;
pub use statistics::{DayCounts, Ended, StatisticsTable, Types};
pub use storage_key::StorageKey;
pub use sweeps::{Depth, Depths, SweepRecord, SweepTable};
pub use table::{Creation, Deletion, Due, JobTable, LiveHint, LivePage, LivePlace, Replacement};
pub use webhook_secrets::{PreviousSecret, SigningSecret, WebhookSecretTable, WebhookSecrets};
pub use workers::{WorkerRecord, WorkerTable, Workers};
