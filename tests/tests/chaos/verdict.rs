//! What must be true in the end.

use std::{collections::HashMap, collections::HashSet, path::Path};

use api::status::StatusResponse;
use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Config, Credentials, Region},
    types::{AttributeValue, Select},
};
use engines::Engines;
use system_tests::{Fate, processes_in};

use crate::{chaos::Chaos, jobs::Job};

/// Collects what is wrong, so that one run tells all of it.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn unless(&mut self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.0.push(what());
        }
    }
}

/// Asserts that every job is accounted for exactly once, and that nothing is left behind.
pub(crate) async fn pass(chaos: &Chaos) {
    let jobs = chaos.jobs.lock().unwrap().clone();
    let mut wrong = Wrong::default();
    let runs = Runs::of(chaos.runs());
    let mut tally: HashMap<String, usize> = HashMap::new();
    for job in &jobs {
        let status = chaos.direct.status(&job.id).await.unwrap();
        for attempt in &status.attempts {
            *tally.entry(attempt.outcome.clone()).or_default() += 1;
        }
        for fault in job_faults(chaos, job, &status, &runs).await {
            wrong.0.push(format!("{fault}: {}", chaos.report(&job.id)));
        }
    }
    let ids: HashSet<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
    wrong.unless(ids.len() == jobs.len(), || "two keys made one job".to_owned());
    wrong.unless(runs.0.len() * 2 > jobs.len(), || format!("the logs tell of no more than {runs}"));
    nothing_is_left(chaos, &mut wrong);
    for fault in Fate::FAULTS {
        wrong.unless(chaos.proxy.tally().contains_key(&fault), || format!("the proxy never did {fault:?}"));
    }
    println!("{} jobs; attempts: {tally:?}; {runs}", jobs.len());
    println!("requests: {:?}", chaos.proxy.tally());
    gateway_ends_well(chaos, jobs.len(), &mut wrong).await;
    let shown = wrong.0.iter().take(10).map(|what| format!("\n- {what}")).collect::<String>();
    assert!(wrong.0.is_empty(), "seed {}: {} things are wrong:{shown}", chaos.seed, wrong.0.len());
}

/// What is wrong with one job.
async fn job_faults(chaos: &Chaos, job: &Job, status: &StatusResponse, runs: &Runs) -> Vec<String> {
    let mut wrong = Wrong::default();
    wrong.unless(status.status == "completed", || format!("it is {}", status.status));
    let completed = status.attempts.iter().filter(|attempt| attempt.outcome == "completed").count();
    wrong.unless(completed == 1, || format!("{completed} attempts completed it"));
    let last = status.attempts.last().map(|attempt| attempt.outcome.as_str());
    wrong.unless(last == Some("completed"), || "something came after its completion".to_owned());
    let numbers = status.attempts.iter().map(|attempt| attempt.attempt);
    wrong.unless(numbers.eq(1..=status.attempts.len() as u64), || "its attempts have gaps".to_owned());
    let result = chaos.direct.result(&job.id).await.unwrap();
    wrong.unless(result.content == job.content(), || "its result is another source's".to_owned());
    let again = job.create_again(&chaos.direct).await;
    wrong.unless(again == job.id, || format!("its key made another job, {again}"));
    // That one ended is seen by the result, which nobody else could know.
    let started = runs.of_job(&job.id);
    wrong.unless(started <= status.attempts.len(), || format!("it ran {started} times"));
    wrong.0
}

/// How often the conversion of each job began, by the logs.
struct Runs(HashMap<String, usize>);

impl Runs {
    fn of(begun: Vec<String>) -> Self {
        let mut runs: HashMap<String, usize> = HashMap::new();
        for job_id in begun {
            *runs.entry(job_id).or_default() += 1;
        }
        Self(runs)
    }

    fn of_job(&self, job_id: &str) -> usize {
        self.0.get(job_id).copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} runs", self.0.values().sum::<usize>())
    }
}

/// The converters have stopped: nothing of them may run, and no result may wait.
fn nothing_is_left(chaos: &Chaos, wrong: &mut Wrong) {
    let mut refused = 0;
    for name in chaos.names() {
        let converter = chaos.converter(name);
        for folder in ["spool", "work"] {
            let left = converter.files_in(folder);
            wrong.unless(left.is_empty(), || format!("`{name}` left in its {folder}: {left:?}"));
        }
        refused += converter.files_in("rejected").len();
        let running = processes_in(converter.home());
        wrong.unless(running.is_empty(), || format!("`{name}` left running: {running:?}"));
    }
    println!("{refused} results were refused because somebody else had the job");
}

/// The gateway stops well, and its table holds as many jobs as were created.
async fn gateway_ends_well(chaos: &Chaos, jobs: usize, wrong: &mut Wrong) {
    let (code, log) = chaos.stop_gateway();
    wrong.unless(code == Some(0), || format!("the gateway ended with {code:?}"));
    let errors: Vec<&str> = log.lines().filter(|line| line.contains(r#""level":"ERROR""#)).take(5).collect();
    wrong.unless(errors.is_empty(), || format!("the gateway logged {errors:?}"));
    let rows = count_jobs(&chaos.path("data")).await;
    wrong.unless(rows == jobs, || format!("{jobs} jobs were created and the table has {rows}"));
}

/// Counts the rows of jobs in the data folder of a gateway that has ended.
async fn count_jobs(data: &Path) -> usize {
    let engines = Engines::open(data).unwrap();
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::new("any", "any", None, None, "test"))
        .endpoint_url("http://localhost")
        .http_client(engines.dynamodb_http())
        .build();
    let scan = Client::from_conf(config)
        .scan()
        .table_name("remote-jobs")
        .select(Select::Count)
        .filter_expression("begins_with(pk, :job)")
        .expression_attribute_values(":job", AttributeValue::S("job#".to_owned()));
    let mut counted = 0;
    let mut from = None;
    loop {
        let page = scan.clone().set_exclusive_start_key(from).send().await.unwrap();
        counted += usize::try_from(page.count()).unwrap();
        from = page.last_evaluated_key;
        if from.as_ref().is_none_or(HashMap::is_empty) {
            return counted;
        }
    }
}
