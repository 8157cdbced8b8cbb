//! The program under test, in folders of its own.

use std::{
    io::Read,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::server::Server;

pub(crate) struct Converter {
    parent: Option<tempfile::TempDir>,
    child: Child,
    command: Vec<String>,
}

impl Converter {
    /// Starts it with one converter for `x-test`, which is this shell script of the source (`$1`) and the output
    /// (`$2`).
    pub(crate) fn start(server: &Server, script: &str) -> Self {
        Self::start_with(server, script, &[])
    }

    pub(crate) fn start_with(server: &Server, script: &str, flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), server, script, flags)
    }

    /// Starts it with a log that takes nothing, which is not to be read then.
    #[cfg(target_os = "linux")]
    pub(crate) fn start_with_full_log(server: &Server, script: &str) -> Self {
        let parent = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", parent.path().join("log")).unwrap();
        Self::start_in(parent, server, script, &[])
    }

    fn start_in(parent: tempfile::TempDir, server: &Server, script: &str, flags: &[&str]) -> Self {
        let description = "name: test\ncontent_types: [x-test]\n\
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
        let child = spawn(&parent, &command);
        Self { parent: Some(parent), child, command }
    }

    /// Starts it once more in the same folders.
    pub(crate) fn again(mut self) -> Self {
        let parent = self.parent.take().unwrap();
        let child = spawn(&parent, &self.command);
        Self { parent: Some(parent), child, command: self.command.clone() }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.parent.as_ref().unwrap().path().to_owned()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end. Its exit code, and what it wrote.
    pub(crate) async fn end(&mut self) -> (Option<i32>, String) {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            pause().await;
        };
        (status.code(), self.log())
    }

    /// Waits until it has written this.
    pub(crate) async fn logged(&self, text: &str) {
        while !self.log().contains(text) {
            pause().await;
        }
    }

    fn log(&self) -> String {
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

    /// Waits for the id that the script writes to `$HOME/id`.
    pub(crate) async fn grandchild(&self) -> String {
        loop {
            let text = std::fs::read_to_string(self.home().join("id")).unwrap_or_default();
            if text.ends_with('\n') {
                return text.trim().to_owned();
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

fn spawn(parent: &tempfile::TempDir, flags: &[String]) -> Child {
    let log = std::fs::File::create(parent.path().join("log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_remote-converter"))
        .args(flags)
        .current_dir(parent.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", parent.path())
        .env("MORAG_API_KEY", "id.key-secret")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
