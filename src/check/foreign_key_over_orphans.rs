//! A new foreign key where live rows refer to rows that are not there.

use super::lex::quoted;
use super::model::{Key, Model, Table};
use super::{Ask, Event, Found, counted};
use crate::schema::Schema;

/// What `dbelay check --explain foreign-key-over-orphans` prints.
pub const PAGE: &str = "\
A table gets a new foreign key, and live rows refer to rows that are not there.

With foreign keys on, the rebuild that brings the key fails, at once or at the commit. With foreign keys off it succeeds and leaves
the orphans behind: every later statement that touches them fails, and so does `PRAGMA foreign_key_check`. The rows are looked at as they
are when the whole script has run, so parents that it inserts and orphans that it deletes are taken into account.

Example:
  CREATE TABLE orders_new (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users(id));
  INSERT INTO orders_new SELECT id, user_id FROM orders;      -- of users who are gone

Instead: delete the orphans, set their reference to NULL, or insert the parents, before the copy.
  UPDATE orders SET user_id = NULL WHERE user_id NOT IN (SELECT id FROM users);

Silence: `-- dbelay: allow foreign-key-over-orphans` above the statement, or in dbelay.toml under [check]
  ignore = [\"foreign-key-over-orphans:orders.user_id\"]
";

/// Looks at the keys that a script declared, once it has run.
pub fn check(event: &Event<'_>, ask: &mut Ask<'_>) -> Vec<Found> {
    let Event::ScriptEnd { model, schema, script } = event else { return Vec::new() };
    let mut found = Vec::new();
    for table in &model.tables {
        let is_of_script = |key: &&Key| key.place.is_some_and(|place| place.script == *script);
        for key in table.foreign_keys.iter().filter(is_of_script).filter(|key| !was_there(schema, table, key)) {
            found.extend(orphans(model, table, key, ask));
        }
    }
    found
}

/// Tells whether the live table has this key already: then its orphans are nothing that the migration brings.
fn was_there(schema: &Schema, table: &Table, key: &Key) -> bool {
    let Some(live) = schema.tables.iter().find(|live| live.name.eq_ignore_ascii_case(&table.name)) else { return false };
    let is_same = |a: &[String], b: &[String]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.eq_ignore_ascii_case(b));
    live.foreign_keys.iter().any(|other| other.parent.eq_ignore_ascii_case(&key.parent) && is_same(&other.columns, &key.columns))
}

fn orphans(model: &Model, table: &Table, key: &Key, ask: &mut Ask<'_>) -> Option<Found> {
    let parent = model.table(&key.parent)?;
    let parent_columns = if key.parent_columns.is_empty() { &parent.primary_key } else { &key.parent_columns };
    if parent_columns.len() != key.columns.len() || key.columns.is_empty() {
        return None;
    }
    let child = table.query_of(key.columns.iter().map(String::as_str))?;
    let parents = parent.query_of(parent_columns.iter().map(String::as_str))?;
    let mut conditions: Vec<String> = key.columns.iter().map(|column| format!("c.{} IS NOT NULL", quoted(column))).collect();
    let pairs = parent_columns.iter().zip(&key.columns).map(|(to, from)| format!("p.{} = c.{}", quoted(to), quoted(from)));
    conditions.push(format!("NOT EXISTS (SELECT 1 FROM ({parents}) AS p WHERE {})", pairs.collect::<Vec<_>>().join(" AND ")));
    let query = format!("SELECT c.* FROM ({child}) AS c WHERE {}", conditions.join(" AND "));
    let rows = ask.count(&query, "1").filter(|rows| *rows > 0)?;
    let mut columns = table.identity();
    columns.extend(key.columns.iter().map(String::as_str).filter(|name| !table.primary_key.iter().any(|other| other == name)));
    let examples = ask.examples(&query, "1", &columns);
    let names = key.columns.join("`, `");
    let message = format!(
        "`{names}` of `{}` would refer to `{}`, and {} to what is not there",
        table.name,
        parent.name,
        if rows == 1 { "1 row refers".to_owned() } else { format!("{} refer", counted(rows, "row")) }
    );
    let instead = format!("before the key: delete these rows, set `{names}` to NULL in them, or insert what they refer to");
    let only = if let [only] = key.columns.as_slice() { Some(only.as_str()) } else { None };
    let found = Found::new(key.place?, message, instead).about(&table.name, only).rows(rows, examples);
    Some(Found { also: table.filled.into_iter().collect(), ..found })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{catches, quiet};

    const RULE: &str = "foreign-key-over-orphans";
    const LIVE: &str = "CREATE TABLE users(id INTEGER PRIMARY KEY, code TEXT UNIQUE); CREATE TABLE orders(id INTEGER PRIMARY KEY, user_id INTEGER, code TEXT);
        INSERT INTO users VALUES(1,'a'); INSERT INTO orders VALUES(1,1,'a'),(2,7,'b'),(3,NULL,NULL);";
    const KEY: &str = "CREATE TABLE n(id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users(id), code TEXT);";
    const COPY: &str = "INSERT INTO n SELECT * FROM orders; DROP TABLE orders; ALTER TABLE n RENAME TO orders;";

    #[test]
    fn new_keys_meet_orphans() {
        catches(RULE, LIVE, &format!("PRAGMA foreign_keys=OFF;{KEY}{COPY}"), &["1 row refers", "id=2, user_id=7", "`orders`"]);
        catches(
            RULE,
            LIVE,
            &format!(
                "CREATE TABLE n(id INTEGER PRIMARY KEY, user_id INTEGER, code TEXT, FOREIGN KEY (`code`) REFERENCES `users`(`code`));{COPY}"
            ),
            &["`code`", "code='b'"],
        );
        catches(
            RULE,
            LIVE,
            &format!(
                "CREATE TABLE n(id INTEGER PRIMARY KEY, user_id INTEGER, code TEXT, CONSTRAINT f FOREIGN KEY(user_id) REFERENCES users ON DELETE CASCADE);{COPY}"
            ),
            &["1 row refers"],
        );
        catches(RULE, LIVE, &format!("DELETE FROM users;{KEY}{COPY}"), &["2 rows refer"]);
    }

    #[test]
    fn what_the_script_puts_right_is_no_finding() {
        quiet(LIVE, &format!("DELETE FROM orders WHERE user_id NOT IN (SELECT id FROM users);{KEY}{COPY}"));
        quiet(LIVE, &format!("UPDATE orders SET user_id = NULL WHERE user_id = 7;{KEY}{COPY}"));
        quiet(LIVE, &format!("{KEY}{COPY} INSERT INTO users VALUES(7,'b');"));
        quiet(LIVE, &format!("INSERT INTO users(code) VALUES('x');{KEY}{COPY}"));
        quiet(
            LIVE,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users(id)); INSERT INTO n SELECT o.id, o.user_id FROM orders o JOIN users u ON u.id = o.user_id;",
        );
        quiet(LIVE, "CREATE TABLE n(id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users(id));");
        quiet(LIVE, "ALTER TABLE orders ADD COLUMN owner INTEGER REFERENCES users(id)");
    }

    #[test]
    fn a_key_that_was_there_before_is_no_finding() {
        let live = "CREATE TABLE users(id INTEGER PRIMARY KEY); CREATE TABLE orders(id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users(id), code TEXT); INSERT INTO orders VALUES(1,9,'x');";
        quiet(live, &format!("{KEY}{COPY}"));
    }

    #[test]
    fn text_and_numbers_are_compared_as_the_key_does() {
        let live = "CREATE TABLE users(id INTEGER PRIMARY KEY, code TEXT); CREATE TABLE orders(id INTEGER PRIMARY KEY, user_id TEXT, code TEXT); INSERT INTO users VALUES(1,'a'); INSERT INTO orders VALUES(1,'1','a');";
        quiet(live, &format!("{KEY}{COPY}"));
    }
}
