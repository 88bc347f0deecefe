//! A rebuild whose copy forgets a column: the column is there afterwards, and empty.

use super::lost;
use super::{Ask, Event, Found};

/// What `dbelay check --explain copy-leaves-out-column` prints.
pub const PAGE: &str = "\
A rebuild makes a table anew with a column, and its copy does not fill it.

The column is there before and after, so nothing looks wrong, and its values are gone: every row has NULL or the default.

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
        let Some((successor, place)) = lost.successor.and_then(|table| Some((table, table.filled?))) else { continue };
        for name in &lost.columns {
            // What a copy names it fills, if with something else: that is meant.
            let Some(column) = successor.column(name).filter(|column| !column.is_filled && !column.is_generated) else { continue };
            if let Some(held) = lost::held(ask, lost.table, name) {
                let message =
                    format!("the copy of `{}` leaves out `{name}`, which has {}: they would be gone", lost.live, lost::values(held));
                let instead = format!("name `{name}` in the INSERT and in its SELECT");
                let examples = lost::examples(ask, lost.table, name);
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
