//! docs/prices.yaml, docs/workload.yaml, and what of infra/template.yaml decides what is paid.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use domain::ContentType;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// A price, and where it is from.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Price {
    /// US dollars for `per` of them.
    pub(crate) usd: f64,
    pub(crate) per: f64,
    /// One of what.
    pub(crate) what: String,
    /// The page that publishes it.
    pub(crate) source: String,
    /// The month of the page that was read.
    pub(crate) as_of: String,
    /// The page that was read in its place.
    pub(crate) quoted_by: Option<String>,
    /// Whether it could not be read anywhere.
    #[serde(default)]
    pub(crate) unread: bool,
}

impl Price {
    /// What so many cost, in US dollars.
    pub(crate) fn of(&self, count: f64) -> f64 {
        self.usd / self.per * count
    }
}

macro_rules! prices {
    ($($name:ident),+ $(,)?) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct Prices {
            $(pub(crate) $name: Price,)+
        }

        impl Prices {
            /// All of them, in the order of the table in the document.
            pub(crate) fn all(&self) -> Vec<&Price> {
                vec![$(&self.$name),+]
            }
        }
    };
}

prices!(
    api_gateway_http,
    api_gateway_rest,
    lambda_request,
    lambda_arm64,
    lambda_x86_64,
    dynamodb_write,
    dynamodb_read,
    dynamodb_storage,
    dynamodb_recovery,
    dynamodb_stream_by_lambda,
    s3_put,
    s3_get,
    s3_storage,
    data_out,
    sqs_request,
    scheduler,
    logs,
    alarm,
    metric,
    dashboard,
    trace,
    step_functions_transition,
    temporal_action,
    temporal_plan,
    fargate_vcpu,
    fargate_memory,
    g4dn_xlarge,
);

/// One kind of job.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) content_type: ContentType,
    pub(crate) source_bytes: f64,
    pub(crate) result_bytes: usize,
    pub(crate) run_seconds: u64,
}

/// What a function takes for an event.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PerEvent {
    pub(crate) cpu_ms: f64,
    pub(crate) log_bytes: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Workload {
    pub(crate) jobs: Vec<Job>,
    pub(crate) jobs_per_month: f64,
    pub(crate) status_calls: u32,
    pub(crate) worker_is_outside: bool,
    pub(crate) idle_content_types: Vec<ContentType>,
    pub(crate) hours_per_month: f64,
    pub(crate) functions: BTreeMap<String, PerEvent>,
    pub(crate) dynamodb_ms: f64,
    pub(crate) s3_ms: f64,
    pub(crate) sqs_ms: f64,
    pub(crate) webhook_ms: f64,
    pub(crate) memory_of_a_processor_mb: f64,
    pub(crate) platform_log_bytes: f64,
    pub(crate) access_log_bytes: f64,
    pub(crate) answer_head_bytes: f64,
    pub(crate) empty_receive_bytes: f64,
    pub(crate) row_bytes: f64,
    pub(crate) traced_part: f64,
}

/// What is paid for how the stack is made.
pub(crate) struct Stack {
    template: Value,
}

/// All that goes into a figure besides what is counted.
pub(crate) struct Inputs {
    pub(crate) prices: Prices,
    pub(crate) workload: Workload,
    pub(crate) stack: Stack,
}

impl Inputs {
    pub(crate) fn read() -> Self {
        Self {
            prices: yaml("docs/prices.yaml"),
            workload: yaml("docs/workload.yaml"),
            stack: Stack { template: yaml("infra/template.yaml") },
        }
    }
}

impl Stack {
    /// The memory of a function, in MB.
    pub(crate) fn memory_mb(&self, function: &str) -> f64 {
        self.of_function(function, "MemorySize").as_f64().unwrap()
    }

    /// Whether Lambda decides by itself which calls of a function are traced.
    pub(crate) fn is_traced(&self, function: &str) -> bool {
        self.of_function(function, "Tracing") == "Active"
    }

    pub(crate) fn is_arm64(&self) -> bool {
        self.default("Architecture") == "arm64"
    }

    /// How long a row stays, in months.
    pub(crate) fn row_months(&self) -> f64 {
        self.default("RetentionDays").as_f64().unwrap() * 12.0 / 365.0
    }

    /// How long an object stays, in months.
    pub(crate) fn object_months(&self) -> f64 {
        let rules = &self.template["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"];
        rules[0]["ExpirationInDays"].as_f64().unwrap() * 12.0 / 365.0
    }

    /// How many resources there are of a type.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.of_type(kind).count()
    }

    /// When each of the schedules fires.
    pub(crate) fn schedules(&self) -> Vec<&str> {
        let schedules = self.of_type("AWS::Scheduler::Schedule");
        schedules.map(|schedule| schedule["Properties"]["ScheduleExpression"].as_str().unwrap()).collect()
    }

    /// How many metrics are made of log lines.
    pub(crate) fn metrics(&self) -> usize {
        let names: BTreeSet<String> = self
            .of_type("AWS::Logs::MetricFilter")
            .map(|filter| filter["Properties"]["MetricTransformations"][0]["MetricName"].to_string())
            .collect();
        names.len()
    }

    /// A property of a function, or what all functions have.
    fn of_function(&self, function: &str, property: &str) -> &Value {
        let resource: String =
            function.split('-').map(|part| format!("{}{}", part[..1].to_uppercase(), &part[1..])).collect();
        let own = &self.template["Resources"][&resource]["Properties"];
        assert!(own.is_object(), "the template has no {resource}");
        own.get(property).unwrap_or(&self.template["Globals"]["Function"][property])
    }

    fn default(&self, parameter: &str) -> &Value {
        &self.template["Parameters"][parameter]["Default"]
    }

    fn of_type(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.template["Resources"]
            .as_object()
            .unwrap()
            .values()
            .filter(move |resource| resource["Type"] == kind)
    }
}

/// The path of a file of the project.
pub(crate) fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn yaml<T: DeserializeOwned>(path: &str) -> T {
    let text = fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}
