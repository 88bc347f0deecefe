//! DROP TABLE of a table that has rows, which nothing takes over.

use super::lex::quoted;
use super::lost::{self, LostTable};
use super::model::{Model, Rows};
use super::{Ask, Event, Found, Severity, counted};
use crate::schema::{ObjectKind, Schema, TableKind};

/// What `dbelay check --explain drop-table-with-data` prints.
pub const PAGE: &str = "\
A table is dropped with rows in it, and nothing takes them over.

A table whose rows are copied elsewhere first (a rebuild, a split) is not meant, nor one that the migration empties by DELETE before. What
`dbelay migrate` would call a loss afterwards is said here before.

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
                .filter_map(|lost| if lost.is_whole { whole(model, lost, ask) } else { parts(lost, ask) })
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
    fn the_place_is_the_name() {
        let found = findings(LIVE, "SELECT 1;\n\n  DROP TABLE IF EXISTS \"b\";");
        let finding = found.first().expect("a finding");
        assert_eq!((finding.line, finding.column, finding.width, finding.source.as_str()), (3, 24, 3, "  DROP TABLE IF EXISTS \"b\";"));
    }
}
