//! A function as the program that AWS runs, under as much of the Lambda Runtime API as it takes.
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::process::Stdio;

use api::Function;
use serde_json::{Value, json};
use system_tests::{RuntimeApi, binary, program_of};
use tokio::process::{Child, Command};

use crate::scene::{Answered, NAME, Scene, Wanted};

/// The program. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    api: RuntimeApi,
}

impl Process {
    /// Starts a function whose DynamoDB and S3 are at these URLs.
    pub(crate) async fn start(scene: &Scene, function: Function, dynamodb: &str, s3: &str) -> Self {
        let api = RuntimeApi::start().await;
        let key = scene.embedded.s3_credentials();
        let child = Command::new(binary(program_of(function)))
            .env_clear()
            .envs([("MORAG_TABLE", NAME), ("MORAG_BUCKET", NAME), ("MORAG_LOG_LEVEL", "ERROR")])
            .envs([("AWS_ENDPOINT_URL_DYNAMODB", dynamodb), ("AWS_ENDPOINT_URL_S3", s3)])
            .envs([("AWS_ACCESS_KEY_ID", key.access_key_id()), ("AWS_REGION", "us-east-1")])
            .env("AWS_SECRET_ACCESS_KEY", key.secret_access_key())
            .envs([
                ("AWS_LAMBDA_RUNTIME_API", api.address().as_str()),
                ("AWS_LAMBDA_FUNCTION_NAME", "function"),
            ])
            .envs([("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"), ("AWS_LAMBDA_FUNCTION_VERSION", "1")])
            .envs([("AWS_LAMBDA_LOG_STREAM_NAME", "log"), ("AWS_LAMBDA_LOG_GROUP_NAME", "log")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, api }
    }

    /// Lets it answer a call.
    pub(crate) async fn ask(&self, request: &runtime::Request) -> Answered {
        let answer = self.api.invoke(&event(request)).await;
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
