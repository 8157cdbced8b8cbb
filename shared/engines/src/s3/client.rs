//! An HTTP client for the AWS SDK whose server is this process.

use std::fmt;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use http::header::HOST;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri};
use s3s::StdError;

use super::S3;

pub(crate) fn http_client(s3: S3) -> SharedHttpClient {
    let connector = SharedHttpConnector::new(Connector(s3));
    http_client_fn(move |_, _| connector.clone())
}

struct Connector(S3);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("embedded S3")
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let s3 = self.0.clone();
        HttpConnectorFuture::new(async move {
            exchange(&s3, request).await.map_err(|error| ConnectorError::other(error, None))
        })
    }
}

async fn exchange(s3: &S3, request: HttpRequest) -> Result<HttpResponse, StdError> {
    let request = as_received(request.try_into_http1x()?)?;
    let response = s3.answer(request).await;
    Ok(HttpResponse::try_from(response.map(SdkBody::from_body_1_x))?)
}

/// Gives the request the form it would have on arrival: the host in its header, only the path in its line.
fn as_received(mut request: Request<SdkBody>) -> Result<Request<SdkBody>, StdError> {
    if !request.headers().contains_key(HOST) {
        let host = HeaderValue::from_str(&host(request.uri()))?;
        request.headers_mut().insert(HOST, host);
    }
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    Ok(request)
}

/// The host as the SDK signed it, which is without the scheme's own port.
fn host(uri: &Uri) -> String {
    let name = uri.host().unwrap_or_default();
    let own_port = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    match uri.port_u16() {
        Some(port) if port != own_port => format!("{name}:{port}"),
        Some(_) | None => name.to_owned(),
    }
}
