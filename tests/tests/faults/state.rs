//! What is stored, and what must hold of it whatever went wrong.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{Job, Outcome, State, Status};
use serde_json::{Map, Value, json};
use store::Store;

use crate::scene::{NAME, Scene};

/// A row, plain.
pub(crate) type Row = Map<String, Value>;

/// Everything that is stored.
pub(crate) struct Stored {
    rows: Vec<Row>,
    jobs: Vec<Job>,
    objects: BTreeSet<String>,
}

impl Scene {
    /// What is stored, read past every fault. While a job is being deleted, its result may be gone before its row.
    pub(crate) async fn stored(&self, deleting: bool) -> Stored {
        let store = self.store().await;
        let rows = self.rows().await;
        let mut jobs = Vec::new();
        for id in rows.iter().filter_map(|row| text(row, "pk").strip_prefix("job#")) {
            // A row that no transition makes does not decode.
            jobs.push(store.jobs.get(id.parse().unwrap()).await.unwrap().unwrap());
        }
        let objects = store.handoff.list("").await.unwrap().into_iter().collect();
        let stored = Stored { rows, jobs, objects };
        stored.assert_whole(&store, deleting).await;
        stored
    }

    async fn rows(&self) -> Vec<Row> {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
            .region(aws_sdk_dynamodb::config::Region::from_static("us-east-1"))
            .endpoint_url("http://dynamodb.embedded")
            .allow_no_auth()
            .http_client(self.embedded.dynamodb_http())
            .build();
        let scan = aws_sdk_dynamodb::Client::from_conf(config).scan().table_name(NAME).send().await.unwrap();
        assert!(scan.last_evaluated_key.is_none());
        let plain = |item: std::collections::HashMap<String, AttributeValue>| {
            item.into_iter().map(|(name, value)| (name, plain(&value))).collect()
        };
        scan.items.unwrap().into_iter().map(plain).collect()
    }
}

impl Stored {
    /// What holds after every call, whether it was answered or not.
    async fn assert_whole(&self, store: &Store, deleting: bool) {
        let page = store.jobs.live(0, 1, None).await.unwrap();
        let due: BTreeSet<_> = page.hints.iter().map(|hint| hint.id).collect();
        for job in &self.jobs {
            let id = job.id;
            assert_eq!(due.contains(&id), job.ending().is_none(), "{id} is live or due, and not both");
            assert_eq!(job.due_at().is_some(), job.ending().is_none(), "{id}");
            let accepted =
                job.attempts.iter().filter(|attempt| attempt.outcome == Outcome::Completed).count();
            assert_eq!(
                accepted,
                usize::from(job.status() == Status::Completed),
                "{id} has one result or none"
            );
            if let State::Completed { result, .. } = &job.state {
                assert!(deleting || self.objects.contains(&result.key), "the result of {id} is there");
            }
        }
        self.assert_events();
    }

    /// An end with a webhook has exactly one event, and nothing else has one.
    fn assert_events(&self) {
        for job in &self.jobs {
            let prefix = format!("event#{}.", job.id);
            let ends = job.ending().map(|ending| format!("{prefix}{}.", ending.at.0));
            let of_end = |row: &&Row| ends.as_ref().is_some_and(|end| text(row, "pk").starts_with(end));
            let events = self.rows.iter().filter(of_end).count();
            let owed = job.ending().is_some() && job.spec.webhook.is_some();
            // What an import brings has ended elsewhere, where it was told.
            assert_eq!(events, usize::from(owed), "the events of {}", job.id);
        }
    }

    /// How many jobs have ended and how many ends were counted. Nothing is decided by the counts.
    pub(crate) fn ends(&self) -> (u64, u64) {
        let mut counted = 0;
        for row in self.rows.iter().filter(|row| text(row, "pk").starts_with("stat#")) {
            let outcomes =
                row.iter().filter(|(name, _)| name.len() == 3 && !name.starts_with('h') && *name != "day");
            counted += outcomes.filter_map(|(_, count)| count.as_u64()).sum::<u64>();
        }
        (self.rows.iter().filter(|row| text(row, "pk").starts_with("event#")).count() as u64, counted)
    }

    /// Rows and objects as they are compared with those of another run: without what is random, times, what `trail`
    /// names, counts and keys. A job that is opened again in the moment of its creation does not say when.
    pub(crate) fn comparable(&self, trail: &[&str]) -> Value {
        // That a worker was seen is noted as well as can be, and again soon.
        let kept = |row: &&Row| {
            !["stat#", "key#", "worker#"].iter().any(|prefix| text(row, "pk").starts_with(prefix))
        };
        let mut rows: Vec<BTreeMap<String, Value>> = Vec::new();
        for row in self.rows.iter().filter(kept) {
            let left_out =
                |name: &str| ["rev", "write", "opened_at"].contains(&name) || trail.contains(&name);
            let fields = row.iter().filter(|(name, _)| !left_out(name));
            rows.push(fields.map(|(name, value)| (name.clone(), masked(value))).collect());
        }
        rows.sort_by_key(|row| json!(row).to_string());
        let objects: BTreeSet<String> = self.objects.iter().map(|key| masked_text(key)).collect();
        json!({"rows": rows, "objects": objects, "count": self.objects.len()})
    }
}

fn text<'a>(row: &'a Row, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn plain(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!(text),
        AttributeValue::N(number) => number.parse::<i64>().map_or(Value::Null, Value::from),
        AttributeValue::Bool(is) => json!(is),
        AttributeValue::B(_) => json!("bytes"),
        AttributeValue::L(values) => values.iter().map(plain).collect(),
        AttributeValue::M(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect()
        }
        other => panic!("no row has a {other:?}"),
    }
}

/// Numbers as large as times are taken for times. Ids of keys are random, and look like nothing else.
fn masked(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.as_i64().is_some_and(|number| number > 1_000_000_000) => {
            json!("time")
        }
        Value::String(text) => json!(masked_text(text)),
        Value::Array(values) => values.iter().map(masked).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(name, _)| *name != "api_key");
            // In one order, because rows are sorted by their text.
            let fields: BTreeMap<String, Value> =
                fields.map(|(name, value)| (name.clone(), masked(value))).collect();
            json!(fields)
        }
        other => other.clone(),
    }
}

fn masked_text(text: &str) -> String {
    // An event's id has a time and a revision in it.
    if text.starts_with("event#") && text.len() > "event#0".len() {
        return "event".to_owned();
    }
    let parts = text.split(['#', '/', '.']);
    let masked = parts.map(|part| if part.parse::<uuid::Uuid>().is_ok() { "id" } else { part });
    masked.collect::<Vec<_>>().join("/")
}
