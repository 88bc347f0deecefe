//! One file of a migration: its text, the part of it that goes up, its statements with their places, and what runs it.

use std::ops::Range;

use super::lex::{self, Kind, Lexed, Token};
use super::model::{Place, Places};
use super::statement::{self, Statement};
use super::{Finding, Found};

/// How much of a line is shown, and how much of that before the place that is meant, in characters.
const SOURCE_MAX: usize = 160;
const BEFORE_MAX: usize = 60;

/// A file of SQL.
#[derive(Debug, Clone)]
pub struct Script {
    /// Its path, as it is shown.
    pub path: String,
    /// Its text; what does not go up is blank, and every byte is where it is in the file.
    pub text: String,
    /// Where it stops being UTF-8, if it does.
    pub not_utf8: Option<usize>,
    lexed: Lexed,
}

/// A statement of a script.
pub struct Part {
    /// Its places.
    pub places: Places,
    /// What it says, or why that cannot be told.
    pub parsed: Result<Statement, String>,
}

impl Script {
    /// Reads a file's bytes.
    pub fn new(path: &str, bytes: &[u8]) -> Self {
        let (text, not_utf8) = match std::str::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => (std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(), Some(error.valid_up_to())),
        };
        let text = upward(text);
        let lexed = lex::lex(&text);
        Self { path: path.to_owned(), text, not_utf8, lexed }
    }

    /// Returns its comments.
    pub fn comments(&self) -> impl Iterator<Item = (Range<usize>, &str)> {
        self.lexed.comments.iter().map(|range| (range.clone(), self.text.get(range.clone()).unwrap_or_default()))
    }

    /// Returns the ranges of bytes that its statements have.
    pub fn statement_ranges(&self) -> Vec<Range<usize>> {
        lex::statements(&self.text, &self.lexed.tokens)
            .into_iter()
            .filter_map(|range| Some(self.lexed.tokens.get(range.start)?.start..self.lexed.tokens.get(range.end.checked_sub(1)?)?.end))
            .collect()
    }

    /// Reads its statements; `script` is its number.
    pub fn statements(&self, script: usize) -> impl Iterator<Item = Part> {
        lex::statements(&self.text, &self.lexed.tokens).into_iter().enumerate().map(move |(number, range)| {
            let tokens = self.lexed.tokens.get(range).unwrap_or_default();
            let place = |tokens: &[Token]| Place {
                script,
                statement: number,
                start: tokens.first().map_or(0, |token| token.start),
                end: tokens.last().map_or(0, |token| token.end),
            };
            let whole = place(tokens);
            let parsed = statement::parse(self.text.get(whole.start..whole.end).unwrap_or_default(), tokens, &self.text);
            let items: Vec<Place> = items(tokens).into_iter().map(|range| place(tokens.get(range).unwrap_or_default())).collect();
            let subject = parsed.as_ref().map_or(whole, |parsed| place(subject(parsed, tokens, &self.text)));
            Part { places: Places { whole, subject, items }, parsed }
        })
    }

    /// Returns the text of a place.
    pub fn text_at(&self, place: &Place) -> &str {
        self.text.get(place.start..place.end).unwrap_or_default()
    }

    /// Returns the line and column of a byte, from 1, and the line itself.
    pub fn position(&self, at: usize) -> (u32, u32, &str) {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = memchr::memchr_iter(b'\n', before.as_bytes()).count() + 1;
        let column = before.get(start..).map_or(0, |part| part.chars().count()) + 1;
        let source = self.text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX), source)
    }

    /// Puts the place of what was found into words.
    pub fn finding(&self, rule: &'static str, found: Found) -> Finding {
        let (line, column, source) = self.position(found.place.start);
        let first = self.text_at(&found.place).lines().next().unwrap_or_default();
        // Of a line without end only the surroundings are shown.
        let skipped = (column as usize).saturating_sub(1).saturating_sub(BEFORE_MAX);
        let source: String = source.chars().skip(skipped).take(SOURCE_MAX).collect();
        let width = first.trim_end().chars().count().clamp(1, SOURCE_MAX);
        let name = match (&found.table, &found.column) {
            (Some(table), Some(column)) => format!("{rule}:{table}.{column}"),
            (Some(table), None) => format!("{rule}:{table}"),
            _ => rule.to_owned(),
        };
        Finding {
            rule,
            severity: found.severity,
            path: self.path.clone(),
            line,
            column,
            width: u32::try_from(width).unwrap_or(u32::MAX),
            source,
            source_column: u32::try_from(skipped + 1).unwrap_or(u32::MAX),
            table: found.table,
            table_column: found.column,
            message: found.message,
            rows: found.rows,
            examples: found.examples,
            notes: found.notes,
            instead: found.instead,
            silence: format!("`-- dbelay: allow {rule}` above the statement, or `ignore = [\"{name}\"]` under `[check]` in dbelay.toml"),
        }
    }
}

/// Blanks out what does not go up: the sections after `-- migrate:down`, `-- +goose Down` and their like.
fn upward(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut goes_up = true;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if let Some(direction) = section(line) {
            goes_up = direction;
        }
        let line =
            if number == 0 { line.strip_prefix('\u{feff}').map_or(line.to_owned(), |rest| format!("   {rest}")) } else { line.to_owned() };
        if goes_up {
            kept.push_str(&line);
        } else {
            kept.extend(line.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        }
    }
    kept
}

/// Tells whether a line begins a section, and whether that goes up.
fn section(line: &str) -> Option<bool> {
    let comment = line.trim().strip_prefix("--")?.trim_start_matches('-').trim().to_ascii_lowercase();
    let mut words = comment.split_whitespace();
    let direction = match words.next()? {
        "migrate:up" => "up",
        "migrate:down" => "down",
        "+goose" | "+migrate" | "rambler" => words.next()?,
        "create" if comment.starts_with("create above / drop below") => "down",
        _ => return None,
    };
    match direction {
        "up" => Some(true),
        "down" => Some(false),
        _ => None,
    }
}

/// Finds the items of the first parentheses, divided by commas.
fn items(tokens: &[Token]) -> Vec<Range<usize>> {
    let Some(open) = tokens.iter().position(|token| token.kind == Kind::Open) else { return Vec::new() };
    let mut found = Vec::new();
    let (mut depth, mut start) = (0_usize, open + 1);
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 || depth == 1 && token.kind == Kind::Comma {
            found.push(start..at);
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    found.retain(|range| !range.is_empty());
    found
}

/// Finds what a statement is about: the column that is added, the name that is dropped.
fn subject<'t>(statement: &Statement, tokens: &'t [Token], text: &str) -> &'t [Token] {
    let after = |word: &str| tokens.iter().position(|token| token.is(text, word)).map(|at| at + 1);
    let from = match statement {
        Statement::AddColumn { .. } => after("add"),
        Statement::DropColumn { .. } => after("drop"),
        Statement::DropTable { .. } => after("table"),
        _ => None,
    };
    let Some(mut from) = from else { return tokens };
    let skipped = ["column", "if", "exists", "not"];
    let has_more = |from: usize| from + 1 < tokens.len();
    while has_more(from) && tokens.get(from).is_some_and(|token| skipped.iter().any(|word| token.is(text, word))) {
        from += 1;
    }
    tokens.get(from..).unwrap_or(tokens)
}

/// What runs a script, as far as the script or the database's ledgers tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wrapper {
    /// The tool, where it is known.
    pub tool: Option<&'static str>,
    /// Whether it runs each script in one transaction.
    pub is_transaction: Option<bool>,
    /// Whether it has foreign keys on unless the script says otherwise.
    pub has_keys: Option<bool>,
}

impl Wrapper {
    /// Looks for signs of a tool.
    pub fn of(script: &Script, ledgers: &[String]) -> Self {
        let tool = |tool, is_transaction, has_keys| Self { tool: Some(tool), is_transaction: Some(is_transaction), has_keys };
        let comments: Vec<String> =
            script.comments().map(|(_, comment)| comment.trim_start_matches('-').trim().to_ascii_lowercase()).collect();
        let says = |beginning: &str| comments.iter().any(|comment| comment.starts_with(beginning));
        let has = |ledger: &str| ledgers.iter().any(|name| name.eq_ignore_ascii_case(ledger));
        if comments.iter().any(|comment| comment.trim_start_matches(['>', ' ']) == "statement-breakpoint") || has("__drizzle_migrations") {
            return tool("drizzle", true, Some(true));
        }
        if let Some(mark) = comments.iter().find(|comment| comment.starts_with("migrate:up")) {
            return tool("dbmate", !mark.contains("transaction:false"), Some(false));
        }
        if says("+goose up") || has("goose_db_version") {
            return tool("goose", !says("+goose no transaction"), Some(false));
        }
        let is_prisma = script.path.replace('\\', "/").ends_with("/migration.sql") || says("redefinetables");
        if has("_prisma_migrations") || is_prisma {
            return tool("Prisma", false, Some(true));
        }
        if has("_sqlx_migrations") {
            return tool("sqlx", !says("no-transaction"), Some(true));
        }
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_goes_up_is_read_and_keeps_its_place() {
        let script = Script::new("a.sql", b"\xef\xbb\xbf-- migrate:up\nCREATE TABLE a(b);\n-- migrate:down\nDROP TABLE a; -- \xc3\xa9\n");
        let parts: Vec<Part> = script.statements(0).collect();
        assert_eq!(parts.len(), 1);
        assert_eq!(script.position(parts[0].places.whole.start), (2, 1, "CREATE TABLE a(b);"));
        let script = Script::new("a.sql", b"-- +goose Up\nSELECT 1;\n-- +goose Down\nSELECT 2;\n-- +goose Up\nSELECT 3;");
        assert_eq!(script.statements(0).count(), 2);
    }

    #[test]
    fn items_and_subjects_have_their_places() {
        let check = |sql: &str, subject: &str, items: &[&str]| {
            let script = Script::new("a.sql", sql.as_bytes());
            let part = script.statements(0).next().expect("a statement");
            assert_eq!(script.text_at(&part.places.subject), subject);
            assert_eq!(part.places.items.iter().map(|place| script.text_at(place)).collect::<Vec<_>>(), items);
        };
        check("CREATE TABLE a(b int DEFAULT (1,2), c)", "CREATE TABLE a(b int DEFAULT (1,2), c)", &["b int DEFAULT (1,2)", "c"]);
        check("ALTER TABLE a ADD COLUMN b text NOT NULL;", "b text NOT NULL", &[]);
        check("ALTER TABLE a DROP `b`", "`b`", &[]);
        check("DROP TABLE IF EXISTS \"x y\";", "\"x y\"", &[]);
    }

    #[test]
    fn tools_are_known_by_their_marks_and_ledgers() {
        let check = |text: &str, ledger: &str, expected: Option<&str>, is_transaction: Option<bool>| {
            let wrapper = Wrapper::of(&Script::new("m/1.sql", text.as_bytes()), &[ledger.to_owned()]);
            assert_eq!((wrapper.tool, wrapper.is_transaction), (expected, is_transaction), "{text} {ledger}");
        };
        check("SELECT 1;\n--> statement-breakpoint\nSELECT 2", "", Some("drizzle"), Some(true));
        check("-- migrate:up transaction:false\n", "", Some("dbmate"), Some(false));
        check("-- no-transaction\nSELECT 1", "_sqlx_migrations", Some("sqlx"), Some(false));
        check("SELECT 1", "_prisma_migrations", Some("Prisma"), Some(false));
        check("SELECT 1", "", None, None);
    }
}
