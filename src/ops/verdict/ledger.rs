//! Ledgers: the tables in which migration tools keep what they have applied.
//!
//! A ledger is known by its name, and where others may well have a table of that name, by its columns too: `migrations` is Laravel's and
//! TypeORM's, and any ornithologist's. What happens to a ledger is told, and is never loss.

use crate::rows::TableShape;
use crate::snapshot::changes::Cell;
use crate::value::Value;

/// How many new entries of a ledger are named.
const ENTRIES_MAX: usize = 3;

/// How long the name of an entry may be, in characters.
const ENTRY_CHARS_MAX: usize = 80;

/// A table of a migration tool: its name in lower case, and sets of columns, one of which it has. No set: the name says enough.
type Ledger = (&'static str, &'static [&'static [&'static str]]);

/// The tables of the known tools.
const LEDGERS: &[Ledger] = &[
    // Prisma, Alembic, Django and its forerunner South, sqlx, Drizzle, Diesel, refinery, SeaORM, Atlas.
    ("_prisma_migrations", &[]),
    ("alembic_version", &[]),
    ("django_migrations", &[]),
    ("south_migrationhistory", &[]),
    ("_sqlx_migrations", &[]),
    ("__drizzle_migrations", &[]),
    ("__diesel_schema_migrations", &[]),
    ("refinery_schema_history", &[]),
    ("seaql_migrations", &[]),
    ("atlas_schema_revisions", &[]),
    // Rails, dbmate, golang-migrate, Ecto; Rails; Sequel.
    ("schema_migrations", &[]),
    ("ar_internal_metadata", &[]),
    ("schema_info", &[&["version"]]),
    // Flyway, and before its version 5; tern.
    ("flyway_schema_history", &[]),
    ("schema_version", &[&["installed_rank"], &["version_rank"], &["version"]]),
    // Liquibase.
    ("databasechangelog", &[]),
    ("databasechangeloglock", &[]),
    // Knex, Sequelize and umzug, Kysely, MikroORM, node-pg-migrate, Cloudflare D1, Payload, Directus, Strapi.
    ("knex_migrations", &[]),
    ("knex_migrations_lock", &[]),
    ("sequelizemeta", &[]),
    ("kysely_migration", &[]),
    ("kysely_migration_lock", &[]),
    ("mikro_orm_migrations", &[]),
    ("pgmigrations", &[]),
    ("d1_migrations", &[]),
    ("payload_migrations", &[]),
    ("directus_migrations", &[]),
    ("strapi_migrations", &[]),
    // TypeORM's other table.
    ("typeorm_metadata", &[]),
    // Laravel; TypeORM; db-migrate; CodeIgniter; knex-migrator; what people write by themselves.
    (
        "migrations",
        &[
            &["migration", "batch"],
            &["timestamp", "name"],
            &["name", "run_on"],
            &["version", "class"],
            &["version", "currentversion"],
            &["version", "applied_at"],
            &["version", "executed_at"],
            &["name", "applied_at"],
            &["name", "executed_at"],
        ],
    ),
    ("migrations_lock", &[&["locked"], &["is_locked"], &["lock_key"]]),
    // Yii; Piccolo.
    ("migration", &[&["version", "apply_time"], &["name", "app_name", "ran_on"]]),
    // goose, sql-migrate, bun.
    ("goose_db_version", &[]),
    ("gorp_migrations", &[]),
    ("bun_migrations", &[]),
    ("bun_migration_locks", &[]),
    // Doctrine, and before its version 3; Phinx.
    ("doctrine_migration_versions", &[]),
    ("migration_versions", &[&["version"]]),
    ("phinxlog", &[]),
    // Entity Framework Core and 6, FluentMigrator, DbUp.
    ("__efmigrationshistory", &[]),
    ("__efmigrationslock", &[]),
    ("__migrationhistory", &[]),
    ("versioninfo", &[&["version", "appliedon"]]),
    ("schemaversions", &[&["scriptname"]]),
    // yoyo, aerich, peewee-migrate.
    ("_yoyo_migration", &[]),
    ("_yoyo_log", &[]),
    ("_yoyo_version", &[]),
    ("yoyo_lock", &[]),
    ("aerich", &[&["version", "app"]]),
    ("migratehistory", &[&["migrated_at"]]),
    // Play.
    ("play_evolutions", &[]),
];

/// Which columns say which migration an entry is for, the best first.
const TELLING: [&str; 13] = [
    "migration_name",
    "migration_id",
    "migrationid",
    "migration",
    "name",
    "script",
    "scriptname",
    "filename",
    "description",
    "version",
    "version_num",
    "version_id",
    "id",
];

/// Tells whether a table is a migration tool's ledger; its name may have a schema before it.
pub fn is_ledger(shape: &TableShape) -> bool {
    is_ledger_of(&shape.name, &|name| column(shape, name).is_some())
}

/// As [`is_ledger`], of a table of this name whose columns `has` knows.
pub fn is_ledger_of(table: &str, has: &dyn Fn(&str) -> bool) -> bool {
    find(table).is_some_and(|(_, sets)| sets.is_empty() || sets.iter().any(|set| set.iter().all(|name| has(name))))
}

fn find(table: &str) -> Option<&'static Ledger> {
    let name = table.rsplit('.').next().unwrap_or(table);
    LEDGERS.iter().find(|(ledger, _)| ledger.eq_ignore_ascii_case(name))
}

fn column(shape: &TableShape, name: &str) -> Option<usize> {
    shape.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
}

/// The names of a ledger's new entries.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) names: Vec<String>,
}

impl Entries {
    /// Takes a new row, by the shape after.
    pub(super) fn see(&mut self, shape: &TableShape, row: &[Cell]) {
        if self.names.len() < ENTRIES_MAX
            && let Some(name) = name(shape, row)
        {
            self.names.push(name);
        }
    }
}

/// Returns what a ledger's row calls its migration.
fn name(shape: &TableShape, row: &[Cell]) -> Option<String> {
    let text = |name: &str| match Value::decode(row.get(column(shape, name)?)?.as_bytes()).ok()? {
        Value::Text(bytes) if !bytes.is_empty() => {
            let text = String::from_utf8(bytes).ok()?;
            let is_hash = text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            (!is_hash).then(|| text.chars().take(ENTRY_CHARS_MAX).collect::<String>())
        }
        // A bare count says nothing; a version that is a time does.
        Value::Integer(number) if number > 9999 || !name.ends_with("id") => Some(number.to_string()),
        _ => None,
    };
    let name = TELLING.iter().find_map(|name| text(name))?;
    // Django's names are unique only within an application.
    Some(match text("app") {
        Some(app) => format!("{app}.{name}"),
        None => name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ColumnShape;

    fn shape(name: &str, columns: &[&str]) -> TableShape {
        let column = |name: &&str| ColumnShape {
            name: (*name).to_owned(),
            declared_type: String::new(),
            default: "null".to_owned(),
            hidden: false,
            generated: false,
        };
        TableShape { name: name.to_owned(), columns: columns.iter().map(column).collect(), identity: Vec::new(), locator: Vec::new() }
    }

    fn is_ledger_with(name: &str, columns: &[&str]) -> bool {
        is_ledger(&shape(name, columns))
    }

    #[test]
    fn ledgers_are_known_by_name() {
        for name in ["_prisma_migrations", "public.SchemA_Migrations", "__EFMigrationsHistory", "phinxlog", "kysely_migration_lock"] {
            assert!(is_ledger_with(name, &["a"]), "{name}");
        }
        assert!(!is_ledger_with("users", &["version"]));
    }

    #[test]
    fn names_that_others_have_too_need_the_columns_of_the_tool() {
        for (name, columns, expected) in [
            ("migrations", &["id", "migration", "batch"][..], true),
            ("migrations", &["id", "timestamp", "name"], true),
            ("migrations", &["id", "species"], false),
            ("migration", &["version", "apply_time"], true),
            ("migration", &["id", "species"], false),
            ("schema_version", &["installed_rank", "version"], true),
            ("aerich", &["id", "version", "app", "content"], true),
            ("aerich", &["id"], false),
        ] {
            assert_eq!(is_ledger_with(name, columns), expected, "{name}{columns:?}");
        }
    }

    #[test]
    fn entries_are_named_by_the_column_that_tells() {
        for (columns, cells, expected) in [
            (&["id", "app", "name"][..], &["1", "\"shop\"", "\"0002_more\""][..], Some("shop.0002_more")),
            (&["version", "dirty"], &["20240102030405", "0"], Some("20240102030405")),
            (&["id", "hash"], &["1", "\"5d41402abc4b2a76b9719d911017c592\""], None),
            (&["version", "description"], &["3", "\"add users\""], Some("add users")),
        ] {
            let row: Vec<Cell> = cells.iter().map(|cell| (*cell).into()).collect();
            assert_eq!(name(&shape("t", columns), &row).as_deref(), expected, "{columns:?}");
        }
    }
}
