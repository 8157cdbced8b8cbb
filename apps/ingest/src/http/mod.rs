//! The calls of the service.

mod form;
mod guard;
mod hooks;
mod refusal;
mod search;
mod submit;
mod tasks;
mod upload;

pub use guard::Guard;
pub use hooks::Hooks;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::{networks::Networks, pipeline::Pipeline, settings::HOOK_PATH};
use refusal::Refusal;

/// The longest body of a call that uploads no file, in bytes.
const LONGEST_BODY: usize = 1 << 20;

/// What the calls work with.
pub struct Site {
    /// The tasks.
    pub pipeline: Pipeline,
    /// Who may call.
    pub guard: Guard,
    /// Whose webhooks are believed.
    pub hooks: Hooks,
    /// Which webhooks tasks may have.
    pub networks: Networks,
    /// The largest file, in bytes.
    pub max_upload_bytes: u64,
}

/// All calls.
pub fn router(site: Arc<Site>) -> Router {
    // The file, and what a form has besides.
    let longest =
        usize::try_from(site.max_upload_bytes).unwrap_or(usize::MAX).saturating_add(2 * LONGEST_BODY);
    let guarded = Router::new()
        .route("/api/v1/ingest/file", post(submit::file).layer(DefaultBodyLimit::max(longest)))
        .route("/api/v1/ingest/url", post(submit::url))
        .route("/api/v1/tasks", get(tasks::list))
        .route("/api/v1/tasks/{id}", get(tasks::show).delete(tasks::cancel))
        .route("/api/v1/search", get(search::search))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&site), guard::admit));
    Router::new()
        // What proves who calls is the signature.
        .route(HOOK_PATH, post(hooks::receive))
        .route("/health", get(health))
        .merge(guarded)
        .fallback(async || Refusal::not_found("Not Found"))
        .method_not_allowed_fallback(async || Refusal::method_not_allowed())
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(site)
}

async fn health() -> Json<Value> {
    Json(json!({"status": "healthy", "service": "ingest", "version": env!("CARGO_PKG_VERSION")}))
}
