//! The way from one server process to the engines: it records what was written, and it can kill or hold up the process
//! at a write.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
            http_client_fn,
        },
        orchestrator::HttpRequest,
        result::ConnectorError,
    },
    http::Headers,
};
use aws_smithy_types::body::SdkBody;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use tokio::sync::Notify;

use crate::{mutants::Mutant, rows::plain};

/// Where a process meets its fate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Plan {
    /// At its `nth` write to the table, or of an object, it dies.
    Kill { objects: bool, nth: u32, moment: Moment },
    /// Its writes of jobs and events arrive late, all of them.
    HoldUp,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Moment {
    /// The engine never sees the write.
    Before,
    /// The write is made, and the process does not live to see the answer.
    After,
}

/// One server process, as far as its way to the engines goes.
#[derive(Debug, Default)]
pub(crate) struct Process {
    state: Mutex<State>,
    held_up: Notify,
    goes_on: Notify,
}

#[derive(Debug, Default)]
struct State {
    plan: Option<Plan>,
    writes: u32,
    dead: bool,
    /// What the write was at which it died or was held up.
    at: Option<Write>,
}

enum Fate {
    Goes,
    Dies(Moment),
    Waits,
}

impl Process {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn plan(&self, plan: Plan) {
        *self.state() = State { plan: Some(plan), ..State::default() };
    }

    /// A new process without a fate takes the place of this one, which may be dead.
    pub(crate) fn renew(&self) {
        *self.state() = State::default();
    }

    fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// What it was writing when it met its fate, if it did.
    pub(crate) fn met_at(&self) -> Option<Write> {
        self.state().at.clone()
    }

    /// Waits until a write is held up, and says which.
    pub(crate) async fn is_held_up(&self) -> Write {
        loop {
            let held_up = self.held_up.notified();
            if let Some(write) = self.met_at() {
                return write;
            }
            held_up.await;
        }
    }

    /// Lets every write go that is held up, and holds up none any more.
    pub(crate) fn go_on(&self) {
        self.state().plan = None;
        self.goes_on.notify_waiters();
    }

    fn fate_of(&self, write: &Write) -> Fate {
        let mut state = self.state();
        let fate = match state.plan {
            Some(Plan::Kill { objects, nth, moment }) if objects == write.object.is_some() => {
                state.writes += 1;
                if state.writes == nth { Fate::Dies(moment) } else { Fate::Goes }
            }
            Some(Plan::HoldUp) if write.is_of_jobs_or_events() => Fate::Waits,
            _ => Fate::Goes,
        };
        if !matches!(fate, Fate::Goes) {
            state.at.get_or_insert_with(|| write.clone());
        }
        state.dead = matches!(fate, Fate::Dies(Moment::Before));
        fate
    }
}

/// One request that writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Write {
    /// The rows that it puts, by their keys.
    pub(crate) rows: Vec<(String, Value)>,
    /// The object that it puts, and its SHA-256.
    object: Option<(String, String)>,
    /// Whether it makes its row.
    creates: bool,
    deletes: bool,
}

impl Write {
    fn is_of_jobs_or_events(&self) -> bool {
        self.rows.iter().any(|(pk, _)| pk.starts_with("job#") || pk.starts_with("event#"))
    }

    /// What is written, for the table of what the histories have met.
    pub(crate) fn kind(&self) -> &'static str {
        let of = |kind: &str| self.rows.iter().any(|(pk, _)| pk.starts_with(kind));
        match (&self.object, of("job#"), of("event#")) {
            (Some((key, _)), ..) if key.starts_with("results/") => "a result",
            (Some(_), ..) => "task options",
            (None, true, true) => "an end with its event",
            (None, true, false) if self.creates => "a new job",
            (None, true, false) if self.deletes => "a deletion",
            (None, true, false) => "a job",
            (None, false, true) => "an event",
            (None, false, false) => "another row",
        }
    }

    /// `None` for a request that only reads.
    fn of(request: &HttpRequest) -> Option<(Self, Value)> {
        let Some(target) = request.headers().get("x-amz-target") else {
            return Some((Self { object: object(request)?, ..Self::default() }, Value::Null));
        };
        let operation = target.rsplit('.').next().unwrap_or_default();
        if !matches!(operation, "PutItem" | "TransactWriteItems" | "UpdateItem" | "DeleteItem") {
            return None;
        }
        let body: Value = serde_json::from_slice(request.body().bytes()?).ok()?;
        Some((Self { deletes: operation == "DeleteItem", ..Self::of_body(&body) }, body))
    }

    pub(crate) fn of_body(body: &Value) -> Self {
        let puts: Vec<&Value> = match body["TransactItems"].as_array() {
            Some(items) => items.iter().map(|item| &item["Put"]).collect(),
            None => vec![body],
        };
        let row = |put: &&Value| {
            let item = plain(put.get("Item").or(put.get("Key"))?);
            Some((item["pk"].as_str()?.to_owned(), item))
        };
        let creates =
            puts.first().is_some_and(|put| put["ConditionExpression"] == "attribute_not_exists(pk)");
        Self { rows: puts.iter().filter_map(row).collect(), creates, ..Self::default() }
    }
}

/// The key and the SHA-256 of an object that is put.
fn object(request: &HttpRequest) -> Option<Option<(String, String)>> {
    let sha256 = |headers: &Headers| {
        let digest = STANDARD.decode(headers.get("x-amz-checksum-sha256")?).ok()?;
        Some(hex::encode(digest))
    };
    let path = request.uri().split('?').next().unwrap_or_default();
    let key = path.split_once("/handoff/").map(|(_, key)| key.to_owned())?;
    (request.method() == "PUT").then(|| sha256(request.headers()).map(|sha256| (key, sha256)))
}

/// What all processes together have written.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// Every row as it was written last.
    pub(crate) rows: BTreeMap<String, Value>,
    /// The writes of jobs and events since they were last taken, in their order.
    written: Vec<Written>,
    /// The SHA-256 of every object.
    pub(crate) objects: BTreeMap<String, String>,
}

/// A write that was made, with what was there before it.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) rows: Vec<(String, Value)>,
    pub(crate) before: Vec<Option<Value>>,
}

impl Recorder {
    pub(crate) fn take_written(&mut self) -> Vec<Written> {
        mem::take(&mut self.written)
    }

    fn record(&mut self, write: Write) {
        if let Some((key, sha256)) = write.object {
            self.objects.insert(key, sha256);
            return;
        }
        let of_interest = write.is_of_jobs_or_events();
        let put = |(pk, row): &(String, Value)| match write.deletes {
            true => self.rows.remove(pk),
            false => self.rows.insert(pk.clone(), row.clone()),
        };
        let before = write.rows.iter().map(put).collect();
        if of_interest {
            self.written.push(Written { rows: write.rows, before });
        }
    }
}

/// What the ways of all processes share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wires {
    pub(crate) recorder: Arc<Mutex<Recorder>>,
    /// The engine itself, for what no process does.
    pub(crate) engine: Arc<OnceLock<SharedHttpConnector>>,
    /// What is done to writes, to see that it is noticed.
    pub(crate) mutant: Option<Mutant>,
}

impl Wires {
    pub(crate) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way of one process to an engine.
    pub(crate) fn way(&self, process: &Arc<Process>, engine: SharedHttpClient) -> SharedHttpClient {
        let (wires, process) = (self.clone(), Arc::clone(process));
        http_client_fn(move |settings, components| {
            let way = engine.http_connector(settings, components);
            SharedHttpConnector::new(Way { wires: wires.clone(), process: Arc::clone(&process), way })
        })
    }
}

#[derive(Clone, Debug)]
struct Way {
    wires: Wires,
    process: Arc<Process>,
    way: SharedHttpConnector,
}

impl HttpConnector for Way {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move {
            if this.process.is_dead() {
                return Err(gone());
            }
            match Write::of(&request) {
                None => this.way.call(request).await,
                Some((write, body)) => this.write(write, body, request).await,
            }
        })
    }
}

impl Way {
    async fn write(
        &self,
        write: Write,
        body: Value,
        mut request: HttpRequest,
    ) -> Result<aws_smithy_runtime_api::client::orchestrator::HttpResponse, ConnectorError> {
        if write.object.is_none() {
            let _ = self.wires.engine.set(self.way.clone());
        }
        let fate = self.process.fate_of(&write);
        match fate {
            Fate::Dies(Moment::Before) => return Err(gone()),
            Fate::Waits => {
                let goes_on = self.process.goes_on.notified();
                self.process.held_up.notify_one();
                goes_on.await;
            }
            Fate::Dies(Moment::After) | Fate::Goes => {}
        }
        let made = match self.wires.mutant {
            Some(mutant) if write.object.is_none() => {
                let body = mutant.of(body, &self.wires.recorder().rows);
                *request.body_mut() = SdkBody::from(body.to_string());
                Write { deletes: write.deletes, ..Write::of_body(&body) }
            }
            _ => write,
        };
        let answer = self.way.call(request).await?;
        // An object that is there already has the same bytes: its SHA-256 is in its key, or is what the key was made for.
        let is_there = made.object.is_some() && answer.status().as_u16() == 412;
        if answer.status().is_success() || is_there {
            self.wires.recorder().record(made);
        }
        if matches!(fate, Fate::Dies(Moment::After)) {
            self.process.state().dead = true;
            return Err(gone());
        }
        Ok(answer)
    }
}

/// Not worth another try: nobody is left who would make it.
fn gone() -> ConnectorError {
    ConnectorError::other("the process is dead".into(), None)
}
