//! The converter's download against curl on the same URL.

use std::{
    io::Write,
    process::Command,
    time::{Duration, Instant},
};

use domain::ContentType;

use crate::{
    report::Report,
    scene::{create_request, durable_gateway, lease, poll_request},
};

const SIZE: usize = 512 << 20;
const ROUNDS: usize = 4;

pub(crate) async fn measure(report: &mut Report) {
    let (gateway, client, folder) = durable_gateway().await;
    let file = folder.path().join("large.bin");
    write_noise(&file);
    let source = client.upload_file(&file, "large.bin", &|_, _| ()).await.unwrap().source_file_path;
    client.create_job(&create_request(&source, &ContentType::Video), None).await.unwrap();
    let answer = client.poll(&poll_request("w", ContentType::Video)).await.unwrap();
    let lease = lease(&answer).unwrap();
    let download = answer.lease.unwrap().download;
    let (mut ours, mut curls) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let to = folder.path().join("ours");
        let started = Instant::now();
        client.download(&lease, &download, &to, &|_, _| ()).await.unwrap();
        ours = ours.min(started.elapsed());
        std::fs::remove_file(&to).unwrap();
        let url = download.url.clone();
        let started = Instant::now();
        let status = tokio::task::spawn_blocking(move || {
            Command::new("curl").args(["--silent", "--fail", "--output"]).arg(&to).arg(url).status()
        });
        assert!(status.await.unwrap().unwrap().success());
        curls = curls.min(started.elapsed());
    }
    gateway.stop().await;
    let ratio = curls.as_secs_f64() / ours.as_secs_f64();
    let speed = |time: Duration| f64::from(u32::try_from(SIZE >> 20).unwrap()) / time.as_secs_f64();
    report.budget(
        "download of 512 MiB, SHA-256 checked, against curl on the same URL",
        format!("{ratio:.2} x ({:.0} against {:.0} MiB/s)", speed(ours), speed(curls)),
        ">= 0.9 x",
        ratio >= 0.9,
    );
}

fn write_noise(path: &std::path::Path) {
    let mut block = vec![0_u8; 1 << 20];
    let mut file = std::fs::File::create(path).unwrap();
    for _ in 0..SIZE >> 20 {
        rand::fill(&mut block[..]);
        file.write_all(&block).unwrap();
    }
}
