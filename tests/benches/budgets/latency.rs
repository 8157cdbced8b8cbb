//! From a job's creation to its worker's having it, on an idle machine, over HTTP.

use std::time::Instant;

use domain::ContentType;
use system_tests::percentile;

use crate::{
    report::Report,
    scene::{create_request, durable_gateway, poll_request},
};

const SAMPLES: usize = 100;

pub(crate) async fn measure(report: &mut Report) {
    let (gateway, client, folder) = durable_gateway().await;
    let file = folder.path().join("small.txt");
    std::fs::write(&file, "small").unwrap();
    let source = client.upload_file(&file, "small.txt", &|_, _| ()).await.unwrap().source_file_path;
    let mut times = Vec::new();
    for _ in 0..SAMPLES {
        let waiting = tokio::spawn({
            let client = client.clone();
            async move {
                let mut request = poll_request("w", ContentType::Document);
                request.wait_seconds = Some(20);
                let answer = client.poll(&request).await.unwrap();
                assert!(answer.job_id.is_some());
                Instant::now()
            }
        });
        // Long enough for the poll to be held open.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let started = Instant::now();
        client.create_job(&create_request(&source, &ContentType::Document), None).await.unwrap();
        times.push(waiting.await.unwrap().duration_since(started));
    }
    gateway.stop().await;
    let p50 = percentile(&mut times, 50);
    report.budget(
        "create called to job in the worker's hands, idle, p50",
        format!("{p50:.1?}"),
        "<= 50 ms",
        p50.as_millis() <= 50,
    );
}
