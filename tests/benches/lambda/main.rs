//! What the functions weigh, how fast they start, and what they take while they work: `make bench-lambda`, which builds
//! and zips them first. Ends with an error when a budget is not kept. Nothing here leaves the machine: each function
//! runs under a Runtime API of this process, over the embedded engines.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a measurement meets unexpectedly ends it"
)]

mod function;
mod starts;
mod table;
mod work;

use std::process::ExitCode;

use table::{Row, Table};

#[tokio::main]
async fn main() -> ExitCode {
    let mut table = Table::default();
    let mut work = work::Work::new().await;
    for function in work::FUNCTIONS {
        eprintln!("measuring {function} ...");
        let zip_bytes = function::zip_bytes(function);
        let start = starts::median(function).await;
        let invoked = work.measure(function).await;
        table.add(Row { function, zip_bytes, start, invoked });
    }
    table.print();
    if table.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
