//! The system under test: one gateway behind a faulty proxy, and converters that each have their own misfortune.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use api::keys::{CreateKeyRequest, ScopeName};
use client::{ApiKey, Client};
use rand::{Rng, SeedableRng, rngs::StdRng};
use system_tests::{ConverterProgram, FaultyProxy, GatewayProgram, free_port};
use tokio::time::{Instant, sleep};

use crate::{
    clock,
    disk::Disk,
    jobs::{CONTENT_TYPES, Job},
    watch::Watch,
};

/// How many jobs there are at least.
const JOBS: usize = 300;
/// How many of them are created as fast as they can be, so that there is a queue.
const BURST: usize = 60;
/// The share of requests that the proxy does something to.
const FAULTY: f64 = 0.2;
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How a converter reaches the API. Objects always go through the proxy, because the presigned URLs say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    Proxy,
}

/// Which settings a converter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Terms {
    /// Those of a converter that is told no more than it must be.
    Default,
    /// The shortest lease, and patience for a test.
    Short,
}

/// Nothing happens to it but what the proxy does.
pub(crate) const STEADY: &str = "steady";
/// Killed and started again.
pub(crate) const KILLED: [&str; 2] = ["killed-1", "killed-2"];
/// Stopped past its lease and woken.
pub(crate) const ZOMBIE: &str = "zombie";
/// Its disk is full for a while.
pub(crate) const FULL: &str = "full";
/// Its clock is hours off. It is killed and started again, too.
pub(crate) const WRONG_CLOCK: &str = "wrong-clock";
/// Killed for as long as it takes until others have their jobs.
pub(crate) const MORTAL: [&str; 2] = ["mortal-1", "mortal-2"];

const FLEET: [(&str, Way, Terms); 8] = [
    (STEADY, Way::Proxy, Terms::Default),
    (KILLED[0], Way::Proxy, Terms::Short),
    (KILLED[1], Way::Direct, Terms::Short),
    (ZOMBIE, Way::Proxy, Terms::Short),
    (FULL, Way::Direct, Terms::Short),
    (WRONG_CLOCK, Way::Proxy, Terms::Default),
    (MORTAL[0], Way::Direct, Terms::Default),
    (MORTAL[1], Way::Proxy, Terms::Default),
];

/// Everything. What is dropped first is killed first.
pub(crate) struct Chaos {
    pub(crate) seed: u64,
    gateway: Mutex<Option<GatewayProgram>>,
    gateway_address: SocketAddr,
    fleet: BTreeMap<&'static str, Mutex<ConverterProgram>>,
    pub(crate) proxy: FaultyProxy,
    pub(crate) disk: Disk,
    /// Jobs that were created, each once its creation was answered.
    pub(crate) jobs: Mutex<Vec<Job>>,
    planned: AtomicUsize,
    /// Set once nothing more goes wrong.
    is_over: AtomicBool,
    pub(crate) watch: Watch,
    /// Reaches the gateway as the ingestion side does, through the proxy.
    through: Client,
    /// Reaches the gateway past the proxy.
    pub(crate) direct: Client,
    folder: tempfile::TempDir,
}

impl Chaos {
    /// Starts everything.
    pub(crate) async fn start(seed: u64) -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let gateway_address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let proxy = FaultyProxy::start(gateway_address, seed, FAULTY).await;
        let gateway = start_gateway(&folder, gateway_address, &proxy);
        let admin_key = std::fs::read_to_string(folder.path().join("data/admin-key")).unwrap();
        let client = |url: &str| {
            Client::new(url.parse().unwrap(), Some(ApiKey::from(admin_key.trim())), "chaos-test/0").unwrap()
        };
        let (direct, through) = (client(&format!("http://{gateway_address}")), client(&proxy.url));
        let request =
            CreateKeyRequest { name: "fleet".to_owned(), scopes: vec![ScopeName::Worker], tenant: None };
        let worker_key = direct.create_key(&request).await.unwrap().api_key;
        let disk = Disk::make(&folder.path().join("fleet").join(FULL));
        let off = wrong_by(seed);
        let fleet = start_fleet(&folder, gateway_address, &proxy, &worker_key, off);
        let chaos = Self {
            seed,
            gateway: Mutex::new(Some(gateway)),
            gateway_address,
            fleet,
            proxy,
            disk,
            jobs: Mutex::default(),
            planned: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            watch: Watch::default(),
            through,
            direct,
            folder,
        };
        chaos
            .until("every converter has started", || {
                FLEET.iter().all(|(name, ..)| chaos.converter(name).log().contains(r#""message":"started""#))
            })
            .await;
        clock::assert_is_off(&chaos.converter(WRONG_CLOCK), off);
        println!("the clock of `{WRONG_CLOCK}` is off by {off} s");
        Arc::new(chaos)
    }

    /// Dice of one's own, so that what happens elsewhere does not change how they fall.
    pub(crate) fn dice(&self, whose: &str) -> StdRng {
        let salt = whose.bytes().fold(17, |salt: u64, byte| salt.wrapping_mul(31).wrapping_add(byte.into()));
        StdRng::seed_from_u64(self.seed ^ salt)
    }

    pub(crate) fn converter(&self, name: &str) -> MutexGuard<'_, ConverterProgram> {
        self.fleet[name].lock().unwrap()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fleet.keys().copied()
    }

    /// The job's id of each conversion that a converter's log has the beginning of. Lines are lost with a full disk.
    pub(crate) fn runs(&self) -> Vec<String> {
        let logs = self.names().map(|name| self.converter(name).log());
        logs.flat_map(|log| log.lines().filter_map(begun).collect::<Vec<_>>()).collect()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Kills the gateway and starts it again over the same data after `pause`.
    pub(crate) async fn restart_gateway(&self, pause: Duration) {
        // Dropping it is kill -9.
        drop(self.gateway.lock().unwrap().take());
        sleep(pause).await;
        let started =
            tokio::task::block_in_place(|| start_gateway(&self.folder, self.gateway_address, &self.proxy));
        *self.gateway.lock().unwrap() = Some(started);
    }

    /// Stops the gateway as an operator does, and gives its exit code and its log.
    pub(crate) fn stop_gateway(&self) -> (Option<i32>, String) {
        let gateway = self.gateway.lock().unwrap().take().unwrap();
        tokio::task::block_in_place(|| gateway.stop())
    }

    /// Creates jobs at the pace of a busy ingestion side until nothing more goes wrong and there are enough.
    pub(crate) async fn feed(self: Arc<Self>, feeder: usize) {
        let mut dice = self.dice(&format!("feeder {feeder}"));
        loop {
            let number = self.planned.fetch_add(1, Ordering::Relaxed);
            let is_over = self.is_over.load(Ordering::Relaxed);
            if is_over && number >= JOBS {
                return;
            }
            self.create(Job::plan(&mut dice, self.key(number))).await;
            if number >= BURST && !is_over {
                sleep(Duration::from_millis(dice.random_range(500..1300))).await;
            }
        }
    }

    /// Creates one job that takes a while and goes before others.
    pub(crate) async fn create_long(&self, dice: &mut StdRng) {
        let number = self.planned.fetch_add(1, Ordering::Relaxed);
        self.create(Job::plan_long(dice, self.key(number))).await;
    }

    async fn create(&self, mut job: Job) {
        job.create(&self.through, &self.path("sources")).await;
        self.jobs.lock().unwrap().push(job);
    }

    fn key(&self, number: usize) -> String {
        format!("chaos-{}-{number}", self.seed)
    }

    /// Lets the feeders come to their end.
    pub(crate) fn enough(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Waits until a condition holds.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        self.until_within(Duration::from_secs(90), what, holds).await;
    }

    /// Waits until a condition holds, for so long.
    pub(crate) async fn until_within(&self, patience: Duration, what: &str, holds: impl Fn() -> bool) {
        let until = Instant::now() + patience;
        while !holds() {
            if Instant::now() > until {
                panic!(
                    "seed {}: after {patience:?} it is not so that {what}{}",
                    self.seed,
                    self.unfinished()
                );
            }
            sleep(LOOK).await;
        }
    }

    /// What a person needs to see of the jobs that are not completed.
    fn unfinished(&self) -> String {
        let unfinished = self.watch.all().into_values().filter(|job| job.status != "completed");
        let shown = unfinished.take(5).map(|job| format!("\n{}", self.report(&job.job_id)));
        shown.collect()
    }

    /// What a person needs to see of one job: its status, and what the converters said of it last.
    pub(crate) fn report(&self, job_id: &str) -> String {
        let status = self.watch.all().remove(job_id);
        let status = status.map(|status| serde_json::to_string_pretty(&status).unwrap());
        let mut report = format!("job {job_id}: {}", status.unwrap_or_default());
        for name in self.names() {
            let log = self.converter(name).log();
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(job_id)).collect();
            for line in &lines[lines.len().saturating_sub(10)..] {
                report.push_str(&format!("\n{name}: {line}"));
            }
        }
        report
    }
}

fn start_gateway(folder: &tempfile::TempDir, address: SocketAddr, proxy: &FaultyProxy) -> GatewayProgram {
    let arguments = ["--listen", &address.to_string(), "--public-url", &proxy.url];
    GatewayProgram::start(&folder.path().join("data"), &arguments, &[])
}

fn start_fleet(
    folder: &tempfile::TempDir,
    gateway: SocketAddr,
    proxy: &FaultyProxy,
    key: &str,
    off: i64,
) -> BTreeMap<&'static str, Mutex<ConverterProgram>> {
    let shared = folder.path();
    std::fs::create_dir(shared.join("sources")).unwrap();
    std::fs::write(shared.join("convert.sh"), include_str!("convert.sh")).unwrap();
    let library = clock::compile(shared);
    let (library, off) = (library.to_str().unwrap(), off.to_string());
    let start = |(name, way, terms): (&'static str, Way, Terms)| {
        let home = shared.join("fleet").join(name);
        std::fs::create_dir_all(home.join("converters")).unwrap();
        for (file, description) in descriptions(shared) {
            std::fs::write(home.join("converters").join(file), description).unwrap();
        }
        let url = if way == Way::Direct { format!("http://{gateway}") } else { proxy.url.clone() };
        let mut variables = vec![("MORAG_API_KEY", key)];
        if name == WRONG_CLOCK {
            variables.extend([("LD_PRELOAD", library), ("CLOCK_IS_OFF_BY_SECONDS", &off)]);
        }
        let program = ConverterProgram::start(&home, &settings(name, &url, terms), &variables);
        (name, Mutex::new(program))
    };
    FLEET.into_iter().map(start).collect()
}

/// Describes the converters of one program, by their files' names. One writes its result to a file, and the other one
/// to standard output, which works on a full disk, too.
fn descriptions(shared: &Path) -> [(String, String); 2] {
    let script = shared.join("convert.sh");
    let ways = [("file", "{output}"), ("stdout", "/dev/stdout")];
    std::array::from_fn(|at| {
        let (content_type, (from, output)) = (CONTENT_TYPES[at], ways[at]);
        let description = format!(
            "name: {from}\ncontent_types: [{content_type}]\nresult: {{format: markdown, from: {from}}}\n\
             command: [sh, '{}', '{{input}}', '{output}', '{{options}}']\n",
            script.display(),
        );
        (format!("{from}.yaml"), description)
    })
}

fn settings(name: &str, url: &str, terms: Terms) -> String {
    let types = CONTENT_TYPES.join(", ");
    let least = format!(
        "worker_id: {name}\napi_base_url: {url}\ncontent_types: [{types}]\ntemp_dir: temp\n\
         converters: [converters]\n"
    );
    match terms {
        Terms::Default => least,
        Terms::Short => format!("{least}lease_seconds: 20\npoll_interval: 1\n"),
    }
}

/// The job whose conversion begins with this line of a log.
fn begun(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let begins = line["message"] == "converting";
    begins.then(|| line["span"]["job_id"].as_str().map(str::to_owned)).flatten()
}

/// Some hours, fast or slow, in seconds.
fn wrong_by(seed: u64) -> i64 {
    let mut dice = StdRng::seed_from_u64(seed);
    let hours = dice.random_range(3..30) * 3600;
    if dice.random_bool(0.5) { hours } else { -hours }
}
