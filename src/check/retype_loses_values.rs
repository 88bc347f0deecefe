//! A change of a column's type that live values do not survive, or do not fit.

use super::lex::quoted;
use super::model::{Affinity, CopiedColumn, Copy, Table};
use super::{Ask, Event, Found, Severity, Step, counted};

/// What `dbelay check --explain retype-loses-values` prints.
pub const PAGE: &str = "\
A rebuild changes a column's type, and live values are no values of the new one.

A STRICT table refuses them. `CAST(x AS INTEGER)` makes 0 of `abc` and 12 of `12 kg`, without a word. A number type makes 7 of the
text `007`. And what SQLite cannot convert it keeps as text in a column of numbers, where typed clients (Prisma, sqlx, most
languages) fail on reading it; that last one is a warning.

Example:
  CREATE TABLE users_new (id INTEGER PRIMARY KEY, zip INTEGER);
  INSERT INTO users_new SELECT id, CAST(zip AS INTEGER) FROM users;      -- 01234 becomes 1234, 'n/a' becomes 0

Instead: correct the values before, or say what shall become of them.
  SELECT id, CASE WHEN zip GLOB '[1-9]*' AND zip NOT GLOB '*[^0-9]*' THEN CAST(zip AS INTEGER) END FROM users

Silence: `-- dbelay: allow retype-loses-values` above the statement, or in dbelay.toml under [check]
  ignore = [\"retype-loses-values:users.zip\"]
";

/// Looks at what fills a new table.
pub fn check(event: &Event<'_>, ask: &mut Ask<'_>) -> Vec<Found> {
    let Event::Filled { step, table, copy } = event else { return Vec::new() };
    if table.created.is_none() || copy.is_values {
        return Vec::new();
    }
    copy.columns.iter().filter(|column| column.is_known).filter_map(|column| retyped(step, table, copy, column, ask)).collect()
}

fn retyped(step: &Step<'_>, table: &Table, copy: &Copy, copied: &CopiedColumn, ask: &mut Ask<'_>) -> Option<Found> {
    let column = table.column(&copied.target)?;
    let own = quoted(&column.name);
    let value = copied.value.as_ref()?;
    let to = &column.declared_type;
    let (origin, rows_query) = (copy.origin(table), copy.rows.as_ref()?);
    let found = |severity, message: String, rows, query: &str, condition: &str, ask: &mut Ask<'_>, shown: &str| {
        let examples = ask.examples(query, condition, &[shown]);
        let instead = "correct these values before, or say in the SELECT what shall become of them";
        let found = Found::new(column.place.unwrap_or(step.place), message, instead).rows(rows, examples);
        Found { severity, also: vec![step.place], ..found.about(origin, Some(value.column.as_deref().unwrap_or(&column.name))) }
    };
    if table.is_strict
        && let Some(class) = strict_class(to)
    {
        let condition = format!("{own} IS NOT NULL AND typeof({own}) <> '{class}'");
        let rows = ask.count(rows_query, &condition).filter(|rows| *rows > 0)?;
        let message = format!("`{}` of the STRICT table `{}` is {to}, and {} no {class}", column.name, table.name, are(rows));
        return Some(found(Severity::Error, message, rows, rows_query, &condition, ask, &column.name));
    }
    let from = copied.source_type.as_deref()?;
    if let Some(cast) = &value.cast {
        let target = Affinity::of(cast);
        if matches!(target, Affinity::Text | Affinity::Blob) {
            return None;
        }
        // The cast itself is in the query; what it was made of must be asked for beside it.
        let source = step.model.table(origin).filter(|_| copy.from.len() == 1)?;
        let before = quoted(value.column.as_ref()?);
        let query = source.query_of(value.column.as_deref())?;
        let condition = format!(
            "{before} IS NOT NULL AND typeof({before}) IN ('text', 'real') AND (CAST({before} AS {}) <> {before} OR {})",
            kind_of(target),
            says_more(&before)
        );
        let rows = ask.count(&query, &condition).filter(|rows| *rows > 0)?;
        let message = format!("`CAST({} AS {cast})` makes other values of {}", value.column.as_deref()?, counted(rows, "value"));
        return Some(found(Severity::Error, message, rows, &query, &condition, ask, value.column.as_deref()?));
    }
    value.column.as_ref()?;
    let (before, after) = (Affinity::of(from), Affinity::of(to));
    if before == after || !matches!(after, Affinity::Integer | Affinity::Real | Affinity::Numeric) {
        return None;
    }
    let raw = copy.raw.as_ref()?;
    let condition = format!(
        "typeof({own}) = 'text' AND {} AND {} <> {own} || ''",
        says_more(&own),
        format_args!("CAST({} AS TEXT)", after.applied(&own))
    );
    if let Some(rows) = ask.count(raw, &condition).filter(|rows| *rows > 0) {
        let message =
            format!("`{}` changes from {} to {to}, which makes other values of {}", column.name, name(from), counted(rows, "value"));
        return Some(found(Severity::Error, message, rows, raw, &condition, ask, &column.name));
    }
    let classes = match after {
        Affinity::Integer => "('integer')",
        Affinity::Real => "('real', 'integer')",
        // Dates, booleans and decimals are whatever the client makes of them.
        _ => return None,
    };
    let condition = format!("{own} IS NOT NULL AND typeof({own}) NOT IN {classes}");
    let rows = ask.count(rows_query, &condition).filter(|rows| *rows > 0)?;
    let message = format!(
        "`{}` changes from {} to {to}, and {} no such number: SQLite keeps them as they are, typed clients fail on them",
        column.name,
        name(from),
        are(rows)
    );
    Some(found(Severity::Warning, message, rows, rows_query, &condition, ask, &column.name))
}

/// Writes that a text says more than the number that it reads as: leading zeros, a plus, more digits than a real keeps.
fn says_more(value: &str) -> String {
    format!("({value} GLOB '0[0-9]*' OR {value} GLOB '-0[0-9]*' OR {value} GLOB '+[0-9]*')")
}

fn kind_of(affinity: Affinity) -> &'static str {
    match affinity {
        Affinity::Integer => "INTEGER",
        Affinity::Real => "REAL",
        _ => "NUMERIC",
    }
}

fn strict_class(declared_type: &str) -> Option<&'static str> {
    match declared_type.to_ascii_uppercase().as_str() {
        "INT" | "INTEGER" => Some("integer"),
        "REAL" => Some("real"),
        "TEXT" => Some("text"),
        "BLOB" => Some("blob"),
        _ => None,
    }
}

fn are(rows: u64) -> String {
    if rows == 1 { "1 value is".to_owned() } else { format!("{} are", counted(rows, "value")) }
}

fn name(declared_type: &str) -> &str {
    if declared_type.is_empty() { "no type" } else { declared_type }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{catches, findings, quiet};
    use super::*;

    const RULE: &str = "retype-loses-values";
    const LIVE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b REAL); INSERT INTO t VALUES(1,'5',1.0),(2,'12 kg',2.5),(3,NULL,NULL),(4,'5.50',3.0);";

    #[test]
    fn values_that_do_not_fit_are_found() {
        catches(
            RULE,
            LIVE,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, a INTEGER) STRICT; INSERT INTO n SELECT id, a FROM t;",
            &["STRICT", "2 values are", "a='12 kg'"],
        );
        catches(
            RULE,
            LIVE,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, a INTEGER); INSERT INTO n SELECT id, CAST(a AS INTEGER) FROM t;",
            &["`CAST(a AS INTEGER)`", "2 values", "'12 kg'", "'5.50'"],
        );
        catches(
            RULE,
            LIVE,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, a INTEGER, b INTEGER); INSERT INTO n SELECT id, '1', CAST(`b` AS int) FROM `t`;",
            &["b=2.5"],
        );
        let live = "CREATE TABLE t(id INTEGER PRIMARY KEY, zip TEXT); INSERT INTO t VALUES(1,'01234'),(2,'99999');";
        catches(
            RULE,
            live,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, zip INTEGER); INSERT INTO n SELECT * FROM t;",
            &["zip='01234'", "from TEXT to INTEGER"],
        );
    }

    #[test]
    fn what_stays_as_text_is_a_warning() {
        let found = findings(LIVE, "CREATE TABLE n(id INTEGER PRIMARY KEY, a INTEGER); INSERT INTO n SELECT id, a FROM t;");
        assert_eq!(
            found.iter().map(|finding| (finding.rule, finding.severity, finding.rows)).collect::<Vec<_>>(),
            [(RULE, Severity::Warning, Some(2))]
        );
    }

    #[test]
    fn values_that_fit_are_no_finding() {
        quiet(LIVE, "CREATE TABLE n(id INTEGER PRIMARY KEY, a INTEGER); INSERT INTO n SELECT id, a FROM t WHERE id = 1;");
        quiet(LIVE, "CREATE TABLE n(id INTEGER PRIMARY KEY, a DATETIME, b DECIMAL(10,2)); INSERT INTO n SELECT id, a, b FROM t;");
        quiet(LIVE, "CREATE TABLE n(id TEXT PRIMARY KEY, a TEXT, b TEXT); INSERT INTO n SELECT id, a, CAST(b AS TEXT) FROM t;");
        quiet(
            LIVE,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, a INTEGER); INSERT INTO n SELECT id, CASE WHEN a NOT GLOB '*[^0-9]*' THEN CAST(a AS INTEGER) END FROM t;",
        );
        quiet(
            LIVE,
            "UPDATE t SET a = '7' WHERE id IN (2, 4); CREATE TABLE n(id INTEGER PRIMARY KEY, a INTEGER) STRICT; INSERT INTO n SELECT id, a FROM t;",
        );
        quiet(LIVE, "CREATE TABLE n(id INTEGER PRIMARY KEY, b REAL) STRICT; INSERT INTO n SELECT id, id FROM t;");
    }
}
