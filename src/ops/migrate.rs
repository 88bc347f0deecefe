//! The wrapper: snapshot, command, snapshot, verdict, and back if it was not fine.
//!
//! The command is run by the caller's `run`, between two journal entries; this module never holds a lock on the database
//! meanwhile. It returns everything that happened as data.

use std::time::Duration;

use super::capture::{self, Label, Rules, State, Taken};
use super::compare::Comparison;
use super::journal::{self, Entry, OperationKind, OperationResult, Phase};
use super::rollback::{self, Scope};
use super::seen::{self, Seen};
use super::verdict::{self, Verdict};
use super::{OpError, Session};
use crate::engine::{Engine, EngineError, Finding, Obstacle};
use crate::id::ObjectId;
use crate::schema::diff::SchemaDiff;
use crate::snapshot::manifest::{Snapshot, SnapshotKind};
use crate::store::{BatchMode, BatchStats};

/// What to do when a migration was not fine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Put everything back.
    Rollback,
    /// Leave it as it is.
    Keep,
}

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The command line, for the record.
    pub command: Vec<String>,
    /// What its maker says about it.
    pub message: Option<String>,
    /// Announced losses: `table` or `table.column`.
    pub allow: Vec<String>,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandEnd {
    /// How it exited.
    pub exit: CommandExit,
    /// How long it ran.
    pub duration: Duration,
    /// Whether the user interrupted it.
    pub is_interrupted: bool,
}

/// How a command exited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandExit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl CommandEnd {
    /// Tells whether the command says that all went well.
    pub fn is_success(&self) -> bool {
        self.exit == CommandExit::Code(0) && !self.is_interrupted
    }

    /// Says how it ended, in a few words.
    pub fn words(&self) -> String {
        match (self.exit, self.is_interrupted) {
            (_, true) => "interrupted".to_owned(),
            (CommandExit::Code(code), false) => format!("exit {code}"),
            (CommandExit::Signal(signal), false) => format!("killed by signal {signal}"),
        }
    }
}

/// What the caller does along the way.
pub trait Steps {
    /// The snapshot `pre` is durable.
    fn pre_taken(&mut self, pre: &Taken, findings: &[Finding]);
    /// Runs the command.
    ///
    /// # Errors
    /// Why it could not be started.
    fn run(&mut self) -> std::io::Result<CommandEnd>;
    /// The migration was not fine: decides what happens. The verdict is missing where the database cannot be read any more.
    fn decide(&mut self, end: &CommandEnd, verdict: Option<&Verdict>) -> OnFailure;
}

/// What the database looked like after the command.
pub enum Aftermath {
    /// As before, proven by ids.
    Unchanged,
    /// Changed.
    Changed {
        /// What happened to rows, and what was lost.
        verdict: Verdict,
        /// What happened to the schema.
        schema: SchemaDiff,
        /// The state that the command left.
        state: Box<State>,
        /// What the engine's checks find now that they did not find before.
        damage: Vec<Finding>,
    },
    /// The command removed it, or made it something else; why it cannot be read.
    Unreadable(EngineError),
}

/// How a migration ended.
pub struct Outcome {
    /// The snapshot before it.
    pub pre: Taken,
    /// The snapshot after it; equal to `pre`'s where nothing changed. None where the state could not be read.
    pub after: Option<(ObjectId, Snapshot)>,
    /// The command's end.
    pub end: CommandEnd,
    /// What it did.
    pub aftermath: Aftermath,
    /// How it was settled: `Done`, `RolledBack` or `Kept`.
    pub result: OperationResult,
    /// What a rollback could not restore, in words.
    pub limits: Vec<String>,
    /// Why a rollback that was decided did not happen. The database is then as the command left it.
    pub rollback_error: Option<OpError>,
}

/// Runs a migration.
///
/// # Errors
/// Whatever happens before the command ran, or after it before its effects were settled; the journal then says that the
/// migration is unfinished.
pub fn migrate(session: &Session<'_>, options: &Options, steps: &mut dyn Steps) -> Result<Outcome, OpError> {
    let label = |kind| Label { kind, message: options.message.clone(), command: options.command.clone() };
    let (pre, findings_before, fingerprint) = take_pre(session, label(SnapshotKind::Pre))?;
    steps.pre_taken(&pre, &findings_before);

    let mut begin = Entry::new(session, OperationKind::Migrate, Phase::Begin);
    begin.command = options.command.clone();
    begin.before = Some(pre.id);
    let begin_index = journal::write(session.store, &begin)?;
    let mut end_entry = Entry { phase: Phase::End, begin: Some(begin_index), ..begin };

    let end = match steps.run() {
        Ok(end) => end,
        Err(source) => {
            end_entry.time = session.stamp();
            end_entry.after = Some(pre.id);
            end_entry.result = Some(OperationResult::Failed);
            end_entry.note = Some(format!("the command could not be started: {source}"));
            journal::write(session.store, &end_entry)?;
            return Err(OpError::Command { command: options.command.join(" "), source });
        }
    };
    end_entry.exit = match end.exit {
        CommandExit::Code(code) => Some(code),
        CommandExit::Signal(_) => None,
    };

    let is_untouched = fingerprint.is_some() && (session.fingerprint)() == fingerprint;
    let judged = if is_untouched { Ok((Aftermath::Unchanged, None)) } else { judge(session, &pre, &findings_before, options) };
    let mut outcome = match judged {
        Ok((aftermath, look)) => settle(session, pre, end, aftermath, look, &label, steps)?,
        Err(OpError::Engine(error @ (EngineError::Missing(_) | EngineError::NotADatabase { .. } | EngineError::Damaged(_)))) => {
            unreadable(session, pre, end, error, steps)
        }
        Err(error) => return Err(error),
    };

    end_entry.time = session.stamp();
    end_entry.result = Some(outcome.result);
    let after = outcome.after.as_ref().map(|(id, _)| *id);
    (end_entry.after, end_entry.failed) = match outcome.result {
        OperationResult::RolledBack => (Some(outcome.pre.id), after.filter(|id| *id != outcome.pre.id)),
        _ => (after, None),
    };
    end_entry.note = outcome.rollback_error.as_ref().map(|error| format!("the rollback failed: {error}"));
    if let Err(error) = journal::write(session.store, &end_entry) {
        outcome.rollback_error.get_or_insert(error.into());
    }
    Ok(outcome)
}

/// Takes the snapshot before the command, or knows it from before; returns it with what the engine's checks find, and the fingerprint
/// that the database has now, where it can be told. The command finds the database as free as without us.
fn take_pre(session: &Session<'_>, label: Label) -> Result<(Taken, Vec<Finding>, Option<String>), OpError> {
    let head = capture::newest(session)?;
    let parent = head.as_ref().map(|(id, _)| *id);
    let refuse_damage = |findings: &[Finding]| match findings.iter().find(|finding| finding.check == "integrity") {
        Some(finding) => Err(OpError::from(EngineError::Damaged(finding.message.clone()))),
        None => Ok(()),
    };
    let recalled = seen::recall(session)?;
    if let Some((Seen { fingerprint, findings: Some(findings), .. }, state)) = recalled {
        refuse_damage(&findings)?;
        let unwritable = unwritable(&mut *(session.open)()?, &state)?;
        let pre = capture::save(session, label, state, parent, 0)?;
        seen::remember(session, &Seen { fingerprint: fingerprint.clone(), snapshot: pre.id, findings: Some(findings.clone()) });
        return Ok((pre, findings.into_iter().chain(unwritable).collect(), Some(fingerprint)));
    }
    let fingerprint = (session.fingerprint)();
    let mut engine = (session.open)()?;
    let (pre, findings) = std::thread::scope(|scope| {
        let mut read = engine.begin_read()?;
        let check = || -> Result<Vec<Finding>, EngineError> { (session.open)()?.begin_read()?.findings() };
        // The checks need a core of their own only where there is more to do than to check; and only of a database that nobody writes
        // meanwhile do they see what the snapshot sees.
        let beside = (fingerprint.is_some() && recalled.is_none()).then(|| scope.spawn(check));
        let time = session.stamp();
        let read_state = match recalled {
            Some((_, state)) => Ok((state, BatchStats::default())),
            None => {
                let reference = head.as_ref().map(|(_, snapshot)| capture::load(session.store, snapshot)).transpose()?;
                let (mode, rules) = (BatchMode::Durable, Rules::Adapt);
                capture::read_state(&mut *read, session.store, mode, reference.as_ref(), rules, session.progress)
            }
        };
        let found = beside.and_then(|thread| thread.join().ok()).and_then(Result::ok).filter(|_| (session.fingerprint)() == fingerprint);
        let findings = match found {
            Some(findings) => findings,
            None => read.findings()?,
        };
        // What is damaged is told as such, whatever else came of it, and makes no snapshot.
        refuse_damage(&findings)?;
        let (state, stats) = read_state?;
        let pre = capture::save_at(session, label, state, parent, 0, time)?;
        Ok::<_, OpError>((Taken { stats, ..pre }, findings))
    })?;
    // Not remembered with the rest: what this build has is no affair of the file.
    let unwritable = unwritable(&mut *engine, &pre.state)?;
    drop(engine);
    let fingerprint = fingerprint.filter(|known| (session.fingerprint)().as_ref() == Some(known));
    if let Some(fingerprint) = &fingerprint {
        seen::remember(session, &Seen { fingerprint: fingerprint.clone(), snapshot: pre.id, findings: Some(findings.clone()) });
    }
    Ok((pre, findings.into_iter().chain(unwritable).collect(), fingerprint))
}

/// Finds the tables whose rows could not be put back here, before anything happens to them.
fn unwritable(engine: &mut dyn Engine, state: &State) -> Result<Vec<Finding>, EngineError> {
    let shapes: Vec<_> = state.tables.iter().map(|(_, manifest)| manifest.shape()).collect();
    let finding = |obstacle: Obstacle| Finding {
        check: "unwritable".to_owned(),
        message: format!("{obstacle}; what happens to them might not be put back"),
        table: Some(obstacle.table),
        count: 1,
    };
    Ok(engine.obstacles(&state.schema, &shapes)?.into_iter().map(finding).collect())
}

/// What was read after the command, on an engine that is still open.
type Look = (Box<dyn crate::engine::Engine>, State, u64);

fn judge(session: &Session<'_>, pre: &Taken, findings_before: &[Finding], options: &Options) -> Result<(Aftermath, Option<Look>), OpError> {
    let mut engine = (session.open)()?;
    let (state, stamp, findings) = {
        let mut read = engine.begin_read()?;
        let mode = BatchMode::Durable;
        let (state, _) = capture::read_state(&mut *read, session.store, mode, Some(&pre.state), Rules::Keep, session.progress)?;
        let findings = if state.is_same(&pre.state) { findings_before.to_vec() } else { read.findings()? };
        (state, read.stamp()?, findings)
    };
    if state.is_same(&pre.state) {
        return Ok((Aftermath::Unchanged, None));
    }
    let comparison = Comparison::new(session.store, &pre.state, &state)?;
    let verdict = verdict::judge(session.store, &comparison, (findings_before, &findings), &options.allow)?;
    let damage = findings.iter().filter(|finding| finding.check == "integrity").cloned().collect();
    let aftermath = Aftermath::Changed { verdict, schema: comparison.schema.clone(), state: Box::new(state.clone()), damage };
    Ok((aftermath, Some((engine, state, stamp))))
}

fn settle(
    session: &Session<'_>,
    pre: Taken,
    end: CommandEnd,
    aftermath: Aftermath,
    look: Option<Look>,
    label: &dyn Fn(SnapshotKind) -> Label,
    steps: &mut dyn Steps,
) -> Result<Outcome, OpError> {
    let (Aftermath::Changed { verdict, damage, .. }, Some((mut engine, state, stamp))) = (&aftermath, look) else {
        let result = if end.is_success() { OperationResult::Done } else { OperationResult::RolledBack };
        let after = Some((pre.id, pre.snapshot.clone()));
        return Ok(Outcome { pre, after, end, aftermath, result, limits: Vec::new(), rollback_error: None });
    };
    let is_fine = end.is_success() && verdict.unannounced().next().is_none() && damage.is_empty();
    let decision = if is_fine { OnFailure::Keep } else { steps.decide(&end, Some(verdict)) };
    let kind = if decision == OnFailure::Rollback { SnapshotKind::Failed } else { SnapshotKind::Post };
    let taken = capture::save(session, label(kind), state, Some(pre.id), stamp)?;
    let after = Some((taken.id, taken.snapshot.clone()));
    let mut rollback_error = None;
    let mut limits = Vec::new();
    let result = match decision {
        OnFailure::Keep if is_fine => OperationResult::Done,
        OnFailure::Keep => OperationResult::Kept,
        OnFailure::Rollback => {
            let done = rollback::rollback(
                session,
                &mut *engine,
                &pre.state,
                Scope::Everything,
                &label(SnapshotKind::Failed),
                Some(taken),
                &mut |_, _| Ok(true),
            );
            match done {
                Ok(done) => {
                    limits = done.map(|done| done.plan.limits).unwrap_or_default();
                    OperationResult::RolledBack
                }
                Err(error) => {
                    rollback_error = Some(error);
                    OperationResult::Kept
                }
            }
        }
    };
    Ok(Outcome { pre, after, end, aftermath, result, limits, rollback_error })
}

/// Settles a migration after which there is no database to read: one that is gone is made anew, anything else is left for people.
fn unreadable(session: &Session<'_>, pre: Taken, end: CommandEnd, error: EngineError, steps: &mut dyn Steps) -> Outcome {
    let mut rollback_error = None;
    let mut result = OperationResult::Kept;
    if steps.decide(&end, None) == OnFailure::Rollback && matches!(error, EngineError::Missing(_)) {
        let made = (session.create)(&pre.state.settings).map_err(OpError::from);
        match made.and_then(|mut engine| rollback::restore(session, &mut *engine, &pre.state)) {
            Ok(_) => result = OperationResult::RolledBack,
            Err(failed) => rollback_error = Some(failed),
        }
    }
    Outcome { pre, after: None, end, aftermath: Aftermath::Unreadable(error), result, limits: Vec::new(), rollback_error }
}
