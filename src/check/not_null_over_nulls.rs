//! NOT NULL where live rows have NULL: the statement would fail at the first such row.

use super::lex::quoted;
use super::model::{Column, Copy, Table};
use super::statement::{Conflict, Statement};
use super::{Ask, Event, Found, Step, counted};

/// What `dbelay check --explain not-null-over-nulls` prints.
pub const PAGE: &str = "\
A column becomes NOT NULL, and live rows have NULL in it.

It works on an empty development database and fails on the live one: a rebuild stops at the first row with a NULL, and
`ADD COLUMN ... NOT NULL` without a default is refused by SQLite as soon as the table has one row.

Example:
  CREATE TABLE users_new (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
  INSERT INTO users_new SELECT id, name FROM users;      -- fails where name is NULL

Instead: fill the column first, or give it a default.
  UPDATE users SET name = '' WHERE name IS NULL;
  INSERT INTO users_new SELECT id, coalesce(name, '') FROM users;
  ALTER TABLE users ADD COLUMN age INTEGER NOT NULL DEFAULT 0;

Silence: `-- dbelay: allow not-null-over-nulls` above the statement, or in dbelay.toml under [check]
  ignore = [\"not-null-over-nulls:users.name\"]
";

/// Looks at added columns, at SET NOT NULL, and at what fills a new table.
pub fn check(event: &Event<'_>, ask: &mut Ask<'_>) -> Vec<Found> {
    let found = match event {
        Event::Before(step) => match step.statement {
            Statement::AddColumn { table, column } if column.not_null && !column.is_generated => {
                let has_default = column.default.as_ref().is_some_and(|default| !default.is_null);
                if has_default { None } else { added(step, table, &column.name, ask) }
            }
            Statement::SetNotNull { table, column } => set(step, table, column, ask),
            _ => None,
        },
        Event::Filled { step, table, copy } if copy.conflict == Conflict::Fail && !copy.is_values => {
            let alias = table.rowid_alias().map(|column| column.name.as_str());
            let refuses = |column: &&Column| column.not_null && !column.is_generated && alias != Some(column.name.as_str());
            return table.columns.iter().filter(refuses).filter_map(|column| filled(step, table, copy, column, ask)).collect();
        }
        _ => None,
    };
    found.into_iter().collect()
}

fn added(step: &Step<'_>, table: &str, column: &str, ask: &mut Ask<'_>) -> Option<Found> {
    let rows = ask.count(&step.model.table(table)?.query()?, "1").filter(|rows| *rows > 0)?;
    let message =
        format!("`{table}` has {}, and the new column `{column}` is NOT NULL without a default: SQLite refuses it", counted(rows, "row"));
    let instead = format!("give `{column}` a default, or add it without NOT NULL, fill it, and rebuild the table");
    Some(Found::new(step.subject, message, instead).about(table, Some(column)).rows(rows, Vec::new()))
}

fn set(step: &Step<'_>, name: &str, column: &str, ask: &mut Ask<'_>) -> Option<Found> {
    let table = step.model.table(name)?;
    nulls(ask, &table.query_of([column])?, table, column).map(|(rows, examples)| {
        let message = format!("`{name}.{column}` becomes NOT NULL, and {} NULL", have(rows));
        Found::new(step.place, message, fill(name, column)).about(name, Some(column)).rows(rows, examples)
    })
}

fn filled(step: &Step<'_>, table: &Table, copy: &Copy, column: &Column, ask: &mut Ask<'_>) -> Option<Found> {
    let (name, origin) = (&column.name, copy.origin(table));
    let place = column.place.unwrap_or(step.place);
    let found = match copy.column(name) {
        Some(copied) => {
            // A literal is what it is; that one is nothing to ask.
            if !copied.is_known || copied.value.as_ref().is_some_and(|value| value.is_literal && !value.is_null) {
                return None;
            }
            let (rows, examples) = nulls(ask, copy.rows.as_ref()?, table, name)?;
            let message = format!("`{name}` of `{}` is NOT NULL, and {} NULL for it in the copy from `{origin}`", table.name, have(rows));
            Found::new(place, message, fill(origin, name)).rows(rows, examples)
        }
        None if column.default.as_ref().is_none_or(|default| default.is_null) => {
            let rows = ask.count(copy.rows.as_ref()?, "1").filter(|rows| *rows > 0)?;
            let message = format!(
                "`{name}` of `{}` is NOT NULL without a default, and the copy from `{origin}` does not fill it: {} would be refused",
                table.name,
                counted(rows, "row")
            );
            Found::new(place, message, format!("name `{name}` in the INSERT and select a value for it, or give it a default"))
                .rows(rows, Vec::new())
        }
        None => return None,
    };
    Some(Found { also: vec![step.place], ..found.about(origin, Some(name)) })
}

fn nulls(ask: &mut Ask<'_>, query: &str, table: &Table, column: &str) -> Option<(u64, Vec<String>)> {
    let condition = format!("{} IS NULL", quoted(column));
    let rows = ask.count(query, &condition).filter(|rows| *rows > 0)?;
    Some((rows, ask.examples(query, &condition, &table.identity())))
}

fn have(rows: u64) -> String {
    format!("{} {}", counted(rows, "row"), if rows == 1 { "has" } else { "have" })
}

fn fill(table: &str, column: &str) -> String {
    format!("fill it before: `UPDATE {table} SET {column} = ... WHERE {column} IS NULL`, or select `coalesce({column}, ...)`")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{catches, quiet};

    const RULE: &str = "not-null-over-nulls";
    const LIVE: &str =
        "CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT, age INTEGER); INSERT INTO users VALUES(1,'a',1),(2,NULL,2),(5,NULL,3);";

    #[test]
    fn added_columns_need_a_default_where_there_are_rows() {
        catches(RULE, LIVE, "ALTER TABLE `users` ADD COLUMN `email` text NOT NULL;", &["3 rows", "`email`"]);
        catches(RULE, LIVE, "ALTER TABLE main.users ADD email TEXT NOT NULL DEFAULT NULL", &["3 rows"]);
        quiet(LIVE, "ALTER TABLE users ADD COLUMN email TEXT NOT NULL DEFAULT ''");
        quiet(LIVE, "ALTER TABLE users ADD COLUMN email TEXT");
        quiet("CREATE TABLE users(id INTEGER PRIMARY KEY);", "ALTER TABLE users ADD COLUMN email TEXT NOT NULL");
        quiet(LIVE, "DELETE FROM users; ALTER TABLE users ADD COLUMN email TEXT NOT NULL");
    }

    #[test]
    fn a_rebuild_stops_at_nulls() {
        let prisma = "PRAGMA defer_foreign_keys=ON;\nPRAGMA foreign_keys=OFF;\nCREATE TABLE \"new_users\" (\n  \"id\" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,\n  \"name\" TEXT NOT NULL,\n  \"age\" INTEGER\n);\nINSERT INTO \"new_users\" (\"age\", \"id\", \"name\") SELECT \"age\", \"id\", \"name\" FROM \"users\";\nDROP TABLE \"users\";\nALTER TABLE \"new_users\" RENAME TO \"users\";";
        catches(RULE, LIVE, prisma, &["2 rows have NULL", "id=2", "id=5", "UPDATE users SET name"]);
        catches(
            RULE,
            LIVE,
            "ALTER TABLE users RENAME TO old; CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT NOT NULL, age); INSERT INTO users SELECT * FROM old; DROP TABLE old;",
            &["2 rows"],
        );
        catches(
            RULE,
            LIVE,
            "ALTER TABLE users RENAME COLUMN name TO title; CREATE TABLE n(id INTEGER PRIMARY KEY, title TEXT NOT NULL, age); INSERT INTO n SELECT id, title, age FROM users;",
            &["2 rows"],
        );
        catches(
            RULE,
            LIVE,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, name TEXT, age, email TEXT NOT NULL); INSERT INTO n(id,name,age) SELECT id,name,age FROM users;",
            &["3 rows would be refused", "`email`"],
        );
        catches(
            RULE,
            LIVE,
            "UPDATE users SET name='x' WHERE name IS NULL AND id=2; CREATE TABLE n(id INTEGER PRIMARY KEY, name TEXT NOT NULL); INSERT INTO n SELECT id, name FROM users;",
            &["1 row has NULL", "id=5"],
        );
    }

    #[test]
    fn what_is_filled_before_is_no_finding() {
        let rebuild =
            "CREATE TABLE n(id INTEGER PRIMARY KEY, name TEXT NOT NULL, age INTEGER NOT NULL DEFAULT 0, new TEXT NOT NULL DEFAULT 'x');";
        quiet(
            LIVE,
            &format!("UPDATE users SET name='' WHERE name IS NULL; {rebuild} INSERT INTO n(id,name,age) SELECT id,name,age FROM users;"),
        );
        quiet(LIVE, &format!("{rebuild} INSERT INTO n(id,name,age) SELECT id,coalesce(name,''),age FROM users;"));
        quiet(LIVE, &format!("{rebuild} INSERT INTO n(id,name,age) SELECT id,name,age FROM users WHERE name IS NOT NULL;"));
        quiet(
            LIVE,
            &format!(
                "DELETE FROM users WHERE name IS NULL; {rebuild} INSERT INTO n(id,name,age) SELECT u.id,u.name,u.age FROM users AS u;"
            ),
        );
        quiet(
            LIVE,
            &format!(
                "UPDATE users SET name = (SELECT 'n' || count(*) FROM users AS o WHERE o.id < users.id); {rebuild} INSERT INTO n(id,name,age) SELECT id,name,age FROM users;"
            ),
        );
        // Who wrote it cannot be said.
        quiet(
            LIVE,
            &format!(
                "UPDATE users SET name = o.name FROM users AS o WHERE o.id=1; {rebuild} INSERT INTO n(id,name,age) SELECT id,name,age FROM users;"
            ),
        );
        quiet(LIVE, &format!("{rebuild} INSERT INTO n(id,name,age) SELECT NULL,'a',age FROM users;"));
    }
}
