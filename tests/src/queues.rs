use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use domain::Timestamp;
use serde_json::{Value, json};
use service::World;

use crate::TestWorld;

/// What SQS is asked for in these tests, by the clock of the test, and as the AWS SDK asks it. Signatures are not looked at;
/// the tests of a deployed stack do that.
#[derive(Clone)]
pub struct Queues {
    world: Arc<TestWorld>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// When each message that nobody has received can be, by the queue's URL.
    queues: BTreeMap<String, Vec<Timestamp>>,
    is_down: bool,
    /// The URLs of queues that take no hints.
    broken: BTreeSet<String>,
}

impl Queues {
    /// Where the queues are.
    pub const URL: &str = "http://sqs.embedded";

    /// No queues, by this clock.
    #[must_use]
    pub fn new(world: Arc<TestWorld>) -> Self {
        Self { world, state: Arc::default() }
    }

    /// What brings requests of the SDK here.
    #[must_use]
    pub fn http(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(Connector(self.clone()));
        http_client_fn(move |_, _| connector.clone())
    }

    /// Answers no request to make queues and to send hints until it is up again.
    pub fn set_down(&self, is_down: bool) {
        self.state().is_down = is_down;
    }

    /// From now on the queue that is read by this URL takes no hints, and says to try again.
    pub fn break_queue(&self, hint_url: &str) {
        let (url, _) = hint_url.split_once('?').unwrap();
        self.state().broken.insert(url.to_owned());
    }

    /// The names of the queues that were made.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.state().queues.keys().map(|url| url.rsplit('/').next().unwrap().to_owned()).collect()
    }

    /// How many hints a GET of this URL gives now. Each is given once.
    #[must_use]
    pub fn received(&self, hint_url: &str) -> usize {
        let (url, query) = hint_url.split_once('?').unwrap();
        let pairs: BTreeMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        assert_eq!((pairs["Action"], pairs["WaitTimeSeconds"]), ("ReceiveMessage", "20"));
        assert!(pairs.contains_key("X-Amz-Signature"), "{query}");
        let most: usize = pairs["MaxNumberOfMessages"].parse().unwrap();
        let (now, mut state) = (self.world.now(), self.state());
        let messages = state.queues.get_mut(url).unwrap();
        let ready = messages.extract_if(.., |ready_at| *ready_at <= now);
        ready.take(most).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn answer(&self, operation: &str, request: &Value) -> (u16, Value) {
        let mut state = self.state();
        if state.is_down {
            return (400, json!({"__type": "com.amazonaws.sqs#AccessDenied", "message": "not today"}));
        }
        match operation {
            "AmazonSQS.CreateQueue" => {
                let url = format!("{}/000000000000/{}", Self::URL, request["QueueName"].as_str().unwrap());
                state.queues.entry(url.clone()).or_default();
                (200, json!({"QueueUrl": url}))
            }
            "AmazonSQS.SendMessage" => {
                let delay = Duration::from_secs(request["DelaySeconds"].as_u64().unwrap());
                let url = request["QueueUrl"].as_str().unwrap();
                if state.broken.contains(url) {
                    return (503, json!({"__type": "com.amazonaws.sqs#ServiceUnavailable"}));
                }
                let messages = state.queues.get_mut(url).unwrap();
                messages.push(self.world.now().plus(delay));
                (200, json!({"MessageId": "m", "MD5OfMessageBody": "0"}))
            }
            other => panic!("nobody expects {other}"),
        }
    }
}

struct Connector(Queues);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("queues in memory")
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let operation = request.headers().get("x-amz-target").unwrap_or_default();
        let body = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap();
        let (status, answer) = self.0.answer(operation, &body);
        let status = StatusCode::try_from(status).unwrap();
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(answer.to_string()))))
    }
}
