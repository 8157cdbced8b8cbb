//! The program under test, in folders of its own.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::server::Server;

/// The variable that names a signal to be deaf to from the start.
const DEAF_TO: &str = "DEAF_TO";
/// The variable that asks for SIGHUP to be heard, also where the tests were started to be deaf to it.
const HEARS_HANGUPS: &str = "HEARS_HANGUPS";
const HEARING: &str = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])";

pub(crate) struct Converter {
    parent: Option<tempfile::TempDir>,
    child: Child,
    command: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Converter {
    /// Starts it with one converter for `x-test`, which is this shell script of the source (`$1`) and the output
    /// (`$2`).
    pub(crate) fn start(server: &Server, script: &str) -> Self {
        Self::start_with(server, script, &[])
    }

    pub(crate) fn start_with(server: &Server, script: &str, flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), server, script, flags, &[])
    }

    /// Starts it as a program that ignores this signal would.
    pub(crate) fn start_deaf_to(server: &Server, script: &str, signal: &str) -> Self {
        Self::start_among(server, script, &[], &[(DEAF_TO, signal.to_owned())])
    }

    /// Starts it as from a terminal, whatever the tests were started from.
    pub(crate) fn start_hearing_hangups(server: &Server, script: &str, flags: &[&str]) -> Self {
        Self::start_among(server, script, flags, &[(HEARS_HANGUPS, "1".to_owned())])
    }

    /// Starts it with further variables in its environment.
    pub(crate) fn start_among(
        server: &Server,
        script: &str,
        flags: &[&str],
        variables: &[(&str, String)],
    ) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), server, script, flags, variables)
    }

    /// Starts it with a log that takes nothing, which is not to be read then.
    #[cfg(target_os = "linux")]
    pub(crate) fn start_with_full_log(server: &Server, script: &str) -> Self {
        Self::start_with_log("/dev/full".as_ref(), server, script, &[])
    }

    /// Starts it with a log that goes to this file, which is not to be read then.
    pub(crate) fn start_with_log(
        log: &Path,
        server: &Server,
        script: &str,
        variables: &[(&str, String)],
    ) -> Self {
        let parent = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(log, parent.path().join("log")).unwrap();
        Self::start_in(parent, server, script, &[], variables)
    }

    fn start_in(
        parent: tempfile::TempDir,
        server: &Server,
        script: &str,
        flags: &[&str],
        variables: &[(&str, String)],
    ) -> Self {
        let description = "name: test\ncontent_types: [x-test, x-other]\n\
                           command: [sh, '{here}/test.sh', '{input}', '{output}']\n\
                           result: {format: json, from: file}\n";
        std::fs::write(parent.path().join("test.yaml"), description).unwrap();
        std::fs::write(parent.path().join("test.sh"), script).unwrap();
        let settings = format!(
            "worker_id: tester\napi_base_url: {}\ncontent_types: [x-test]\npoll_interval: 1\nlog_level: DEBUG\n\
             temp_dir: temp\nconverters: [test.yaml]\n",
            server.url()
        );
        std::fs::write(parent.path().join("remote_converter_config.yaml"), settings).unwrap();
        let command: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let child = spawn(&parent, &command, &variables);
        Self { parent: Some(parent), child, command, variables }
    }

    /// Starts it once more in the same folders.
    pub(crate) fn again(mut self) -> Self {
        let parent = self.parent.take().unwrap();
        let child = spawn(&parent, &self.command, &self.variables);
        let (command, variables) = (self.command.clone(), self.variables.clone());
        Self { parent: Some(parent), child, command, variables }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.parent.as_ref().unwrap().path().to_owned()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end. Its exit code.
    pub(crate) async fn wait(&mut self) -> Option<i32> {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            pause().await;
        }
    }

    /// Waits for its end. Its exit code, and what it wrote.
    pub(crate) async fn end(&mut self) -> (Option<i32>, String) {
        (self.wait().await, self.log())
    }

    /// What its `status` says with these flags: the exit code, and what it wrote to its two outputs.
    pub(crate) fn status(&self, flags: &[&str]) -> (Option<i32>, String, String) {
        let output = command(&self.home(), &self.variables).arg("status").args(flags).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Waits until it has written this.
    pub(crate) async fn logged(&self, text: &str) {
        while !self.log().contains(text) {
            pause().await;
        }
    }

    pub(crate) fn log(&self) -> String {
        let mut log = String::new();
        std::fs::File::open(self.home().join("log")).unwrap().read_to_string(&mut log).unwrap();
        log
    }

    /// How many entries a folder of `temp_dir` has.
    pub(crate) fn files_in(&self, folder: &str) -> usize {
        std::fs::read_dir(self.home().join("temp").join(folder)).unwrap().count()
    }

    pub(crate) async fn folder_emptied(&self, folder: &str) {
        while self.files_in(folder) > 0 {
            pause().await;
        }
    }

    /// Waits for the id that the script writes to `id` in its work folder.
    pub(crate) async fn grandchild(&self) -> String {
        loop {
            let works = std::fs::read_dir(self.home().join("temp/work")).into_iter().flatten().flatten();
            for work in works {
                let id = work.path().join("scratch/id");
                let text = std::fs::read_to_string(id).unwrap_or_default();
                if text.ends_with('\n') {
                    return text.trim().to_owned();
                }
            }
            pause().await;
        }
    }
}

impl Drop for Converter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(parent: &tempfile::TempDir, flags: &[String], variables: &[(String, String)]) -> Child {
    let log = std::fs::File::create(parent.path().join("log")).unwrap();
    let mut command = command(parent.path(), variables);
    command.args(flags).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// The program in this folder, with nothing but these variables and the usual ones.
fn command(home: &Path, variables: &[(String, String)]) -> Command {
    let program = env!("CARGO_BIN_EXE_remote-converter");
    let mut command = Command::new(program);
    if let Some((_, signal)) = variables.iter().find(|(name, _)| name == DEAF_TO) {
        command = Command::new("sh");
        command.args(["-c", &format!(r#"trap "" {signal}; exec "$0" "$@""#), program]);
    }
    if variables.iter().any(|(name, _)| name == HEARS_HANGUPS) {
        command = Command::new("python3");
        command.args(["-c", HEARING, program]);
    }
    command
        .current_dir(home)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", home)
        .env("MORAG_API_KEY", "id.key-secret")
        .envs(variables.iter().map(|(name, value)| (name, value)));
    command
}

pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
