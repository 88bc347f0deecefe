//! UNIQUE or a primary key where live rows have the same values: the statement would fail.

use super::lex::quoted;
use super::model::{Place, Table};
use super::statement::{Conflict, Expression, IndexPart, Statement};
use super::{Ask, EXAMPLES_MAX, Event, Found, counted, shown};
use crate::value::Value;

/// What `dbelay check --explain unique-over-duplicates` prints.
pub const PAGE: &str = "\
Columns become UNIQUE, and live rows have the same values in them.

`CREATE UNIQUE INDEX` and a rebuild into a table with UNIQUE or a new primary key fail at the first pair. NULLs never count as
equal, and the condition of a partial index and COLLATE are taken into account.

Example:
  CREATE UNIQUE INDEX users_email ON users(email);      -- fails where two users have one address

Instead: decide which of the rows stays, in the migration itself.
  DELETE FROM users WHERE id NOT IN (SELECT min(id) FROM users GROUP BY email);

Silence: `-- dbelay: allow unique-over-duplicates` above the statement, or in dbelay.toml under [check]
  ignore = [\"unique-over-duplicates:users.email\"]
";

/// Looks at unique indexes, and at what fills a new table.
pub fn check(event: &Event<'_>, ask: &mut Ask<'_>) -> Vec<Found> {
    match event {
        Event::Before(step) => {
            let Statement::CreateIndex { is_unique: true, table, columns, condition, .. } = step.statement else { return Vec::new() };
            let Some(table) = step.model.table(table) else { return Vec::new() };
            let instead = format!("decide in the migration which rows of `{}` stay, before the index", table.name);
            let found = duplicates(ask, table, columns, condition.as_ref(), step.place, "a unique index", instead);
            found.map(|found| found.about(&table.name, only_column(columns))).into_iter().collect()
        }
        Event::Filled { step, table, copy } if copy.conflict == Conflict::Fail && table.created.is_some() && !copy.is_values => {
            let origin = copy.origin(table);
            let key: Vec<IndexPart> = table.primary_key.iter().map(|name| part(name)).collect();
            let same_key = copy.is_row_by_row
                && step.model.table(origin).is_some_and(|source| {
                    let from = |name: &String| copy.column(name).and_then(|copied| copied.value.as_ref()).and_then(bare);
                    let sources: Option<Vec<&str>> = table.primary_key.iter().map(from).collect();
                    sources.is_some_and(|names| {
                        names.iter().map(|name| name.to_lowercase()).eq(source.primary_key.iter().map(|name| name.to_lowercase()))
                    })
                });
            let keys = (!key.is_empty() && !same_key).then(|| (table.created.unwrap_or(step.place), key));
            let instead = format!("decide in the SELECT which rows of `{origin}` stay");
            let of = |(place, columns): (Place, Vec<IndexPart>)| {
                let what = format!("UNIQUE in `{}`", table.name);
                let found = duplicates(ask, table, &columns, None, place, &what, instead.clone())?;
                Some(Found { also: vec![step.place], ..found.about(origin, only_column(&columns)) })
            };
            table.uniques.iter().cloned().chain(keys).filter_map(of).collect()
        }
        _ => Vec::new(),
    }
}

fn bare(value: &Expression) -> Option<&str> {
    value.column.as_deref().filter(|_| value.cast.is_none())
}

fn part(name: &str) -> IndexPart {
    let expression = Expression { sql: quoted(name), column: Some(name.to_owned()), ..Expression::default() };
    IndexPart { expression, collation: None }
}

fn only_column(columns: &[IndexPart]) -> Option<&str> {
    match columns {
        [only] => only.expression.column.as_deref(),
        _ => None,
    }
}

fn duplicates(
    ask: &mut Ask<'_>,
    table: &Table,
    columns: &[IndexPart],
    condition: Option<&Expression>,
    place: Place,
    what: &str,
    instead: String,
) -> Option<Found> {
    let mut texts: Vec<&str> = columns.iter().map(|part| part.expression.sql.as_str()).collect();
    texts.extend(condition.map(|condition| condition.sql.as_str()));
    let query = table.query_for(&texts.join(" "))?;
    let value = |part: &IndexPart| {
        let own = part.expression.column.as_ref().and_then(|column| table.column(column)?.collation.clone());
        match part.collation.clone().or(own) {
            Some(collation) => format!("({}) COLLATE {}", part.expression.sql, quoted(&collation)),
            None => format!("({})", part.expression.sql),
        }
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    let mut conditions: Vec<String> = values.iter().map(|value| format!("{value} IS NOT NULL")).collect();
    conditions.extend(condition.map(|condition| format!("({})", condition.sql)));
    let groups = format!(
        "SELECT {}, count(*) AS \"dbelay rows\" FROM ({query}) AS {} WHERE {} GROUP BY {} HAVING count(*) > 1",
        values.iter().enumerate().map(|(at, value)| format!("{value} AS \"dbelay {at}\"")).collect::<Vec<_>>().join(", "),
        quoted(&table.name),
        conditions.join(" AND "),
        (1..=values.len()).map(|at| at.to_string()).collect::<Vec<_>>().join(", "),
    );
    let totals = ask.rows(&format!("SELECT count(*), sum(\"dbelay rows\") FROM ({groups})"), 1)?;
    let [Value::Integer(count), Value::Integer(rows)] = totals.first()?.as_slice() else { return None };
    let (count, rows) = (u64::try_from(*count).ok()?, u64::try_from(*rows).ok()?);
    let name = |part: &IndexPart| part.expression.column.clone().unwrap_or_else(|| part.expression.sql.clone());
    let names: Vec<String> = columns.iter().map(name).collect();
    let line = |row: Vec<Value>| {
        let (values, times) = row.split_at(row.len().saturating_sub(1));
        let cells: Vec<String> = names.iter().zip(values).map(|(name, value)| format!("{name}={}", shown(value))).collect();
        format!("{} ({} times)", cells.join(", "), times.first().map(shown).unwrap_or_default())
    };
    let examples = ask.rows(&groups, EXAMPLES_MAX).unwrap_or_default().into_iter().map(line).collect();
    let message = format!(
        "`{}` would be {what}, and {} of `{}` share {} with another",
        names.join("`, `"),
        counted(rows, "row"),
        table.name,
        if count == 1 { "one value".to_owned() } else { counted(count, "value") }
    );
    Some(Found::new(place, message, instead).rows(rows, examples))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{catches, quiet};

    const RULE: &str = "unique-over-duplicates";
    const LIVE: &str = "CREATE TABLE users(id INTEGER PRIMARY KEY, email TEXT, org INTEGER, gone INTEGER DEFAULT 0);
        INSERT INTO users VALUES(1,'a',1,0),(2,'a',1,1),(3,NULL,1,0),(4,NULL,1,0),(5,'A',2,0),(6,'b',2,0);";

    #[test]
    fn indexes_meet_duplicates() {
        catches(RULE, LIVE, "CREATE UNIQUE INDEX `u` ON `users` (`email`);", &["2 rows", "email='a' (2 times)"]);
        catches(RULE, LIVE, "CREATE UNIQUE INDEX IF NOT EXISTS main.u ON users(email, org)", &["2 rows"]);
        catches(RULE, LIVE, "CREATE UNIQUE INDEX u ON users(email COLLATE NOCASE)", &["3 rows"]);
        catches(RULE, LIVE, "CREATE UNIQUE INDEX u ON users(lower(email)) WHERE gone = 0 OR id = 2", &["3 rows"]);
    }

    #[test]
    fn rebuilds_meet_duplicates() {
        catches(
            RULE,
            LIVE,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, email TEXT UNIQUE, org, gone); INSERT INTO n SELECT * FROM users;",
            &["2 rows"],
        );
        catches(
            RULE,
            LIVE,
            "CREATE TABLE n(id INTEGER, email TEXT PRIMARY KEY, org, gone); INSERT INTO n SELECT * FROM users;",
            &["`email`"],
        );
        catches(
            RULE,
            LIVE,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, email TEXT COLLATE NOCASE, org, gone, CONSTRAINT e UNIQUE(email)); INSERT INTO n(id,email,org,gone) SELECT id,email,org,gone FROM users;",
            &["3 rows"],
        );
    }

    #[test]
    fn values_that_differ_are_no_finding() {
        quiet(LIVE, "CREATE UNIQUE INDEX u ON users(email) WHERE gone = 0");
        quiet(LIVE, "CREATE UNIQUE INDEX u ON users(id, email); CREATE INDEX i ON users(org)");
        quiet(LIVE, "DELETE FROM users WHERE id NOT IN (SELECT min(id) FROM users GROUP BY email); CREATE UNIQUE INDEX u ON users(email)");
        quiet(LIVE, "UPDATE users SET email = email || id; CREATE UNIQUE INDEX u ON users(email)");
        quiet(LIVE, "UPDATE users SET email = random(); CREATE UNIQUE INDEX u ON users(email)");
        quiet(
            LIVE,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, email TEXT UNIQUE); INSERT INTO n SELECT min(id), email FROM users GROUP BY email;",
        );
        quiet(LIVE, "CREATE TABLE n(id INTEGER PRIMARY KEY, email TEXT UNIQUE); INSERT OR IGNORE INTO n SELECT id, email FROM users;");
        quiet(
            LIVE,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, email TEXT UNIQUE); INSERT INTO n SELECT id, email FROM users WHERE 1 ON CONFLICT DO NOTHING;",
        );
    }
}
