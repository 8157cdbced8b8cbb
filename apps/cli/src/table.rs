/// Rows in columns that line up, under headings.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

/// What stands for nothing.
const NOTHING: &str = "-";

impl Table {
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned).to_vec()] }
    }

    /// Adds a row. Line breaks become spaces, and an empty cell a dash.
    pub(crate) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.map(one_line).to_vec());
    }

    /// The lines, without spaces at their ends.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0)
            })
            .collect();
        let lines: Vec<String> = self.rows.iter().map(|row| line(row, &widths)).collect();
        lines.join("\n")
    }
}

/// Names and values in two columns. What has no value is left out.
pub(crate) fn fields(fields: &[(&str, Option<&str>)]) -> String {
    let present: Vec<[String; 2]> =
        fields.iter().filter_map(|(name, value)| Some([format!("{name}:"), one_line((*value)?)])).collect();
    let widest = present.iter().map(|[name, _]| width(name)).max().unwrap_or(0);
    let lines: Vec<String> = present.iter().map(|row| line(row, &[widest, 0])).collect();
    lines.join("\n")
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let padded: Vec<String> = cells
        .iter()
        .zip(widths)
        .map(|(cell, wide)| format!("{cell}{}", " ".repeat(wide.saturating_sub(width(cell)))))
        .collect();
    padded.join("  ").trim_end().to_owned()
}

/// How many characters a cell has. Good enough for ids, names and dates; wide characters may stick out.
fn width(cell: &str) -> usize {
    cell.chars().count()
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
        assert_eq!(
            table.render(),
            "JOB  STATUS      MESSAGE\n\
             1    processing  half way\n\
             é22  ok          -"
        );
        assert_eq!(Table::new(["A", "B"]).render(), "A  B");
    }

    #[test]
    fn fields_without_a_value_are_left_out() {
        let text = fields(&[("Job", Some("1")), ("Worker", None), ("Message", Some(""))]);
        assert_eq!(text, "Job:      1\nMessage:  -");
    }
}
