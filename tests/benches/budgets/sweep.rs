//! A sweep of 100,000 live jobs, in a process that does nothing else. The embedded engine on the disk is in that process
//! too; what it takes to read the same pages and forget them tells its share of the memory.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use domain::ContentType;
use engines::Engines;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use service::{Rules, Service, SourceRoots, SystemWorld, WebhookNetworks};
use store::{Connection, Endpoint, Store};

use crate::{report::Report, scene::pending};

const LIVE: usize = 100_000;
/// Jobs that the first sweep has to end.
const DUE: usize = 5_000;
const TENANTS: usize = 100;
const CHILD: &str = "MORAG_BENCH_SWEEP";

pub(crate) async fn measure(report: &mut Report) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    {
        let (service, _engines) = service(folder.path()).await;
        service.store().ensure().await.unwrap();
        fill(&service).await;
    }
    for (what, due) in [(format!("with {DUE} due"), DUE), ("with none due".to_owned(), 0)] {
        let swept = in_another_process("sweep", folder.path());
        let number = |name: &str| swept[name].as_f64().unwrap();
        assert_eq!((&swept["timed_out"], &swept["left"]), (&json!(due), &json!(0)), "{swept}");
        let (seconds, peak) = (number("seconds"), number("peak_mb"));
        report.budget(
            format!("sweep of 100,000 live jobs {what}, the embedded engine in the same process"),
            format!(
                "{seconds:.1} s; {peak:.0} MB at most; {:.0} read and {:.0} write units",
                number("read_units"),
                number("write_units")
            ),
            "<= 60 s; <= 256 MB",
            swept["complete"] == true && seconds <= 60.0 && peak <= 256.0,
        );
    }
    let read = in_another_process("read", folder.path());
    let number = |name: &str| read[name].as_f64().unwrap();
    report.figure(
        "memory of a process that reads the same pages and forgets them; that has only opened the engine",
        format!("{:.0} MB; {:.0} MB", number("peak_mb"), number("before_mb")),
    );
}

/// Sweeps or reads once and says how that went, where this process was started for it.
pub(crate) async fn is_child() -> bool {
    let Ok(told) = std::env::var(CHILD) else { return false };
    let (what, folder) = told.split_once(' ').unwrap();
    let (service, _engines) = service(Path::new(folder)).await;
    service.store().sweeps.last().await.unwrap();
    let before_mb = peak_mb();
    let started = Instant::now();
    let mut told = json!({});
    if what == "sweep" {
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        told = serde_json::to_value(service.sweep(until).await.unwrap()).unwrap();
        told["queues"] = Value::Null;
    } else {
        read(&service).await;
    }
    told["seconds"] = json!(started.elapsed().as_secs_f64());
    told["peak_mb"] = json!(peak_mb());
    told["before_mb"] = json!(before_mb);
    println!("{told}");
    true
}

async fn read(service: &Service) {
    let mut from = None;
    loop {
        from = service.store().jobs.live(0, 1, from).await.unwrap().next;
        if from.is_none() {
            return;
        }
    }
}

fn in_another_process(what: &str, folder: &Path) -> Value {
    let child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, format!("{what} {}", folder.display()))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(child.status.success(), "{:?}", child.status);
    serde_json::from_slice(&child.stdout).unwrap()
}

/// The most memory that this process ever had, in MB, as Linux tells it.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes / 1024.0
}

async fn service(folder: &Path) -> (Service, Engines) {
    let engines = Engines::open(folder).unwrap();
    let key = engines.s3_credentials();
    let credentials = (key.access_key_id().to_owned(), key.secret_access_key().to_owned());
    let at = |http| Endpoint::At {
        url: "http://127.0.0.1:8000".to_owned(),
        credentials: credentials.clone(),
        http: Some(http),
    };
    let connection = Connection {
        table: "remote-jobs".to_owned(),
        bucket: "remote-jobs".to_owned(),
        shards: 1,
        retention: Duration::from_secs(86_400),
        dynamodb: at(engines.dynamodb_http()),
        s3: at(engines.s3_http()),
    };
    let rules = Rules {
        run_timeouts: BTreeMap::new(),
        other_run_timeout: Duration::from_secs(1800),
        longest_wait: Duration::ZERO,
        poll_again: Duration::from_secs(10),
        seen_every: Duration::from_secs(60),
        source_roots: SourceRoots::default(),
        webhook_networks: WebhookNetworks::default(),
    };
    let store = Store::connect(&connection).await;
    (Service::new(store, rules, Arc::new(SystemWorld)), engines)
}

/// Live jobs of many tenants and types, some of them past their queue timeout.
async fn fill(service: &Service) {
    let now = service.now();
    let long_ago = now.minus(Duration::from_secs(2 * 86_400));
    stream::iter(0..LIVE)
        .for_each_concurrent(64, |number| async move {
            let mut job = pending(if number < DUE { long_ago } else { now }, number as u128);
            job.tenant = format!("tenant-{}", number % TENANTS).parse().unwrap();
            job.spec.content_type = ContentType::KNOWN[number % 6].clone();
            service.store().jobs.create(&job).await.unwrap();
        })
        .await;
}
