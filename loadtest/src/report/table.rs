//! Aligned columns of plain text.

/// Between columns.
const GAP: &str = "  ";

/// Rows of cells, printed in aligned columns.
pub(super) struct Table {
    /// For each column, `l` (left) or `r` (right).
    alignment: &'static str,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with `alignment` by column, `l` (left) or `r` (right), and a first row of titles.
    pub(super) fn new<T: Into<String>>(alignment: &'static str, titles: impl IntoIterator<Item = T>) -> Self {
        Self { alignment, rows: vec![titles.into_iter().map(Into::into).collect()] }
    }

    /// Whether it has nothing but its titles.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines, each indented and without spaces at its end.
    pub(super) fn print(&self, indent: &str) -> String {
        let widest = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max();
        let columns: Vec<_> =
            self.alignment.chars().enumerate().map(|(at, to)| (to, widest(at).unwrap_or(0))).collect();
        let mut lines = String::new();
        for row in &self.rows {
            let cells = row
                .iter()
                .zip(&columns)
                .map(|(cell, &(to, wide))| if to == 'l' { format!("{cell:<wide$}") } else { format!("{cell:>wide$}") });
            let line = cells.collect::<Vec<_>>().join(GAP);
            lines.push_str(indent);
            lines.push_str(line.trim_end());
            lines.push('\n');
        }
        lines
    }
}

/// A text that takes at most `most` columns, its end left out if need be.
pub(super) fn clip(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::{Table, clip};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new("lrl", ["node", "ms", "why"]);
        table.row(["eu".into(), "1,234".into(), String::new()]);
        table.row(["überall".into(), "5".into(), "so".into()]);
        assert_eq!(table.print("  "), "  node        ms  why\n  eu       1,234\n  überall      5  so\n");
    }

    #[test]
    fn a_long_text_ends_in_an_ellipsis() {
        assert_eq!([clip("viewers", 7), clip("viewers", 6)], ["viewers", "viewe…"]);
    }
}
