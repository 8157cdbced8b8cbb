//! A gateway under a clock that the test moves, a proxy that holds requests, and a converter that counts its runs.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use system_tests::{ConverterProgram, FaultyProxy, Site, binary, free_port};

/// How long a condition may take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Says that it runs, waits while it is told to, and gives a result of as many bytes as it is told. It may write to its
/// work folder only, so that is where it says how far it is.
const SCRIPT: &str = r#"set -eu
echo 'one more run' >&2
if [ -e "$HOME/wait" ]; then
    echo so >waiting
    until [ -e "$HOME/go" ]; do sleep 0.02; done
fi
head -c "$(cat "$HOME/size")" /dev/zero | tr '\0' x >"$2"
echo so >finished
"#;

const DESCRIPTION: &str = "name: counting\ncontent_types: [audio]\nresult: {format: markdown, from: file}\n\
    command: [sh, '{here}/convert.sh', '{input}', '{output}']\nlimits: {max_output_bytes: 200000000}\n";

pub(crate) struct Scene {
    pub(crate) converter: ConverterProgram,
    pub(crate) proxy: FaultyProxy,
    pub(crate) site: Site,
    home: PathBuf,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// Starts everything. Results will have `size` bytes.
    pub(crate) async fn start(size: usize) -> Self {
        // Building it, or waiting for somebody else's build, is no part of the time that a test takes.
        tokio::task::block_in_place(|| binary("remote-converter"));
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let proxy = FaultyProxy::start(address, 0, 0.0).await;
        let site = Site::with(|config| {
            config.listen = address;
            config.public_url = Some(proxy.url.clone());
        })
        .await;
        let home = folder.path().join("home");
        fs::create_dir_all(home.join("converters")).unwrap();
        fs::write(home.join("converters/counting.yaml"), DESCRIPTION).unwrap();
        fs::write(home.join("converters/convert.sh"), SCRIPT).unwrap();
        fs::write(home.join("size"), size.to_string()).unwrap();
        let settings = format!(
            "worker_id: phases\napi_base_url: {}\ncontent_types: [audio]\ntemp_dir: temp\npoll_interval: 1\n\
             converters: [converters]\nlog_level: DEBUG\n",
            proxy.url
        );
        let converter = ConverterProgram::start(&home, &settings, &[("MORAG_API_KEY", site.worker.key())]);
        let scene = Self { converter, proxy, site, home: home.canonicalize().unwrap(), _folder: folder };
        scene.until("the converter has started", || scene.logs("\"started\"")).await;
        scene
    }

    /// From now on conversions wait until they are let go.
    pub(crate) fn conversions_wait(&self) {
        fs::write(self.home.join("wait"), "").unwrap();
    }

    pub(crate) fn conversions_go_on(&self) {
        fs::write(self.home.join("go"), "").unwrap();
    }

    /// Waits until the script has written this file.
    pub(crate) async fn said(&self, name: &str) {
        let work = self.home.join("temp/work");
        let has_said = || {
            let jobs = fs::read_dir(&work).into_iter().flatten().map_while(Result::ok);
            jobs.into_iter().any(|job| {
                let path = job.path().join("scratch").join(name);
                fs::read_to_string(path).is_ok_and(|text| text.ends_with('\n'))
            })
        };
        self.until(name, has_said).await;
    }

    /// How often the converter command has run.
    pub(crate) fn runs(&self) -> usize {
        self.converter.log().matches("one more run").count()
    }

    pub(crate) fn logs(&self, text: &str) -> bool {
        self.converter.log().contains(text)
    }

    /// Kills the converter, and starts it again once its lease has lapsed and the job may be given out again.
    pub(crate) async fn kill_and_restart_after_the_lease(&mut self, job: &str) {
        self.converter.kill();
        self.lapse(job).await;
        self.site.world.advance(Duration::from_secs(900));
        self.converter.start_again();
    }

    /// Kills the converter and starts it again at once.
    pub(crate) fn kill_and_restart(&mut self) {
        self.converter.kill();
        self.converter.start_again();
    }

    /// Lets the job's lease lapse. It backs off then. What its holder had sent may still arrive and renew it once more.
    pub(crate) async fn lapse(&self, job: &str) {
        for _ in 0..3 {
            self.site.world.advance(Duration::from_secs(120));
            self.site.sweep().await;
            if self.site.status(job).await["status"] == "pending" {
                return;
            }
        }
        panic!("the lease of {job} does not lapse");
    }

    /// Waits for the job's end, which must be a success after so many attempts and with a result of so many bytes, and
    /// for a converter that has nothing left to do.
    pub(crate) async fn completed(&self, job: &str, attempts: usize, size: usize) {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            let status = self.site.status(job).await;
            if status["status"] == "completed" {
                break status;
            }
            assert!(Instant::now() < until, "not completed: {status}; its log: {}", self.converter.log());
            tokio::time::sleep(LOOK).await;
        };
        assert_eq!(outcomes(&status).len(), attempts, "{status}");
        assert_eq!(outcomes(&status).iter().filter(|outcome| *outcome == "completed").count(), 1, "{status}");
        let redirect = self.site.ingest.get(&format!("{}/{job}/result", system_tests::JOBS)).await;
        let document = self.site.ingest.get(&redirect.location()).await.ok();
        assert_eq!(document["content"].as_str().unwrap().len(), size);
        for folder in ["spool", "work"] {
            self.until(&format!("`{folder}` is empty"), || self.converter.files_in(folder).is_empty()).await;
        }
        self.site.sweep().await;
        assert_eq!(self.ended_in_the_last_day().await, 1);
    }

    /// How many jobs have ended, as the statistics count it.
    async fn ended_in_the_last_day(&self) -> u64 {
        let statistics = self.site.admin.get(&format!("{}/statistics", system_tests::JOBS)).await.ok();
        let queues = statistics["queues"].as_array().unwrap();
        let audio = queues.iter().find(|queue| queue["content_type"] == "audio").unwrap();
        let ended = audio["ended_24h"].as_object().unwrap_or_else(|| panic!("{statistics}"));
        ended.values().filter_map(Value::as_u64).sum()
    }

    pub(crate) async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < until, "not so: {what}; its log: {}", self.converter.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(crate) async fn job(&self) -> String {
        self.site.job(&json!({})).await
    }
}

fn outcomes(status: &Value) -> Vec<String> {
    let attempts = status["attempts"].as_array().unwrap();
    attempts.iter().map(|attempt| attempt["outcome"].as_str().unwrap_or_default().to_owned()).collect()
}
