use std::{
    fs::{self, OpenOptions},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::{Method, RequestBuilder, header::CONTENT_TYPE};
use serde_json::Value;

use crate::{Answer, Client, binary, kill_processes_in};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// The boundary of the forms that tests send. Nothing that they send has it inside.
const BOUNDARY: &str = "a-boundary-of-tests";

/// The ingestion service as a program of its own, in a folder that outlasts it. Dropping it kills it and everything that
/// it started.
#[derive(Debug)]
pub struct IngestProgram {
    home: PathBuf,
    address: SocketAddr,
    variables: Vec<(String, String)>,
    child: Option<Child>,
}

impl IngestProgram {
    /// Starts it at this address, with its data in `home/data`, and with these variables and no others, and waits until it
    /// answers.
    #[must_use]
    pub fn start(home: &Path, address: SocketAddr, variables: &[(&str, &str)]) -> Self {
        fs::create_dir_all(home).unwrap();
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut program = Self { home: home.canonicalize().unwrap(), address, variables, child: None };
        program.start_again();
        program
    }

    /// Starts it once more over what the last one left, and waits until it listens.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = OpenOptions::new().create(true).append(true).open(self.home.join("log")).unwrap();
        let mut command = Command::new(binary("ingest"));
        command.args(["--listen", &self.address.to_string(), "--data-dir", "data"]);
        command.current_dir(&self.home).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", &self.home).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        let until = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(self.address).is_err() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none() && Instant::now() < until, "it did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it with SIGKILL, as the kernel or a power cut would. What it started runs on.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that it has logged since its first start.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.home.join("log")).unwrap_or_default()).into_owned()
    }

    /// The folder of its data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.home.join("data")
    }
}

impl Drop for IngestProgram {
    fn drop(&mut self) {
        self.kill();
        kill_processes_in(&self.home);
    }
}

impl Client {
    /// A file to ingest, with further fields of the form.
    pub fn ingest_file(&self, name: &str, content: &[u8], fields: &[(&str, &str)]) -> RequestBuilder {
        let mut body = Vec::new();
        for (field, value) in fields {
            let part = format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{field}\"\r\n\r\n{value}\r\n"
            );
            body.extend_from_slice(part.as_bytes());
        }
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
        let form = format!("multipart/form-data; boundary={BOUNDARY}");
        self.request(Method::POST, "/api/v1/ingest/file").header(CONTENT_TYPE, form).body(body)
    }

    /// A task of the ingestion service as it stands, if it can be asked.
    pub async fn task(&self, task_id: &str) -> Option<Value> {
        let asked = self.request(Method::GET, &format!("/api/v1/tasks/{task_id}")).send().await.ok()?;
        let status = asked.status().as_u16();
        let answer =
            Answer { status, headers: asked.headers().clone(), body: asked.bytes().await.ok()?.to_vec() };
        assert_eq!(answer.status, 200, "{}", answer.text());
        Some(answer.json())
    }
}
