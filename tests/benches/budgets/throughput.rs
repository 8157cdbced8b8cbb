//! Whole lives of jobs through the gateway over HTTP, with durable writes, objects included.

use std::time::{Duration, Instant};

use api::{progress::ProgressRequest, result::ResultRequest};
use client::Client;
use domain::ContentType;
use futures::future::join_all;

use crate::{
    report::Report,
    scene::{create_request, durable_gateway, lease, poll_request},
};

const CALLERS: usize = 32;
const FOR: Duration = Duration::from_secs(15);

pub(crate) async fn measure(report: &mut Report) {
    let (gateway, client, folder) = durable_gateway().await;
    let file = folder.path().join("source.txt");
    std::fs::write(&file, "a source of some kilobytes ".repeat(150)).unwrap();
    let started = Instant::now();
    let callers = (0..CALLERS).map(|caller| {
        let (client, file) = (client.clone(), file.clone());
        tokio::spawn(async move {
            let mut done = 0_u64;
            while started.elapsed() < FOR {
                done += u64::from(life(&client, caller, &file).await);
            }
            done
        })
    });
    let done: u64 = join_all(callers).await.into_iter().map(Result::unwrap).sum();
    let seconds = started.elapsed().as_secs_f64();
    gateway.stop().await;
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let per_second = done as f64 / seconds;
    report.figure(
        format!("whole lives per second over HTTP, durable, {CALLERS} callers in the same process"),
        format!("{per_second:.0} (upload, create, poll, download, progress, result, status, result read)"),
    );
}

/// Makes one job and finishes one, which may be another caller's. False when others were faster.
async fn life(client: &Client, caller: usize, file: &std::path::Path) -> bool {
    let source = client.upload_file(file, "source.txt", &|_, _| ()).await.unwrap();
    let request = create_request(&source.source_file_path, &ContentType::Document);
    client.create_job(&request, None).await.unwrap();
    let answer = client.poll(&poll_request(&format!("w{caller}"), ContentType::Document)).await.unwrap();
    let Some(lease) = lease(&answer) else { return false };
    let download = answer.lease.unwrap().download;
    let folder = tempfile::tempdir().unwrap();
    client.download(&lease, &download, &folder.path().join("source"), &|_, _| ()).await.unwrap();
    let progress = ProgressRequest { percentage: 50, message: String::new(), timestamp: None, stage: None };
    client.report_progress(&lease, &progress).await.unwrap();
    let result =
        ResultRequest { success: true, content: Some("# Text".repeat(500)), ..ResultRequest::default() };
    client.submit_result(&lease, &result).await.unwrap();
    client.status(&lease.job_id).await.unwrap();
    client.result(&lease.job_id).await.unwrap();
    true
}
