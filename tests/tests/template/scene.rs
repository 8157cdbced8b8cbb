//! The functions, and what each has needed to do what it did.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
};

use async_trait::async_trait;
use domain::Tried;
use serde_json::Value;
use service::{Courier, Delivered, Message};
use system_tests::{BUCKET, Called, Functions, Seen};

/// What a role allows: an action, and what of the stack it is allowed on.
pub(crate) type Grant = (String, String);

pub(crate) struct Scene {
    functions: Functions,
    /// What each function has needed so far.
    pub(crate) needed: BTreeMap<String, BTreeSet<Grant>>,
    /// The calls that were made, by method and the path of their route.
    pub(crate) called: BTreeSet<(String, &'static str)>,
    /// The keys of rows that were written in one transaction with a job's.
    pub(crate) written_with_jobs: Vec<String>,
}

impl Deref for Scene {
    type Target = Functions;

    fn deref(&self) -> &Functions {
        &self.functions
    }
}

/// Says of every message that its receiver is gone, or that it took it.
pub(crate) struct Says(pub(crate) Tried);

#[async_trait]
impl Courier for Says {
    async fn carry(&self, _: &Message) -> Tried {
        self.0.clone()
    }
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self {
            functions: Functions::new().await,
            needed: BTreeMap::new(),
            called: BTreeSet::new(),
            written_with_jobs: Vec::new(),
        }
    }

    /// Makes a call, under a lease if there is one, with a body unless it is null.
    pub(crate) async fn call(&mut self, method: &str, path: &str, lease: &str, body: &Value) -> Called {
        let called = self.functions.call(method, path, lease, body).await;
        self.called.insert((method.to_owned(), called.route.path));
        self.note(&format!("{:?}", called.route.function), &called.seen, &called.body);
        called
    }

    pub(crate) async fn sweep(&mut self) {
        let (swept, seen, _) = self.functions.sweep().await;
        assert!(swept.complete);
        self.note("SweepJobs", &seen, &Value::Null);
    }

    pub(crate) async fn deliver(&mut self, tried: Tried) -> Delivered {
        let (delivered, seen, _) = self.functions.deliver(&Says(tried)).await;
        self.note("DeliverEvents", &seen, &Value::Null);
        delivered
    }

    /// Writes down what a function needed: for what it did, and for what others may do by the URLs that it signed.
    fn note(&mut self, function: &str, seen: &[Seen], answer: &Value) {
        let needed = self.needed.entry(function.to_owned()).or_default();
        for seen in seen {
            if seen.operation == "TransactWriteItems" {
                let with = &seen.json()["TransactItems"][1]["Put"]["Item"]["pk"]["S"];
                self.written_with_jobs.push(with.as_str().unwrap().to_owned());
            }
            needed.extend(match seen.operation.as_str() {
                "" => s3(seen),
                "CreateQueue" => vec![hints("CreateQueue")],
                "SendMessage" => vec![hints("SendMessage")],
                _ => dynamodb(seen),
            });
        }
        signed(answer, "GET", &mut |method, url| {
            if url.contains("Action=ReceiveMessage") {
                needed.insert(hints("ReceiveMessage"));
                return;
            }
            let url: http::Uri = url.parse().unwrap();
            let target = url.path_and_query().unwrap().to_string();
            let (operation, body) = (String::new(), String::new());
            needed.extend(s3(&Seen { method: method.to_owned(), target, operation, body, status: 200 }));
        });
    }
}

/// Every presigned URL in an answer, with its method.
fn signed(value: &Value, method: &str, found: &mut impl FnMut(&str, &str)) {
    match value {
        Value::String(text) if text.contains("X-Amz-Signature=") => found(method, text),
        Value::Array(values) => values.iter().for_each(|value| signed(value, method, found)),
        Value::Object(fields) => {
            let method = fields.get("method").and_then(Value::as_str).unwrap_or(method);
            fields.values().for_each(|value| signed(value, method, found));
        }
        _ => {}
    }
}

/// What a request to DynamoDB needs. A transaction needs what its writes would need one by one.
fn dynamodb(seen: &Seen) -> Vec<Grant> {
    let request = seen.json();
    let resource = match request["IndexName"].as_str() {
        Some(index) => format!("${{Table.Arn}}/index/{index}"),
        None => "Table.Arn".to_owned(),
    };
    let operations: Vec<String> = if seen.operation == "TransactWriteItems" {
        let writes = request["TransactItems"].as_array().unwrap().iter();
        writes.flat_map(|write| write.as_object().unwrap().keys().map(|kind| format!("{kind}Item"))).collect()
    } else {
        vec![seen.operation.clone()]
    };
    operations.into_iter().map(|operation| (format!("dynamodb:{operation}"), resource.clone())).collect()
}

/// The right to do this with the queues of hints.
fn hints(action: &str) -> Grant {
    let resource = "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:${AWS::StackName}-hints-*";
    (format!("sqs:{action}"), resource.to_owned())
}

/// What a request to S3 needs. To be told that an object is not there takes the right to list the bucket.
fn s3(seen: &Seen) -> Vec<Grant> {
    let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    let path = path.strip_prefix(&format!("/{BUCKET}")).unwrap().trim_start_matches('/');
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let grant = |action: &str, key: &str| {
        (format!("s3:{action}"), format!("${{Bucket.Arn}}/{}/*", key.split('/').next().unwrap()))
    };
    let list = || ("s3:ListBucket".to_owned(), "Bucket.Arn".to_owned());
    match (seen.method.as_str(), path) {
        ("GET", "") => vec![list()],
        ("POST", "") if has("delete") => {
            let keys = seen.body.split("<Key>").skip(1);
            keys.map(|rest| grant("DeleteObject", rest.split("</Key>").next().unwrap())).collect()
        }
        ("GET" | "HEAD", key) if seen.status == 404 => vec![grant("GetObject", key), list()],
        ("GET" | "HEAD", key) => vec![grant("GetObject", key)],
        ("PUT", key) => vec![grant("PutObject", key)],
        ("POST", key) if has("uploads") || has("uploadId") => vec![grant("PutObject", key)],
        ("DELETE", key) if has("uploadId") => vec![grant("AbortMultipartUpload", key)],
        other => panic!("nobody knows what {other:?} needs"),
    }
}
