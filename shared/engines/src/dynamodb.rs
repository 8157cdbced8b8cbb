use std::fmt;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::error::{OpenError, SweepError};
use crate::folder::{Folder, create_private};

const TARGET_PREFIX: &str = "DynamoDB_20120810.";
const CONTENT_TYPE: &str = "application/x-amz-json-1.0";
const UNKNOWN_OPERATION: &str = r#"{"__type":"com.amazon.coral.service#UnknownOperationException"}"#;

/// The DynamoDB engine. It holds the data folder for as long as a call may still write to it.
pub(crate) struct DynamoDb {
    database: Database,
    _folder: Arc<Folder>,
}

impl DynamoDb {
    pub(crate) fn open(folder: Arc<Folder>) -> Result<Self, OpenError> {
        // In a folder of its own that is private, because the data folder may have been made by somebody else and
        // SQLite makes its files as the umask says.
        let private = folder.path().join("tables");
        create_private(&private).map_err(OpenError::file(&private))?;
        let path = private.join("dynamodb.sqlite");
        let database = match path.to_str() {
            Some(text) => Database::new(text).map_err(Into::into),
            None => Err("the path is not UTF-8".into()),
        };
        let database = database.map_err(|source| OpenError::DynamoDb { path, source })?;
        Ok(Self { database, _folder: folder })
    }

    pub(crate) fn in_memory(folder: Arc<Folder>) -> Result<Self, OpenError> {
        let database = Database::memory()
            .map_err(|source| OpenError::DynamoDb { path: ":memory:".into(), source: source.into() })?;
        Ok(Self { database, _folder: folder })
    }
}

/// Deletes the items whose time to live has passed by the system's clock.
pub(crate) async fn sweep(engine: Arc<DynamoDb>) -> Result<usize, SweepError> {
    tokio::task::spawn_blocking(move || engine.database.sweep_ttl())
        .await
        .map_err(SweepError::dynamodb)?
        .map_err(SweepError::dynamodb)
}

pub(crate) fn http_client(engine: Arc<DynamoDb>) -> SharedHttpClient {
    let connector = SharedHttpConnector::new(Connector(engine));
    http_client_fn(move |_, _| connector.clone())
}

struct Connector(Arc<DynamoDb>);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("embedded DynamoDB")
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let engine = Arc::clone(&self.0);
        HttpConnectorFuture::new(async move {
            let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
            let body = request.body().bytes().map(Bytes::copy_from_slice).unwrap_or_default();
            // SQLite works on the thread that calls it, and waits for the disk there.
            tokio::task::spawn_blocking(move || answer(&engine.database, &target, &body))
                .await
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

fn answer(database: &Database, target: &str, body: &[u8]) -> HttpResponse {
    let result = target.strip_prefix(TARGET_PREFIX).and_then(|operation| dispatch(database, operation, body));
    match result {
        Some(Ok(json)) => response(200, json),
        Some(Err(error)) => {
            if error.status_code() >= 500 {
                tracing::error!(%error, target, "the embedded DynamoDB failed");
            }
            response(error.status_code(), error.to_json())
        }
        None => response(400, UNKNOWN_OPERATION.to_owned()),
    }
}

fn response(status: u16, json: String) -> HttpResponse {
    let status =
        StatusCode::try_from(status).unwrap_or_else(|_| StatusCode::from(http::StatusCode::BAD_GATEWAY));
    let mut response = HttpResponse::new(status, SdkBody::from(json));
    response.headers_mut().insert("content-type", CONTENT_TYPE);
    response.headers_mut().insert("x-amzn-requestid", Uuid::new_v4().simple().to_string());
    response
}

/// Runs one operation; `None` if there is no such operation here.
fn dispatch(db: &Database, operation: &str, body: &[u8]) -> Option<Result<String, DynoxideError>> {
    let result = match operation {
        "BatchExecuteStatement" => run(body, |request| db.batch_execute_statement(request)),
        "BatchGetItem" => run(body, |request| db.batch_get_item(request)),
        "BatchWriteItem" => run(body, |request| db.batch_write_item(request)),
        "CreateTable" => without_streams(body).and_then(|()| run(body, |request| db.create_table(request))),
        "DeleteItem" => run(body, |request| db.delete_item(request)),
        "DeleteTable" => run(body, |request| db.delete_table(request)),
        "DescribeTable" => run(body, |request| db.describe_table(request)),
        "DescribeTimeToLive" => run(body, |request| db.describe_time_to_live(request)),
        "ExecuteStatement" => run(body, |request| db.execute_statement(request)),
        "ExecuteTransaction" => run(body, |request| db.execute_transaction(request)),
        "GetItem" => run(body, |request| db.get_item(request)),
        "ListTables" => run(body, |request| db.list_tables(request)),
        "ListTagsOfResource" => run(body, |request| db.list_tags_of_resource(request)),
        "PutItem" => run(body, |request| db.put_item(request)),
        "Query" => run(body, |request| db.query(request)),
        "Scan" => run(body, |request| db.scan(request)),
        "TagResource" => run(body, |request| db.tag_resource(request)),
        "TransactGetItems" => run(body, |request| db.transact_get_items(request)),
        "TransactWriteItems" => run(body, |request| db.transact_write_items(request)),
        "UntagResource" => run(body, |request| db.untag_resource(request)),
        "UpdateItem" => run(body, |request| db.update_item(request)),
        "UpdateTable" => without_streams(body).and_then(|()| run(body, |request| db.update_table(request))),
        "UpdateTimeToLive" => run(body, |request| db.update_time_to_live(request)),
        _ => return None,
    };
    Some(result.map_err(|error| in_envelope(operation, error)))
}

fn run<Q, A>(body: &[u8], call: impl FnOnce(Q) -> Result<A, DynoxideError>) -> Result<String, DynoxideError>
where
    Q: DeserializeOwned,
    A: Serialize,
{
    let request = serde_json::from_slice(body).map_err(|error| malformed(&error.to_string()))?;
    let answer = call(request)?;
    serde_json::to_string(&answer).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

/// With streams on, every write would scan all the stream's records: the engine gets slower with each write.
fn without_streams(body: &[u8]) -> Result<(), DynoxideError> {
    let request: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| malformed(&error.to_string()))?;
    if request["StreamSpecification"]["StreamEnabled"] == true {
        return Err(DynoxideError::ValidationException("The embedded engine has no streams".to_owned()));
    }
    Ok(())
}

/// The engine's types mark which DynamoDB error a value they refuse stands for; a value of the wrong JSON type
/// has no mark.
fn malformed(message: &str) -> DynoxideError {
    let bare = message.rsplit_once(" at line ").map_or(message, |(bare, _)| bare);
    let marked = |mark: &str| bare.strip_prefix(mark).map(str::to_owned);
    if let Some(bare) = marked("VALIDATION_REQUEST:") {
        DynoxideError::EnvelopedValidation(bare)
    } else if let Some(bare) = marked("VALIDATION_AS_READ:").or_else(|| marked("VALIDATION:")) {
        DynoxideError::ValidationException(bare)
    } else if let Some(bare) = marked("SERIALIZATION_AS_READ:").or_else(|| marked("SERIALIZATION:")) {
        DynoxideError::SerializationException(bare)
    } else if ["missing field", "unknown variant", "invalid type: null", "AttributeValue"]
        .iter()
        .any(|sign| bare.contains(sign))
    {
        DynoxideError::ValidationException(bare.to_owned())
    } else {
        DynoxideError::SerializationException(bare.to_owned())
    }
}

/// DynamoDB words the same refusal differently for the calls that write one item.
fn in_envelope(operation: &str, error: DynoxideError) -> DynoxideError {
    if let DynoxideError::EnvelopedValidation(message) = &error {
        return DynoxideError::ValidationException(match operation {
            "PutItem" | "UpdateItem" | "DeleteItem" => format!("1 validation error detected: {message}"),
            _ => message.clone(),
        });
    }
    error
}
