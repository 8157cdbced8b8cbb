//! As much of Lambda's Runtime API as a function needs that never fails.
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc},
};

/// How long a function is told that it has for an event.
const TIMEOUT: Duration = Duration::from_secs(28);
/// How long it may take to start and to answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Hands one function its events, one at a time.
pub struct RuntimeApi {
    address: SocketAddr,
    events: mpsc::Sender<Bytes>,
    answers: Mutex<mpsc::Receiver<Bytes>>,
}

struct Sides {
    events: Mutex<mpsc::Receiver<Bytes>>,
    answers: mpsc::Sender<Bytes>,
}

impl RuntimeApi {
    /// At a free port of loopback, until the test's runtime ends.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (events, received) = mpsc::channel(1);
        let (sent, answers) = mpsc::channel(1);
        let sides = Arc::new(Sides { events: Mutex::new(received), answers: sent });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sides = Arc::clone(&sides);
                tokio::spawn(http1::Builder::new().serve_connection(
                    TokioIo::new(stream),
                    service_fn(move |request| answer(Arc::clone(&sides), request)),
                ));
            }
        });
        Self { address, events, answers: Mutex::new(answers) }
    }

    /// What `AWS_LAMBDA_RUNTIME_API` is to be.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What the function answers to an event.
    pub async fn invoke(&self, event: &Value) -> Value {
        self.events.send(event.to_string().into()).await.unwrap();
        let mut answers = self.answers.lock().await;
        let answer = tokio::time::timeout(PATIENCE, answers.recv()).await;
        serde_json::from_slice(&answer.unwrap_or_else(|_| panic!("no answer to {event}")).unwrap()).unwrap()
    }
}

async fn answer(sides: Arc<Sides>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    if path.ends_with("/invocation/next") {
        // A function that is killed while it waits drops this, and nothing is lost.
        let event = sides.events.lock().await.recv().await.unwrap_or_default();
        return Ok(next(event));
    }
    assert!(path.ends_with("/response"), "the function called {path}");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    sides.answers.send(body).await.unwrap();
    Ok(Response::builder().status(202).body(Full::default()).unwrap())
}

fn next(event: Bytes) -> Response<Full<Bytes>> {
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + TIMEOUT;
    Response::builder()
        .header("lambda-runtime-aws-request-id", uuid::Uuid::new_v4().to_string())
        .header("lambda-runtime-deadline-ms", deadline.as_millis().to_string())
        .header(
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:us-east-1:123456789012:function:function",
        )
        .header("lambda-runtime-trace-id", "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0")
        .header("content-type", "application/json")
        .body(Full::new(event))
        .unwrap()
}
