//! What AWS charges for, counted, and what that costs.

use std::{collections::BTreeMap, ops::AddAssign};

use store::Units;
use system_tests::{Called, Seen, program_of};

use crate::inputs::Inputs;

const GB: f64 = 1e9;

/// What AWS charges for, counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) api_calls: f64,
    /// By function.
    pub(crate) invocations: BTreeMap<String, f64>,
    pub(crate) gb_seconds: f64,
    pub(crate) read_units: f64,
    pub(crate) write_units: f64,
    pub(crate) s3_puts: f64,
    pub(crate) s3_gets: f64,
    pub(crate) sqs_requests: f64,
    pub(crate) schedules: f64,
    pub(crate) log_bytes: f64,
    /// From AWS to the internet, without files.
    pub(crate) answer_bytes: f64,
    /// From AWS to the internet, of files.
    pub(crate) file_bytes: f64,
}

impl AddAssign<&Self> for Spent {
    fn add_assign(&mut self, other: &Self) {
        self.api_calls += other.api_calls;
        for (function, count) in &other.invocations {
            *self.invocations.entry(function.clone()).or_default() += count;
        }
        self.gb_seconds += other.gb_seconds;
        self.read_units += other.read_units;
        self.write_units += other.write_units;
        self.s3_puts += other.s3_puts;
        self.s3_gets += other.s3_gets;
        self.sqs_requests += other.sqs_requests;
        self.schedules += other.schedules;
        self.log_bytes += other.log_bytes;
        self.answer_bytes += other.answer_bytes;
        self.file_bytes += other.file_bytes;
    }
}

impl Spent {
    pub(crate) fn times(&self, factor: f64) -> Self {
        Self {
            api_calls: self.api_calls * factor,
            invocations: self
                .invocations
                .iter()
                .map(|(name, count)| (name.clone(), count * factor))
                .collect(),
            gb_seconds: self.gb_seconds * factor,
            read_units: self.read_units * factor,
            write_units: self.write_units * factor,
            s3_puts: self.s3_puts * factor,
            s3_gets: self.s3_gets * factor,
            sqs_requests: self.sqs_requests * factor,
            schedules: self.schedules * factor,
            log_bytes: self.log_bytes * factor,
            answer_bytes: self.answer_bytes * factor,
            file_bytes: self.file_bytes * factor,
        }
    }

    /// A call through the API.
    pub(crate) fn call(inputs: &Inputs, called: &Called) -> Self {
        let workload = &inputs.workload;
        let mut spent =
            Self::invocation(inputs, program_of(called.route.function), &called.seen, called.units);
        spent.api_calls = 1.0;
        spent.log_bytes += workload.access_log_bytes;
        spent.answer_bytes = workload.answer_head_bytes + called.body.to_string().len() as f64;
        spent
    }

    /// An invocation of a function that asked this of DynamoDB, S3 and SQS, one thing after the other.
    pub(crate) fn invocation(inputs: &Inputs, function: &str, seen: &[Seen], units: Units) -> Self {
        let mut spent = Self { read_units: units.read, write_units: units.write, ..Self::default() };
        let mut waited_ms = 0.0;
        for seen in seen {
            waited_ms += spent.ask(inputs, seen);
        }
        spent.runs(inputs, function, waited_ms);
        spent
    }

    /// One request of a function, and how long its answer takes, in ms.
    fn ask(&mut self, inputs: &Inputs, seen: &Seen) -> f64 {
        let workload = &inputs.workload;
        match (seen.operation.as_str(), seen.method.as_str()) {
            ("CreateQueue" | "SendMessage" | "SendMessageBatch", _) => {
                self.sqs_requests += 1.0;
                workload.sqs_ms
            }
            ("", "GET" | "HEAD") => {
                self.s3_gets += 1.0;
                workload.s3_ms
            }
            ("", "PUT" | "POST") => {
                self.s3_puts += 1.0;
                workload.s3_ms
            }
            // S3 charges nothing for it.
            ("", "DELETE") => workload.s3_ms,
            ("", other) => panic!("nobody knows what {other} costs"),
            _ => workload.dynamodb_ms,
        }
    }

    /// A function's own time, of which it waited so many ms for others.
    pub(crate) fn runs(&mut self, inputs: &Inputs, function: &str, waited_ms: f64) {
        let (workload, memory_mb) = (&inputs.workload, inputs.stack.memory_mb(function));
        let measured = workload.functions[function];
        let share = (memory_mb / workload.memory_of_a_processor_mb).min(1.0);
        let billed_ms = (measured.cpu_ms / share + waited_ms).ceil();
        self.gb_seconds += memory_mb / 1024.0 * billed_ms / 1000.0;
        self.log_bytes += measured.log_bytes + workload.platform_log_bytes;
        *self.invocations.entry(function.to_owned()).or_default() += 1.0;
    }

    pub(crate) fn all_invocations(&self) -> f64 {
        self.invocations.values().sum()
    }

    /// How many traces X-Ray records of this, if it is a month's.
    fn traces(&self, inputs: &Inputs) -> f64 {
        let seconds = inputs.workload.hours_per_month * 3600.0;
        let traced = self.invocations.iter().filter(|(function, _)| inputs.stack.is_traced(function));
        traced
            .map(|(_, count)| count.min(seconds) + inputs.workload.traced_part * (count - seconds).max(0.0))
            .sum()
    }

    /// What this costs, if it is a month's.
    pub(crate) fn bill(&self, inputs: &Inputs) -> Bill {
        let prices = &inputs.prices;
        let seconds = if inputs.stack.is_arm64() { &prices.lambda_arm64 } else { &prices.lambda_x86_64 };
        Bill(vec![
            ("API Gateway, HTTP API", prices.api_gateway_http.of(self.api_calls)),
            ("Lambda, invocations", prices.lambda_request.of(self.all_invocations())),
            ("Lambda, GB-seconds", seconds.of(self.gb_seconds)),
            ("DynamoDB, writes", prices.dynamodb_write.of(self.write_units)),
            ("DynamoDB, reads", prices.dynamodb_read.of(self.read_units)),
            ("S3, requests", prices.s3_put.of(self.s3_puts) + prices.s3_get.of(self.s3_gets)),
            ("SQS, requests", prices.sqs_request.of(self.sqs_requests)),
            ("EventBridge Scheduler", prices.scheduler.of(self.schedules)),
            ("CloudWatch Logs", prices.logs.of(self.log_bytes / GB)),
            ("X-Ray", prices.trace.of(self.traces(inputs))),
            ("Answers out of AWS", prices.data_out.of(self.answer_bytes / GB)),
        ])
    }
}

/// US dollars, by what they are for.
pub(crate) struct Bill(pub(crate) Vec<(&'static str, f64)>);

impl Bill {
    pub(crate) fn total(&self) -> f64 {
        self.0.iter().map(|(_, usd)| usd).sum()
    }

    /// What is paid for one thing.
    pub(crate) fn of(&self, what: &str) -> f64 {
        self.0.iter().filter(|(name, _)| *name == what).map(|(_, usd)| usd).sum()
    }
}
