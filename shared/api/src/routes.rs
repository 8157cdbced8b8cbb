//! The one list of calls. The functions, the gateway, the OpenAPI document and the deployment agree on it.

use http::Method;
use percent_encoding::percent_decode_str;

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// A place to upload a source to.
    CreateUpload,
    /// Presigned URLs for parts of a multipart upload.
    SignUploadParts,
    /// Puts the parts of an upload together.
    CompleteUpload,
    /// Gives an upload up.
    AbortUpload,
    /// A new job.
    Create,
    /// A worker asks for work.
    Poll,
    /// A worker reports progress, which is also its heartbeat.
    ReportProgress,
    /// A place to upload a large result to.
    CreateResultUpload,
    /// As [`Verb::SignUploadParts`], for a result.
    SignResultParts,
    /// As [`Verb::CompleteUpload`], for a result.
    CompleteResultUpload,
    /// As [`Verb::AbortUpload`], for a result.
    AbortResultUpload,
    /// A worker submits a result or a failure.
    SubmitResult,
    /// A worker gives a job back.
    Release,
    /// Where a job stands.
    Status,
    /// What a job became.
    Result,
    /// The source, for the worker that holds the lease.
    Download,
    /// Ends a job.
    Cancel,
    /// Sends an ended job back to its queue.
    Retry,
    /// A tenant's jobs, page by page.
    List,
    /// What waits, runs and has ended lately.
    Statistics,
    /// A tenant's workers.
    ListWorkers,
    /// A worker stops, and is not to be counted on any more.
    Leave,
    /// Removes an ended job with its objects.
    Delete,
    /// Takes over a job of the original system.
    Import,
    /// Lets no worker claim from a queue.
    PauseQueue,
    /// Ends a pause.
    ResumeQueue,
    /// Events whose delivery was given up.
    ListEvents,
    /// Sends such an event out again.
    RedriveEvent,
    /// What events are signed with.
    WebhookSecret,
    /// Replaces what events are signed with.
    RotateWebhookSecret,
    /// A new API key.
    CreateKey,
    /// The API keys there are.
    ListKeys,
    /// A new API key in the place of another.
    RotateKey,
    /// Ends an API key.
    RevokeKey,
    /// Whether the service is up.
    Health,
    /// The OpenAPI document.
    OpenApi,
    /// A page that shows it.
    Docs,
}

/// What carries a call. All but the gateway's own calls are a Lambda function each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Function {
    /// `functions/create-job`.
    CreateJob,
    /// `functions/poll-jobs`.
    PollJobs,
    /// `functions/report-progress`.
    ReportProgress,
    /// `functions/submit-result`.
    SubmitResult,
    /// `functions/job-status`.
    JobStatus,
    /// `functions/download-source`.
    DownloadSource,
    /// `functions/manage-job`.
    ManageJob,
    /// The one-machine gateway itself. On AWS these calls do not exist.
    Gateway,
}

/// What an API key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Upload, create, read and end jobs.
    Ingest,
    /// Take and run jobs.
    Worker,
    /// Everything, keys included.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 3] = [Self::Ingest, Self::Worker, Self::Admin];

    /// How it is spelled.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Worker => "worker",
            Self::Admin => "admin",
        }
    }
}

/// Who may make a call. A key with the scope `admin` may make every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone, without a key.
    Public,
    /// A key with this scope.
    Scope(Scope),
    /// Any key of the tenant.
    Tenant,
}

/// One line of the route table.
#[derive(Clone, Debug)]
pub struct Route {
    /// The call.
    pub verb: Verb,
    /// The HTTP method.
    pub method: Method,
    /// The path, with `{name}` for a parameter.
    pub path: &'static str,
    /// What carries it.
    pub function: Function,
    /// Who may make it.
    pub access: Access,
    /// What it does, in a few words.
    pub summary: &'static str,
}

const fn route(
    verb: Verb,
    method: Method,
    path: &'static str,
    function: Function,
    access: Access,
    summary: &'static str,
) -> Route {
    Route { verb, method, path, function, access, summary }
}

const INGEST: Access = Access::Scope(Scope::Ingest);
const WORKER: Access = Access::Scope(Scope::Worker);
const ADMIN: Access = Access::Scope(Scope::Admin);

/// Every call there is.
#[rustfmt::skip]
pub static ROUTES: [Route; 38] = [
    route(Verb::CreateUpload, Method::POST, "/api/v1/remote-jobs/uploads", Function::CreateJob, INGEST, "Get a place to upload a source to"),
    route(Verb::SignUploadParts, Method::POST, "/api/v1/remote-jobs/uploads/{upload_id}/parts", Function::CreateJob, INGEST, "Sign URLs for parts of a multipart upload"),
    route(Verb::CompleteUpload, Method::POST, "/api/v1/remote-jobs/uploads/{upload_id}/complete", Function::CreateJob, INGEST, "Put an upload's parts together"),
    route(Verb::AbortUpload, Method::POST, "/api/v1/remote-jobs/uploads/{upload_id}/abort", Function::CreateJob, INGEST, "Give an upload up"),
    route(Verb::Create, Method::POST, "/api/v1/remote-jobs", Function::CreateJob, INGEST, "Create a job"),
    route(Verb::Poll, Method::GET, "/api/v1/remote-jobs/poll", Function::PollJobs, WORKER, "Ask for work"),
    route(Verb::Poll, Method::POST, "/api/v1/remote-jobs/poll", Function::PollJobs, WORKER, "Ask for work, with a lease"),
    route(Verb::ReportProgress, Method::PUT, "/api/v1/remote-jobs/{job_id}/progress", Function::ReportProgress, WORKER, "Report progress and renew the lease"),
    route(Verb::CreateResultUpload, Method::POST, "/api/v1/remote-jobs/{job_id}/result-upload", Function::SubmitResult, WORKER, "Get a place to upload a large result to"),
    route(Verb::SignResultParts, Method::POST, "/api/v1/remote-jobs/{job_id}/result-upload/parts", Function::SubmitResult, WORKER, "Sign URLs for parts of a large result"),
    route(Verb::CompleteResultUpload, Method::POST, "/api/v1/remote-jobs/{job_id}/result-upload/complete", Function::SubmitResult, WORKER, "Put a large result's parts together"),
    route(Verb::AbortResultUpload, Method::POST, "/api/v1/remote-jobs/{job_id}/result-upload/abort", Function::SubmitResult, WORKER, "Give a large result's upload up"),
    route(Verb::SubmitResult, Method::PUT, "/api/v1/remote-jobs/{job_id}/result", Function::SubmitResult, WORKER, "Submit a result or a failure"),
    route(Verb::Release, Method::POST, "/api/v1/remote-jobs/{job_id}/release", Function::SubmitResult, WORKER, "Give a job back to its queue"),
    route(Verb::Status, Method::GET, "/api/v1/remote-jobs/{job_id}/status", Function::JobStatus, Access::Tenant, "See where a job stands"),
    route(Verb::Result, Method::GET, "/api/v1/remote-jobs/{job_id}/result", Function::JobStatus, INGEST, "Be redirected to a job's result"),
    route(Verb::Download, Method::GET, "/api/v1/remote-jobs/{job_id}/download", Function::DownloadSource, WORKER, "Be redirected to a job's source"),
    route(Verb::Cancel, Method::POST, "/api/v1/remote-jobs/{job_id}/cancel", Function::ManageJob, INGEST, "End a job"),
    route(Verb::Retry, Method::POST, "/api/v1/remote-jobs/{job_id}/retry", Function::ManageJob, INGEST, "Send an ended job back to its queue"),
    route(Verb::List, Method::GET, "/api/v1/remote-jobs", Function::ManageJob, INGEST, "List jobs, the newest first"),
    route(Verb::Statistics, Method::GET, "/api/v1/remote-jobs/statistics", Function::ManageJob, INGEST, "See what waits, runs and has ended lately"),
    route(Verb::Delete, Method::DELETE, "/api/v1/remote-jobs/{job_id}", Function::ManageJob, INGEST, "Delete an ended job and its files"),
    route(Verb::ListWorkers, Method::GET, "/api/v1/remote-workers", Function::ManageJob, INGEST, "See which workers there are"),
    route(Verb::Leave, Method::DELETE, "/api/v1/remote-workers/{worker_id}", Function::ManageJob, WORKER, "Say that a worker stops"),
    route(Verb::Import, Method::POST, "/api/v1/remote-jobs/import", Function::CreateJob, ADMIN, "Take over a job of the original system"),
    route(Verb::PauseQueue, Method::POST, "/api/v1/queues/{content_type}/pause", Function::ManageJob, ADMIN, "Let no worker claim from a queue"),
    route(Verb::ResumeQueue, Method::POST, "/api/v1/queues/{content_type}/resume", Function::ManageJob, ADMIN, "End a queue's pause"),
    route(Verb::ListEvents, Method::GET, "/api/v1/events", Function::ManageJob, ADMIN, "List events whose delivery was given up"),
    route(Verb::RedriveEvent, Method::POST, "/api/v1/events/{event_id}/redrive", Function::ManageJob, ADMIN, "Send such an event out again"),
    route(Verb::WebhookSecret, Method::GET, "/api/v1/webhook-secret", Function::ManageJob, INGEST, "Read what events are signed with"),
    route(Verb::RotateWebhookSecret, Method::POST, "/api/v1/webhook-secret/rotate", Function::ManageJob, ADMIN, "Replace what events are signed with"),
    route(Verb::CreateKey, Method::POST, "/api/v1/keys", Function::Gateway, ADMIN, "Create an API key"),
    route(Verb::ListKeys, Method::GET, "/api/v1/keys", Function::Gateway, ADMIN, "List the API keys"),
    route(Verb::RotateKey, Method::POST, "/api/v1/keys/{key_id}/rotate", Function::Gateway, ADMIN, "Put a new API key in the place of another"),
    route(Verb::RevokeKey, Method::DELETE, "/api/v1/keys/{key_id}", Function::Gateway, ADMIN, "Revoke an API key"),
    route(Verb::Health, Method::GET, "/health", Function::JobStatus, Access::Public, "Ask whether the service is up"),
    route(Verb::OpenApi, Method::GET, "/openapi.json", Function::JobStatus, Access::Public, "Read this document"),
    route(Verb::Docs, Method::GET, "/docs", Function::JobStatus, Access::Public, "Read it as a page"),
];

/// A request's route and its path parameter.
#[derive(Clone, Debug)]
pub struct Matched {
    /// The route.
    pub route: &'static Route,
    /// The value of the path's one parameter, decoded; empty where the path has none.
    pub id: String,
}

/// Why no route fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No call has this path.
    Path,
    /// Calls with this path have these methods.
    Method(Vec<Method>),
}

/// Finds the call that a request makes. A trailing slash changes nothing.
///
/// # Errors
/// [`NoRoute`] tells an unknown path from an unknown method.
pub fn find(method: &Method, path: &str) -> Result<Matched, NoRoute> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let of_path: Vec<(&'static Route, &str)> =
        ROUTES.iter().filter_map(|route| fits(route.path, path).map(|id| (route, id))).collect();
    // A fixed path is more specific than one with a parameter: `/poll` is never a job id.
    let fixed = of_path.iter().any(|(route, _)| route.path == path);
    let mut allowed = Vec::new();
    for (route, id) in of_path.into_iter().filter(|(route, _)| !fixed || route.path == path) {
        if route.method == method {
            let id = percent_decode_str(id).decode_utf8_lossy().into_owned();
            return Ok(Matched { route, id });
        }
        allowed.push(route.method.clone());
    }
    Err(if allowed.is_empty() { NoRoute::Path } else { NoRoute::Method(allowed) })
}

/// The parameter of `path` under `template`; empty when the template has none.
fn fits<'a>(template: &str, path: &'a str) -> Option<&'a str> {
    let mut id = "";
    let mut parts = path.split('/');
    for expected in template.split('/') {
        let part = parts.next()?;
        if expected.starts_with('{') {
            if part.is_empty() {
                return None;
            }
            id = part;
        } else if expected != part {
            return None;
        }
    }
    parts.next().is_none().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_route_is_found_with_and_without_a_slash() {
        for route in &ROUTES {
            let path = route
                .path
                .replace("{job_id}", "j%2F1")
                .replace("{upload_id}", "j%2F1")
                .replace("{key_id}", "j%2F1")
                .replace("{worker_id}", "j%2F1")
                .replace("{content_type}", "j%2F1")
                .replace("{event_id}", "j%2F1");
            for path in [path.clone(), format!("{path}/")] {
                let found = find(&route.method, &path).unwrap();
                assert_eq!((found.route.verb, found.route.path), (route.verb, route.path), "{path}");
                assert_eq!(found.id, if route.path.contains('{') { "j/1" } else { "" });
            }
        }
    }

    #[test]
    fn no_two_routes_share_method_and_path() {
        let distinct: HashSet<_> = ROUTES.iter().map(|route| (&route.method, route.path)).collect();
        assert_eq!(distinct.len(), ROUTES.len());
    }

    #[test]
    fn a_wrong_method_is_told_from_a_wrong_path() {
        assert_eq!(find(&Method::GET, "/nowhere").unwrap_err(), NoRoute::Path);
        assert_eq!(find(&Method::GET, "/api/v1/remote-jobs//status").unwrap_err(), NoRoute::Path);
        assert_eq!(
            find(&Method::DELETE, "/api/v1/remote-jobs/poll").unwrap_err(),
            NoRoute::Method(vec![Method::GET, Method::POST])
        );
    }
}
