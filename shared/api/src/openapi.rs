//! The OpenAPI document, made from the route table and the wire types.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    Access, PREFIX, Problem, ROUTES, Route, Verb,
    create::{CreateJobRequest, CreateJobResponse},
    events::{EventView, ListEventsResponse, RedriveRequest, RotateSecretRequest, WebhookSecretResponse},
    import::{ImportRequest, ImportResponse},
    keys::{CreateKeyRequest, CreateKeyResponse, KeyView, ListKeysResponse, RotateKeyRequest},
    list::ListResponse,
    manage::{CancelRequest, DeleteResponse, ManageResponse, RetryRequest},
    poll::{PollRequest, PollResponse},
    progress::{ProgressRequest, ProgressResponse},
    result::{ReleaseRequest, ReleaseResponse, ResultRequest, ResultResponse},
    statistics::{QueueRequest, QueueResponse, StatisticsResponse},
    status::{HealthResponse, StatusResponse},
    uploads::{
        AbortUploadRequest, AbortUploadResponse, CompleteUploadRequest, CompleteUploadResponse,
        CreateResultUploadRequest, CreateUploadRequest, SignPartsRequest, SignPartsResponse, UploadResponse,
    },
    workers::{LeaveResponse, ListWorkersResponse},
};

/// What a call takes and gives.
struct Shape {
    takes: Option<Value>,
    gives: Gives,
}

enum Gives {
    Json(Value),
    Redirect,
    Other(&'static str),
}

/// The OpenAPI 3.1 document.
#[must_use]
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let problem = reference::<Problem>(&mut generator);
    let mut paths = Map::new();
    for route in &ROUTES {
        let shape = shape(route.verb, &mut generator);
        let operation = operation(route, shape, &problem);
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        methods[route.method.as_str().to_ascii_lowercase()] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Remote conversion",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!(
                "Jobs under {PREFIX} that lend an ingestion pipeline's conversions to other machines. \
                 A trailing slash is accepted everywhere. In requests, null and \"\" mean absent."
            ),
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key, <id>.<secret>."}},
        },
    })
}

fn operation(route: &Route, shape: Shape, problem: &Value) -> Value {
    let mut operation = json!({
        "operationId": format!("{:?}{}", route.verb, if route.verb == Verb::Poll { route.method.as_str() } else { "" }),
        "summary": route.summary,
        "tags": [format!("{:?}", route.function)],
        "parameters": parameters(route),
        "responses": {
            "default": {
                "description": "A problem; `detail` says what to do.",
                "content": {Problem::MEDIA_TYPE: {"schema": problem}},
            },
        },
    });
    match route.access {
        Access::Public => operation["security"] = json!([]),
        Access::Tenant => operation["security"] = json!([{"key": []}]),
        Access::Scope(scope) => operation["security"] = json!([{"key": [scope.as_str()]}]),
    }
    let (status, answer) = match shape.gives {
        Gives::Json(schema) => {
            ("200", json!({"description": "Done.", "content": {"application/json": {"schema": schema}}}))
        }
        Gives::Redirect => (
            "307",
            json!({"description": "A presigned URL, made for this call.", "headers": {"Location": {"schema": {"type": "string"}}}}),
        ),
        Gives::Other(media_type) => ("200", json!({"description": "Done.", "content": {media_type: {}}})),
    };
    operation["responses"][status] = answer;
    if let Some(schema) = shape.takes.filter(|_| route.method != http::Method::GET) {
        operation["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    operation
}

fn parameters(route: &Route) -> Vec<Value> {
    let text = json!({"type": "string"});
    let mut all: Vec<Value> = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": text}))
        .collect();
    let fenced = [
        Verb::ReportProgress,
        Verb::SubmitResult,
        Verb::Release,
        Verb::Download,
        Verb::CreateResultUpload,
        Verb::SignResultParts,
        Verb::CompleteResultUpload,
        Verb::AbortResultUpload,
    ];
    if fenced.contains(&route.verb) {
        all.push(json!({"name": "Lease-Token", "in": "header", "required": false, "schema": text,
            "description": "Proves the lease. A client of the original system sends none."}));
    }
    if matches!(route.verb, Verb::Create | Verb::CreateUpload) {
        all.push(json!({"name": "Idempotency-Key", "in": "header", "required": false, "schema": text,
            "description": "The same request under the same key has the same outcome."}));
    }
    for (name, required, kind) in query(route) {
        all.push(json!({"name": name, "in": "query", "required": required, "schema": {"type": kind}}));
    }
    all
}

/// The names of a call's query parameters, whether they are required, and their JSON types.
fn query(route: &Route) -> &'static [(&'static str, bool, &'static str)] {
    match route.verb {
        Verb::Poll if route.method == http::Method::GET => &[
            ("worker_id", true, "string"),
            ("content_types", true, "string"),
            ("max_jobs", false, "integer"),
            ("lease_seconds", false, "integer"),
            ("wait_seconds", false, "integer"),
        ],
        Verb::Status => &[("wait_seconds", false, "integer")],
        Verb::List => &[
            ("status", false, "string"),
            ("content_type", false, "string"),
            ("day", false, "string"),
            ("ingestion_task_id", false, "string"),
            ("limit", false, "integer"),
            ("cursor", false, "string"),
        ],
        Verb::Statistics | Verb::ListWorkers => &[("content_type", false, "string")],
        Verb::ListEvents => &[("limit", false, "integer"), ("cursor", false, "string")],
        _ => &[],
    }
}

fn shape(verb: Verb, to: &mut SchemaGenerator) -> Shape {
    fn both<Takes: JsonSchema, Gives: JsonSchema>(to: &mut SchemaGenerator) -> Shape {
        Shape { takes: Some(reference::<Takes>(to)), gives: self::Gives::Json(reference::<Gives>(to)) }
    }
    fn gives<T: JsonSchema>(to: &mut SchemaGenerator) -> Shape {
        Shape { takes: None, gives: Gives::Json(reference::<T>(to)) }
    }
    match verb {
        Verb::CreateUpload => both::<CreateUploadRequest, UploadResponse>(to),
        Verb::CreateResultUpload => both::<CreateResultUploadRequest, UploadResponse>(to),
        Verb::SignUploadParts | Verb::SignResultParts => both::<SignPartsRequest, SignPartsResponse>(to),
        Verb::CompleteUpload | Verb::CompleteResultUpload => {
            both::<CompleteUploadRequest, CompleteUploadResponse>(to)
        }
        Verb::AbortUpload | Verb::AbortResultUpload => both::<AbortUploadRequest, AbortUploadResponse>(to),
        Verb::Create => both::<CreateJobRequest, CreateJobResponse>(to),
        Verb::Poll => both::<PollRequest, PollResponse>(to),
        Verb::ReportProgress => both::<ProgressRequest, ProgressResponse>(to),
        Verb::SubmitResult => both::<ResultRequest, ResultResponse>(to),
        Verb::List => gives::<ListResponse>(to),
        Verb::Statistics => gives::<StatisticsResponse>(to),
        Verb::ListWorkers => gives::<ListWorkersResponse>(to),
        Verb::Leave => gives::<LeaveResponse>(to),
        Verb::Delete => gives::<DeleteResponse>(to),
        Verb::Import => both::<ImportRequest, ImportResponse>(to),
        Verb::PauseQueue | Verb::ResumeQueue => both::<QueueRequest, QueueResponse>(to),
        Verb::ListEvents => gives::<ListEventsResponse>(to),
        Verb::RedriveEvent => both::<RedriveRequest, EventView>(to),
        Verb::WebhookSecret => gives::<WebhookSecretResponse>(to),
        Verb::RotateWebhookSecret => both::<RotateSecretRequest, WebhookSecretResponse>(to),
        Verb::Release => both::<ReleaseRequest, ReleaseResponse>(to),
        Verb::Status => gives::<StatusResponse>(to),
        Verb::Result | Verb::Download => Shape { takes: None, gives: Gives::Redirect },
        Verb::Cancel => both::<CancelRequest, ManageResponse>(to),
        Verb::Retry => both::<RetryRequest, ManageResponse>(to),
        Verb::CreateKey => both::<CreateKeyRequest, CreateKeyResponse>(to),
        Verb::ListKeys => gives::<ListKeysResponse>(to),
        Verb::RotateKey => both::<RotateKeyRequest, CreateKeyResponse>(to),
        Verb::RevokeKey => gives::<KeyView>(to),
        Verb::Health => gives::<HealthResponse>(to),
        Verb::OpenApi => Shape { takes: None, gives: Gives::Other("application/json") },
        Verb::Docs => Shape { takes: None, gives: Gives::Other("text/html") },
    }
}

fn reference<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document() {
        // Other crates of a build decide whether maps keep their order.
        insta::with_settings!({sort_maps => true}, { insta::assert_json_snapshot!(document()) });
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut found = 0;
        visit(&document, &mut |reference| {
            let target = reference.trim_start_matches('#');
            assert!(document.pointer(target).is_some(), "{reference} leads nowhere");
            found += 1;
        });
        assert!(found > 50);
    }

    fn visit(value: &Value, seen: &mut impl FnMut(&str)) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if let ("$ref", Some(target)) = (name.as_str(), value.as_str()) {
                        seen(target);
                    }
                    visit(value, seen);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| visit(value, seen)),
            _ => {}
        }
    }
}
