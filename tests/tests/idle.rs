//! A converter without work: what it takes of the machine.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a test meets unexpectedly is a failed test"
)]

use std::time::{Duration, Instant};

use system_tests::{ConverterProgram, GatewayProgram, Usage};

/// How long it is watched: longer than the gateway holds a poll, so that it has asked again.
const WATCHED: Duration = Duration::from_secs(22);
/// The most CPU time, in hundredths of a second: a thousandth of the time, and the work of the one poll that falls into
/// it. An unoptimised build on a slow machine takes several times as much for that poll, and is held to a hundredth.
const MOST_TICKS: u64 = if cfg!(debug_assertions) { 22 } else { 5 };
/// The most wakeups, five a second on any machine; there is about one. A loop that looks instead of waiting has more.
const MOST_WAKEUPS: u64 = 110;
/// The most resident memory, in bytes.
const MOST_MEMORY: u64 = 20 << 20;
/// The most of it that is no file's, in bytes.
const MOST_OF_ITS_OWN: u64 = 8 << 20;

const DESCRIPTION: &str = "name: none\ncontent_types: [x-idle]\ncommand: [cat, '{input}']\n\
    result: {format: markdown, from: stdout}\n";

#[test]
fn an_idle_converter_takes_next_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let gateway = GatewayProgram::start(&data, &[], &[]);
    let key = std::fs::read_to_string(data.join("admin-key")).unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir_all(home.join("converters")).unwrap();
    std::fs::write(home.join("converters/none.yaml"), DESCRIPTION).unwrap();
    let settings = format!(
        "worker_id: idle\napi_base_url: {}\ncontent_types: [x-idle]\ntemp_dir: temp\nconverters: [converters]\n",
        gateway.url
    );
    let converter = ConverterProgram::start(&home, &settings, &[("MORAG_API_KEY", key.trim())]);
    let started = Instant::now();
    while !converter.log().contains("\"started\"") {
        assert!(started.elapsed() < Duration::from_secs(60), "{}", converter.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    // What starting takes is no idling.
    std::thread::sleep(Duration::from_secs(1));
    let before = Usage::of(converter.id()).unwrap();
    std::thread::sleep(WATCHED);
    let after = Usage::of(converter.id()).unwrap();
    let wakeups = after.sleeps.saturating_sub(before.sleeps);
    println!("idle: {after:?}, {} ticks and {wakeups} wakeups in {WATCHED:?}", after.ticks - before.ticks);
    assert!(wakeups <= MOST_WAKEUPS, "{before:?} {after:?}");
    assert!(after.ticks - before.ticks <= MOST_TICKS, "{before:?} {after:?}");
    // The rest is the program's own code, of which an unoptimised build has several times as much.
    assert!(after.anonymous < MOST_OF_ITS_OWN, "{after:?}");
    if !cfg!(debug_assertions) {
        assert!(after.resident < MOST_MEMORY, "{after:?}");
    }
}
