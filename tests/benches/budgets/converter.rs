//! The converter as a program of its own: what it takes while it idles, and while a large file passes.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use client::Client;
use domain::ContentType;
use system_tests::{ConverterProgram, Usage};

use crate::{
    report::Report,
    scene::{create_request, durable_gateway},
};

const SMALL: u64 = 64 << 20;
const LARGE: u64 = 2 << 30;
/// How long it is watched while it idles.
const IDLE: Duration = Duration::from_secs(60);
/// How often its memory is looked at.
const LOOK: Duration = Duration::from_millis(5);

const DESCRIPTION: &str = "name: size\ncontent_types: [video]\nresult: {format: markdown, from: stdout}\n\
    command: [wc, -c, '{input}']\n";

pub(crate) async fn measure(report: &mut Report) {
    let (gateway, client, folder) = durable_gateway().await;
    let key = std::fs::read_to_string(gateway.admin_key_file.as_ref().unwrap()).unwrap();
    let start = |name: &str| start(&folder.path().join(name), &gateway.public_url, key.trim());
    idle(report, &start("idle")).await;
    let mut peaks = Vec::new();
    for (name, size) in [("small", SMALL), ("large", LARGE)] {
        let source = upload(&client, folder.path(), size).await;
        let (peak, took) = pass(&client, &source, &start(name), size).await;
        report.figure(
            format!("peak of the converter's own memory while {} MiB pass", size >> 20),
            format!("{:.1} MB, in {:.1} s", mb(peak), took.as_secs_f64()),
        );
        peaks.push(peak);
    }
    let ratio = mb(peaks[1]) / mb(peaks[0]);
    let what = "that of 2 GiB against that of 64 MiB";
    report.budget(what, format!("{ratio:.2} x"), "<= 1.25 x", ratio <= 1.25);
    gateway.stop().await;
}

fn start(home: &Path, url: &str, key: &str) -> ConverterProgram {
    std::fs::create_dir_all(home.join("converters")).unwrap();
    std::fs::write(home.join("converters/size.yaml"), DESCRIPTION).unwrap();
    let settings = format!(
        "worker_id: bench\napi_base_url: {url}\ncontent_types: [video]\ntemp_dir: temp\nconverters: [converters]\n"
    );
    ConverterProgram::start(home, &settings, &[("MORAG_API_KEY", key)])
}

async fn idle(report: &mut Report, converter: &ConverterProgram) {
    while !converter.log().contains("\"started\"") {
        tokio::time::sleep(LOOK).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = Usage::of(converter.id()).unwrap();
    tokio::time::sleep(IDLE).await;
    let after = Usage::of(converter.id()).unwrap();
    let ticks = after.ticks - before.ticks;
    let what = "idle converter, resident memory, and what of that is not the program's own code";
    let measured = format!("{:.1} MB, {:.1} MB", mb(after.resident), mb(after.anonymous));
    if cfg!(debug_assertions) {
        // An unoptimised build has several times as much code, which says nothing of the one that people install.
        report.figure(format!("{what} (unoptimised build)"), measured);
    } else {
        report.budget(what, measured, "< 20 MB", after.resident < 20_000_000);
    }
    report.budget(
        format!("idle converter, CPU time in {} s", IDLE.as_secs()),
        format!("{} ms", ticks * 10),
        "<= 60 ms",
        ticks <= 6,
    );
}

/// Uploads a file of nothing but zeros, which takes no room here.
async fn upload(client: &Client, folder: &Path, size: u64) -> String {
    let path = folder.join("zeros");
    std::fs::File::create(&path).unwrap().set_len(size).unwrap();
    client.upload_file(&path, "zeros.bin", &|_, _| ()).await.unwrap().source_file_path
}

/// The converter's most memory of its own while a job of this source is done, and how long that took.
async fn pass(client: &Client, source: &str, converter: &ConverterProgram, size: u64) -> (u64, Duration) {
    let begun = Instant::now();
    let job = client.create_job(&create_request(source, &ContentType::Video), None).await.unwrap().job_id;
    let mut peak = 0;
    loop {
        peak = peak.max(Usage::of(converter.id()).unwrap().anonymous);
        tokio::time::sleep(LOOK).await;
        let log = converter.log();
        if log.contains("\"submitted\"") {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "{log}");
    }
    let content = client.result(&job).await.unwrap().content;
    assert!(content.starts_with(&size.to_string()), "{content}");
    (peak, begun.elapsed())
}

fn mb(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1000).unwrap()) / 1000.0
}
