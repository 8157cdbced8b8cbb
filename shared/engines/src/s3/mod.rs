//! S3's protocol in front of the object store.

mod client;
mod convert;
mod operations;

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use s3s::auth::SimpleAuth;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3Error, S3ErrorCode, StdError};

use crate::credentials::S3Credentials;
use crate::objects::Objects;
use operations::Operations;

pub(crate) use client::http_client;

/// The largest XML body: a thousand keys to delete, or ten thousand parts to complete, fit in it.
const LARGEST_XML: usize = 8 * 1024 * 1024;

/// The S3 service. Clones share it.
#[derive(Clone)]
pub(crate) struct S3 {
    service: S3Service,
}

impl S3 {
    pub(crate) fn new(objects: &Arc<Objects>, credentials: &S3Credentials) -> Self {
        let mut builder = S3ServiceBuilder::new(Operations::new(Arc::clone(objects)));
        // With a key set, requests that are signed by no key or by another one are refused.
        builder
            .set_auth(SimpleAuth::from_single(credentials.access_key_id(), credentials.secret_access_key()));
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(limits()))));
        Self { service: builder.build() }
    }

    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        let is_head = request.method() == Method::HEAD;
        if is_form(&request) {
            return refusal(S3Error::with_message(
                S3ErrorCode::NotImplemented,
                "Uploads by HTML form are not supported.",
            ));
        }
        let request = request.map(|body| Body::http_body_unsync(body.map_err(Into::into)));
        let mut response = match Box::pin(self.service.call(request)).await {
            Ok(response) => response,
            Err(error) => {
                tracing::error!(error = &*StdError::from(error), "the S3 service failed");
                refusal(S3Error::new(S3ErrorCode::InternalError))
            }
        };
        if is_head {
            *response.body_mut() = Body::empty();
        }
        response
    }
}

fn limits() -> S3Config {
    let mut limits = S3Config::default();
    limits.xml_max_body_size = LARGEST_XML;
    limits.post_object_max_file_size = 0;
    limits
}

/// A form would be taken into memory before its signature is looked at.
fn is_form<B>(request: &Request<B>) -> bool {
    let form = b"multipart/form-data";
    let kind = request.headers().get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    request.method() == Method::POST
        && kind.trim_ascii_start().get(..form.len()).is_some_and(|start| start.eq_ignore_ascii_case(form))
}

fn refusal(error: S3Error) -> Response<Body> {
    error.to_http_response().unwrap_or_else(|_| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}
