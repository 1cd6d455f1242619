//! How figures are printed: a Markdown table for reading, then the same rows as JSON lines.

use serde_json::Value;

/// A table, filled row by row and printed at the end.
pub(crate) struct Table {
    figure: &'static str,
    rows: Vec<Vec<String>>,
    lines: Vec<Value>,
}

impl Table {
    /// `figure` names the JSON lines.
    pub(crate) fn new(figure: &'static str, columns: &[&str]) -> Self {
        let header = columns.iter().map(ToString::to_string).collect();
        Self { figure, rows: vec![header], lines: Vec::new() }
    }

    /// The cells of one row, and the JSON object that says the same.
    pub(crate) fn row(&mut self, cells: Vec<String>, mut line: Value) {
        line["figure"] = self.figure.into();
        self.rows.push(cells);
        self.lines.push(line);
    }

    pub(crate) fn print(&self, title: &str) {
        println!("\n### {title}\n");
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        for (nth, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
            println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
            if nth == 0 {
                let rules = widths.iter().map(|&width| "-".repeat(width));
                println!("| {} |", rules.collect::<Vec<_>>().join(" | "));
            }
        }
        println!();
        for line in &self.lines {
            println!("{line}");
        }
    }
}

/// A figure to `decimals`, or `n/a` when it could not be measured.
pub(crate) fn number(value: f64, decimals: usize) -> String {
    if value.is_nan() { "n/a".into() } else { format!("{value:.decimals$}") }
}

/// Milliseconds, to the microsecond.
pub(crate) fn millis(value: f64) -> String {
    number(value, 3)
}
