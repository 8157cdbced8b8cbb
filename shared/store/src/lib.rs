//! The DynamoDB table of jobs and the S3 handoff. Only this crate imports the AWS SDK.
//!
//! There is one implementation, and it talks to AWS, LocalStack, DynamoDB Local or the embedded engines: only the
//! endpoint differs. No write is unconditional, and a failed condition is a typed outcome, never an error.

mod connect;
mod error;
mod handoff;
mod keys;
mod meter;
mod row;
mod storage_key;
mod table;

pub use connect::{Connection, Endpoint, Store};
pub use error::StoreError;
pub use handoff::{Handoff, Object, Part, Presigned, SignedPart};
pub use keys::{KeyRecord, KeyTable};
pub use meter::{Meter, Units};
pub use storage_key::StorageKey;
pub use table::{Creation, Due, JobTable, LiveHint, LivePage, Replacement};
