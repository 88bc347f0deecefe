//! Whether a state could be restored: everything that it refers to is read and decoded, and nothing is written.

use serde::Serialize;

use super::capture::State;
use super::plan::plan;
use super::{OpError, export, part, rollback, with_causes};
use crate::engine::Engine;
use crate::progress::{Progress, Unit};
use crate::store::Store;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Validation {
    /// How many rows could be read.
    pub rows: u64,
    /// About how many bytes they take.
    pub bytes: u64,
    /// What would keep a restore from being whole.
    pub problems: Vec<String>,
}

/// Reads every object of a state, checks its id, and decodes every cell; and asks an engine, of which no database is looked at, what it lacks.
///
/// # Errors
/// Only what keeps the check itself from going on.
pub fn validate(state: &State, store: &Store, engine: Option<&mut dyn Engine>, progress: &dyn Progress) -> Result<Validation, OpError> {
    let mut found = Validation { bytes: state.tables.iter().map(|(_, manifest)| manifest.bytes).sum(), ..Validation::default() };
    progress.begin("reading the snapshot", Some(state.tables.len() as u64), Unit::Objects);
    for (_, manifest) in &state.tables {
        let mut rows = 0;
        let read = export::each_row(manifest, store, &mut |_, _| {
            rows += 1;
            Ok(())
        });
        found.rows += rows;
        match read {
            Err(error) => found.problems.push(format!("table `{}`: {}", manifest.name, with_causes(&error))),
            Ok(()) if rows != manifest.rows => {
                found.problems.push(format!("table `{}` has {rows} rows, and {} are named", manifest.name, manifest.rows));
            }
            Ok(()) => {}
        }
        progress.advance(1);
    }
    progress.finish();
    if let Some(engine) = engine {
        let plan = plan(&part::nothing(state), state);
        found.problems.extend(rollback::obstacles(engine, &plan, state)?.iter().map(ToString::to_string));
    }
    Ok(found)
}
