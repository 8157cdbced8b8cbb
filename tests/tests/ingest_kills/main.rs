//! The ingestion service, the gateway and the worker are killed at any moment while tasks come in. In the end each task
//! has ended, once: its chunks are there once, one webhook tells of it, and no job of it runs on.
//!
//! `MORAG_TEST_SEED` repeats the dice of an earlier run, though not the moments at which the programs' own tasks run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what a test meets unexpectedly is a failed test"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use system_tests::{
    Client, ConverterProgram, GatewayProgram, IngestProgram, Receiver, Reply, binary, free_port,
};
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

/// How many documents are ingested.
const DOCUMENTS: usize = 36;
/// How many are posted by the same caller while the others wait.
const CALLERS: usize = 4;
/// How often something is killed.
const KILLS: usize = 18;
/// How long the last tasks may take: a lease that has to lapse, and a backoff, among them.
const LAST: Duration = Duration::from_secs(240);
/// What the tales are as sources.
const CONTENT_TYPE: &str = "x-tale";
/// What a tale's second line says when it cannot be converted remotely.
const NOT_REMOTELY: &str = "not-remotely";

/// What is posted, and what must come out.
#[derive(Clone, Debug)]
struct Document {
    id: String,
    /// A word that is in no other document.
    word: String,
    source: String,
    remote: bool,
    /// The only way in which it can have been converted, if there is only one.
    method: Option<&'static str>,
}

/// Everything that runs. What is dropped first is killed first.
struct Place {
    ingest: Mutex<IngestProgram>,
    gateway: Mutex<Option<GatewayProgram>>,
    gateway_address: SocketAddr,
    worker: Mutex<ConverterProgram>,
    client: Client,
    admin: Client,
    /// The tasks that were created, by the documents.
    tasks: Mutex<BTreeMap<String, Vec<String>>>,
    folder: tempfile::TempDir,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_task_ends_once_whatever_is_killed() {
    let seed = std::env::var("MORAG_TEST_SEED").map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    println!("MORAG_TEST_SEED={seed}");
    for program in ["gateway", "remote-converter", "ingest"] {
        block_in_place(|| binary(program));
    }
    let told = Arc::new(Mutex::new(Told::new()));
    let receiver = receiver(&told).await;
    let place = Arc::new(Place::start().await);
    let documents = Arc::new(documents(seed));
    let next = Arc::new(AtomicUsize::new(0));
    let webhook_url = receiver.url("/ended");
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let (place, documents, next) = (Arc::clone(&place), Arc::clone(&documents), Arc::clone(&next));
        let (webhook_url, mut dice) =
            (webhook_url.clone(), StdRng::seed_from_u64(seed ^ (caller as u64 + 1)));
        callers.spawn(async move {
            while let Some(document) = documents.get(next.fetch_add(1, Ordering::Relaxed)) {
                place.post(document, &webhook_url).await;
                sleep(Duration::from_millis(dice.random_range(100..1500))).await;
            }
        });
    }
    place.kill_at_random(seed).await;
    callers.join_all().await;
    let ended = place.all_ended().await;
    for document in documents.iter() {
        place.verdict(document, &ended, seed).await;
    }
    place.all_told(&ended, &told).await;
    place.no_job_runs_on(&ended).await;
}

/// Ids and bodies of the messages that came, by the tasks that they tell of.
type Told = BTreeMap<String, BTreeSet<(String, Vec<u8>)>>;

/// Is told of ended tasks. Every third message has to come again.
async fn receiver(told: &Arc<Mutex<Told>>) -> Receiver {
    let (told, count) = (Arc::clone(told), AtomicUsize::new(0));
    Receiver::start(move |message| {
        let task = message.json()["data"]["task_id"].as_str().unwrap().to_owned();
        let is = (message.header("webhook-id").to_owned(), message.body.clone());
        told.lock().unwrap().entry(task).or_default().insert(is);
        let fails = count.fetch_add(1, Ordering::Relaxed).is_multiple_of(3);
        Reply::Status(if fails { 503 } else { 204 }, String::new())
    })
    .await
}

fn documents(seed: u64) -> Vec<Document> {
    let mut dice = StdRng::seed_from_u64(seed);
    let one = |number| {
        let word = format!("w{}", hex::encode(dice.random::<[u8; 6]>()));
        let remote = dice.random_bool(0.75);
        let fails_remotely = dice.random_bool(0.2);
        let pause = dice.random_range(0.0..1.5);
        let trait_line = if fails_remotely { NOT_REMOTELY } else { "anywhere" };
        let sentences = "Once upon a time there was a mill at the river. ".repeat(dice.random_range(1..300));
        let source =
            format!("{pause:.2}\n{trait_line}\n# Tale {number}\n\n{sentences}\n\nIts word is {word}.\n");
        // A task for the remote way may end here when the way is blocked for too long, so only these are sure.
        let method = (!remote || fails_remotely).then_some("local");
        Document { id: format!("tale-{number}"), word, source, remote, method }
    };
    (0..DOCUMENTS).map(one).collect()
}

impl Place {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (gateway_port, ingest_port) = (free_port(), free_port());
        let gateway_address = SocketAddr::from(([127, 0, 0, 1], gateway_port));
        let ingest_address = SocketAddr::from(([127, 0, 0, 1], ingest_port));
        let gateway = block_in_place(|| start_gateway(folder.path(), gateway_address));
        let admin = gateway.admin(&folder.path().join("data"));
        let worker = block_in_place(|| start_worker(folder.path(), &gateway.url, admin.key()));
        let ingest =
            block_in_place(|| start_ingest(folder.path(), ingest_address, &gateway.url, admin.key()));
        let client = Client::new(&ingest.url());
        Self {
            ingest: Mutex::new(ingest),
            gateway: Mutex::new(Some(gateway)),
            gateway_address,
            worker: Mutex::new(worker),
            client,
            admin,
            tasks: Mutex::default(),
            folder,
        }
    }

    /// Posts a document until that is answered. What was posted before an answer was lost may be a task of its own.
    async fn post(&self, document: &Document, webhook_url: &str) {
        let fields = [
            ("source_type", CONTENT_TYPE),
            ("document_id", &document.id),
            ("replace_existing", "True"),
            ("remote", if document.remote { "True" } else { "False" }),
            ("remote_timeout", "1200"),
            ("webhook_url", webhook_url),
        ];
        let until = Instant::now() + LAST;
        loop {
            let posting = self.client.ingest_file("tale.txt", document.source.as_bytes(), &fields);
            if let Ok(answer) = posting.send().await {
                let status = answer.status().as_u16();
                // An answer whose end is cut off by a kill is as good as none.
                if let Ok(body) = answer.json::<Value>().await {
                    assert_eq!(status, 200, "{body}");
                    let task = body["task_id"].as_str().unwrap().to_owned();
                    self.tasks.lock().unwrap().entry(document.id.clone()).or_default().push(task);
                    return;
                }
            }
            assert!(Instant::now() < until, "{} cannot be posted", document.id);
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn kill_at_random(&self, seed: u64) {
        let mut dice = StdRng::seed_from_u64(seed ^ 77);
        for _ in 0..KILLS {
            sleep(Duration::from_millis(dice.random_range(200..2000))).await;
            let pause = Duration::from_millis(dice.random_range(0..1500));
            match dice.random_range(0..5) {
                0 | 1 => {
                    self.ingest.lock().unwrap().kill();
                    sleep(pause).await;
                    block_in_place(|| self.ingest.lock().unwrap().start_again());
                }
                2 | 3 => {
                    // Dropping it is kill -9.
                    drop(self.gateway.lock().unwrap().take());
                    sleep(pause).await;
                    let started = block_in_place(|| start_gateway(self.folder.path(), self.gateway_address));
                    *self.gateway.lock().unwrap() = Some(started);
                }
                _ => {
                    self.worker.lock().unwrap().kill();
                    sleep(pause).await;
                    block_in_place(|| self.worker.lock().unwrap().start_again());
                }
            }
        }
    }

    /// Every task there is, once all of them have ended.
    async fn all_ended(&self) -> Vec<Value> {
        let until = Instant::now() + LAST;
        loop {
            let tasks = self.client.get("/api/v1/tasks?limit=500").await.ok();
            let tasks = tasks["tasks"].as_array().unwrap().clone();
            if tasks.iter().all(has_ended) {
                return tasks;
            }
            if Instant::now() > until {
                let open: Vec<&Value> = tasks.iter().filter(|task| !has_ended(task)).collect();
                panic!("these have not ended: {open:#?}\n{}", self.ingest.lock().unwrap().log());
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// What was posted is there once, however it was converted and however often it was posted.
    async fn verdict(&self, document: &Document, ended: &[Value], seed: u64) {
        let posted = self.tasks.lock().unwrap()[&document.id].clone();
        let of_it = ended.iter().filter(|task| task["document_id"] == *document.id);
        let tasks: Vec<&str> = of_it.map(|task| task["task_id"].as_str().unwrap()).collect();
        assert!(
            posted.iter().all(|id| tasks.contains(&id.as_str())),
            "seed {seed}: {posted:?} and {tasks:?}"
        );
        for task_id in tasks {
            let task = self.client.task(task_id).await.unwrap();
            assert_eq!(task["status"], "SUCCESS", "seed {seed}: {task:#}");
            let method = task["result"]["processing_method"].as_str().unwrap();
            assert!(document.method.is_none_or(|only| only == method), "seed {seed}: {task:#}");
            let history = task["history"].as_array().unwrap();
            let continued = history.iter().filter(|entry| entry["event"] == "continued").count();
            assert_eq!(continued, 1, "seed {seed}: {task:#}");
        }
        let found = self.client.get(&format!("/api/v1/search?q={}&limit=100", document.word)).await.ok();
        let hits = found["results"].as_array().unwrap();
        assert_eq!(hits.len(), 1, "seed {seed}: {} is found {hits:#?}", document.id);
        assert_eq!(hits[0]["document_id"], document.id);
    }

    /// One message, perhaps several times, tells of each task.
    async fn all_told(&self, ended: &[Value], told: &Mutex<Told>) {
        let until = Instant::now() + LAST;
        let is_told = |task: &Value| told.lock().unwrap().contains_key(task["task_id"].as_str().unwrap());
        while !ended.iter().all(is_told) {
            assert!(Instant::now() < until, "not every task was told of");
            sleep(Duration::from_millis(200)).await;
        }
        let told = told.lock().unwrap();
        assert!(told.values().all(|messages| messages.len() == 1), "{told:#?}");
    }

    /// Each task's remote job has ended, too: by its result, or because the task went on without it. Its own limits would
    /// end it only much later.
    async fn no_job_runs_on(&self, ended: &[Value]) {
        let until = Instant::now() + Duration::from_secs(60);
        for task in ended {
            let Some(job) =
                self.client.task(task["task_id"].as_str().unwrap()).await.unwrap()["remote_job_id"]
                    .as_str()
                    .map(str::to_owned)
            else {
                continue;
            };
            loop {
                let status = self.admin.get(&format!("/api/v1/remote-jobs/{job}/status")).await.ok();
                if ["completed", "failed", "cancelled", "timeout"]
                    .contains(&status["status"].as_str().unwrap())
                {
                    break;
                }
                assert!(Instant::now() < until, "a job runs on that nobody wants: {status:#}");
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

fn has_ended(task: &Value) -> bool {
    task["status"] == "SUCCESS" || task["status"] == "FAILURE"
}

fn start_gateway(folder: &Path, address: SocketAddr) -> GatewayProgram {
    let variables = [("MORAG_WEBHOOK_NETWORKS", "127.0.0.0/8")];
    GatewayProgram::start(&folder.join("data"), &["--listen", &address.to_string()], &variables)
}

/// Describes the converter in `folder`, which refuses tales whose second line is `refused`.
fn describe(folder: &Path, refused: &str) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("convert.sh"), include_str!("convert.sh")).unwrap();
    let description = json!({
        "name": "tales", "content_types": [CONTENT_TYPE], "result": {"format": "markdown", "from": "file"},
        "command": ["sh", "{here}/convert.sh", "{input}", "{output}", refused],
    });
    std::fs::write(folder.join("tales.yaml"), description.to_string()).unwrap();
}

fn start_worker(folder: &Path, gateway: &str, key: &str) -> ConverterProgram {
    let home = folder.join("worker");
    describe(&home.join("converters"), NOT_REMOTELY);
    let settings = format!(
        "worker_id: killed\napi_base_url: {gateway}\ncontent_types: [{CONTENT_TYPE}]\ntemp_dir: temp\n\
         converters: [converters]\nlease_seconds: 20\npoll_interval: 1\n"
    );
    ConverterProgram::start(&home, &settings, &[("MORAG_API_KEY", key)])
}

fn start_ingest(folder: &Path, address: SocketAddr, gateway: &str, key: &str) -> IngestProgram {
    let home = folder.join("ingest");
    describe(&home.join("converters"), "nowhere");
    let webhook_url = format!("http://{address}/api/v1/webhooks/remote-jobs");
    let converters = home.join("converters");
    let variables = [
        ("MORAG_API_BASE_URL", gateway),
        ("MORAG_API_KEY", key),
        ("MORAG_REMOTE_CONVERSION_ENABLED", "true"),
        ("MORAG_REMOTE_CONTENT_TYPES", CONTENT_TYPE),
        ("MORAG_INGEST_WEBHOOK_URL", &webhook_url),
        ("MORAG_LOCAL_CONTENT_TYPES", CONTENT_TYPE),
        ("MORAG_CONVERTERS", converters.to_str().unwrap()),
    ];
    IngestProgram::start(&home, address, &variables)
}
