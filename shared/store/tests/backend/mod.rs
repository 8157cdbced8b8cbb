//! Where the tests of the store and of the use cases keep their jobs and files: in the embedded engines, or, with
//! `MORAG_TEST_DYNAMODB=http://127.0.0.1:<port>`, jobs in the DynamoDB that listens there. The tests are the same.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use engines::Engines;
use http_body_util::{BodyExt, Full};
use store::{Connection, Endpoint};
use uuid::Uuid;

/// What presigned URLs begin with.
pub(crate) const S3_URL: &str = "http://127.0.0.1:9000";

/// How long rows of ended jobs stay.
pub(crate) const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// The engines of one test, with a table and a bucket of its own.
pub(crate) struct Backend {
    pub(crate) engines: Engines,
    pub(crate) connection: Connection,
}

/// Where a DynamoDB listens that takes the place of the embedded engine.
pub(crate) fn other_dynamodb() -> Option<String> {
    std::env::var("MORAG_TEST_DYNAMODB").ok().filter(|url| !url.is_empty())
}

impl Backend {
    pub(crate) fn new() -> Self {
        let mut backend = Self::embedded();
        if let (Some(other), Endpoint::At { url, http, .. }) =
            (other_dynamodb(), &mut backend.connection.dynamodb)
        {
            *url = other;
            *http = None;
        }
        backend
    }

    /// The embedded engines, whatever the environment says.
    pub(crate) fn embedded() -> Self {
        let engines = Engines::in_memory().unwrap();
        let key = engines.s3_credentials();
        let credentials = (key.access_key_id().to_owned(), key.secret_access_key().to_owned());
        let connection = Connection {
            table: format!("jobs-{}", Uuid::new_v4()),
            bucket: "handoff".to_owned(),
            shards: 1,
            retention: RETENTION,
            dynamodb: Endpoint::At {
                url: "http://dynamodb.embedded".to_owned(),
                credentials: ("any".to_owned(), "any".to_owned()),
                http: Some(engines.dynamodb_http()),
            },
            s3: Endpoint::At { url: S3_URL.to_owned(), credentials, http: Some(engines.s3_http()) },
        };
        Self { engines, connection }
    }

    /// Sends a presigned request as a client would that knows nothing of AWS: the status and the body that come back.
    pub(crate) async fn send(
        &self,
        method: &str,
        url: &str,
        headers: &BTreeMap<String, String>,
        body: impl Into<Bytes>,
    ) -> (http::response::Parts, Bytes) {
        let uri: http::Uri = url.parse().unwrap();
        let mut request = http::Request::builder()
            .method(method)
            .uri(uri.path_and_query().unwrap().as_str())
            .header("host", uri.authority().unwrap().as_str());
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
            request = request.header(name, value);
        }
        let response = self.engines.serve_s3(request.body(Full::new(body.into())).unwrap()).await;
        let (parts, body) = response.into_parts();
        (parts, body.collect().await.unwrap().to_bytes())
    }
}
