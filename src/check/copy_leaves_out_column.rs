//! A rebuild whose copy forgets a column: the column is there afterwards, and empty.

use super::lost;
use super::{Ask, Event, Found};

/// What `dbelay check --explain copy-leaves-out-column` prints.
pub const PAGE: &str = "\
A rebuild makes a table anew with a column, and its copy does not fill it.

The column is there before and after, so nothing looks wrong, and its values are gone: every row has NULL or the default. A copy that selects
NULL or '' for it does not fill it either, nor do rows that are written out beside the copy (VALUES).

Example:
  CREATE TABLE users_new (id INTEGER PRIMARY KEY, name TEXT, email TEXT);
  INSERT INTO users_new (id, name) SELECT id, name FROM users;      -- email is forgotten
  DROP TABLE users;
  ALTER TABLE users_new RENAME TO users;

Instead: name the column on both sides of the copy.
  INSERT INTO users_new (id, name, email) SELECT id, name, email FROM users;

Silence: `-- dbelay: allow copy-leaves-out-column` above the INSERT, or in dbelay.toml under [check]
  ignore = [\"copy-leaves-out-column:users.email\"]
";

/// Looks at what is gone when every script has run.
pub fn check(event: &Event<'_>, ask: &mut Ask<'_>) -> Vec<Found> {
    let Event::End { model, schema, .. } = event else { return Vec::new() };
    let mut found = Vec::new();
    for lost in lost::tables(model, schema).iter().filter(|lost| !lost.is_whole) {
        let Some((successor, place)) = lost.successor.and_then(|table| Some((table, table.copied?))) else { continue };
        for name in &lost.columns {
            // What a copy names it fills, if with something else: that is meant.
            let Some(column) = successor.column(name).filter(|column| !column.is_filled && !column.is_generated) else { continue };
            // What every row has afterwards is not gone where a row had it before.
            let default = column.default.as_ref().filter(|default| default.is_literal && !default.is_null).map(|default| &default.sql);
            let literal = column.nothing.as_ref().filter(|nothing| !nothing.eq_ignore_ascii_case("null")).or(default).map(String::as_str);
            if let Some(held) = lost::held_but(ask, lost.table, name, literal) {
                let (what, instead) = match &column.nothing {
                    Some(nothing) => (format!("puts {nothing} into `{name}`"), format!("select `{name}` for it")),
                    None => (format!("leaves out `{name}`"), format!("name `{name}` in the INSERT and in its SELECT")),
                };
                let message = format!("the copy of `{}` {what}, which has {}: they would be gone", lost.live, lost::values(held));
                let examples = lost::examples_but(ask, lost.table, name, literal);
                let also = column.place.into_iter().chain(lost.table.dropped).collect();
                let finding = Found::new(place, message, instead).about(lost.live, Some(name)).rows(held, examples);
                found.push(Found { also, ..finding });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::testing::{catches, quiet};

    const RULE: &str = "copy-leaves-out-column";
    const LIVE: &str = "CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT, email TEXT, nick TEXT); INSERT INTO users VALUES(1,'a','a@x',NULL),(2,'b',NULL,NULL);";
    const NEW: &str = "CREATE TABLE n(id INTEGER PRIMARY KEY, name TEXT, email TEXT DEFAULT '', nick TEXT);";
    const SWAP: &str = "DROP TABLE users; ALTER TABLE n RENAME TO users;";

    #[test]
    fn forgotten_columns_are_found() {
        catches(
            RULE,
            LIVE,
            &format!("{NEW} INSERT INTO n(id,name) SELECT id,name FROM users; {SWAP}"),
            &["leaves out `email`", "1 value", "id=1, email='a@x'"],
        );
        catches(
            RULE,
            LIVE,
            "ALTER TABLE users RENAME TO old; CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT, email TEXT, nick TEXT); INSERT INTO users(id,name,nick) SELECT id,name,nick FROM old; DROP TABLE old;",
            &["`email`"],
        );
        catches(
            RULE,
            LIVE,
            &format!(
                "CREATE TEMPORARY TABLE t AS SELECT id, name FROM users; DROP TABLE users; {} INSERT INTO users(id,name) SELECT * FROM t; DROP TABLE t;",
                NEW.replace("TABLE n(", "TABLE users(")
            ),
            &["`email`"],
        );
    }

    #[test]
    fn a_constant_nothing_fills_no_column() {
        catches(
            RULE,
            LIVE,
            &format!("{NEW} INSERT INTO n(id,name,email) SELECT id,name,NULL FROM users; {SWAP}"),
            &["puts NULL into `email`"],
        );
        catches(
            RULE,
            LIVE,
            &format!("{NEW} INSERT INTO n SELECT id,name,'',nick FROM users; {SWAP}"),
            &["puts '' into `email`", "1 value"],
        );
        catches(RULE, LIVE, &format!("CREATE TABLE n AS SELECT id,name,NULL AS email,nick FROM users; {SWAP}"), &["`email`"]);
        quiet(LIVE, &format!("{NEW} INSERT INTO n SELECT id,name,email,NULL FROM users; {SWAP}"));
        let update = "UPDATE n SET email = u.email FROM users AS u WHERE u.id = n.id;";
        quiet(LIVE, &format!("{NEW} INSERT INTO n SELECT id,name,NULL,nick FROM users; {update} {SWAP}"));
        let same = "CREATE TABLE users(id INTEGER PRIMARY KEY, email TEXT, kind TEXT); INSERT INTO users VALUES(1,'','a'),(2,NULL,'a');";
        let new = "CREATE TABLE n(id INTEGER PRIMARY KEY, email TEXT, kind TEXT DEFAULT 'a');";
        quiet(same, &format!("{new} INSERT INTO n(id,email) SELECT id,'' FROM users; {SWAP}"));
    }

    #[test]
    fn rows_that_are_written_out_fill_no_column_of_the_copied() {
        let copy = format!("{NEW} INSERT INTO n(id,name) SELECT id,name FROM users; {SWAP}");
        for seed in ["VALUES('new@x')", "SELECT 'new@x'", "SELECT 'new@x' WHERE NOT EXISTS (SELECT 1 FROM users WHERE id = 9)"] {
            catches(RULE, LIVE, &format!("{copy} INSERT INTO users(email) {seed};"), &["leaves out `email`"]);
            quiet(LIVE, &format!("{NEW} INSERT INTO n SELECT * FROM users; {SWAP} INSERT INTO users(email) {seed};"));
        }
        let found = super::super::testing::findings(LIVE, &format!("{copy}\nINSERT INTO users(email) VALUES('x');"));
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [1], "the copy is the place");
    }

    #[test]
    fn whole_copies_are_no_finding() {
        quiet(LIVE, &format!("{NEW} INSERT INTO n SELECT * FROM users; {SWAP}"));
        quiet(LIVE, &format!("{NEW} INSERT INTO n(id,name,email) SELECT id,name,email FROM users; {SWAP}"));
        quiet(LIVE, &format!("{NEW} INSERT INTO n(id,name,email) SELECT id,name,'none' FROM users; {SWAP}"));
        quiet(
            LIVE,
            &format!(
                "{NEW} INSERT INTO n(id,name) SELECT id,name FROM users; UPDATE n SET email = (SELECT email FROM users u WHERE u.id = n.id); {SWAP}"
            ),
        );
        quiet(LIVE, &format!("{NEW} INSERT INTO n SELECT u.* FROM users AS u; {SWAP}"));
        quiet(
            LIVE,
            &format!(
                "CREATE TABLE t AS SELECT * FROM users; DROP TABLE users; {} INSERT INTO users SELECT * FROM t; DROP TABLE t;",
                NEW.replace("TABLE n(", "TABLE users(")
            ),
        );
    }
}
