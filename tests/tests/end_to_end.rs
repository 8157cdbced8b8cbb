//! Real programs, real files, real tools: the gateway, the converter and the command line as a person starts them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a test meets unexpectedly is a failed test"
)]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;
use system_tests::{GatewayProgram, binary};

const SAID: &str = "and mister john dashwood had then leisure to consider how much there might be prudently in his power to do for them";

/// A gateway with a converter, and the command line for both.
struct System {
    gateway: GatewayProgram,
    converter: Child,
    folder: tempfile::TempDir,
}

impl System {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gateway = GatewayProgram::start(&folder.path().join("data"), &[], &[]);
        let mut system = Self { gateway, converter: Command::new("true").spawn().unwrap(), folder };
        let made = system.run(&["--json", "keys", "create", "converter", "--scope", "worker"]);
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        system.converter = Command::new(binary("remote-converter"))
            .args(["--content-types", "audio,document", "--worker-id", "end-to-end"])
            .env("MORAG_API_BASE_URL", &system.gateway.url)
            .env("MORAG_API_KEY", made["api_key"].as_str().unwrap())
            .env("MORAG_TEMP_DIR", system.folder.path().join("converter"))
            .env("MORAG_CONVERTER_PYTHON", interpreter())
            .current_dir(system.folder.path())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(system.folder.path().join("converter.log")).unwrap())
            .spawn()
            .unwrap();
        system
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let key = std::fs::read_to_string(self.folder.path().join("data/admin-key")).unwrap();
        let output = Command::new(binary("remote-jobs"))
            .args(arguments)
            .env("MORAG_API_BASE_URL", &self.gateway.url)
            .env("MORAG_API_KEY", key.trim())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "remote-jobs {arguments:?}: {}\nconverter: {}",
            String::from_utf8_lossy(&output.stderr),
            std::fs::read_to_string(self.folder.path().join("converter.log")).unwrap_or_default(),
        );
        output
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = self.converter.kill();
        let _ = self.converter.wait();
    }
}

/// The Python that `make tools` prepared.
fn interpreter() -> PathBuf {
    let prepared = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(".tools/venv/bin/python");
    assert!(prepared.exists(), "{} is missing; run `make tools`", prepared.display());
    prepared
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

#[test]
fn a_recording_and_a_document_go_in_and_their_texts_come_out() {
    let system = System::start();
    let recording = data("speech/sense_and_sensibility_01_austen_64kb-0870.wav");
    let document = data("documents/minutes.md");
    let out = system.folder.path().join("results");
    std::fs::create_dir(&out).unwrap();
    let files = [&recording, &document, &out].map(|path| path.to_str().unwrap());
    system.run(&["submit", files[0], files[1], "--wait", "--out", files[2]]);
    let text = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(text("minutes.md").trim(), std::fs::read_to_string(&document).unwrap().trim());
    let transcript = text("sense_and_sensibility_01_austen_64kb-0870.md").to_lowercase();
    let heard = SAID.split(' ').filter(|word| transcript.contains(word)).count();
    assert!(heard * 10 >= SAID.split(' ').count() * 6, "too few words were recognised: {transcript}");
}

#[test]
fn doctor_and_selftest_find_a_fresh_gateway_healthy() {
    let system = System::start();
    system.run(&["doctor"]);
    system.run(&["selftest"]);
}
