//! A column that goes with its values: dropped, or missing in a table that was made anew.

use super::lost;
use super::{Ask, Event, Found};

/// What `dbelay check --explain drop-column-with-data` prints.
pub const PAGE: &str = "\
A column goes, and nothing takes its values over.

By `ALTER TABLE ... DROP COLUMN`, or by a rebuild into a table without it. A column whose values the migration puts somewhere else first
(another column, another table) is not meant, nor one that holds nothing but NULL. A generator that does not know of a rename writes it as a
new column and a dropped one: this is what it looks like.

Example:
  ALTER TABLE users ADD COLUMN full_name TEXT;
  ALTER TABLE users DROP COLUMN name;      -- with 1,204 values

Instead: rename it, or copy the values first; if they are not needed, say so.
  ALTER TABLE users RENAME COLUMN name TO full_name;
  dbelay migrate --allow users.name -- YOUR MIGRATION COMMAND

Silence: `-- dbelay: allow drop-column-with-data` above the statement, `--allow users.name`, or in dbelay.toml under [check]
  ignore = [\"drop-column-with-data:users.name\"]
";

/// Looks at what is gone when every script has run.
pub fn check(event: &Event<'_>, ask: &mut Ask<'_>) -> Vec<Found> {
    let Event::End { model, schema, .. } = event else { return Vec::new() };
    let carried = model.carried();
    let mut found = Vec::new();
    for dropped in &model.dropped_columns {
        let (table, name) = (&dropped.table, &dropped.name);
        let (Some(column), Some(live)) = (table.column(name), table.live.as_deref()) else { continue };
        let own = column.sources.iter().find(|(from, _)| from == live);
        let Some((_, live_name)) = own.filter(|_| !column.is_generated) else { continue };
        if column.sources.iter().all(|source| carried.contains(source)) {
            continue;
        }
        if let Some(held) = lost::held(ask, table, &column.name) {
            let message = format!("`{live}.{live_name}` is dropped with {}, and nothing takes them over", lost::values(held));
            let examples = lost::examples(ask, table, &column.name);
            found.push(Found::new(dropped.place, message, instead(live, live_name)).about(live, Some(live_name)).rows(held, examples));
        }
    }
    for lost in lost::tables(model, schema).iter().filter(|lost| !lost.is_whole) {
        let Some((successor, place)) = lost.successor.and_then(|table| Some((table, table.created?))) else { continue };
        for name in lost.columns.iter().filter(|name| successor.column(name).is_none()) {
            if let Some(held) = lost::held(ask, lost.table, name) {
                let message =
                    format!("`{}` is made anew without `{name}`, which has {}, and nothing takes them over", lost.live, lost::values(held));
                let examples = lost::examples(ask, lost.table, name);
                let also = successor.filled.into_iter().chain(lost.table.dropped).collect();
                let finding = Found::new(place, message, instead(lost.live, name)).about(lost.live, Some(name)).rows(held, examples);
                found.push(Found { also, ..finding });
            }
        }
    }
    found
}

fn instead(table: &str, column: &str) -> String {
    format!("rename the column or copy its values first if they are needed; if not, `dbelay migrate --allow {table}.{column}` says so")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{catches, quiet};

    const RULE: &str = "drop-column-with-data";
    const LIVE: &str = "CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT, nick TEXT, age INTEGER AS (id + 1)); INSERT INTO users(id,name) VALUES(1,'a'),(2,'b');";

    #[test]
    fn columns_with_values_are_found() {
        catches(RULE, LIVE, "ALTER TABLE users DROP COLUMN name", &["2 values", "id=1, name='a'", "--allow users.name"]);
        catches(RULE, LIVE, "ALTER TABLE `users` ADD `full` text; ALTER TABLE `users` DROP COLUMN `name`;", &["`users.name`"]);
        catches(
            RULE,
            LIVE,
            "ALTER TABLE users RENAME TO people; ALTER TABLE people RENAME COLUMN name TO n; ALTER TABLE people DROP n;",
            &["`users.name`"],
        );
        catches(
            RULE,
            LIVE,
            "CREATE TABLE new_users(id INTEGER PRIMARY KEY, nick TEXT); INSERT INTO new_users(id,nick) SELECT id,nick FROM users; DROP TABLE users; ALTER TABLE new_users RENAME TO users;",
            &["made anew without `name`"],
        );
    }

    #[test]
    fn what_is_only_measured_is_not_taken_over() {
        catches(RULE, LIVE, "UPDATE users SET nick = length(name); ALTER TABLE users DROP COLUMN name;", &["`users.name`", "2 values"]);
        catches(
            RULE,
            LIVE,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, l, nick); INSERT INTO n SELECT id, length(name), nick FROM users; DROP TABLE users; ALTER TABLE n RENAME TO users;",
            &["made anew without `name`"],
        );
        quiet(LIVE, "UPDATE users SET nick = substr(name, 1, length(name) - 1); ALTER TABLE users DROP COLUMN name;");
        quiet(
            LIVE,
            "UPDATE users SET nick = CASE WHEN length(name) = 1 THEN '0' || name ELSE name END; ALTER TABLE users DROP COLUMN name;",
        );
    }

    #[test]
    fn values_that_go_elsewhere_by_from_or_with_are_no_finding() {
        let table = "CREATE TABLE names(user INTEGER, n TEXT);";
        quiet(
            LIVE,
            &format!(
                "{table} WITH u AS (SELECT id, name FROM users) INSERT INTO names SELECT * FROM u; ALTER TABLE users DROP COLUMN name;"
            ),
        );
        quiet(
            LIVE,
            &format!(
                "{table} INSERT INTO names(user) SELECT id FROM users; UPDATE names SET n = x.m FROM (SELECT id, name AS m FROM users) AS x WHERE x.id = user; ALTER TABLE users DROP COLUMN name;"
            ),
        );
    }

    #[test]
    fn values_that_go_elsewhere_are_no_finding() {
        quiet(LIVE, "ALTER TABLE users DROP COLUMN nick; ALTER TABLE users DROP COLUMN age;");
        quiet(LIVE, "ALTER TABLE users RENAME COLUMN name TO full_name");
        quiet(LIVE, "ALTER TABLE users ADD COLUMN full TEXT; UPDATE users SET full = name; ALTER TABLE users DROP COLUMN name");
        quiet(
            LIVE,
            "CREATE TABLE names(user INTEGER, n TEXT); INSERT INTO names SELECT id, upper(name) FROM users; ALTER TABLE users DROP COLUMN name",
        );
        quiet(LIVE, "UPDATE users SET name = NULL; ALTER TABLE users DROP COLUMN name");
        quiet(
            LIVE,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, full TEXT, nick); INSERT INTO n SELECT id, name, nick FROM users; DROP TABLE users; ALTER TABLE n RENAME TO users;",
        );
        quiet(
            LIVE,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO n SELECT id, name FROM users; DROP TABLE users; ALTER TABLE n RENAME TO users;",
        );
    }
}
