//! Rows and patches as SQL, in the words of the engine that they come from.

use std::io::Write;

#[cfg(feature = "postgres")]
use dbelay::engine::postgres::script as postgres;
use dbelay::engine::sqlite::script::{Script, literal};
use dbelay::engine::sqlite::text::Encoding;
use dbelay::ops::capture::State;
use dbelay::ops::plan::Plan;
use dbelay::ops::rollback;
use dbelay::rows::TableShape;
use dbelay::schema::Schema;
use dbelay::snapshot::manifest::SourceName;
use dbelay::store::Store;
use dbelay::value::Value;

use super::CliError;
#[cfg(feature = "postgres")]
use super::database::default_schema;

/// What writes the SQL of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlWriter {
    /// SQLite's.
    Sqlite,
    /// PostgreSQL's.
    #[cfg(feature = "postgres")]
    Postgres {
        /// The schema whose tables are named without it.
        default_schema: String,
        /// Whether owners and privileges are part of a patch.
        with_owners: bool,
    },
}

/// Finds what writes the SQL of the engine that a database is of, with owners and privileges or without.
///
/// # Errors
/// Where nothing does.
#[cfg_attr(not(feature = "postgres"), allow(unused_variables))]
pub fn sql_writer(source: &SourceName, with_owners: bool) -> Result<SqlWriter, CliError> {
    match source.engine.as_str() {
        "sqlite" => Ok(SqlWriter::Sqlite),
        #[cfg(feature = "postgres")]
        "postgres" => Ok(SqlWriter::Postgres { default_schema: default_schema(source).to_owned(), with_owners }),
        other => Err(CliError::usage(format_args!("SQL is not written for snapshots of {other}"))
            .hint("choose another form, for example `--format json`")),
    }
}

impl SqlWriter {
    /// Writes the name of a table as it stands in a statement.
    pub fn table(&self, name: &str) -> String {
        match self {
            Self::Sqlite => format!("\"{}\"", name.replace('"', "\"\"")),
            #[cfg(feature = "postgres")]
            Self::Postgres { default_schema, .. } => postgres::table(default_schema, name),
        }
    }

    /// Returns the statement that inserts a row into a table of this schema.
    pub fn insert(&self, schema: &Schema, shape: &TableShape, row: &[Value]) -> String {
        match self {
            Self::Sqlite => {
                let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
                let names: Vec<String> = shape.columns.iter().map(|column| quote(&column.name)).collect();
                let literals: Vec<String> = row.iter().map(literal).collect();
                format!("INSERT INTO {}({}) VALUES({});", quote(&shape.name), names.join(","), literals.join(","))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres { default_schema, .. } => format!("{};", postgres::insert(default_schema, schema, shape, row)),
        }
    }

    /// Writes the script that carries out a plan.
    ///
    /// # Errors
    /// The writer's and the store's.
    pub fn patch(&self, out: &mut dyn Write, plan: &Plan, from: &State, to: &State, store: &Store) -> Result<(), CliError> {
        match self {
            Self::Sqlite => {
                let encoding = from.settings.get("encoding").map_or(Encoding::Utf8, |setting| Encoding::named(&setting.value));
                let mut script = Script::begin(out, &from.schema, encoding)?;
                rollback::apply_blind(&mut script, plan, from, to, store)?;
                Ok(script.finish()?)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres { default_schema, with_owners } => {
                let [from_side, to_side] = [from, to].map(|state| postgres::Side { schema: &state.schema, settings: &state.settings });
                let mut script = postgres::Script::begin(out, default_schema, *with_owners, from_side, to_side)?;
                rollback::apply_blind(&mut script, plan, from, to, store)?;
                Ok(script.finish()?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_is_written_for_engines_whose_sql_is_known() {
        let source = |engine: &str, place: &str| SourceName { engine: engine.to_owned(), place: place.to_owned() };
        assert_eq!(sql_writer(&source("sqlite", "/srv/app.db"), true).expect("it is known"), SqlWriter::Sqlite);
        #[cfg(feature = "postgres")]
        for (place, schema) in [("postgres://localhost/shop", "public"), ("postgres://localhost/shop?schema=app", "app")] {
            let expected = SqlWriter::Postgres { default_schema: schema.to_owned(), with_owners: true };
            assert_eq!(sql_writer(&source("postgres", place), true).expect("it is known"), expected);
        }
        let error = sql_writer(&source("oracle", ""), true).expect_err("it is not").error.to_string();
        assert!(error.contains("oracle"), "{error}");
    }
}
