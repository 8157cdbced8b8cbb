use std::{
    fmt,
    sync::{Arc, Mutex},
};

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector, http_client_fn,
    },
    orchestrator::HttpRequest,
};
use serde_json::Value;

/// A request that was made, and the status that it was answered with.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The HTTP method.
    pub method: String,
    /// The path and the query.
    pub target: String,
    /// The operation of DynamoDB or SQS; empty for S3.
    pub operation: String,
    /// Empty when it was streamed.
    pub body: String,
    /// The status of the answer.
    pub status: u16,
}

impl Seen {
    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What was seen since it was last asked for.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Vec<Seen>>>);

impl Recorder {
    /// An HTTP client that writes down what it hands on to `inner`.
    #[must_use]
    pub fn before(&self, inner: SharedHttpClient) -> SharedHttpClient {
        let recorder = self.clone();
        http_client_fn(move |settings: &HttpConnectorSettings, components| {
            let inner = inner.http_connector(settings, components);
            SharedHttpConnector::new(Connector { inner, recorder: recorder.clone() })
        })
    }

    /// What was seen since, in the order in which it was answered.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

struct Connector {
    inner: SharedHttpConnector,
    recorder: Recorder,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("recorder")
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri: http::Uri = request.uri().parse().unwrap();
        let operation = request.headers().get("x-amz-target").unwrap_or_default();
        let mut seen = Seen {
            method: request.method().to_owned(),
            target: uri.path_and_query().unwrap().to_string(),
            operation: operation.rsplit('.').next().unwrap_or_default().to_owned(),
            body: String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned(),
            status: 0,
        };
        let (answer, recorder) = (self.inner.call(request), self.recorder.clone());
        HttpConnectorFuture::new(async move {
            let answer = answer.await?;
            seen.status = answer.status().as_u16();
            recorder.0.lock().unwrap().push(seen);
            Ok(answer)
        })
    }
}
