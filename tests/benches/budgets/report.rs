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
        Self { machine: system_tests::this_machine(), rows: Vec::new() }
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
