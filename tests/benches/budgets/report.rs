use std::{process::Command, time::Duration};

/// The rows of the table that is printed at the end.
pub(crate) struct Report {
    machine: String,
    rows: Vec<Row>,
}

struct Row {
    what: String,
    measured: String,
    budget: &'static str,
    holds: Option<bool>,
}

impl Report {
    pub(crate) fn of_this_machine() -> Self {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("?", |m| m.1);
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let rustc =
            Command::new("rustc").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
        Self {
            machine: format!("{cores} cores of {model}; {}", String::from_utf8_lossy(&rustc).trim()),
            rows: Vec::new(),
        }
    }

    /// A figure with a budget.
    pub(crate) fn budget(
        &mut self,
        what: impl Into<String>,
        measured: impl Into<String>,
        budget: &'static str,
        holds: bool,
    ) {
        self.add(Row { what: what.into(), measured: measured.into(), budget, holds: Some(holds) });
    }

    /// A figure without one.
    pub(crate) fn figure(&mut self, what: impl Into<String>, measured: impl Into<String>) {
        self.add(Row { what: what.into(), measured: measured.into(), budget: "", holds: None });
    }

    fn add(&mut self, row: Row) {
        eprintln!("measured: {} {}", row.what, row.measured);
        self.rows.push(row);
    }

    pub(crate) fn print(&self) {
        println!("\nMeasured by `make bench` on {}.\n", self.machine);
        println!("| what | measured | budget | holds |\n|---|---|---|---|");
        for row in &self.rows {
            let holds = row.holds.map_or("", |holds| if holds { "yes" } else { "NO" });
            println!("| {} | {} | {} | {holds} |", row.what, row.measured, row.budget);
        }
    }
}

/// The `percent`-th percentile.
pub(crate) fn percentile(samples: &mut [Duration], percent: usize) -> Duration {
    samples.sort_unstable();
    samples[(samples.len() * percent / 100).min(samples.len() - 1)]
}
