//! The rehearsal: the command on a scratch copy of the database, judged as the real run will be, before that touches anything.
//!
//! The scratch database is made from the snapshot `pre`, which so proves that it restores; or by a server that can copy the real one, and is
//! looked at then. What the command leaves there is read without becoming
//! part of the store. That the command met the scratch database, and not the real one, is not believed but looked at.

use std::time::Duration;

use super::migrate::{self, Aftermath, CommandEnd, Options, Prepared};
use super::{OpError, Session, compare, rollback};
use crate::engine::EngineError;
use crate::store::BatchMode;

/// What a rehearsal showed.
pub struct Rehearsal {
    /// The command's end.
    pub end: CommandEnd,
    /// What it did to the scratch database.
    pub aftermath: Aftermath,
    /// Whether it changed the scratch database.
    pub is_scratch_touched: bool,
    /// Whether the real database is what it was.
    pub is_real_untouched: bool,
    /// How long it took to make the scratch database.
    pub made_in: Duration,
    /// How long it took to judge.
    pub judged_in: Duration,
}

impl Rehearsal {
    /// Tells whether nothing that the command did speaks against the real run.
    pub fn is_fine(&self) -> bool {
        self.end.is_success()
            && match &self.aftermath {
                Aftermath::Unchanged => true,
                Aftermath::Changed(judgement) => judgement.is_fine(),
                Aftermath::Unreadable(_) => false,
            }
    }
}

/// A scratch database that does not exist yet; who made its place removes it.
pub struct Scratch<'a> {
    /// A session of it.
    pub session: &'a Session<'a>,
    /// How its server makes it, where it has one.
    pub copy: Option<ServerCopy<'a>>,
}

/// A scratch database as a copy that its server makes of the real one.
pub struct ServerCopy<'a> {
    /// Makes it; false where that cannot be done.
    pub make: &'a dyn Fn() -> Result<bool, EngineError>,
    /// Takes it away again.
    pub discard: &'a dyn Fn() -> Result<(), EngineError>,
}

/// Rehearses a migration.
///
/// # Errors
/// The engine's and the store's, and [`OpError::Command`] where the command could not be started.
pub fn rehearse(
    session: &Session<'_>,
    scratch: &Scratch<'_>,
    prepared: &Prepared,
    options: &Options,
    run: &mut dyn FnMut() -> std::io::Result<CommandEnd>,
) -> Result<Rehearsal, OpError> {
    let begun = session.clock();
    make(scratch, prepared)?;
    let scratch = scratch.session;
    let made_in = session.since(begun);
    let end = run().map_err(|source| OpError::Command { command: options.command.join(" "), source })?;
    let begun = session.clock();
    // Looked at first: an unreadable scratch database must not hide what became of the real one.
    let is_real_untouched = prepared.is_current(session)
        || match compare::live(session, Some(&prepared.pre.state), BatchMode::IdsOnly) {
            Ok(live) => live.is_same(&prepared.pre.state),
            Err(OpError::Engine(error)) if error.is_no_database() => false,
            // One that somebody holds locked, say: nobody knows.
            Err(error) => return Err(error),
        };
    let aftermath = match migrate::judge(scratch, prepared, options, BatchMode::Scratch) {
        Ok((aftermath, _)) => aftermath,
        Err(OpError::Engine(error)) if error.is_no_database() || is_real_untouched => Aftermath::Unreadable(error),
        Err(error) => return Err(error),
    };
    let is_scratch_touched = !matches!(aftermath, Aftermath::Unchanged);
    Ok(Rehearsal { end, aftermath, is_scratch_touched, is_real_untouched, made_in, judged_in: session.since(begun) })
}

/// Makes the scratch database, equal to `pre`.
fn make(scratch: &Scratch<'_>, prepared: &Prepared) -> Result<(), OpError> {
    let (session, pre) = (scratch.session, &prepared.pre.state);
    if let Some(copy) = &scratch.copy
        && (copy.make)()?
    {
        // It is what was committed last, and that need not be `pre`: others may have written since.
        if compare::live(session, Some(pre), BatchMode::IdsOnly)?.is_same(pre) {
            return Ok(());
        }
        (copy.discard)()?;
    }
    let mut engine = (session.create)(&pre.settings)?;
    rollback::restore(session, &mut *engine, pre)?;
    if prepared.journal_mode() == Some("wal") {
        engine.set_journal_mode("wal")?;
    }
    if let Some(look) = prepared.look() {
        // A scratch file with other permissions is still the command's to use.
        let _ = session.place.protect(look);
    }
    Ok(())
}
