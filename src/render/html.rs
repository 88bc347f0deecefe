//! For a browser, and for whoever is sent the file: one self-contained page, without scripts, and without anything fetched from elsewhere.
//!
//! Everything that comes from a database, a command line or a file name goes through [`escape`]; the page's own policy forbids scripts besides.
//! It follows the reader's choice of light or dark, and on a narrow screen each row of a table becomes a block of its own. [`Html`] is
//! the page of a comparison, [`report`] that of a migration, made of the same parts.

pub mod report;

use std::fmt::Write;

use super::text::{columns_touched, number, value_within};
use super::{Renderer, StateName, TableEnd, files, is_shown};
use crate::schema::diff::SchemaDiff;
use crate::snapshot::changes::{Cell, RowChange, RowCounts, RowKey, TableFate, TablePair};
use crate::snapshot::files::changes::FileChange;

/// The most rows of one table on a page; browsers grow slow with more.
pub const ROWS_MAX: u64 = 1000;

/// The most columns of one table on a page, but for those of the key and those that changed.
const COLUMNS_MAX: usize = 40;

/// The most characters of one value.
const VALUE_CHARS_MAX: usize = 240;

/// How the page looks.
const STYLE: &str = include_str!("html/page.css");

/// Renders a comparison as a page.
#[derive(Debug, Default)]
pub struct Html {
    /// The rows of the table that is being told of.
    rows: Vec<RowChange>,
    /// What differs between the files.
    files: Vec<FileChange>,
    is_same: bool,
    has_rows: bool,
}

impl Renderer for Html {
    fn begin(&mut self, out: &mut String, before: &StateName, after: &StateName) {
        self.is_same = true;
        let title = format!("{} → {}", before.label(), after.label());
        begin_page(out, &title);
        out.push_str("<header class=\"verdict quiet\">\n<p class=brand>dbelay diff</p>\n");
        write_out(out, format_args!("<h1>{} <span class=dim>→</span> {}</h1>\n", escape(&before.label()), escape(&after.label())));
        out.push_str("</header>\n");
    }

    fn schema(&mut self, out: &mut String, diff: &SchemaDiff, ddl: &str) {
        self.is_same &= diff.is_empty();
        schema(out, &diff.lines(), ddl);
    }

    fn table(&mut self, out: &mut String, _: &TablePair) {
        if !self.has_rows {
            out.push_str("<section>\n<h2>Rows</h2>\n");
        }
        (self.has_rows, self.is_same) = (true, false);
        self.rows.clear();
    }

    fn row(&mut self, _: &mut String, _: &TablePair, change: &RowChange) {
        if (self.rows.len() as u64) < ROWS_MAX {
            self.rows.push(change.clone());
        }
    }

    fn table_end(&mut self, out: &mut String, pair: &TablePair, end: TableEnd<'_>) {
        table(out, pair, end.counts, Role::Ordinary, &self.rows);
        self.rows.clear();
    }

    fn files(&mut self, _: &mut String, changes: &[FileChange]) {
        self.is_same &= changes.is_empty();
        self.files = changes.to_vec();
    }

    fn end(&mut self, out: &mut String, machinery: &[String]) {
        if self.has_rows {
            out.push_str("</section>\n");
        }
        let changed = std::mem::take(&mut self.files);
        change_list(out, "Files", changed.iter().map(|change| (files::sign(change), escape(&files::line(change)))));
        if !machinery.is_empty() {
            let names = escape(&machinery.join(", "));
            write_out(out, format_args!("<p class=dim>Also changed, the database’s own: {names}</p>\n"));
        } else if self.is_same {
            out.push_str("<p>Both are the same.</p>\n");
        }
        end_page(out, "");
    }
}

/// What a table is to its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The application's own.
    Ordinary,
    /// In which a migration tool keeps what it has applied.
    Ledger,
}

/// Writes text that HTML takes literally, in elements and in quoted attributes. Control characters, and those that change the direction of what
/// follows them, are written as escapes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.extend(letter.escape_unicode()),
            _ if letter.is_control() => out.extend(letter.escape_default()),
            _ => out.push(letter),
        }
    }
    out
}

/// As [`escape`], with what stands between backticks as code.
fn prose(text: &str) -> String {
    let mut out = String::new();
    let mut parts = text.split('`');
    out.push_str(&escape(parts.next().unwrap_or_default()));
    while let Some(code) = parts.next() {
        match parts.next() {
            Some(after) => write_out(&mut out, format_args!("<code>{}</code>{}", escape(code), escape(after))),
            // A backtick without a second one is an ordinary character.
            None => write_out(&mut out, format_args!("`{}", escape(code))),
        }
    }
    out
}

fn write_out(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes everything");
}

fn begin_page(out: &mut String, title: &str) {
    write_out(
        out,
        format_args!(
            "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n\
             <meta name=viewport content=\"width=device-width, initial-scale=1\">\n<meta name=color-scheme content=\"light dark\">\n\
             <meta name=robots content=noindex>\n<meta name=referrer content=no-referrer>\n\
             <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
             <link rel=icon href=\"data:,\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
            escape(title)
        ),
    );
}

/// Ends a page; `foot` is HTML.
fn end_page(out: &mut String, foot: &str) {
    if !foot.is_empty() {
        write_out(out, format_args!("<footer>{foot}</footer>\n"));
    }
    out.push_str("</main>\n</body>\n</html>\n");
}

/// Writes a section of changes, each a sign and HTML; none where there is no change.
fn change_list(out: &mut String, title: &str, lines: impl ExactSizeIterator<Item = (char, String)>) {
    if lines.len() > 0 {
        write_out(out, format_args!("<section>\n<h2>{title}</h2>\n"));
        changes(out, lines);
        out.push_str("</section>\n");
    }
}

fn changes(out: &mut String, lines: impl Iterator<Item = (char, String)>) {
    out.push_str("<ul class=changes>\n");
    for (sign, text) in lines {
        let (class, word) = match sign {
            '+' => ("add", "added"),
            '-' => ("rem", "removed"),
            '>' => ("chg", "renamed"),
            _ => ("chg", "changed"),
        };
        let sign = if sign == '-' { '−' } else { sign };
        let sign = escape(&sign.to_string());
        write_out(out, format_args!("<li class={class}><span class=sign title={word}>{sign}</span><span>{text}</span></li>\n"));
    }
    out.push_str("</ul>\n");
}

/// Writes the section of the schema: a line a difference, its first character the sign, and the text of the DDL to be unfolded.
fn schema(out: &mut String, lines: &[String], ddl: &str) {
    if lines.is_empty() {
        return;
    }
    out.push_str("<section>\n<h2>Schema</h2>\n");
    changes(
        out,
        lines.iter().map(|line| {
            let mut letters = line.chars();
            (letters.next().unwrap_or('~'), prose(letters.as_str().trim_start()))
        }),
    );
    if !ddl.is_empty() {
        out.push_str("<details>\n<summary>As SQL</summary>\n<pre class=ddl>");
        for line in ddl.lines() {
            let class = match line.as_bytes() {
                [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] | [b'@', ..] => "dim",
                [b'+', ..] => "add",
                [b'-', ..] => "rem",
                _ => "ctx",
            };
            write_out(out, format_args!("<span class={class}>{}</span>\n", escape(line)));
        }
        out.push_str("</pre>\n</details>\n");
    }
    out.push_str("</section>\n");
}

/// Writes a table's part: its counts, and rows of it to be unfolded.
fn table(out: &mut String, pair: &TablePair, counts: &RowCounts, role: Role, rows: &[RowChange]) {
    let mut head = format!("<b class=name>{}</b>", escape(pair.name()));
    let badge = match (pair.fate(), role) {
        (TableFate::Added, _) => "<span class=\"tag add\">new</span>".to_owned(),
        (TableFate::Removed, _) => "<span class=\"tag rem\">dropped</span>".to_owned(),
        (TableFate::Renamed, _) => {
            let was = pair.before.as_ref().map_or("", |shape| shape.name.as_str());
            format!("<span class=\"tag chg\">was {}</span>", escape(was))
        }
        (TableFate::Kept, Role::Ledger) => "<span class=tag>the migration tool’s ledger</span>".to_owned(),
        (TableFate::Kept, Role::Ordinary) => String::new(),
    };
    head.push_str(&badge);
    head.push_str("<span class=counts>");
    let parts = [
        (counts.added, "added", "add"),
        (counts.removed, "removed", "rem"),
        (counts.changed, "changed", "chg"),
        (counts.renumbered, "renumbered", "dim"),
    ];
    let mut is_plain = true;
    for (count, word, class) in parts.into_iter().filter(|(count, ..)| *count > 0) {
        is_plain = false;
        write_out(&mut head, format_args!("<span class={class}>{} {word}</span>", number(count)));
    }
    if is_plain {
        head.push_str(match pair.fate() {
            TableFate::Added | TableFate::Removed => "<span class=dim>no rows</span>",
            TableFate::Kept | TableFate::Renamed => "<span class=dim>every row as before</span>",
        });
    }
    head.push_str("</span>");
    let touched = columns_touched(pair, counts);
    if !touched.is_empty() {
        let names: Vec<String> = touched.iter().map(|name| format!("<code>{}</code>", escape(name))).collect();
        write_out(&mut head, format_args!("<span class=touched>in {}</span>", names.join(", ")));
    }
    if rows.is_empty() {
        write_out(out, format_args!("<div class=table><div class=head>{head}</div></div>\n"));
        return;
    }
    let is_open = if role == Role::Ledger { "" } else { " open" };
    write_out(out, format_args!("<details class=table{is_open}>\n<summary>{head}</summary>\n"));
    table_rows(out, pair, rows);
    let total = counts.added + counts.removed + counts.changed;
    let shown = rows.len() as u64;
    if total > shown {
        write_out(out, format_args!("<p class=more>and {} more</p>\n", number(total - shown)));
    }
    out.push_str("</details>\n");
}

/// A column on the page.
struct Column {
    /// Its index in [`TablePair::columns`].
    at: usize,
    before: Option<usize>,
    after: Option<usize>,
    label: String,
    is_key: bool,
}

/// Chooses the columns: where whole rows came or went all of them, else those of the key and those that changed.
fn columns(pair: &TablePair, rows: &[RowChange]) -> (Vec<Column>, usize) {
    let is_whole = rows.iter().any(|change| !matches!(change, RowChange::Changed { .. }));
    let mut is_touched = vec![false; pair.columns.len()];
    for change in rows {
        if let RowChange::Changed { columns, .. } = change {
            columns.iter().for_each(|&at| is_touched[at] = true);
        }
    }
    let identity = |index: Option<usize>, shape: &Option<crate::rows::TableShape>| {
        index.zip(shape.as_ref()).is_some_and(|(index, shape)| shape.identity.contains(&index))
    };
    let (mut chosen, mut left_out) = (Vec::new(), 0);
    for (at, column) in pair.columns.iter().enumerate() {
        let name = |index: Option<usize>, shape: &Option<crate::rows::TableShape>| -> Option<String> {
            let (index, shape) = index.zip(shape.as_ref())?;
            is_shown(shape, index).then(|| shape.columns.get(index).map(|column| column.name.clone()))?
        };
        let label = match (name(column.before, &pair.before), name(column.after, &pair.after)) {
            (Some(before), Some(after)) if before != after => format!("{before} → {after}"),
            (before, after) => match after.or(before) {
                Some(name) => name,
                None => continue,
            },
        };
        let is_key = match &pair.key {
            RowKey::Columns(key) => key.contains(&at),
            RowKey::Content(_) => identity(column.after, &pair.after) || identity(column.before, &pair.before),
        };
        if is_key || is_touched[at] || is_whole && chosen.len() < COLUMNS_MAX {
            chosen.push(Column { at, before: column.before, after: column.after, label, is_key });
        } else {
            left_out += 1;
        }
    }
    (chosen, if is_whole { left_out } else { 0 })
}

fn table_rows(out: &mut String, pair: &TablePair, rows: &[RowChange]) {
    let (columns, left_out) = columns(pair, rows);
    out.push_str("<div class=scroll><table>\n<thead><tr><th class=sign></th>");
    for column in &columns {
        let class = match (column.is_key, column.before, column.after) {
            (true, ..) => " class=key",
            (_, Some(_), None) if pair.after.is_some() => " class=gone",
            _ => "",
        };
        write_out(out, format_args!("<th scope=col{class}>{}</th>", escape(&column.label)));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for change in rows {
        let (class, sign, word) = match change {
            RowChange::Added(_) => ("add", "+", "added"),
            RowChange::Removed(_) => ("rem", "−", "removed"),
            RowChange::Changed { .. } => ("chg", "~", "changed"),
        };
        write_out(out, format_args!("<tr class={class}><td class=sign title={word} data-word={word}>{sign}</td>"));
        for column in &columns {
            cell(out, change, column);
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
    if left_out > 0 {
        write_out(out, format_args!("<p class=more>and {} more columns</p>\n", number(left_out as u64)));
    }
}

fn cell(out: &mut String, change: &RowChange, column: &Column) {
    let of = |row: &[Cell], index: Option<usize>| index.and_then(|index| row.get(index)).map(|cell| value(cell));
    let key = if column.is_key { "key" } else { "" };
    let (class, content) = match change {
        RowChange::Added(row) => (key, of(row, column.after).unwrap_or_default()),
        RowChange::Removed(row) => (key, of(row, column.before).unwrap_or_default()),
        RowChange::Changed { before, after, columns } => match (of(before, column.before), of(after, column.after)) {
            (was, Some(is)) if columns.contains(&column.at) => {
                let was = was.map(|was| format!("<del>{was}</del> ")).unwrap_or_default();
                ("new", format!("{was}<ins>{is}</ins>"))
            }
            (Some(was), None) => ("new", format!("<del>{was}</del>")),
            (_, is) => (if column.is_key { "key" } else { "same" }, is.unwrap_or_default()),
        },
    };
    let class = if class.is_empty() { String::new() } else { format!(" class={class}") };
    write_out(out, format_args!("<td{class} data-label=\"{}\"><span>{content}</span></td>", escape(&column.label)));
}

/// Writes a value as HTML.
fn value(cell: &str) -> String {
    match value_within(cell, VALUE_CHARS_MAX) {
        null if cell == "null" => format!("<i>{null}</i>"),
        // Control characters are escapes already.
        text => escape(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_can_become_markup() {
        assert_eq!(escape("<script>alert('&')</script>\""), "&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;&quot;");
        assert_eq!(escape("a\u{202e}b\u{1b}"), "a\\u{202e}b\\u{1b}");
        assert_eq!(prose("table `<b>` and `x"), "table <code>&lt;b&gt;</code> and `x");
        assert_eq!(value("\"<i>\""), "&#39;&lt;i&gt;&#39;");
        assert_eq!(value("null"), "<i>NULL</i>");
    }

    #[test]
    fn the_page_needs_nothing_but_itself() {
        let mut page = String::new();
        let name = |name: &str| StateName { name: name.to_owned(), id: None, time: None };
        let mut html = Html::default();
        html.begin(&mut page, &name("<a>"), &name("live"));
        html.schema(&mut page, &SchemaDiff::default(), "");
        html.end(&mut page, &[]);
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n") && page.contains("Both are the same"), "{page}");
        for word in ["http:", "https:", "<script", "@import", "url(", " src=", "<a>"] {
            assert!(!page.contains(word), "{word} is in the page");
        }
    }
}
