//! The budgets, measured: `make bench`. Counts come from the engine's own `ConsumedCapacity`; times are only ever
//! compared with other times of the same run. Names after `--` choose some:
//! `cargo bench -p system-tests --bench budgets -- units polling`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a measurement meets unexpectedly ends it"
)]

mod converter;
mod latency;
mod polling;
mod report;
mod scene;
mod sweep;
mod throughput;
mod transfer;
mod units;

use report::Report;

#[tokio::main]
async fn main() {
    if sweep::is_child().await {
        return;
    }
    let chosen: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|choice| choice == name);
    let mut report = Report::of_this_machine();
    if wanted("units") {
        units::measure(&mut report).await;
    }
    if wanted("polling") {
        polling::measure(&mut report).await;
    }
    if wanted("sweep") {
        sweep::measure(&mut report).await;
    }
    if wanted("latency") {
        latency::measure(&mut report).await;
    }
    if wanted("throughput") {
        throughput::measure(&mut report).await;
    }
    if wanted("transfer") {
        transfer::measure(&mut report).await;
    }
    if wanted("converter") {
        converter::measure(&mut report).await;
    }
    report.print();
}
