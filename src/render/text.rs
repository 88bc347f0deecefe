//! For people: rows with signs, or a table of counts, or names alone.

use std::time::Duration;

use anstyle::Style;

use super::{Renderer, StateName, TableEnd, files, is_shown, key_columns};
use crate::rows::TableShape;
use crate::schema::diff::SchemaDiff;
use crate::snapshot::changes::{Cell, RowChange, RowCounts, TableFate, TablePair};
use crate::snapshot::files::changes::{FileChange, FileCounts};
use crate::value::Value;

/// The most characters of one value.
const VALUE_CHARS_MAX: usize = 60;

/// The most values of one added or removed row.
const VALUES_MAX: usize = 24;

/// How parts of the text look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Theme {
    /// Names of tables.
    pub heading: Style,
    /// What only the later state has.
    pub added: Style,
    /// What only the earlier state has.
    pub removed: Style,
    /// What both have, differently.
    pub changed: Style,
    /// What is beside the point.
    pub dim: Style,
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Every row, and the DDL.
    Rows,
    /// A line a table: counts, and the columns touched.
    Stat,
    /// Names of tables.
    Names,
}

/// Renders for people.
#[derive(Debug)]
pub struct Text {
    theme: Theme,
    detail: Detail,
    names: [String; 2],
    is_empty: bool,
    stat: Vec<[String; 3]>,
    files: Vec<FileChange>,
}

impl Text {
    /// Renders with this much detail.
    pub fn new(theme: Theme, detail: Detail) -> Self {
        Self { theme, detail, names: [String::new(), String::new()], is_empty: true, stat: Vec::new(), files: Vec::new() }
    }

    fn write_files(&mut self, out: &mut String) {
        let files = std::mem::take(&mut self.files);
        if files.is_empty() {
            return;
        }
        let Theme { heading, added, removed, changed, dim } = self.theme;
        if self.detail == Detail::Names {
            files.iter().for_each(|change| out.push_str(&format!("{}\n", change.path)));
            return;
        }
        self.gap(out);
        let counts = FileCounts::of(&files);
        if self.detail == Detail::Stat {
            out.push_str(&format!("{heading}files{heading:#}  {}\n", counts.sentence()));
        } else {
            out.push_str(&format!("{heading}files{heading:#}\n"));
        }
        for change in &files {
            let style = match files::sign(change) {
                '+' => added,
                '-' => removed,
                _ => changed,
            };
            out.push_str(&format!("  {style}{} {}{style:#}\n", files::sign(change), clean(&files::line(change))));
        }
        if self.detail == Detail::Rows {
            out.push_str(&format!("  {dim}{}{dim:#}\n", counts.sentence()));
        }
    }

    fn gap(&mut self, out: &mut String) {
        if !self.is_empty && self.detail == Detail::Rows {
            out.push('\n');
        }
        self.is_empty = false;
    }
}

impl Renderer for Text {
    fn begin(&mut self, _: &mut String, before: &StateName, after: &StateName) {
        self.names = [before.label(), after.label()];
    }

    fn schema(&mut self, out: &mut String, diff: &SchemaDiff, ddl: &str) {
        if diff.is_empty() {
            return;
        }
        let Theme { heading, added, removed, changed, dim } = self.theme;
        match self.detail {
            Detail::Names => {
                out.push_str("schema\n");
                self.is_empty = false;
            }
            Detail::Rows | Detail::Stat => {
                self.gap(out);
                out.push_str(&format!("{heading}schema{heading:#}\n"));
                for line in diff.lines() {
                    let style = match line.as_bytes().first() {
                        Some(b'+') => added,
                        Some(b'-') => removed,
                        _ => changed,
                    };
                    out.push_str(&format!("  {style}{}{style:#}\n", clean(&line)));
                }
            }
        }
        if self.detail == Detail::Rows && !ddl.is_empty() {
            out.push('\n');
            for line in ddl.lines() {
                let style = match line.as_bytes().first() {
                    Some(b'+') => added,
                    Some(b'-') => removed,
                    Some(b'@') => dim,
                    _ => Style::new(),
                };
                out.push_str(&format!("{style}{}{style:#}\n", clean(line)));
            }
        }
    }

    fn table(&mut self, out: &mut String, pair: &TablePair) {
        if self.detail == Detail::Rows {
            self.gap(out);
            let heading = self.theme.heading;
            out.push_str(&format!("{heading}table {}{heading:#}\n", clean(&title(pair))));
        }
        self.is_empty = false;
    }

    fn row(&mut self, out: &mut String, pair: &TablePair, change: &RowChange) {
        if self.detail != Detail::Rows {
            return;
        }
        let Theme { added, removed, changed, dim, .. } = self.theme;
        match change {
            RowChange::Added(row) => {
                if let Some(shape) = &pair.after {
                    out.push_str(&format!("  {added}+ {}{added:#}\n", whole_row(shape, row)));
                }
            }
            RowChange::Removed(row) => {
                if let Some(shape) = &pair.before {
                    out.push_str(&format!("  {removed}- {}{removed:#}\n", whole_row(shape, row)));
                }
            }
            RowChange::Changed { before, after, columns } => {
                let (Some(from), Some(to)) = (&pair.before, &pair.after) else { return };
                let key = key_columns(pair, to, true);
                let names: Vec<String> = key.iter().filter_map(|&c| Some(named(&to.columns.get(c)?.name, after.get(c)?))).collect();
                out.push_str(&format!("  {changed}~{changed:#} {}", names.join(" ")));
                for &column in columns {
                    let Some(found) = pair.columns.get(column) else { continue };
                    let Some(a) = found.after else { continue };
                    let Some(b) = found.before else {
                        let name = clean(&to.columns[a].name);
                        out.push_str(&format!("  {name}: {added}{}{added:#}", value(&after[a])));
                        continue;
                    };
                    let name = if from.columns[b].name == to.columns[a].name { "" } else { from.columns[b].name.as_str() };
                    let name = if name.is_empty() { to.columns[a].name.clone() } else { format!("{name}=>{}", to.columns[a].name) };
                    out.push_str(&format!(
                        "  {}: {removed}{}{removed:#} {dim}->{dim:#} {added}{}{added:#}",
                        clean(&name),
                        value(&before[b]),
                        value(&after[a])
                    ));
                }
                out.push('\n');
            }
        }
    }

    fn table_end(&mut self, out: &mut String, pair: &TablePair, end: TableEnd<'_>) {
        let counts = end.counts;
        match self.detail {
            Detail::Names => out.push_str(&format!("{}\n", clean(pair.name()))),
            Detail::Stat => {
                let touched = columns_touched(pair, counts);
                let columns = if touched.is_empty() { String::new() } else { format!("({})", touched.join(", ")) };
                self.stat.push([title(pair), sentence(pair, counts), columns]);
            }
            Detail::Rows => {
                let total = counts.added + counts.removed + counts.changed;
                if total > end.shown {
                    out.push_str(&format!("  … and {} more\n", number(total - end.shown)));
                }
                let dim = self.theme.dim;
                out.push_str(&format!("  {dim}{}{dim:#}\n", sentence(pair, counts)));
            }
        }
    }

    fn files(&mut self, _: &mut String, changes: &[FileChange]) {
        self.files = changes.to_vec();
    }

    fn end(&mut self, out: &mut String, machinery: &[String]) {
        let width = |at: usize| self.stat.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
        let (first, second) = (width(0), width(1));
        let heading = self.theme.heading;
        for [title, sentence, columns] in &self.stat {
            let line = format!("{heading}{:<first$}{heading:#}  {sentence:<second$}  {}", clean(title), clean(columns));
            out.push_str(line.trim_end());
            out.push('\n');
        }
        if !machinery.is_empty() && self.detail != Detail::Names {
            if self.detail == Detail::Rows && !self.is_empty {
                out.push('\n');
            }
            let dim = self.theme.dim;
            out.push_str(&format!("{dim}also changed, the database's own: {}{dim:#}\n", clean(&machinery.join(", "))));
        }
        self.write_files(out);
    }
}

/// Names a table, and what happened to it as a whole.
pub fn title(pair: &TablePair) -> String {
    let name = pair.name();
    match pair.fate() {
        TableFate::Kept => name.to_owned(),
        TableFate::Renamed => format!("{name} (was {})", pair.before.as_ref().map_or("", |shape| shape.name.as_str())),
        TableFate::Added => format!("{name} (new)"),
        TableFate::Removed => format!("{name} (dropped)"),
    }
}

/// Says how many rows changed: `3 added, 1 removed`.
pub fn sentence(pair: &TablePair, counts: &RowCounts) -> String {
    let parts = [(counts.added, "added"), (counts.removed, "removed"), (counts.changed, "changed"), (counts.renumbered, "renumbered")];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{} {word}", number(*count))).collect();
    match pair.fate() {
        _ if !parts.is_empty() => parts.join(", "),
        TableFate::Added | TableFate::Removed => "no rows".to_owned(),
        TableFate::Kept | TableFate::Renamed => "every row as before".to_owned(),
    }
}

/// Names the columns in which rows differ, as they are called after.
pub fn columns_touched(pair: &TablePair, counts: &RowCounts) -> Vec<String> {
    let name = |at: usize| {
        let column = pair.columns.get(at)?;
        let after = pair.after.as_ref().zip(column.after).and_then(|(shape, at)| shape.columns.get(at));
        let before = pair.before.as_ref().zip(column.before).and_then(|(shape, at)| shape.columns.get(at));
        Some(after.or(before)?.name.clone())
    };
    counts.cells.iter().enumerate().filter(|(_, count)| **count > 0).filter_map(|(at, _)| name(at)).collect()
}

fn whole_row(shape: &TableShape, row: &[Cell]) -> String {
    let shown: Vec<usize> = (0..row.len()).filter(|&column| is_shown(shape, column)).collect();
    let mut text: Vec<String> = shown.iter().take(VALUES_MAX).map(|&column| named(&shape.columns[column].name, &row[column])).collect();
    if shown.len() > VALUES_MAX {
        text.push(format!("… {} more columns", shown.len() - VALUES_MAX));
    }
    text.join(" ")
}

fn named(name: &str, cell: &str) -> String {
    format!("{}={}", clean(name), value(cell))
}

/// Writes a cell for people: as SQL would, cut short, without control characters.
pub fn value(cell: &str) -> String {
    value_within(cell, VALUE_CHARS_MAX)
}

/// As [`value`], cut short after so many characters.
pub fn value_within(cell: &str, chars_max: usize) -> String {
    match Value::decode(cell.as_bytes()) {
        Ok(Value::Null) => "NULL".to_owned(),
        Ok(Value::Text(bytes)) => {
            let text = String::from_utf8_lossy(&bytes);
            format!("'{}'", clean(&short(&text, chars_max)))
        }
        Ok(Value::Blob(bytes)) => {
            let hex: String = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
            if bytes.len() > 16 { format!("x'{hex}…' ({} bytes)", bytes.len()) } else { format!("x'{hex}'") }
        }
        Ok(Value::Large { id, bytes }) => format!("<{} bytes, {}>", number(bytes), id.short()),
        _ => clean(cell),
    }
}

fn short(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Escapes control characters: names and values come from a database, and terminals obey them.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Writes a duration: `340 ms`, `2.1 s`, `3 min 4 s`, `1 h 5 min`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match duration.as_millis() {
        millis @ 0..1_000 => format!("{millis} ms"),
        millis @ 1_000..59_950 => format!("{:.1} s", millis as f64 / 1000.0),
        millis if millis < 3_600_000 => {
            let seconds = seconds.max(60);
            format!("{} min {} s", seconds / 60, seconds % 60)
        }
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Writes a number with separators.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(clean("a\u{1b}[31m\tb é"), "a\\u{1b}[31m\\tb é");
    }

    #[test]
    fn values_are_short_and_look_like_sql() {
        for (cell, expected) in [
            ("null", "NULL"),
            ("12", "12"),
            ("\"it's\"", "'it's'"),
            ("{\"blob\":\"AQI=\"}", "x'0102'"),
            ("{\"real\":\"inf\"}", "{\"real\":\"inf\"}"),
        ] {
            assert_eq!(value(cell), expected);
        }
        assert_eq!(value(&format!("\"{}\"", "é".repeat(100))), format!("'{}…'", "é".repeat(VALUE_CHARS_MAX)));
    }

    #[test]
    fn numbers_have_separators() {
        for (n, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(n), expected);
        }
    }

    #[test]
    fn durations() {
        let check = |millis, expected: &str| assert_eq!(duration(Duration::from_millis(millis)), expected);
        check(0, "0 ms");
        check(999, "999 ms");
        check(2_149, "2.1 s");
        check(59_949, "59.9 s");
        check(59_999, "1 min 0 s");
        check(184_000, "3 min 4 s");
        check(3_900_000, "1 h 5 min");
    }
}
