use std::time::{Duration, Instant};

use system_tests::percentile;
use tokio::{io::AsyncReadExt, net::TcpListener};

use crate::function::command;

/// How often each function is started.
pub(crate) const STARTS: usize = 31;
const PATIENCE: Duration = Duration::from_secs(10);

/// The median time from exec to the first request for an event.
pub(crate) async fn median(function: &str) -> Duration {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        times.push(start(function).await);
    }
    percentile(&mut times, 50)
}

async fn start(function: &str) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut command = command(function, &listener.local_addr().unwrap().to_string());
    command.env("AWS_ACCESS_KEY_ID", "bench").env("AWS_SECRET_ACCESS_KEY", "bench");
    let started = Instant::now();
    let mut process = command.spawn().unwrap();
    let (mut stream, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut head = vec![0; 4096];
    let read = stream.read(&mut head).await.unwrap();
    let elapsed = started.elapsed();
    assert!(String::from_utf8_lossy(&head[..read]).contains("/invocation/next"));
    process.kill().unwrap();
    process.wait().unwrap();
    elapsed
}
