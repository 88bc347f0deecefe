//! Aligned columns of text. Control characters are escaped on the way in, since names and values come from a database.

use std::io::{self, Write};

use anstyle::Style;

use dbelay::render::text::clean;

/// To which side a column leans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Lines of cells, printed with two blanks between columns and no blanks at the end of a line.
pub struct Table {
    columns: Vec<Align>,
    lines: Vec<Vec<(String, Style)>>,
}

impl Table {
    /// Builds a table of these columns; cells beyond them lean to the left.
    pub fn new(columns: &[Align]) -> Self {
        Self { columns: columns.to_vec(), lines: Vec::new() }
    }

    /// Adds a line of cells in one style.
    pub fn line<T: AsRef<str>>(&mut self, style: Style, cells: impl IntoIterator<Item = T>) {
        self.lines.push(cells.into_iter().map(|cell| (clean(cell.as_ref()), style)).collect());
    }

    /// Writes the table, each line after this indent.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&self, indent: &str, out: &mut dyn Write) -> io::Result<()> {
        let mut widths = Vec::new();
        for line in &self.lines {
            widths.resize(line.len().max(widths.len()), 0);
            for (room, (cell, _)) in widths.iter_mut().zip(line) {
                *room = width(cell).max(*room);
            }
        }
        for line in &self.lines {
            write!(out, "{indent}")?;
            let mut owed = 0;
            for (index, ((cell, style), &room)) in line.iter().zip(&widths).enumerate() {
                let free = room - width(cell);
                let (before, after) = if self.columns.get(index) == Some(&Align::Right) { (free, 0) } else { (0, free) };
                if cell.is_empty() {
                    owed += room + 2;
                    continue;
                }
                write!(out, "{:owed$}{style}{cell}{style:#}", "", owed = owed + before)?;
                owed = after + 2;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// Estimates how many terminal columns a text takes: East Asian wide characters and emoji two, combining ones none.
pub fn width(text: &str) -> usize {
    let columns = |c: char| match u32::from(c) {
        0x0300..=0x036f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 => 2,
        0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    };
    text.chars().map(columns).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_blanks_at_the_end() {
        let mut table = Table::new(&[Align::Left, Align::Right]);
        table.line(Style::new(), ["table", "rows", "note"]);
        table.line(Style::new(), ["users", "1,204", ""]);
        table.line(Style::new(), ["名前", "", "a\tb"]);
        let mut out = Vec::new();
        table.write("  ", &mut out).expect("a vector takes all");
        assert_eq!(String::from_utf8_lossy(&out), "  table   rows  note\n  users  1,204\n  名前          a\\tb\n");
    }
}
