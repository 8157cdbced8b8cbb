use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock},
};

use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, SharedHttpConnector, http_client_fn},
    orchestrator::HttpRequest,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use engines::{Engines, S3Body};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use store::{Connection, Endpoint, Store};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::BUCKET;

/// The embedded DynamoDB and S3 on one port of loopback, for programs of other processes. Dropping it stops it.
pub struct EngineServer {
    address: SocketAddr,
    operations: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

/// What answers the requests.
struct Served {
    engines: Engines,
    dynamodb: SharedHttpConnector,
    operations: Arc<Mutex<Vec<String>>>,
}

impl EngineServer {
    /// Starts one over these engines.
    pub async fn start(engines: Engines) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let operations = Arc::default();
        let dynamodb = dynamodb_of(&engines).await;
        let served = Arc::new(Served { engines, dynamodb, operations: Arc::clone(&operations) });
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = Arc::clone(&served);
                let service = service_fn(move |request| {
                    let served = Arc::clone(&served);
                    async move { Ok::<_, Infallible>(served.answer(request).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, operations, task }
    }

    /// What a program's `AWS_ENDPOINT_URL` is to be.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked since this was last called: DynamoDB's operations, and the methods and paths of requests to S3.
    #[must_use]
    pub fn take_operations(&self) -> Vec<String> {
        std::mem::take(&mut self.operations.lock().unwrap())
    }
}

impl Drop for EngineServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    /// Only requests to DynamoDB name an operation in a header.
    async fn answer(&self, request: Request<Incoming>) -> Response<S3Body> {
        let target = request.headers().get("x-amz-target").map(|target| target.to_str().unwrap().to_owned());
        let Some(target) = target else {
            self.operations.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
            return self.engines.serve_s3(request).await;
        };
        self.operations.lock().unwrap().push(target.rsplit('.').next().unwrap_or_default().to_owned());
        let body: Bytes = request.into_body().collect().await.unwrap().to_bytes();
        let mut forwarded = HttpRequest::new(SdkBody::from(body));
        forwarded.headers_mut().insert("x-amz-target", target);
        let answer = self.dynamodb.call(forwarded).await.unwrap().try_into_http1x().unwrap();
        answer.map(|body| S3Body::from(Bytes::copy_from_slice(body.bytes().unwrap())))
    }
}

/// What carries the requests of the engines' HTTP client. Only a client of the SDK can have it made, for its first request.
async fn dynamodb_of(engines: &Engines) -> SharedHttpConnector {
    let made = Arc::new(OnceLock::new());
    let (client, keep) = (engines.dynamodb_http(), Arc::clone(&made));
    let client = http_client_fn(move |settings, components| {
        SharedHttpConnector::clone(keep.get_or_init(|| client.http_connector(settings, components)))
    });
    let at = Endpoint::At {
        url: "http://dynamodb.embedded".to_owned(),
        credentials: ("any".to_owned(), "any".to_owned()),
        http: Some(client),
    };
    let connection = Connection {
        table: "no-such-table".to_owned(),
        bucket: BUCKET.to_owned(),
        shards: 1,
        retention: std::time::Duration::ZERO,
        dynamodb: at.clone(),
        s3: at,
    };
    // That there is no such table is as good an answer as any.
    assert!(Store::connect(&connection).await.sweeps.last().await.is_err());
    made.get().unwrap().clone()
}
