//! A function as the program that AWS runs, under as much of the Lambda Runtime API as it takes.
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::{
    convert::Infallible,
    net::Ipv4Addr,
    process::Stdio,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use api::Function;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use system_tests::binary;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    sync::{Mutex, mpsc},
    task::JoinHandle,
};

use crate::scene::{Answered, NAME, Scene, Wanted};

/// How long a program may take to start and to answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    events: mpsc::Sender<Value>,
    answers: mpsc::Receiver<Value>,
    accepting: JoinHandle<()>,
}

/// What the runtime asks for and says.
struct RuntimeApi {
    events: Mutex<mpsc::Receiver<Value>>,
    answers: mpsc::Sender<Value>,
}

/// The program of a function.
pub(crate) fn program(function: Function) -> &'static str {
    match function {
        Function::CreateJob => "create-job",
        Function::PollJobs => "poll-jobs",
        Function::ReportProgress => "report-progress",
        Function::SubmitResult => "submit-result",
        Function::JobStatus => "job-status",
        Function::DownloadSource => "download-source",
        Function::ManageJob => "manage-job",
        Function::Gateway => "gateway",
    }
}

impl Process {
    /// Starts a function whose DynamoDB and S3 are at these URLs.
    pub(crate) async fn start(scene: &Scene, function: Function, dynamodb: &str, s3: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let ((events, to_ask), (answers, answered)) = (mpsc::channel(1), mpsc::channel(1));
        let runtime = Arc::new(RuntimeApi { events: Mutex::new(to_ask), answers });
        let accepting = tokio::spawn(accept(listener, runtime));
        let key = scene.embedded.s3_credentials();
        let child = Command::new(binary(program(function)))
            .env_clear()
            .envs([("MORAG_TABLE", NAME), ("MORAG_BUCKET", NAME), ("MORAG_LOG_LEVEL", "ERROR")])
            .envs([("AWS_ENDPOINT_URL_DYNAMODB", dynamodb), ("AWS_ENDPOINT_URL_S3", s3)])
            .envs([("AWS_ACCESS_KEY_ID", key.access_key_id()), ("AWS_REGION", "us-east-1")])
            .env("AWS_SECRET_ACCESS_KEY", key.secret_access_key())
            .envs([("AWS_LAMBDA_RUNTIME_API", address.as_str()), ("AWS_LAMBDA_FUNCTION_NAME", "function")])
            .envs([("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"), ("AWS_LAMBDA_FUNCTION_VERSION", "1")])
            .envs([("AWS_LAMBDA_LOG_STREAM_NAME", "log"), ("AWS_LAMBDA_LOG_GROUP_NAME", "log")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, events, answers: answered, accepting }
    }

    /// Lets it answer a call.
    pub(crate) async fn ask(&mut self, request: &runtime::Request) -> Answered {
        self.events.send(event(request)).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, self.answers.recv()).await.unwrap().unwrap();
        let headers = &answer["headers"];
        let body = serde_json::from_str(answer["body"].as_str().unwrap_or_default()).unwrap_or_default();
        Answered {
            status: answer["statusCode"].as_u64().and_then(|status| status.try_into().ok()).unwrap_or(0),
            retry_after: headers["retry-after"].is_string(),
            body: headers.get("location").cloned().unwrap_or(body),
        }
    }

    /// Kills it, wherever it is.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, runtime: Arc<RuntimeApi>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let runtime = Arc::clone(&runtime);
        let answer = service_fn(move |request| {
            let runtime = Arc::clone(&runtime);
            async move { Ok::<_, Infallible>(runtime.answer(request).await) }
        });
        let serving =
            async move { drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await) };
        tokio::spawn(serving);
    }
}

impl RuntimeApi {
    async fn answer(&self, request: http::Request<Incoming>) -> http::Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        if parts.uri.path().ends_with("/invocation/next") {
            return self.next().await;
        }
        // An answer, or the error of a function that failed, which no function here gives.
        assert!(parts.uri.path().ends_with("/response"), "{}: {body:?}", parts.uri.path());
        self.answers.send(serde_json::from_slice(&body).unwrap()).await.unwrap();
        http::Response::builder().status(202).body(Full::default()).unwrap()
    }

    async fn next(&self) -> http::Response<Full<Bytes>> {
        let Some(event) = self.events.lock().await.recv().await else { return std::future::pending().await };
        let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(28);
        http::Response::builder()
            .header("lambda-runtime-aws-request-id", uuid::Uuid::new_v4().to_string())
            .header("lambda-runtime-deadline-ms", deadline.as_millis().to_string())
            .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:1:function:function")
            .header("content-type", "application/json")
            .body(Full::from(event.to_string()))
            .unwrap()
    }
}

/// A request as an HTTP API hands it on.
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>
fn event(request: &runtime::Request) -> Value {
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.to_string(), Value::from(value.to_str().unwrap()))
    };
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query,
        "headers": request.headers().iter().map(header).collect::<serde_json::Map<_, _>>(),
        "requestContext": {
            "accountId": "1", "apiId": "api", "domainName": "api.example", "domainPrefix": "api",
            "requestId": "1", "routeKey": "$default", "stage": "$default", "time": "01/Jan/2026:00:00:00 +0000",
            "timeEpoch": 1_767_225_600_000_i64,
            "http": {
                "method": request.method().as_str(), "path": path, "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1", "userAgent": "test",
            },
        },
        "body": std::str::from_utf8(request.body()).unwrap(), "isBase64Encoded": false,
    })
}

/// The function that answers a call.
pub(crate) fn function_asked(wanted: &Wanted) -> Option<Function> {
    match wanted {
        Wanted::Call { method, path, .. } => Some(crate::scene::function_of(method, path)),
        Wanted::Sweep | Wanted::Deliver => None,
    }
}
