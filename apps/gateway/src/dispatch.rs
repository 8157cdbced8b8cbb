//! Which request is whose: a function's, the gateway's own, or the object store's.

use std::time::Duration;

use api::{Function, NoRoute, Verb};
use bytes::{Bytes, BytesMut};
use engines::Engines;
use http::{StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use runtime::{App, Origin, Request, Response};

use crate::keys;

/// The body of an answer: a function's, or an object's as it is read.
pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// How long a caller may take to send the body of a call. Uploads are not calls.
const BODY_TIME: Duration = Duration::from_secs(60);

/// What answers requests.
pub(crate) struct Site {
    pub(crate) app: App,
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
        if self.is_for_objects(&request) {
            return self.objects(request).await;
        }
        let (function, verb) = match api::find(request.method(), request.uri().path()) {
            Ok(matched) => (matched.route.function, matched.route.verb),
            // Any function says that a path or method does not exist.
            Err(NoRoute::Path | NoRoute::Method(_)) => (Function::JobStatus, Verb::Health),
        };
        let most = App::largest_body(verb);
        match tokio::time::timeout(BODY_TIME, read(request, most)).await {
            Ok(Some(mut request)) => {
                request.extensions_mut().insert(origin);
                self.call(function, request).await.map(whole)
            }
            Ok(None) | Err(_) => cut_off(),
        }
    }

    async fn call(&self, function: Function, request: Request) -> Response {
        let app = self.app.clone();
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

    fn is_for_objects(&self, request: &http::Request<Incoming>) -> bool {
        let path = request.uri().path().trim_start_matches('/');
        path.split('/').next() == Some(self.bucket.as_str())
    }

    async fn objects(&self, mut request: http::Request<Incoming>) -> http::Response<Body> {
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

/// The whole request, with a body that is cut a little after `most` bytes so that the function sees it is too large.
/// `None` when the connection broke.
async fn read(request: http::Request<Incoming>, most: usize) -> Option<Request> {
    let (parts, mut incoming) = request.into_parts();
    let mut body = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.ok()?;
        // What is too much is still read, so that the answer reaches a caller who is busy sending.
        if let Some(data) = frame.data_ref().filter(|_| body.len() <= most) {
            body.extend_from_slice(data);
        }
    }
    Some(http::Request::from_parts(parts, body.freeze()))
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn cut_off() -> http::Response<Body> {
    let mut response = http::Response::new(whole(Bytes::new()));
    *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
    response
}
