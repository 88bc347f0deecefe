//! Rows and patches as SQL, in the words of the engine that they come from.

use std::io::Write;

use dbelay::engine::sqlite::script::{Script, literal};
use dbelay::engine::sqlite::text::Encoding;
use dbelay::ops::capture::State;
use dbelay::ops::plan::Plan;
use dbelay::ops::rollback;
use dbelay::rows::TableShape;
use dbelay::store::Store;
use dbelay::value::Value;

use super::CliError;

/// What writes the SQL of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqlWriter {
    /// SQLite's.
    Sqlite,
}

/// Finds what writes the SQL of an engine.
///
/// # Errors
/// Where nothing does.
pub fn sql_writer(engine: &str) -> Result<SqlWriter, CliError> {
    match engine {
        "sqlite" => Ok(SqlWriter::Sqlite),
        other => Err(CliError::usage(format_args!("SQL is written for snapshots of SQLite, and this is one of {other}"))
            .hint("choose another form, for example `--format json`")),
    }
}

impl SqlWriter {
    /// Returns the statement that inserts a row.
    pub fn insert(self, shape: &TableShape, row: &[Value]) -> String {
        let Self::Sqlite = self;
        let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let names: Vec<String> = shape.columns.iter().map(|column| quote(&column.name)).collect();
        let literals: Vec<String> = row.iter().map(literal).collect();
        format!("INSERT INTO {}({}) VALUES({});", quote(&shape.name), names.join(","), literals.join(","))
    }

    /// Writes the script that carries out a plan.
    ///
    /// # Errors
    /// The writer's and the store's.
    pub fn patch(self, out: &mut dyn Write, plan: &Plan, from: &State, to: &State, store: &Store) -> Result<(), CliError> {
        let Self::Sqlite = self;
        let encoding = from.settings.get("encoding").map_or(Encoding::Utf8, |setting| Encoding::named(&setting.value));
        let mut script = Script::begin(out, &from.schema, encoding)?;
        rollback::apply_blind(&mut script, plan, from, to, store)?;
        Ok(script.finish()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_is_written_for_engines_whose_sql_is_known() {
        assert_eq!(sql_writer("sqlite").expect("it is known"), SqlWriter::Sqlite);
        let error = sql_writer("postgres").expect_err("it is not").error.to_string();
        assert!(error.contains("postgres"), "{error}");
    }
}
