use std::{fmt, time::Duration};

use crate::{
    starts::STARTS,
    work::{EVENTS, Invoked},
};

/// The largest zip, in bytes.
const LARGEST_ZIP: u64 = 5_000_000;
/// The longest median from exec to the first request for an event.
const LONGEST_START: Duration = Duration::from_millis(10);
/// The most resident memory after the events, in bytes.
const MOST_RESIDENT: u64 = 30_000_000;

/// What was measured of a function.
pub(crate) struct Row {
    pub(crate) function: &'static str,
    pub(crate) zip_bytes: u64,
    pub(crate) start: Duration,
    pub(crate) invoked: Invoked,
}

impl Row {
    fn holds(&self) -> bool {
        self.zip_bytes <= LARGEST_ZIP
            && self.start <= LONGEST_START
            && self.invoked.resident_bytes <= MOST_RESIDENT
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| {} | {:.1} | {:.1} | {:.1} | {:.2} | {} | {} | {} |",
            self.function,
            megabytes(self.zip_bytes),
            milliseconds(self.start),
            megabytes(self.invoked.resident_bytes),
            milliseconds(self.invoked.cpu),
            self.invoked.logged,
            self.invoked.event,
            if self.holds() { "yes" } else { "**no**" }
        )
    }
}

#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    pub(crate) fn add(&mut self, row: Row) {
        eprintln!("{row}");
        self.0.push(row);
    }

    pub(crate) fn holds(&self) -> bool {
        self.0.iter().all(Row::holds)
    }

    pub(crate) fn print(&self) {
        println!("\nMeasured by `make bench-lambda` on {}.\n", system_tests::this_machine());
        println!(
            "| function | zip, MB | exec to first `/invocation/next`, p50 of {STARTS}, ms | resident after {EVENTS} \
             events, MB | CPU for an event, ms | logged for an event, bytes | event | holds |\n|---|---|---|---|---|---|---|---|"
        );
        println!(
            "| budget | <= {:.1} | <= {:.1} | <= {:.1} | | | | |",
            megabytes(LARGEST_ZIP),
            milliseconds(LONGEST_START),
            megabytes(MOST_RESIDENT)
        );
        self.0.iter().for_each(|row| println!("{row}"));
    }
}

fn megabytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1000).unwrap()) / 1000.0
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
