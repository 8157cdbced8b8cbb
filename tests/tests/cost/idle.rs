//! Idle workers, each lived through hours of the functions' clock by what the answers tell it to do.

use std::time::Duration;

use serde_json::{Value, json};
use system_tests::{Functions, JOBS};

use crate::{inputs::Inputs, spent::Spent};

/// For how long a call is held open where calls are, in seconds.
const HELD: u64 = 20;

/// How an idle worker waits for work.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Waiting {
    /// It asks again after a fixed time.
    Polling,
    /// It says how long it has been idle, and is told when to ask again.
    Adaptive,
    /// It waits at the place that it is told, and asks again when it is told to.
    Hinted,
    /// Its calls are held open, for comparison: nothing on AWS does so.
    Held,
}

impl Waiting {
    pub(crate) const ALL: [Self; 4] = [Self::Polling, Self::Adaptive, Self::Hinted, Self::Held];

    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Polling => "polling at a fixed pace",
            Self::Adaptive => "adaptive polling",
            Self::Hinted => "waiting for hints on SQS",
            Self::Held => "a Lambda held open (not built)",
        }
    }

    /// For how many seconds it is lived. What adapts has done so in a small part of it.
    fn lived(self) -> u64 {
        match self {
            Self::Polling => 600,
            Self::Adaptive | Self::Hinted => 4 * 3600,
            Self::Held => HELD,
        }
    }

    fn request(self, inputs: &Inputs, idle_seconds: u64) -> Value {
        let types: Vec<&str> = inputs.workload.idle_content_types.iter().map(|kind| kind.as_str()).collect();
        let mut request = json!({"worker_id": "gpu-1", "content_types": types, "lease_seconds": 60});
        match self {
            Self::Polling => {}
            Self::Adaptive => request["idle_seconds"] = idle_seconds.into(),
            Self::Hinted => {
                request["idle_seconds"] = idle_seconds.into();
                request["hints"] = true.into();
            }
            Self::Held => request["wait_seconds"] = HELD.into(),
        }
        request
    }
}

/// What an idle worker that waits in this way spends in a month, and the longest pause between its calls, in seconds.
pub(crate) async fn month(inputs: &Inputs, waiting: Waiting) -> (Spent, u64) {
    let mut functions = Functions::new().await;
    if waiting == Waiting::Held {
        functions.longest_wait = Duration::from_secs(HELD);
    }
    let (mut spent, mut elapsed, mut longest) = (Spent::default(), 0, 0);
    while elapsed < waiting.lived() {
        let request = waiting.request(inputs, elapsed);
        let called = functions.call("POST", &format!("{JOBS}/poll"), "", &request).await;
        spent += &Spent::call(inputs, &called);
        let answer = called.ok();
        let mut pause = answer["poll_again_in_seconds"].as_u64().unwrap();
        if waiting == Waiting::Held {
            pause += HELD;
            spent.gb_seconds += inputs.stack.memory_mb("poll-jobs") / 1024.0 * HELD as f64;
        }
        if let Some(url) = answer["hint_url"].as_str() {
            let receives = pause.div_ceil(wait_seconds(url)) as f64;
            spent.sqs_requests += receives;
            spent.answer_bytes += receives * inputs.workload.empty_receive_bytes;
        }
        functions.world.advance(Duration::from_secs(pause));
        elapsed += pause;
        longest = longest.max(pause);
    }
    (spent.times(inputs.workload.hours_per_month * 3600.0 / elapsed as f64), longest)
}

/// For how long SQS holds a request for a hint open.
fn wait_seconds(hint_url: &str) -> u64 {
    let (_, rest) = hint_url.split_once("WaitTimeSeconds=").unwrap();
    rest.split('&').next().unwrap().parse().unwrap()
}
