//! Making a snapshot from what is no database of the project: a scratch database is filled from a file, and read as any other is.
//!
//! [`json`] reads exports; dumps are loaded by the engine itself ([`crate::engine::sqlite::dump`]).

pub mod json;

use super::capture::{self, Label, References, Rules, State, Taken};
use super::{OpError, Session};
use crate::engine::ReadTransaction;
use crate::store::BatchMode;

/// Takes a snapshot of what a transaction sees, for the session's source, of which this need not be a database. Nothing that is remembered of the
/// source's own database is used, or changed.
///
/// # Errors
/// The engine's and the store's. The store holds no new snapshot then.
pub fn take(session: &Session<'_>, transaction: &mut dyn ReadTransaction, label: Label) -> Result<Taken, OpError> {
    let newest = capture::newest(session)?;
    let reference = newest.as_ref().map(|(_, snapshot)| capture::load(session.store, snapshot)).transpose()?;
    let references = References { rules: reference.as_ref(), known: None };
    let (state, stats) = capture::read_state(transaction, session.store, BatchMode::Durable, references, Rules::Adapt, session.progress)?;
    capture::tell_skipped(session, &state.schema);
    let state = State { mark: None, memory: None, ..state };
    let taken = capture::save(session, label, state, newest.map(|(id, _)| id), 0)?;
    Ok(Taken { stats, ..taken })
}
