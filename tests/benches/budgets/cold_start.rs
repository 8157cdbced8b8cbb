//! From exec to the first `/invocation/next` of each function, and what its zip weighs.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tokio::{io::AsyncReadExt, net::TcpListener};

use crate::report::{Report, percentile};

const FUNCTIONS: [&str; 8] = [
    "create-job",
    "poll-jobs",
    "report-progress",
    "submit-result",
    "job-status",
    "download-source",
    "manage-job",
    "sweep-jobs",
];
const STARTS: usize = 21;
const LARGEST_ZIP: u64 = 5 << 20;

pub(crate) async fn measure(report: &mut Report) {
    for function in FUNCTIONS {
        let binary = binary(function);
        if !binary.exists() {
            report.figure(format!("{function}: exec to first /invocation/next"), "not built; run make bench");
            continue;
        }
        let mut times = Vec::new();
        for _ in 0..STARTS {
            times.push(start(&binary).await);
        }
        let p50 = percentile(&mut times, 50);
        let zip = zipped(&binary);
        report.budget(
            format!("{function}: exec to first /invocation/next, p50; zipped"),
            format!(
                "{:.1} ms; {:.1} MB",
                p50.as_secs_f64() * 1e3,
                f64::from(u32::try_from(zip >> 10).unwrap()) / 1024.0
            ),
            "<= 10 ms; <= 5 MB",
            p50 <= Duration::from_millis(10) && zip <= LARGEST_ZIP,
        );
    }
}

fn binary(function: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("lambda").join(function)
}

async fn start(binary: &Path) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let started = Instant::now();
    let mut process = Command::new(binary)
        .env_clear()
        .env("AWS_LAMBDA_RUNTIME_API", listener.local_addr().unwrap().to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", "bench")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", "bench")
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "bench")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "bench")
        .env("AWS_SECRET_ACCESS_KEY", "bench")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut stream, _) =
        tokio::time::timeout(Duration::from_secs(10), listener.accept()).await.unwrap().unwrap();
    let mut head = vec![0; 4096];
    let read = stream.read(&mut head).await.unwrap();
    let elapsed = started.elapsed();
    assert!(String::from_utf8_lossy(&head[..read]).contains("/invocation/next"));
    process.kill().unwrap();
    process.wait().unwrap();
    elapsed
}

/// What a zip of the binary weighs: both are deflate.
fn zipped(binary: &Path) -> u64 {
    let output = Command::new("gzip").args(["--best", "--stdout"]).arg(binary).output().unwrap();
    output.stdout.len() as u64
}
