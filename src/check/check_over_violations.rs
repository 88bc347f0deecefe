//! A CHECK that live rows do not fulfil.

use super::lex::quoted;
use super::model::Table;
use super::statement::{Conflict, Expression, Statement};
use super::{Ask, Event, Found, counted};

/// What `dbelay check --explain check-over-violations` prints.
pub const PAGE: &str = "\
A table gets a CHECK, and live rows do not fulfil it.

A rebuild into a table with the constraint stops at the first such row, and so does `ADD COLUMN ... CHECK`. A condition that is NULL
counts as fulfilled, as it does for SQLite.

Example:
  CREATE TABLE items_new (id INTEGER PRIMARY KEY, price INTEGER CHECK (price >= 0));
  INSERT INTO items_new SELECT id, price FROM items;      -- fails where price is negative

Instead: correct the rows before the copy, or in it.
  UPDATE items SET price = 0 WHERE price < 0;

Silence: `-- dbelay: allow check-over-violations` above the statement, or in dbelay.toml under [check]
  ignore = [\"check-over-violations:items\"]
";

/// Looks at constraints that are added, and at what fills a new table.
pub fn check(event: &Event<'_>, ask: &mut Ask<'_>) -> Vec<Found> {
    match event {
        Event::Before(step) => match step.statement {
            Statement::AddCheck { table, check } => {
                let Some(table) = step.model.table(table) else { return Vec::new() };
                let found = table.query_for(&check.sql).and_then(|query| violations(ask, table, &query, check));
                found.map(|found| Found { place: step.place, ..found }.about(&table.name, None)).into_iter().collect()
            }
            Statement::AddColumn { table, column } if !column.checks.is_empty() && !column.is_generated => {
                let Some(table) = step.model.table(table) else { return Vec::new() };
                let default = column.default.as_ref().map_or("NULL", |default| &default.sql);
                let of = |check: &Expression| {
                    let query = format!("SELECT *, {default} AS {} FROM ({})", quoted(&column.name), table.query_for(&check.sql)?);
                    let found = violations(ask, table, &query, check)?;
                    Some(Found { place: step.subject, ..found }.about(&table.name, Some(&column.name)))
                };
                column.checks.iter().filter_map(of).collect()
            }
            _ => Vec::new(),
        },
        Event::Filled { step, table, copy } if copy.conflict == Conflict::Fail && table.created.is_some() && !copy.is_values => {
            let mut found = Vec::new();
            for (place, check) in &table.checks {
                let Some(query) = copy.rows_for(&check.sql) else { continue };
                let violated = violations(ask, table, query, check);
                found
                    .extend(violated.map(|found| Found { place: *place, also: vec![step.place], ..found }.about(copy.origin(table), None)));
            }
            found
        }
        _ => Vec::new(),
    }
}

fn violations(ask: &mut Ask<'_>, table: &Table, query: &str, check: &Expression) -> Option<Found> {
    let query = format!("SELECT * FROM ({query}) AS {} WHERE NOT ({})", quoted(&table.name), check.sql);
    let rows = ask.count(&query, "1").filter(|rows| *rows > 0)?;
    let names = check.names();
    let mut columns = table.identity();
    let told = table.columns.iter().map(|column| column.name.as_str());
    columns.extend(
        told.filter(|name| names.contains(&name.to_lowercase())).filter(|name| !table.primary_key.iter().any(|key| key == name)).take(3),
    );
    // A column that is only being added has no place in the table yet.
    let examples = ask.examples(&query, "1", &columns);
    let condition: String = check.sql.chars().take(80).collect();
    let message = format!(
        "{} not fulfil `CHECK ({condition})`",
        if rows == 1 { "1 row does".to_owned() } else { format!("{} do", counted(rows, "row")) }
    );
    Some(
        Found::new(table.created.unwrap_or_default(), message, "correct these rows before, or in the SELECT of the copy")
            .rows(rows, examples),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{catches, quiet};

    const RULE: &str = "check-over-violations";
    const LIVE: &str =
        "CREATE TABLE items(id INTEGER PRIMARY KEY, price INTEGER, kind TEXT); INSERT INTO items VALUES(1,5,'a'),(2,-1,'b'),(3,NULL,'c');";

    #[test]
    fn rebuilds_meet_violations() {
        catches(
            RULE,
            LIVE,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, price INTEGER CHECK(price >= 0), kind TEXT); INSERT INTO n SELECT * FROM items;",
            &["1 row does not", "id=2, price=-1"],
        );
        catches(
            RULE,
            LIVE,
            "CREATE TABLE `n`(`id` INTEGER PRIMARY KEY, `price` INTEGER, `kind` TEXT, CONSTRAINT \"k\" CHECK(\"n\".\"kind\" IN ('a','b'))); INSERT INTO `n`(\"id\",\"price\",\"kind\") SELECT \"id\",\"price\",\"kind\" FROM `items`;",
            &["id=3, kind='c'"],
        );
        catches(RULE, LIVE, "ALTER TABLE items ADD COLUMN size INTEGER DEFAULT 0 CHECK(size > 0)", &["3 rows do not"]);
        catches(RULE, LIVE, "ALTER TABLE items ADD CONSTRAINT c CHECK (length(kind) > 1)", &["3 rows do not"]);
    }

    #[test]
    fn rows_that_fulfil_it_are_no_finding() {
        quiet(LIVE, "CREATE TABLE n(id INTEGER PRIMARY KEY, price INTEGER CHECK(price >= -1)); INSERT INTO n SELECT id, price FROM items;");
        quiet(
            LIVE,
            "UPDATE items SET price = 0 WHERE price < 0; CREATE TABLE n(id INTEGER PRIMARY KEY, price INTEGER CHECK(price >= 0)); INSERT INTO n SELECT id, price FROM items;",
        );
        quiet(
            LIVE,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, price INTEGER CHECK(price >= 0)); INSERT INTO n SELECT id, max(price, 0) FROM items;",
        );
        quiet(LIVE, "ALTER TABLE items ADD COLUMN size INTEGER CHECK(size > 0)");
        quiet(
            LIVE,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, price TEXT CHECK(typeof(price) = 'text')); INSERT INTO n SELECT id, price FROM items WHERE price IS NOT NULL;",
        );
        quiet(LIVE, "CREATE TABLE n(id INTEGER PRIMARY KEY, price INTEGER CHECK(price >= 0));");
    }
}
