//! The runtime interface emulator of AWS, with one function in it.

use std::{
    fs::File,
    io::{Read, Seek},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use system_tests::{Answer, Client, binary, free_port, inherited_settings, send_signal};
use tokio::{net::TcpStream, time::Instant};

/// How long the emulator may take to listen and to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is started on new ports: one that was free may be taken until it listens.
const ATTEMPTS: u32 = 3;
const INVOCATIONS: &str = "/2015-03-31/functions/function/invocations";

/// A function that waits for events. Dropping it ends it.
pub(crate) struct Emulator {
    port: u16,
    child: Child,
    /// What it and the function log. A pipe that nobody reads would stop them when it is full.
    logged: File,
}

impl Emulator {
    /// Starts the function `name` with these variables and no others of this system, and this many seconds for each event.
    pub(crate) async fn start(name: &str, variables: &[(String, String)], seconds: u64) -> Self {
        let mut logged = String::new();
        for _ in 0..ATTEMPTS {
            let mut emulator = Self::spawn(name, variables, seconds);
            if emulator.listens().await {
                return emulator;
            }
            logged = emulator.stop();
        }
        panic!("the emulator ended at once, {ATTEMPTS} times; the last time it logged: {logged}");
    }

    fn spawn(name: &str, variables: &[(String, String)], seconds: u64) -> Self {
        let (port, runtime_port) = (free_port(), free_port());
        let mut command = Command::new(program());
        // Without both addresses it listens on all of them.
        command.args(["--runtime-interface-emulator-address", &format!("127.0.0.1:{port}")]);
        command.args(["--runtime-api-address", &format!("127.0.0.1:{runtime_port}")]);
        command.arg(binary(name));
        for name in inherited_settings() {
            command.env_remove(name);
        }
        command.env("AWS_LAMBDA_FUNCTION_NAME", name).env("AWS_LAMBDA_FUNCTION_TIMEOUT", seconds.to_string());
        command.envs(variables.iter().cloned());
        let logged = tempfile::tempfile().unwrap();
        command.stdin(Stdio::null()).stdout(logged.try_clone().unwrap()).stderr(logged.try_clone().unwrap());
        Self { port, child: command.spawn().unwrap(), logged }
    }

    /// Waits until it listens. False if it has ended; what listens on its port then is another process.
    async fn listens(&mut self) -> bool {
        let until = Instant::now() + PATIENCE;
        loop {
            let connected = TcpStream::connect(("127.0.0.1", self.port)).await.is_ok();
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if connected {
                return true;
            }
            assert!(Instant::now() < until, "the emulator does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Hands it an event, and gives what the function answered.
    pub(crate) async fn invoke(&self, event: &Value) -> Value {
        self.hand(event).await.ok()
    }

    /// Hands it an event, and gives what the emulator answered.
    pub(crate) async fn hand(&self, event: &Value) -> Answer {
        let client = Client::new(&format!("http://127.0.0.1:{}", self.port));
        Answer::to(client.posting(INVOCATIONS, event)).await
    }

    /// Ends it, and gives all that it and the function logged.
    pub(crate) fn stop(mut self) -> String {
        if self.child.try_wait().unwrap().is_none() {
            send_signal("TERM", i64::from(self.child.id()));
            self.child.wait().unwrap();
        }
        let mut text = String::new();
        self.logged.rewind().unwrap();
        self.logged.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended already. A function whose emulator is gone ends by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The emulator that the AWS SAM CLI brings along.
fn program() -> PathBuf {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/aws/sam/lib");
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
    let found = std::fs::read_dir(&packages).into_iter().flatten().map(|python| {
        python.unwrap().path().join(format!("site-packages/samcli/local/rapid/aws-lambda-rie-{architecture}"))
    });
    found.into_iter().find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("the emulator is not below {}; run make test-lambda, which installs it", packages.display())
    })
}
