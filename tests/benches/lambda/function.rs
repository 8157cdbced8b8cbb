use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use runtime::EnvVar;
use serde_json::Value;
use system_tests::{RuntimeApi, Usage};

fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

/// The program, built with the profile that is deployed.
pub(crate) fn binary(function: &str) -> PathBuf {
    let path = target().join("lambda").join(function);
    assert!(path.is_file(), "{} is not built; run make bench-lambda", path.display());
    path
}

/// The bytes of the zip that is deployed.
pub(crate) fn zip_bytes(function: &str) -> u64 {
    let path = target().join("functions").join(function).join("bootstrap.zip");
    let metadata = path.metadata();
    metadata.unwrap_or_else(|error| panic!("{}: {error}; run make bench-lambda", path.display())).len()
}

/// The function's program with the environment that Lambda gives it, and nothing else.
pub(crate) fn command(function: &str, runtime_api: &str) -> Command {
    let mut command = Command::new(binary(function));
    command
        .env_clear()
        .env("AWS_LAMBDA_RUNTIME_API", runtime_api)
        .env("AWS_LAMBDA_FUNCTION_NAME", function)
        .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", "bench")
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "bench")
        .env("AWS_REGION", "us-east-1")
        .env(EnvVar::Table.name(), "jobs")
        .env(EnvVar::Bucket.name(), "handoff")
        .env(EnvVar::HintQueues.name(), "hints-")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// A function that runs and waits for events. Dropping it kills it.
pub(crate) struct Function {
    process: Child,
    api: RuntimeApi,
    log: File,
}

impl Function {
    /// Starts it over AWS as `environment` describes it.
    pub(crate) async fn start(function: &str, environment: &[(String, String)]) -> Self {
        let api = RuntimeApi::start().await;
        let log = tempfile::tempfile().unwrap();
        let mut command = command(function, &api.address());
        command
            .envs(environment.iter().cloned())
            .stdout(log.try_clone().unwrap())
            .stderr(log.try_clone().unwrap());
        Self { process: command.spawn().unwrap(), api, log }
    }

    /// What it answers to an event.
    pub(crate) async fn invoke(&self, event: &Value) -> Value {
        self.api.invoke(event).await
    }

    /// How much it has logged, in bytes.
    pub(crate) fn logged(&self) -> u64 {
        self.log.metadata().unwrap().len()
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage::of(self.process.id()).unwrap()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
