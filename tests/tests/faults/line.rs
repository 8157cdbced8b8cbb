//! The way between the functions and the engines, and what can go wrong on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use serde_json::Value;
use tokio::sync::watch;

use crate::refusals::Refusal;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is answered with what stands for a throttled or failing service, another answer at each place, and nothing is
    /// done.
    Refused,
    /// It is answered with this, and nothing is done.
    RefusedWith(Refusal),
    /// The connection breaks before the request is through.
    Lost,
    /// It is done, and the connection breaks before the answer.
    AnswerLost,
    /// It is done, and the answer comes when nobody waits for it any more.
    Late,
    /// It is done, and the answer comes just before nobody waits for it any more.
    Slow,
    /// Nothing is done and nothing is said.
    Stalled,
    /// Whoever asks is killed before the request arrives.
    KilledBefore,
    /// Whoever asks is killed when the request has been done.
    KilledAfter,
}

/// How long it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// For the first attempt at the call. The SDK's next one goes through.
    Attempt,
    /// For every attempt at the call.
    Call,
    /// For this call and all after it.
    Outage,
}

/// What is to go wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// At which call to DynamoDB or S3, from 0.
    pub(crate) call: usize,
    pub(crate) fault: Fault,
    pub(crate) lasting: Lasting,
}

/// One call to DynamoDB or S3, with all its attempts.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// DynamoDB's operation, or the method and the first part of the path of a request to S3.
    pub(crate) operation: String,
    pub(crate) attempts: u32,
    /// The key of the one row that is read or written.
    pub(crate) row: Option<String>,
    /// The id by which the SDK tells its attempts from other calls.
    invocation: String,
}

impl Call {
    /// Whether something is different after it.
    pub(crate) fn writes(&self) -> bool {
        let reads = ["GetItem", "Query", "Scan", "BatchGetItem", "GET object", "HEAD object"];
        !reads.contains(&self.operation.as_str())
    }
}

#[derive(Debug, Default)]
struct State {
    plan: Option<Plan>,
    calls: Vec<Call>,
}

/// The way itself. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    state: Arc<Mutex<State>>,
    killed: watch::Sender<bool>,
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to count calls anew, of which one or none meets a fault.
    pub(crate) fn begin(&self, plan: Option<Plan>) {
        *self.state() = State { plan, calls: Vec::new() };
        self.killed.send_replace(false);
    }

    /// The calls since then, in the order in which they were begun.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// Waits until somebody is to be killed.
    pub(crate) async fn kill(&self) {
        let _ = self.killed.subscribe().wait_for(|killed| *killed).await;
    }

    pub(crate) fn is_killing(&self) {
        self.killed.send_replace(true);
    }

    /// Counts a request, and says what is to happen to it.
    pub(crate) fn fate_of(&self, request: &HttpRequest) -> Option<Fault> {
        let mut state = self.state();
        let invocation = request.headers().get("amz-sdk-invocation-id").unwrap_or_default().to_owned();
        let known = state.calls.iter().position(|call| call.invocation == invocation);
        let at = known.unwrap_or_else(|| {
            let (operation, row) = (operation(request), row(request));
            state.calls.push(Call { operation, attempts: 0, row, invocation });
            state.calls.len() - 1
        });
        state.calls[at].attempts += 1;
        let attempts = state.calls[at].attempts;
        let Plan { call, fault, lasting } = state.plan?;
        let meets = match lasting {
            Lasting::Attempt => at == call && attempts == 1,
            Lasting::Call => at == call,
            Lasting::Outage => at >= call,
        };
        meets.then(|| match fault {
            Fault::Refused => Fault::RefusedWith(Refusal::of(&state.calls[at].operation, at)),
            other => other,
        })
    }
}

fn operation(request: &HttpRequest) -> String {
    if let Some(target) = request.headers().get("x-amz-target") {
        return target.rsplit('.').next().unwrap_or_default().to_owned();
    }
    format!("{} object", request.method())
}

fn row(request: &HttpRequest) -> Option<String> {
    let body: Value = serde_json::from_slice(request.body().bytes()?).ok()?;
    let key = body.get("Key").or(body.get("Item"))?;
    Some(key["pk"]["S"].as_str()?.to_owned())
}
