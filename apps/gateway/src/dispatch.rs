//! Which request is whose: a function's, the gateway's own, or the object store's.

use std::time::Duration;

use api::{Function, NoRoute, Verb};
use bytes::{Bytes, BytesMut};
use engines::Engines;
use http::header;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use runtime::{App, BodyCutOff, Origin, Request, Response};

use crate::keys;

/// The body of an answer: a function's, or an object's as it is read.
pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// How long the body of a call may stop coming. Uploads are not calls.
const BODY_STALL: Duration = Duration::from_secs(30);

/// What answers requests.
pub(crate) struct Site {
    pub(crate) app: App,
    /// The object store, where it is in this process.
    pub(crate) objects: Option<Objects>,
}

/// The object store of this process.
pub(crate) struct Objects {
    pub(crate) engines: Engines,
    pub(crate) bucket: String,
}

impl Site {
    /// Answers one request that came from `origin`.
    pub(crate) async fn answer(
        &self,
        request: http::Request<Incoming>,
        origin: Origin,
    ) -> http::Response<Body> {
        if let Some(objects) = self.objects.as_ref().filter(|objects| objects.are_meant(&request)) {
            return objects.answer(request).await;
        }
        let (function, verb) = match api::find(request.method(), request.uri().path()) {
            Ok(matched) => (matched.route.function, matched.route.verb),
            // Any function says that a path or method does not exist.
            Err(NoRoute::Path | NoRoute::Method(_)) => (Function::JobStatus, Verb::Health),
        };
        let (mut parts, incoming) = request.into_parts();
        parts.extensions.insert(origin);
        let mut request = http::Request::from_parts(parts, Bytes::new());
        // Who may not make the call is refused by its head, so that strangers cannot fill the memory with bodies.
        if self.app.admits(&request).await {
            match read(incoming, App::largest_body(verb)).await {
                Some(body) => *request.body_mut() = body,
                None => drop(request.extensions_mut().insert(BodyCutOff)),
            }
        }
        self.call(function, request).await.map(whole)
    }

    async fn call(&self, function: Function, request: Request) -> Response {
        let app = self.app.clone();
        match function {
            Function::Gateway if self.objects.is_none() => keys::refuse(app, request).await,
            function => answer(app, function, request).await,
        }
    }
}

/// Lets `function` answer a request, the gateway's own among them.
pub async fn answer(app: App, function: Function, request: Request) -> Response {
    match function {
        Function::CreateJob => create_job::handle(app, request).await,
        Function::PollJobs => poll_jobs::handle(app, request).await,
        Function::ReportProgress => report_progress::handle(app, request).await,
        Function::SubmitResult => submit_result::handle(app, request).await,
        Function::JobStatus => job_status::handle(app, request).await,
        Function::DownloadSource => download_source::handle(app, request).await,
        Function::ManageJob => manage_job::handle(app, request).await,
        Function::Gateway => keys::handle(app, request).await,
    }
}

impl Objects {
    fn are_meant(&self, request: &http::Request<Incoming>) -> bool {
        let path = request.uri().path().trim_start_matches('/');
        path.split('/').next() == Some(self.bucket.as_str())
    }

    async fn answer(&self, mut request: http::Request<Incoming>) -> http::Response<Body> {
        // The original's clients follow a redirect to this same server with their API key, which S3 would take for
        // a second way of signing and refuse.
        let signed_by_query = request.uri().query().is_some_and(|query| query.contains("X-Amz-Signature="));
        if signed_by_query {
            request.headers_mut().remove(header::AUTHORIZATION);
        }
        let method = request.method().clone();
        let started = std::time::Instant::now();
        let response = self.engines.serve_s3(request).await;
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Only the method and the status: the path names a tenant's object and the query is a secret.
        tracing::debug!(%method, status = response.status().as_u16(), duration_ms, "object");
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    }
}

/// The whole body, cut a little after `most` bytes so that the function sees it is too large. `None` when it stopped
/// coming.
async fn read(mut incoming: Incoming, most: usize) -> Option<Bytes> {
    let mut body = BytesMut::new();
    while let Some(frame) = tokio::time::timeout(BODY_STALL, incoming.frame()).await.ok()? {
        let frame = frame.ok()?;
        // What is too much is still read, so that the answer reaches a caller who is busy sending.
        if let Some(data) = frame.data_ref().filter(|_| body.len() <= most) {
            body.extend_from_slice(data);
        }
    }
    Some(body.freeze())
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
