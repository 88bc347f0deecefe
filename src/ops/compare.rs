//! Comparing two states: pairing, schema difference, and rows on demand.

use std::ops::ControlFlow;

use super::capture::{self, References, Rules, State};
use super::{OpError, Session, seen};
use crate::engine::EngineError;
use crate::schema::TableKind;
use crate::schema::diff::{Renames, SchemaDiff};
use crate::snapshot::changes::{Cell, Cells, RowChange, RowCounts, TableFate, TablePair};
use crate::snapshot::compare::{Side, pair_tables};
use crate::snapshot::manifest::keeps_generated;
use crate::snapshot::rowdiff;
use crate::store::{BatchMode, Store};
use crate::value::Value;

/// Two states side by side.
pub struct Comparison<'a> {
    /// The state before.
    pub before: &'a State,
    /// The state after.
    pub after: &'a State,
    /// Their tables, paired.
    pub pairs: Vec<TablePair>,
    /// What differs in the schema.
    pub schema: SchemaDiff,
    store: &'a Store,
}

impl<'a> Comparison<'a> {
    /// Pairs the tables of two states whose objects are in the store.
    ///
    /// # Errors
    /// [`OpError::Compare`] where an object is missing or malformed.
    pub fn new(store: &'a Store, before: &'a State, after: &'a State) -> Result<Self, OpError> {
        let side = |state: &State| Side {
            schema: state.schema.clone(),
            manifests: state.tables.iter().map(|(_, manifest)| manifest.clone()).collect(),
        };
        let mut pairs = pair_tables(&side(before), &side(after), store)?;
        if keeps_generated(before.format) != keeps_generated(after.format) {
            pairs.iter_mut().for_each(|pair| forget_unkept(pair, before, after));
        }
        let mut schema = crate::schema::diff::diff(&before.schema, &after.schema, &renames(&pairs));
        schema.settings = crate::schema::diff::settings(&before.settings, &after.settings);
        Ok(Self { before, after, pairs, schema, store })
    }

    /// Tells whether a pair's tables have the same id, so that no row can differ.
    pub fn is_equal(&self, pair: &TablePair) -> bool {
        let id = |state: &State, shape: &Option<crate::rows::TableShape>| {
            shape.as_ref().and_then(|shape| state.table(&shape.name)).map(|(id, _)| *id)
        };
        let before = id(self.before, &pair.before);
        before.is_some() && before == id(self.after, &pair.after)
    }

    /// Tells whether a pair is of the engine's own tables, or of those that hold a virtual table's rows.
    pub fn is_machinery(&self, pair: &TablePair) -> bool {
        let kind = |state: &State, shape: &Option<crate::rows::TableShape>| {
            shape.as_ref().and_then(|shape| state.schema.table(&shape.name)).map(|table| table.kind.clone())
        };
        let is_machinery = |kind: TableKind| matches!(kind, TableKind::Internal | TableKind::Shadow { .. });
        kind(self.after, &pair.after).or_else(|| kind(self.before, &pair.before)).is_some_and(is_machinery)
    }

    /// Compares the rows of a pair.
    ///
    /// # Errors
    /// [`OpError::Compare`] where an object is missing or malformed.
    pub fn rows(&self, pair: &TablePair, cells: Cells, sink: &mut dyn FnMut(RowChange) -> ControlFlow<()>) -> Result<RowCounts, OpError> {
        if self.is_equal(pair) {
            return Ok(RowCounts { cells: vec![0; pair.columns.len()], ..RowCounts::default() });
        }
        let manifest = |state: &'a State, shape: &Option<crate::rows::TableShape>| {
            shape.as_ref().and_then(|shape| state.table(&shape.name)).map(|(_, manifest)| manifest)
        };
        let (before, after) = (manifest(self.before, &pair.before), manifest(self.after, &pair.after));
        Ok(rowdiff::diff_rows(pair, before, after, self.store, cells, sink)?)
    }

    /// Returns at most so many changes of a pair, with all cells: some of each kind that there is, removed rows first, then changed, then added ones.
    ///
    /// # Errors
    /// As [`Comparison::rows`].
    pub fn examples(&self, pair: &TablePair, rows_max: usize) -> Result<Vec<RowChange>, OpError> {
        let mut kinds: [Vec<RowChange>; 3] = [Vec::new(), Vec::new(), Vec::new()];
        self.rows(pair, Cells::All, &mut |change| {
            let kind = match change {
                RowChange::Removed(_) => &mut kinds[0],
                RowChange::Changed { .. } => &mut kinds[1],
                RowChange::Added(_) => &mut kinds[2],
            };
            if kind.len() < rows_max {
                kind.push(change);
            }
            if kinds.iter().all(|kind| kind.len() >= rows_max) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        // The longest gives way until all fit.
        while kinds.iter().map(Vec::len).sum::<usize>() > rows_max {
            if let Some(longest) = kinds.iter_mut().max_by_key(|kind| kind.len()) {
                longest.pop();
            }
        }
        Ok(kinds.into_iter().flatten().collect())
    }
}

/// Takes out the stored generated columns that one side has in its schema and, as snapshots of format 1, not in its manifest: nothing is known of
/// their values there.
fn forget_unkept(pair: &mut TablePair, before: &State, after: &State) {
    let (Some(old), Some(new)) = (&pair.before, &pair.after) else { return };
    let is_unkept = |column: Option<usize>, shape: &crate::rows::TableShape, other: &crate::rows::TableShape, state: &State| {
        let column = column.and_then(|at| shape.columns.get(at)).filter(|column| column.generated);
        let table = state.schema.table(&other.name);
        column.is_some_and(|column| table.is_some_and(|table| table.columns.iter().any(|c| c.generated && c.name == column.name)))
    };
    pair.columns.retain(|columns| match (columns.before, columns.after) {
        (None, after) => !is_unkept(after, new, old, before),
        (before, None) => !is_unkept(before, old, new, after),
        _ => true,
    });
}

/// Collects which tables and columns were recognised under another name.
fn renames(pairs: &[TablePair]) -> Renames {
    let mut renames = Renames::default();
    for pair in pairs {
        let (Some(before), Some(after)) = (&pair.before, &pair.after) else { continue };
        if pair.fate() == TableFate::Renamed {
            renames.tables.push((before.name.clone(), after.name.clone()));
        }
        for column in &pair.columns {
            if let (Some(from), Some(to)) = (column.before, column.after) {
                let (from, to) = (&before.columns[from].name, &after.columns[to].name);
                if from != to {
                    renames.columns.push((after.name.clone(), from.clone(), to.clone()));
                }
            }
        }
    }
    renames
}

/// Reads the live state under a reference's cut rules. Its objects stay readable as long as the session's store value lives, and
/// are never part of the store.
///
/// # Errors
/// The engine's and the store's.
pub fn live(session: &Session<'_>, reference: Option<&State>, mode: BatchMode) -> Result<State, OpError> {
    if let Some((_, state)) = seen::recall(session)?
        && reference.is_none_or(|reference| has_same_rules(reference, &state))
    {
        return Ok(state);
    }
    let mut engine = (session.open)()?;
    let mut read = engine.begin_read()?;
    let known = seen::marked(session)?;
    let references = References { rules: reference, known: known.as_ref() };
    Ok(capture::read_state(&mut *read, session.store, mode, references, Rules::Keep, session.progress)?.0)
}

/// Tells whether the tables that two states share were cut by the same rules.
pub fn has_same_rules(a: &State, b: &State) -> bool {
    a.tables.iter().all(|(_, table)| b.table(&table.name).is_none_or(|(_, other)| other.cut == table.cut))
}

/// Decodes cells, and fetches large values.
///
/// # Errors
/// The store's; [`EngineError::Input`] for what is no cell.
pub fn decode_cells<'a>(store: &Store, cells: impl Iterator<Item = &'a Cell>) -> Result<Vec<Value>, OpError> {
    cells
        .map(|cell| {
            let value = Value::decode(cell.as_bytes()).map_err(|error| EngineError::Input(Box::new(error)))?;
            let Value::Large { id, .. } = value else { return Ok(value) };
            Ok(Value::decode(&store.get(&id)?).map_err(|error| EngineError::Input(Box::new(error)))?)
        })
        .collect()
}
