//! The calls of a pipeline, on a listener of this process.

use std::{net::SocketAddr, sync::Arc};

use ingest::{
    http::{Guard, Hooks, Site as Calls, router},
    networks::Networks,
};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::bench::{Bench, World};

/// The largest file that the tests' service takes.
pub(crate) const MOST: u64 = 100_000;

const BOUNDARY: &str = "a-boundary-that-is-nowhere-else";

pub(crate) struct Site {
    pub(crate) bench: Bench,
    pub(crate) address: SocketAddr,
    client: Client,
}

/// What a call was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    async fn of(response: Response) -> Self {
        Self { status: response.status().as_u16(), body: response.json().await.unwrap() }
    }

    pub(crate) fn ok(&self) -> &Value {
        assert_eq!(self.status, 200, "{}", self.body);
        &self.body
    }

    /// As a snapshot shows it.
    pub(crate) fn shown(&self) -> Value {
        json!({"status": self.status, "body": self.body})
    }

    pub(crate) fn refused(&self) -> (u16, &str) {
        (self.status, self.body["detail"].as_str().unwrap_or_default())
    }
}

impl Site {
    pub(crate) async fn start(world: World) -> Self {
        Self::with(world, Guard::Loopback, Hooks::Off).await
    }

    pub(crate) async fn with(world: World, guard: Guard, hooks: Hooks) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let bench = Bench::new(world).await;
        let calls = Calls {
            pipeline: bench.pipeline.clone(),
            guard,
            hooks,
            networks: Networks::loopback(),
            max_upload_bytes: MOST,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router(Arc::new(calls))).await.unwrap() });
        Self { bench, address, client: Client::builder().no_proxy().build().unwrap() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        Answer::of(request.send().await.unwrap()).await
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(method.parse().unwrap(), self.url(path))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(self.request("DELETE", path)).await
    }

    /// Posts a file with these fields.
    pub(crate) async fn file(&self, name: &str, bytes: &[u8], fields: &[(&str, &str)]) -> Answer {
        self.form(&form(Some((name, bytes)), fields)).await
    }

    pub(crate) async fn form(&self, body: &[u8]) -> Answer {
        let request = self.request("POST", "/api/v1/ingest/file");
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        self.send(request.header("content-type", kind).body(body.to_vec())).await
    }

    /// The id of a task that was accepted.
    pub(crate) async fn accepted(&self, name: &str, bytes: &[u8], fields: &[(&str, &str)]) -> String {
        let answer = self.file(name, bytes, fields).await;
        answer.ok()["task_id"].as_str().unwrap().to_owned()
    }

    /// A task once it has ended.
    pub(crate) async fn ended(&self, id: &str) -> Value {
        self.bench.ended(id.parse().unwrap()).await;
        self.get(&format!("/api/v1/tasks/{id}")).await.ok().clone()
    }
}

/// A form as Python's and JavaScript's clients send it.
pub(crate) fn form(file: Option<(&str, &[u8])>, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part =
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    if let Some((name, bytes)) = file {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

/// Compares with a snapshot, with everything replaced that differs from run to run.
macro_rules! snapshot {
    ($value:expr) => {{
        let value = $value;
        let mut settings = insta::Settings::clone_current();
        settings
            .add_filter(r"[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", "[uuid]");
        settings.add_filter(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "[time]");
        settings.add_filter(r#""version": "[^"]+""#, r#""version": "[version]""#);
        settings.set_omit_expression(true);
        settings.set_sort_maps(true);
        settings.bind(|| insta::assert_json_snapshot!(value));
    }};
}
pub(crate) use snapshot;
