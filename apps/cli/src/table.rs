use console::{measure_text_width, truncate_str};

/// Rows in columns that line up, under headings.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// How wide each column's widest cell was so far.
    widths: Vec<usize>,
    /// How wide a line may be.
    limit: Option<usize>,
    /// The columns that may be cut for that, the least important one first.
    flexible: &'static [usize],
    /// The columns that are given up for that.
    left_out: Vec<usize>,
}

/// What stands for nothing.
const NOTHING: &str = "-";
/// What stands between two columns.
const GAP: &str = "  ";
/// What stands for what was cut.
const CUT: &str = "…";
/// The narrowest that a column is made before another one is given up.
const LEAST: usize = 8;

impl Table {
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        let rows = vec![headings.map(str::to_owned).to_vec()];
        Self { rows, widths: vec![0; N], limit: None, flexible: &[], left_out: Vec::new() }
    }

    /// Keeps lines within `limit`, if there is one, by cutting the `flexible` columns, the widest first. While that is
    /// not enough, they are left out one by one in the order given, but for the last.
    pub(crate) fn within(self, limit: Option<usize>, flexible: &'static [usize]) -> Self {
        Self { limit, flexible, ..self }
    }

    /// Adds a row. Line breaks become spaces, and an empty cell a dash.
    pub(crate) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.map(one_line).to_vec());
    }

    /// The lines, without spaces at their ends.
    pub(crate) fn render(mut self) -> String {
        self.take()
    }

    /// The lines so far. Those that are added later line up with them as far as they can.
    pub(crate) fn take(&mut self) -> String {
        let rows = std::mem::take(&mut self.rows);
        for row in &rows {
            for (wide, cell) in self.widths.iter_mut().zip(row) {
                *wide = (*wide).max(measure_text_width(cell));
            }
        }
        let shown = self.fitted();
        let lines: Vec<String> = rows.iter().map(|row| line(row, &shown)).collect();
        lines.join("\n")
    }

    /// How wide each column is shown, and none for one that is left out.
    fn fitted(&mut self) -> Vec<Option<usize>> {
        loop {
            let shown = |(column, wide): (usize, &usize)| (!self.left_out.contains(&column)).then_some(*wide);
            let mut shown: Vec<Option<usize>> = self.widths.iter().enumerate().map(shown).collect();
            let Some(limit) = self.limit else { return shown };
            let next = self.flexible.iter().find(|column| !self.left_out.contains(column));
            match (narrow(&mut shown, self.flexible, limit), next) {
                (false, Some(column)) if self.flexible.last() != Some(column) => self.left_out.push(*column),
                (true | false, _) => return shown,
            }
        }
    }
}

/// Narrows the flexible columns, the widest first. False when lines are wider than the limit all the same.
fn narrow(shown: &mut [Option<usize>], flexible: &[usize], limit: usize) -> bool {
    loop {
        let cells = shown.iter().flatten();
        if cells.clone().sum::<usize>() + GAP.len() * cells.count().saturating_sub(1) <= limit {
            return true;
        }
        let columns = shown.iter_mut().enumerate().filter(|(column, _)| flexible.contains(column));
        let widest = columns.filter_map(|(_, wide)| wide.as_mut()).max_by_key(|wide| **wide);
        match widest {
            Some(wide) if *wide > LEAST => *wide -= 1,
            Some(_) | None => return false,
        }
    }
}

/// Names and values in two columns. What has no value is left out.
pub(crate) fn fields(fields: &[(&str, Option<&str>)]) -> String {
    let present: Vec<[String; 2]> =
        fields.iter().filter_map(|(name, value)| Some([format!("{name}:"), one_line((*value)?)])).collect();
    let widest = present.iter().map(|[name, _]| measure_text_width(name)).max();
    let whole = |row: &[String; 2]| line(row, &[widest, Some(measure_text_width(&row[1]))]);
    let lines: Vec<String> = present.iter().map(whole).collect();
    lines.join("\n")
}

fn line(cells: &[String], widths: &[Option<usize>]) -> String {
    let mut text = String::new();
    for (cell, wide) in cells.iter().zip(widths) {
        let Some(wide) = *wide else { continue };
        let cell = truncate_str(cell, wide, CUT);
        text.push_str(&cell);
        text.push_str(&" ".repeat(wide.saturating_sub(measure_text_width(&cell))));
        text.push_str(GAP);
    }
    text.trim_end().to_owned()
}

fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.trim().is_empty() { NOTHING.to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["JOB", "STATUS", "MESSAGE"]);
        table.row(["1", "processing", "half\nway"]);
        table.row(["é22", "ok", ""]);
        table.row(["講義", "ok", "wide"]);
        assert_eq!(
            table.render(),
            "JOB   STATUS      MESSAGE\n\
             1     processing  half way\n\
             é22   ok          -\n\
             講義  ok          wide"
        );
        assert_eq!(Table::new(["A", "B"]).render(), "A  B");
    }

    #[test]
    fn pages_of_rows_line_up() {
        let mut table = Table::new(["JOB", "STATUS"]);
        table.row(["j-1", "processing"]);
        assert_eq!(table.take(), "JOB  STATUS\nj-1  processing");
        table.row(["2", "ok"]);
        assert_eq!(table.take(), "2    ok");
        assert_eq!(table.take(), "");
    }

    fn lines(limit: usize) -> String {
        let mut table = Table::new(["JOB", "WORKER", "ERROR"]).within(Some(limit), &[1, 2]);
        table.row(["j-1", "a-fine-machine", "nothing could be heard in it"]);
        table.render()
    }

    #[test]
    fn the_widest_flexible_columns_are_cut_first() {
        assert_eq!(
            lines(100),
            "JOB  WORKER          ERROR\nj-1  a-fine-machine  nothing could be heard in it"
        );
        assert_eq!(lines(40), "JOB  WORKER          ERROR\nj-1  a-fine-machine  nothing could be h…");
        assert_eq!(lines(27), "JOB  WORKER      ERROR\nj-1  a-fine-ma…  nothing c…");
    }

    #[test]
    fn what_fits_in_no_way_is_left_out() {
        assert_eq!(lines(20), "JOB  ERROR\nj-1  nothing could …");
        assert_eq!(lines(5), "JOB  ERROR\nj-1  nothing…", "the last one stays");
    }

    #[test]
    fn a_column_that_was_left_out_stays_out() {
        let mut table = Table::new(["JOB", "WORKER", "ERROR"]).within(Some(20), &[1, 2]);
        table.row(["j-1", "a-fine-machine", "nothing could be heard in it"]);
        assert_eq!(table.take(), "JOB  ERROR\nj-1  nothing could …");
        table.row(["2", "w", ""]);
        assert_eq!(table.take(), "2    -");
    }

    #[test]
    fn fields_without_a_value_are_left_out() {
        let text = fields(&[("Job", Some("1")), ("Worker", None), ("Message", Some(""))]);
        assert_eq!(text, "Job:      1\nMessage:  -");
    }
}
