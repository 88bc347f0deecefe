//! DROP TABLE of a table that has rows, which nothing takes over.

use std::collections::BTreeSet;

use super::lex::quoted;
use super::lost::{self, LostTable};
use super::model::{Column, Model, Rows, Table};
use super::{Ask, Event, Found, Severity, counted};
use crate::schema::{ObjectKind, Schema, TableKind};

/// What `dbelay check --explain drop-table-with-data` prints.
pub const PAGE: &str = "\
A table is dropped with rows in it, and nothing takes them over.

A table whose rows are copied elsewhere first (a rebuild, a split) is not meant, nor one that the migration empties by DELETE before. A copy
with a condition takes over what fulfils it and no more, and one into a TEMP table nothing: that goes with the connection. What `dbelay migrate`
would call a loss afterwards is said here before.

Example:
  DROP TABLE audit_log;      -- with 12,000 rows

Instead: if the rows are needed, copy them first; if not, say so.
  dbelay migrate --allow audit_log -- YOUR MIGRATION COMMAND

Silence: `-- dbelay: allow drop-table-with-data` above the statement, `--allow audit_log`, or in dbelay.toml under [check]
  ignore = [\"drop-table-with-data:audit_log\"]
";

/// Looks at what is gone when every script has run.
pub fn check(event: &Event<'_>, ask: &mut Ask<'_>) -> Vec<Found> {
    match event {
        Event::End { model, schema, ledgers } => {
            let is_ledger = |lost: &LostTable<'_>| ledgers.iter().any(|ledger| ledger.eq_ignore_ascii_case(lost.live));
            let lost = lost::tables(model, schema);
            lost.iter()
                .filter(|lost| !is_ledger(lost))
                .filter_map(
                    |lost| if lost.is_whole { whole(model, lost, ask) } else { parts(lost, ask).or_else(|| left(model, lost, ask)) },
                )
                .collect()
        }
        Event::Before(step) => match step.statement {
            super::Statement::DropTable { name } => virtual_table(step, name, ask).into_iter().collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn whole(model: &Model, lost: &LostTable<'_>, ask: &mut Ask<'_>) -> Option<Found> {
    let place = lost.table.dropped?;
    let (rows, is_exact) = match &lost.table.rows {
        Rows::Known(query) => (ask.count(query, "1")?, true),
        Rows::Empty => return None,
        Rows::Unknown => (ask.count(&format!("SELECT 1 FROM main.{}", quoted(lost.live)), "1")?, false),
    };
    if rows == 0 {
        return None;
    }
    let now = if is_exact { "" } else { " now" };
    let message = format!("`{}` is dropped; it has {}{now}, and nothing takes them over", lost.live, counted(rows, "row"));
    let mut found = Found::new(place, message, instead(lost.live)).about(lost.live, None).rows(rows, Vec::new());
    if !is_exact {
        found.severity = Severity::Warning;
    }
    let children = model.tables.iter().flat_map(|table| table.foreign_keys.iter().map(move |key| (table, key)));
    for (child, key) in children.filter(|(_, key)| key.parent.eq_ignore_ascii_case(&lost.table.name)) {
        if let "CASCADE" | "SET NULL" | "SET DEFAULT" = key.on_delete.as_str() {
            found.notes.push(format!(
                "with foreign keys on, `{}` goes along: `{}.{}` refers to it ON DELETE {}",
                child.name,
                child.name,
                key.columns.join(", "),
                key.on_delete
            ));
        }
    }
    Some(found)
}

/// Part of it went elsewhere, and no table has its name any more.
fn parts(lost: &LostTable<'_>, ask: &mut Ask<'_>) -> Option<Found> {
    if lost.successor.is_some() {
        return None;
    }
    let held: Vec<(&str, u64)> = lost.columns.iter().filter_map(|column| Some((*column, lost::held(ask, lost.table, column)?))).collect();
    let (first, _) = held.first()?;
    let rows = held.iter().map(|(_, count)| *count).max().unwrap_or_default();
    let names: Vec<String> = held.iter().map(|(name, count)| format!("`{name}` ({})", lost::values(*count))).collect();
    let message = format!("`{}` is dropped, and nothing takes over its {}", lost.live, names.join(", "));
    let examples = lost::examples(ask, lost.table, first);
    Some(Found::new(lost.table.dropped?, message, instead(lost.live)).about(lost.live, None).rows(rows, examples))
}

/// All of its columns went elsewhere, and not all of its rows.
fn left(model: &Model, lost: &LostTable<'_>, ask: &mut Ask<'_>) -> Option<Found> {
    const COLUMNS_MAX: usize = 100;
    if lost.successor.is_some() || !lost.columns.is_empty() {
        return None;
    }
    let carries = |table: &&Table| table.columns.iter().any(|column| column.sources.iter().any(|(live, _)| live == lost.live));
    let carriers: BTreeSet<usize> =
        model.tables.iter().filter(|table| !table.is_temporary).filter(carries).map(|table| table.number).collect();
    let (mut query, mut conditions) = (lost.table.query()?, Vec::new());
    for take in model.takes.iter().filter(|take| take.lives.contains(lost.live) && carriers.contains(&take.to)) {
        let taken = take.rows.as_ref().filter(|taken| taken.from == lost.table.number)?;
        // A copy without a condition takes them all.
        let condition = taken.condition.as_ref()?;
        lost.table.query_for(&condition.sql)?;
        query = format!("SELECT * FROM ({query}) AS {} WHERE ({}) IS NOT TRUE", quoted(&taken.alias), condition.sql);
        conditions.push(format!("a copy takes those with `{}` only", condition.sql));
    }
    if conditions.is_empty() {
        return None;
    }
    // A row of which only the key is left says nothing: a table may be split into one for each of its columns.
    let is_key = |column: &&Column| lost.table.primary_key.iter().any(|key| key.eq_ignore_ascii_case(&column.name));
    let own = || lost.table.columns.iter().filter(|column| column.is_known);
    let values: Vec<String> =
        own().filter(|column| !is_key(column)).take(COLUMNS_MAX).map(|column| format!("nullif({}, '')", quoted(&column.name))).collect();
    let says_something =
        if own().all(|column| is_key(&column)) { "1".to_owned() } else { format!("coalesce({}, NULL) IS NOT NULL", values.join(", ")) };
    let rows = ask.count(&query, &says_something).filter(|rows| *rows > 0)?;
    let message = format!("`{}` is dropped, and no copy takes over {} of it", lost.live, counted(rows, "row"));
    let examples = ask.examples(&query, &says_something, &lost.table.identity());
    let found = Found::new(lost.table.dropped?, message, instead(lost.live)).about(lost.live, None).rows(rows, examples);
    Some(Found { notes: conditions, ..found })
}

/// A virtual table shows its rows itself; one that only indexes another table's has none of its own.
fn virtual_table(step: &super::Step<'_>, name: &str, ask: &mut Ask<'_>) -> Option<Found> {
    let schema: &Schema = ask.data.schema();
    let table = schema.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name))?;
    let TableKind::Virtual { .. } = table.kind else { return None };
    let sql = schema.object(ObjectKind::Table, &table.name).and_then(|object| object.sql.clone()).unwrap_or_default().to_ascii_lowercase();
    if sql.split("content").skip(1).any(|rest| rest.trim_start().starts_with('=')) {
        return None;
    }
    let name = table.name.clone();
    let rows = ask.count(&format!("SELECT 1 FROM main.{}", quoted(&name)), "1").filter(|rows| *rows > 0)?;
    let message = format!("the virtual table `{name}` is dropped; it has {}", counted(rows, "row"));
    Some(Found {
        severity: Severity::Warning,
        ..Found::new(step.subject, message, instead(&name)).about(&name, None).rows(rows, Vec::new())
    })
}

fn instead(table: &str) -> String {
    format!("copy the rows first if they are needed; if not, `dbelay migrate --allow {table}` says so")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{catches, findings, quiet};

    const RULE: &str = "drop-table-with-data";
    const LIVE: &str = "CREATE TABLE a(id INTEGER PRIMARY KEY, x TEXT); CREATE TABLE b(id INTEGER PRIMARY KEY, a_id INTEGER REFERENCES a(id) ON DELETE CASCADE);
        CREATE TABLE empty(id); INSERT INTO a VALUES(1,'x'),(2,'y'); INSERT INTO b VALUES(1,1);";

    #[test]
    fn tables_with_rows_are_found() {
        catches(RULE, LIVE, "DROP TABLE `a`;", &["2 rows", "--allow a", "`b.a_id` refers to it ON DELETE CASCADE"]);
        catches(RULE, LIVE, "DROP TABLE IF EXISTS main.[b]", &["1 row"]);
        catches(
            RULE,
            LIVE,
            "ALTER TABLE a RENAME TO old; CREATE TABLE a(id INTEGER PRIMARY KEY, x TEXT); DROP TABLE old;",
            &["`a` is dropped", "2 rows"],
        );
        let split = "DELETE FROM b; CREATE TABLE names(x TEXT); INSERT INTO names SELECT x FROM a; DROP TABLE a";
        catches(RULE, LIVE, split, &["nothing takes over its `id` (2 values)"]);
        let live = "CREATE VIRTUAL TABLE f USING fts5(a); INSERT INTO f VALUES('x');";
        catches(RULE, live, "DROP TABLE f", &["virtual"]);
    }

    #[test]
    fn rows_that_go_elsewhere_or_were_deleted_are_no_finding() {
        quiet(LIVE, "DROP TABLE empty; DROP TABLE IF EXISTS other;");
        quiet(LIVE, "DELETE FROM b; DROP TABLE b");
        quiet(LIVE, "CREATE TABLE c AS SELECT * FROM b; DROP TABLE b;");
        quiet(
            LIVE,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, a_id INTEGER); INSERT INTO n SELECT * FROM b; DROP TABLE b; ALTER TABLE n RENAME TO b;",
        );
        quiet(LIVE, "CREATE TABLE t(x); INSERT INTO t VALUES(1); DROP TABLE t;");
        let live = "CREATE TABLE t(a); INSERT INTO t VALUES('x'); CREATE VIRTUAL TABLE f USING fts5(a, content='t'); INSERT INTO f(rowid,a) VALUES(1,'x');";
        quiet(live, "DROP TABLE f");
    }

    #[test]
    fn a_copy_of_some_rows_or_for_a_while_is_not_the_whole() {
        let check = |script: &str, parts: &[&str]| catches(RULE, LIVE, &format!("DELETE FROM b; {script}"), parts);
        check("CREATE TABLE c AS SELECT * FROM a WHERE x = 'x'; DROP TABLE a;", &["no copy takes over 1 row", "x = 'x'", "id=2"]);
        check("CREATE TABLE c(id, x); INSERT INTO c SELECT * FROM a AS o WHERE 1=0 AND o.id > 0; DROP TABLE a;", &["2 rows"]);
        check("CREATE TEMP TABLE c AS SELECT * FROM a; DROP TABLE a;", &["2 rows, and nothing takes them over"]);
        check("CREATE TEMP TABLE c AS SELECT * FROM a; DROP TABLE a; CREATE TABLE d AS SELECT id FROM c;", &["its `x` (2 values)"]);
        check("CREATE TABLE c AS SELECT * FROM a WHERE id = 1; DELETE FROM a WHERE id = 1; DROP TABLE a;", &["1 row of it", "id=2"]);
    }

    #[test]
    fn copies_that_take_all_rows_together_are_no_finding() {
        let check = |script: &str| quiet(LIVE, &format!("DELETE FROM b; {script}"));
        check("CREATE TABLE c AS SELECT * FROM a WHERE x = 'x'; CREATE TABLE d AS SELECT * FROM a WHERE x IS NOT 'x'; DROP TABLE a;");
        check("CREATE TABLE c AS SELECT * FROM a WHERE id = 1; INSERT INTO c SELECT * FROM a WHERE id > 1; DROP TABLE a;");
        check("DELETE FROM a WHERE id = 2; CREATE TABLE c AS SELECT * FROM a WHERE id = 1; DROP TABLE a;");
        check("CREATE TABLE c AS SELECT * FROM a WHERE id < 2; DELETE FROM a WHERE id >= 2; DROP TABLE a;");
        check("UPDATE a SET x = NULL WHERE id = 2; CREATE TABLE c AS SELECT * FROM a WHERE x IS NOT NULL; DROP TABLE a;");
        check("CREATE TABLE c AS SELECT * FROM a WHERE id > 0; DROP TABLE a;");
        check(
            "CREATE TEMP TABLE c AS SELECT * FROM a; DROP TABLE a; CREATE TABLE a(id INTEGER PRIMARY KEY, x TEXT); INSERT INTO a SELECT * FROM c;",
        );
        // What cannot be counted is not said.
        check("CREATE TABLE c AS SELECT * FROM a WHERE id IN (SELECT min(id) FROM a GROUP BY x); DROP TABLE a;");
        check("CREATE TABLE c AS SELECT * FROM a WHERE x = 'x'; UPDATE a SET x = 'x'; DROP TABLE a;");
        check("CREATE TABLE c AS SELECT * FROM a WHERE id = 1; UPDATE c SET x = (SELECT group_concat(x) FROM a); DROP TABLE a;");
        check(
            "CREATE TABLE c AS SELECT * FROM a WHERE id = 1; DROP TABLE a; CREATE TABLE a(id INTEGER PRIMARY KEY, x TEXT); INSERT INTO a SELECT * FROM c;",
        );
    }

    #[test]
    fn the_place_is_the_name() {
        let found = findings(LIVE, "SELECT 1;\n\n  DROP TABLE IF EXISTS \"b\";");
        let finding = found.first().expect("a finding");
        assert_eq!((finding.line, finding.column, finding.width, finding.source.as_str()), (3, 24, 3, "  DROP TABLE IF EXISTS \"b\";"));
    }
}
