use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use crate::Client;

/// How long a program may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// The path of one of the workspace's programs, built first if it is not as its sources are.
///
/// A test of another package is not told where a program is, so it is looked for beside the test itself.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    static BUILT: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let path = profile.join(name);
    let mut built = BUILT.lock().unwrap();
    if !built.iter().any(|earlier| earlier == name) {
        build(name, profile);
        built.push(name.to_owned());
    }
    assert!(path.is_file(), "cargo build made no {}", path.display());
    path
}

fn build(name: &str, profile: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // Cargo calls the folder of its profile `dev` `debug`.
    let profile_name = profile.file_name().unwrap().to_str().unwrap();
    let profile_name = if profile_name == "debug" { "dev" } else { profile_name };
    command.args(["build", "--quiet", "--workspace", "--bin", name, "--profile", profile_name]);
    command.arg("--target-dir").arg(profile.parent().unwrap());
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    // Cargo told this test about its own package, and would take that for changed settings of the others and build
    // them anew.
    let inherited = std::env::vars_os().map(|(name, _)| name);
    for name in inherited {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    assert!(command.status().unwrap().success(), "cargo build --bin {name} failed");
}

/// The gateway as a program of its own. Dropping it kills it.
pub struct GatewayProgram {
    /// What its URLs begin with, as it said when it started.
    pub url: String,
    child: Child,
    stderr: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl GatewayProgram {
    /// Starts it over `data_dir` with these further arguments and variables, and waits until it listens.
    #[must_use]
    pub fn start(data_dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::listening(Self::in_folder(data_dir, arguments, variables))
    }

    /// Starts it over the DynamoDB and S3 that these variables lead to, and waits until it listens.
    #[must_use]
    pub fn on_aws(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::listening(Self::command(&[&["--aws"], arguments].concat(), variables))
    }

    fn listening(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        let (said_url, url) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let kept = Arc::clone(&stderr);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(rest) = line.strip_prefix("gateway: listening on ") {
                    let _ = said_url.send(rest.split(' ').next().unwrap_or_default().to_owned());
                }
                kept.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        let url = url.recv_timeout(PATIENCE);
        let url = url.unwrap_or_else(|_| panic!("the gateway did not start: {}", stderr.lock().unwrap()));
        Self { url, child, stderr, reader: Some(reader) }
    }

    /// Runs it to its end, for when it is not meant to start. Gives its exit code and what it said.
    #[must_use]
    pub fn refusal(data_dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
        Self::end(Self::in_folder(data_dir, arguments, variables))
    }

    /// As [`GatewayProgram::refusal`], over what these variables lead to.
    #[must_use]
    pub fn refusal_on_aws(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
        Self::end(Self::command(&[&["--aws"], arguments].concat(), variables))
    }

    fn end(mut command: Command) -> (Option<i32>, String) {
        let mut child = command.spawn().unwrap();
        let status = wait(&mut child);
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }

    fn in_folder(data_dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Self::command(arguments, variables);
        command.arg("--data-dir").arg(data_dir);
        command
    }

    fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(binary("gateway"));
        command.args(arguments);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        for name in inherited_settings() {
            command.env_remove(name);
        }
        // Neither a person's own configuration nor a machine's role is to be found.
        command.envs([("AWS_EC2_METADATA_DISABLED", "true"), ("HOME", "/nonexistent")]);
        command.envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// A client with the admin key that its first start wrote into `data_dir`.
    #[must_use]
    pub fn admin(&self, data_dir: &Path) -> Client {
        let key = std::fs::read_to_string(data_dir.join("admin-key")).unwrap();
        Client::new(&self.url).keyed(key.trim())
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop and waits for its end. Gives its exit code and all that it said.
    #[must_use]
    pub fn stop(mut self) -> (Option<i32>, String) {
        self.terminate();
        let status = wait(&mut self.child);
        self.reader.take().unwrap().join().unwrap();
        (status.code(), std::mem::take(&mut *self.stderr.lock().unwrap()))
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for GatewayProgram {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(child: &mut Child) -> ExitStatus {
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if std::time::Instant::now() > until {
            let _ = child.kill();
            panic!("a program did not end by itself");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The variables of this process that would be settings of the programs that a test starts.
pub fn inherited_settings() -> impl Iterator<Item = OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("MORAG_") || name.starts_with("AWS_")
    })
}

/// What a run of a program came to.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: i32,
    /// What it wrote to standard output.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
}

impl Ran {
    /// Runs a program to its end.
    pub async fn of(command: &mut tokio::process::Command) -> Self {
        let output = command.output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Standard output of a run that went as asked.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Asserts that it was refused with this code and for all of these reasons.
    pub fn refused(&self, code: i32, reasons: &[&str]) {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{self:?}");
        assert!(reasons.iter().all(|reason| self.err.contains(reason)), "{self:?}");
    }

    /// The documents on standard output, one a line, whatever the exit code.
    #[must_use]
    pub fn documents(&self) -> Vec<serde_json::Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
