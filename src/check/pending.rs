//! Which scripts are pending: by what the migration tool's ledger holds, or, without one, by what the schema has already.
//!
//! ## With a ledger
//! A script is applied if and only if a ledger holds one of its names: the file's name, with or without its ending; its folder's name, where the
//! file is called the same in each (`migration.sql`, `up.sql`); the digits that its name begins with (`V` before them or not); or the SHA-256 of its
//! bytes in hexadecimal (drizzle). golang-migrate's `schema_migrations` has one row, the last version: every script up to it is applied. A row that
//! says of itself that it was rolled back or never finished does not count. A ledger that has rows, none of them for any script, belongs to
//! other scripts, and says nothing.
//!
//! ## Without one
//! In a database without tables every script is pending. Else it *cannot be told*: the last script that creates something, and all of whose
//! creations are there, counts as applied, and so does everything before it.

use super::script::Script;
use super::statement::Statement;
use crate::id::ObjectId;
use crate::schema::Schema;

/// A migration tool's table of what it applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Its name.
    pub table: String,
    /// The values in it that may name scripts.
    pub values: Vec<String>,
    /// Whether it holds the last version only.
    pub is_last_only: bool,
}

/// The columns of ledgers that name scripts.
pub const NAMING_COLUMNS: [&str; 9] =
    ["migration_name", "version_num", "name", "version", "script", "filename", "hash", "migration", "version_id"];

/// Which scripts are pending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// For each script, whether it is.
    pub scripts: Vec<bool>,
    /// Whether no ledger tells, so that it was guessed from the schema.
    pub is_guessed: bool,
}

/// Decides.
pub fn pending(scripts: &[(Script, ObjectId)], ledgers: &[Ledger], schema: &Schema) -> Pending {
    let is_named = |(script, hash): &(Script, ObjectId), ledger: &Ledger| {
        let names = names(&script.path, hash);
        if ledger.is_last_only {
            let last = ledger.values.iter().filter_map(|value| value.parse::<u128>().ok()).max();
            return names.version.zip(last).is_some_and(|(version, last)| version <= last);
        }
        ledger.values.iter().any(|value| {
            names.texts.iter().any(|name| name == value) || names.version.is_some() && value.parse::<u128>().ok() == names.version
        })
    };
    let applied: Vec<bool> = scripts.iter().map(|script| ledgers.iter().any(|ledger| is_named(script, ledger))).collect();
    let is_about_others = ledgers.iter().any(|ledger| !ledger.values.is_empty()) && !applied.contains(&true);
    if !ledgers.is_empty() && !is_about_others {
        return Pending { scripts: applied.into_iter().map(|is_applied| !is_applied).collect(), is_guessed: false };
    }
    let is_ledger = |name: &str| ledgers.iter().any(|ledger| ledger.table.eq_ignore_ascii_case(name));
    let has_tables = schema.tables.iter().any(|table| !is_ledger(&table.name) && !table.name.starts_with("sqlite_"));
    if !has_tables {
        return Pending { scripts: vec![true; scripts.len()], is_guessed: false };
    }
    let first = scripts.iter().rposition(|(script, _)| is_there(script, schema)).map_or(0, |at| at + 1);
    Pending { scripts: (0..scripts.len()).map(|at| at >= first).collect(), is_guessed: true }
}

struct Names {
    texts: Vec<String>,
    version: Option<u128>,
}

fn names(path: &str, hash: &ObjectId) -> Names {
    let path = path.replace('\\', "/");
    let mut parts = path.rsplit('/');
    let file = parts.next().unwrap_or_default();
    let stem = file.strip_suffix(".sql").unwrap_or(file);
    let stem = stem.strip_suffix(".up").unwrap_or(stem);
    let name = match stem {
        "migration" | "up" => parts.next().unwrap_or_default(),
        _ => stem,
    };
    let bare = name.strip_prefix(['V', 'v']).filter(|rest| rest.starts_with(|digit: char| digit.is_ascii_digit())).unwrap_or(name);
    let digits: String = bare.chars().take_while(|letter| letter.is_ascii_digit() || *letter == '-').filter(char::is_ascii_digit).collect();
    let texts = [file, stem, name].map(str::to_owned).into_iter().chain([hash.to_string()]);
    Names { texts: texts.filter(|text| !text.is_empty() && text != "migration" && text != "up").collect(), version: digits.parse().ok() }
}

/// Tells whether everything that a script creates is there; not of one that creates nothing.
fn is_there(script: &Script, schema: &Schema) -> bool {
    let has_object = |name: &str| schema.objects.iter().any(|object| object.name.eq_ignore_ascii_case(name));
    let statements: Vec<Statement> = script.statements(0).filter_map(|part| part.parsed.ok()).collect();
    let mut count = 0;
    for statement in &statements {
        let is_there = match statement {
            Statement::CreateTable { name, is_temporary: false, .. } | Statement::CreateTableAs { name, is_temporary: false, .. } => {
                // What the script renames or drops again need not be there under that name.
                let is_passing = statements.iter().any(|other| match other {
                    Statement::RenameTable { table, .. } | Statement::DropTable { name: table } => table.eq_ignore_ascii_case(name),
                    _ => false,
                });
                if is_passing {
                    continue;
                }
                has_object(name)
            }
            Statement::CreateIndex { name, .. } | Statement::CreateOther { name, .. } => has_object(name),
            Statement::AddColumn { table, column } => {
                let table = schema.tables.iter().find(|other| other.name.eq_ignore_ascii_case(table));
                table.is_some_and(|table| table.columns.iter().any(|other| other.name.eq_ignore_ascii_case(&column.name)))
            }
            Statement::RenameColumn { table, to, .. } => {
                let table = schema.tables.iter().find(|other| other.name.eq_ignore_ascii_case(table));
                table.is_some_and(|table| table.columns.iter().any(|other| other.name.eq_ignore_ascii_case(to)))
            }
            _ => continue,
        };
        if !is_there {
            return false;
        }
        count += 1;
    }
    count > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{ObjectKind, SchemaObject, Table, TableKind};

    #[track_caller]
    fn check(paths: &[&str], ledger: (&str, &[&str]), is_last_only: bool, expected: &[bool]) {
        let scripts: Vec<_> = paths.iter().map(|path| (Script::new(path, path.as_bytes()), ObjectId::of(path.as_bytes()))).collect();
        let values = ledger.1.iter().map(|value| (*value).to_owned()).collect();
        let ledger = Ledger { table: ledger.0.to_owned(), values, is_last_only };
        let found = pending(&scripts, &[ledger], &Schema::default());
        assert_eq!(found.scripts, expected, "{paths:?}");
        assert!(!found.is_guessed);
    }

    #[test]
    fn ledgers_name_scripts_in_the_ways_of_their_tools() {
        let prisma = ["prisma/migrations/2024_a/migration.sql", "prisma/migrations/2025_b/migration.sql"];
        check(&prisma, ("_prisma_migrations", &["2024_a"]), false, &[false, true]);
        check(
            &["db/migrations/20240101000000_users.sql", "db/migrations/20240102000000_x.sql"],
            ("schema_migrations", &["20240101000000"]),
            false,
            &[false, true],
        );
        check(&["m/000001_a.up.sql", "m/000002_b.up.sql", "m/000003_c.up.sql"], ("schema_migrations", &["2"]), true, &[false, false, true]);
        check(
            &["m/2024-01-02-030405_a/up.sql", "m/2024-02-02-030405_b/up.sql"],
            ("__diesel_schema_migrations", &["20240102030405"]),
            false,
            &[false, true],
        );
        check(&["V1__a.sql", "V2__b.sql"], ("flyway_schema_history", &["V1__a.sql"]), false, &[false, true]);
        let hash = ObjectId::of(b"drizzle/0000_a.sql").to_string();
        check(&["drizzle/0000_a.sql", "drizzle/0001_b.sql"], ("__drizzle_migrations", &[&hash]), false, &[false, true]);
        check(&["a.sql"], ("schema_migrations", &[]), false, &[true]);
    }

    #[test]
    fn without_a_ledger_the_schema_tells_what_can_still_be() {
        let table = Table {
            name: "users".to_owned(),
            kind: TableKind::Ordinary,
            columns: Vec::new(),
            primary_key: Vec::new(),
            foreign_keys: Vec::new(),
            without_rowid: false,
            strict: false,
        };
        let object = SchemaObject::new(ObjectKind::Table, "users", "users", None);
        let schema = Schema { objects: vec![object], tables: vec![table], indexes: Vec::new() };
        let scripts: Vec<_> = [
            "DROP TABLE x;",
            "CREATE TABLE n(a); ALTER TABLE n RENAME TO m; CREATE TABLE Users(id);",
            "UPDATE users SET id=1;",
            "CREATE TABLE b(c);",
        ]
        .iter()
        .map(|text| (Script::new("a.sql", text.as_bytes()), ObjectId::of(text.as_bytes())))
        .collect();
        let found = pending(&scripts, &[], &schema);
        assert_eq!((found.scripts, found.is_guessed), (vec![false, false, true, true], true));
        assert!(pending(&scripts, &[], &Schema::default()).scripts.iter().all(|pending| *pending));
        let others = Ledger { table: "django_migrations".to_owned(), values: vec!["0001_initial".to_owned()], is_last_only: false };
        assert!(pending(&scripts, &[others], &schema).is_guessed);
    }
}
