//! Events of API Gateway as plain requests, and plain answers as API Gateway takes them.

use api::ROUTES;
use bytes::Bytes;
use lambda_http::{Body, RequestExt, request::RequestContext};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::{Request, Response};

/// What cannot be written in a path as it is. The per cent sign is not among it: whether a path arrives decoded differs
/// between the kinds of APIs and their emulators, and in what the calls name by paths there is none.
const PATH: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'?').add(b'`').add(b'{').add(b'}');
/// What cannot be written in one part of a path.
const PART: &AsciiSet = &PATH.add(b'/');

/// The event as the request that the caller made of this service, without what the API's address puts before the path.
pub(crate) fn request(event: lambda_http::Request) -> Request {
    let path = of_route(&event).unwrap_or_else(|| of_address(&event));
    let target = match event.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let (mut parts, body) = event.into_parts();
    if let Ok(uri) = target.parse() {
        parts.uri = uri;
    }
    let body = match body {
        Body::Empty => Bytes::new(),
        Body::Text(text) => text.into(),
        Body::Binary(bytes) => bytes.into(),
        // The enum may grow; what is unknown reads as no body and is refused by whoever needs one.
        _ => Bytes::new(),
    };
    http::Request::from_parts(parts, body)
}

/// The path of the route that API Gateway found, with its parameter. So neither a stage nor a custom domain's base path
/// matters, and a slash in a parameter stays in it.
fn of_route(event: &lambda_http::Request) -> Option<String> {
    let found = match event.request_context_ref()? {
        RequestContext::ApiGatewayV1(context) => context.resource_path.as_deref()?,
        RequestContext::ApiGatewayV2(context) => context.route_key.as_deref()?.split_once(' ')?.1,
        _ => return None,
    };
    let template = ROUTES.iter().find(|route| route.path == found)?.path;
    let Some((before, rest)) = template.split_once('{') else { return Some(template.to_owned()) };
    let (name, after) = rest.split_once('}')?;
    let value = event.path_parameters_ref()?.first(name)?;
    Some(format!("{before}{}{after}", utf8_percent_encode(value, PART)))
}

/// The path as it was asked for, where API Gateway knew no route for it. An HTTP API puts its stage before it.
fn of_address(event: &lambda_http::Request) -> String {
    let path = event.raw_http_path();
    let stage = match event.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.stage.as_deref(),
        Some(_) | None => None,
    };
    let rest = stage.and_then(|stage| path.strip_prefix('/')?.strip_prefix(stage));
    let path = rest.filter(|rest| rest.starts_with('/')).unwrap_or(path);
    utf8_percent_encode(path, PATH).to_string()
}

/// The answer with its body as text where it is text, which spares API Gateway the decoding.
pub(crate) fn answer(response: Response) -> http::Response<Body> {
    response.map(|bytes| match String::from_utf8(bytes.into()) {
        Ok(text) => Body::Text(text),
        Err(error) => Body::Binary(error.into_bytes()),
    })
}
