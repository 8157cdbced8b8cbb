//! The tables of docs/COST.md: what jobs and idle workers spend is counted while they are lived through the functions
//! over the embedded engines, and multiplied by the prices of docs/prices.yaml. `make cost` writes them anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "what a test meets unexpectedly is a failed test, and no count is near 2^52"
)]

mod document;
mod idle;
mod inputs;
mod job;
mod others;
mod spent;
mod standing;

use std::fs;

use idle::Waiting;
use inputs::{Inputs, file};

/// Where the tables are.
const DOCUMENT: &str = "docs/COST.md";
/// What an idle worker may cost in a month, in US dollars, when it waits for hints.
const MOST_IDLE: f64 = 0.10;

#[tokio::test]
async fn the_document_says_what_is_computed() {
    let written = fs::read_to_string(file(DOCUMENT)).unwrap();
    let computed = document::computed(&Inputs::read(), &written).await;
    if std::env::var_os("MORAG_UPDATE_COST").is_some() {
        fs::write(file(DOCUMENT), computed).unwrap();
        return;
    }
    for (written, computed) in written.lines().zip(computed.lines()) {
        assert_eq!(written, computed, "{DOCUMENT} is not what is computed; run make cost");
    }
    assert_eq!(written.len(), computed.len(), "{DOCUMENT} is not what is computed; run make cost");
}

#[tokio::test]
async fn an_idle_worker_that_waits_for_hints_costs_less_than_ten_cents_a_month() {
    let month = document::idle_usd(&Inputs::read(), Waiting::Hinted).await;
    assert!(month < MOST_IDLE, "${month:.4}");
}
