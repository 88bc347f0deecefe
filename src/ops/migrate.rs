//! The wrapper: snapshot, command, snapshot, verdict, and back if it was not fine.
//!
//! [`prepare`] does what comes before the command, [`carry_out`] the rest; between them the same command may be rehearsed ([`super::rehearse`]).
//! The command is run by the caller's `run`, between two journal entries; this module never holds a lock on the database meanwhile. It
//! returns everything that happened as data.

use std::time::Duration;

use serde::Serialize;

use super::capture::{self, Label, References, Rules, State, Taken};
use super::compare::Comparison;
use super::files::back::Beside;
use super::files::{self, Unreadable};
use super::guard::{self, GuardResult};
use super::history::Past;
use super::journal::{self, Entry, OperationKind, OperationResult, Phase};
use super::rollback::{self, Around, Scope};
use super::seen::{self, Seen};
use super::verdict::{self, Baseline, LossKind, Verdict};
use super::{FileLook, OpError, Session};
use crate::config::GuardsConfig;
use crate::engine::since::{Extent, FoundSince};
use crate::engine::{Engine, EngineError, Finding, Obstacle, ReadTransaction};
use crate::files::write::Written;
use crate::id::ObjectId;
use crate::schema::diff::SchemaDiff;
use crate::snapshot::files::changes::FileChange;
use crate::snapshot::manifest::{Snapshot, SnapshotKind, TableManifest};
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
    /// What the migration must not do.
    pub guards: GuardsConfig,
    /// Whether the files beside the database go back with it.
    pub with_files: bool,
    /// Whether the engine runs all of its checks, before and after, whatever changed.
    pub full_check: bool,
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
    /// Whether it was ended because it took too long.
    pub is_timed_out: bool,
}

/// How a command exited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandExit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody knows.
    Unknown,
}

impl CommandEnd {
    /// Tells whether the command says that all went well.
    pub fn is_success(&self) -> bool {
        self.exit == CommandExit::Code(0) && !self.is_interrupted && !self.is_timed_out
    }

    /// Says how it ended, in a few words.
    pub fn words(&self) -> String {
        match (self.exit, self.is_interrupted) {
            _ if self.is_timed_out => "stopped after its time was over".to_owned(),
            (_, true) => "interrupted".to_owned(),
            (CommandExit::Code(code), false) => format!("exit {code}"),
            (CommandExit::Signal(signal), false) => format!("killed by signal {signal}"),
            (CommandExit::Unknown, false) => "ended, nobody knows how".to_owned(),
        }
    }
}

/// What the caller does along the way.
pub trait Steps {
    /// Runs the command, marked with this ([`crate::process::MARK`]).
    ///
    /// # Errors
    /// Why it could not be started.
    fn run(&mut self, mark: &str) -> std::io::Result<CommandEnd>;
    /// The migration was not fine: decides what happens. The judgement is missing where the database cannot be read any more.
    fn decide(&mut self, end: &CommandEnd, judgement: Option<&Judgement>) -> OnFailure;
}

/// What is known before a command runs.
pub struct Prepared {
    /// The snapshot before it.
    pub pre: Taken,
    /// What the engine's checks found then.
    pub findings: Vec<Finding>,
    /// How much they checked.
    pub extent: Extent,
    /// What guards know from then.
    pub guards: guard::Before,
    /// What the database had then, where it can be told.
    fingerprint: Option<String>,
    look: Option<FileLook>,
    journal_mode: Option<String>,
    /// How long all this took.
    pub duration: Duration,
}

/// What a command did to a database, and what is to be said of it.
pub struct Judgement {
    /// What happened to rows, and what was lost.
    pub verdict: Verdict,
    /// What happened to the schema.
    pub schema: SchemaDiff,
    /// The state that the command left.
    pub state: State,
    /// What the engine's checks find now that they did not find before.
    pub damage: Vec<Finding>,
    /// What became of the guards.
    pub guards: Vec<GuardResult>,
}

impl Judgement {
    /// Tells whether nothing speaks against what happened.
    pub fn is_fine(&self) -> bool {
        self.verdict.unannounced().next().is_none() && self.damage.is_empty() && self.broken_guards().next().is_none()
    }

    /// Returns the guards that do not hold.
    pub fn broken_guards(&self) -> impl Iterator<Item = &GuardResult> {
        self.guards.iter().filter(|guard| !guard.holds)
    }

    /// Tells whether nothing is left of what was there: no table with rows but a ledger.
    pub fn is_emptied(&self) -> bool {
        let removed = self.verdict.losses.iter().filter(|loss| loss.kind == LossKind::TableDropped || loss.count == loss.of);
        let is_left = |(_, table): &(ObjectId, TableManifest)| {
            table.rows > 0 && !verdict::is_ledger(&table.shape()) && !table.name.starts_with("sqlite_")
        };
        removed.count() > 1 && !self.state.tables.iter().any(is_left)
    }
}

/// What the database looked like after the command.
pub enum Aftermath {
    /// As before, proven by ids.
    Unchanged,
    /// Changed.
    Changed(Box<Judgement>),
    /// The command removed it, or made it something else; why it cannot be read.
    Unreadable(EngineError),
}

/// Something that a command did to the database's file rather than to its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum FileEvent {
    /// Another file has its name now.
    Replaced,
    /// It is gone.
    Deleted,
    /// It is gone from its server.
    Dropped,
    /// It keeps its journal in another way.
    JournalMode {
        /// How it was.
        before: String,
        /// How it is.
        after: String,
    },
}

impl FileEvent {
    /// Says it in one sentence.
    pub fn sentence(&self) -> String {
        match self {
            Self::Replaced => {
                "the command replaced the database's file by another; programs that had the old one open must be started anew".to_owned()
            }
            Self::Deleted => "the command deleted the database's file".to_owned(),
            Self::Dropped => "the command dropped the database".to_owned(),
            Self::JournalMode { before, after } => format!("the command changed the journal mode from `{before}` to `{after}`"),
        }
    }
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
    /// What it did to the file.
    pub events: Vec<FileEvent>,
    /// What it did to the files beside the database; none where none are kept with it, or where the state could not be read.
    pub files: Option<FilesAfter>,
    /// How it was settled: `Done`, `RolledBack` or `Kept`.
    pub result: OperationResult,
    /// What a rollback could not restore, in words.
    pub limits: Vec<String>,
    /// Why a rollback that was decided did not happen. The database is then as the command left it.
    pub rollback_error: Option<OpError>,
    /// How long the snapshot before, the judgement and the rollback took.
    pub durations: Durations,
}

/// What a command did to the files beside the database. That is never a loss: what an application does with its files, its rows do not say.
#[derive(Debug, Clone, Default)]
pub struct FilesAfter {
    /// What changed, by path.
    pub changes: Vec<FileChange>,
    /// What was put back, where they went back with the database.
    pub back: Option<Written>,
}

/// How long the parts of a migration took, the command itself left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Durations {
    /// Checks and the snapshot before.
    pub prepare: Duration,
    /// Reading the database again, and judging what happened.
    pub judge: Duration,
    /// The snapshot after, and the rollback if there was one.
    pub settle: Duration,
}

/// Does what comes before the command: checks, the snapshot `pre`, the guards' questions.
///
/// # Errors
/// The engine's and the store's. Nothing was begun then.
pub fn prepare(session: &Session<'_>, options: &Options) -> Result<Prepared, OpError> {
    let begun = session.clock();
    let look = session.place.look();
    let (pre, (findings, extent), fingerprint) = take_pre(session, options)?;
    let mut engine = (session.open)()?;
    let guards = match options.guards.assertions.as_slice() {
        [] => guard::Before::default(),
        _ => guard::before(&mut *engine.begin_read()?, &options.guards)?,
    };
    let journal_mode = engine.journal_mode()?;
    Ok(Prepared { pre, findings, extent, guards, fingerprint, look, journal_mode, duration: session.since(begun) })
}

impl Prepared {
    /// Takes up a migration that was interrupted: its snapshot `pre`, and what its beginning says.
    ///
    /// # Errors
    /// The store's, where that snapshot cannot be read.
    pub fn resume(session: &Session<'_>, begin: &Entry) -> Result<Option<Self>, OpError> {
        let Some(id) = begin.before else { return Ok(None) };
        let snapshot = capture::read_snapshot(session.store, id)?;
        let state = capture::load(session.store, &snapshot)?;
        Ok(Some(Self {
            pre: Taken { id, snapshot, state, files: None, stats: BatchStats::default(), stamp: 0 },
            findings: begin.findings.clone(),
            // How much was checked then is not known any more.
            extent: Extent::Structure,
            guards: guard::Before { answers: begin.guards.clone(), broken: Vec::new() },
            fingerprint: None,
            look: None,
            journal_mode: None,
            duration: Duration::ZERO,
        }))
    }

    /// Returns which file it was then.
    pub fn look(&self) -> Option<&FileLook> {
        self.look.as_ref()
    }

    /// Returns how the database kept its journal then.
    pub fn journal_mode(&self) -> Option<&str> {
        self.journal_mode.as_deref()
    }

    /// Tells whether the database is still what it was then; no where that cannot be told.
    pub fn is_current(&self, session: &Session<'_>) -> bool {
        self.fingerprint.is_some() && (session.fingerprint)() == self.fingerprint
    }
}

impl Options {
    fn label(&self, kind: SnapshotKind) -> Label {
        Label { kind, message: self.message.clone(), command: self.command.clone() }
    }
}

/// Runs the command, judges what it did, and settles it. `resumed` is the index of the entry that began a migration that is taken up again.
///
/// # Errors
/// Whatever happens before the command ran, or after it before its effects were settled; the journal then says that the
/// migration is unfinished.
pub fn carry_out(
    session: &Session<'_>,
    options: &Options,
    prepared: Prepared,
    resumed: Option<u64>,
    steps: &mut dyn Steps,
) -> Result<Outcome, OpError> {
    let mut begin = Entry::new(session, OperationKind::Migrate, Phase::Begin);
    begin.command = options.command.clone();
    begin.before = Some(prepared.pre.id);
    begin.files = options.with_files;
    begin.findings = prepared.findings.clone();
    begin.guards = prepared.guards.answers.clone();
    let begin_index = match resumed {
        Some(index) => index,
        None => journal::write(session.store, &begin)?,
    };
    let mut end_entry = Entry { phase: Phase::End, begin: Some(begin_index), findings: Vec::new(), guards: Vec::new(), ..begin };

    let end = match steps.run(&journal::mark(session.store, begin_index)) {
        Ok(end) => end,
        Err(source) => {
            if resumed.is_none() {
                end_entry.time = session.stamp();
                end_entry.after = Some(prepared.pre.id);
                end_entry.result = Some(OperationResult::Failed);
                end_entry.note = Some(format!("the command could not be started: {source}"));
                journal::write(session.store, &end_entry)?;
            }
            return Err(OpError::Command { command: options.command.join(" "), source });
        }
    };
    end_entry.exit = match end.exit {
        CommandExit::Code(code) => Some(code),
        CommandExit::Signal(_) | CommandExit::Unknown => None,
    };

    // What is judged here is to be so after a power cut, too: tools leave it to chance, with a journal whose end was not synced, or all of it.
    if let Err(error) = session.place.sync() {
        session.progress.warn(&format!("what the command wrote may not be durable: {error}"));
    }
    let begun = session.clock();
    let mut events = Vec::new();
    if let (Some(before), Some(after)) = (prepared.look, session.place.look())
        && before.id != after.id
    {
        events.push(FileEvent::Replaced);
    }
    let is_untouched = prepared.is_current(session);
    let judged = if is_untouched { Ok((Aftermath::Unchanged, None)) } else { judge(session, &prepared, options, BatchMode::Durable) };
    let judge_duration = session.since(begun);
    let begun = session.clock();
    let mut outcome = match judged {
        Ok((aftermath, look)) => settle(session, options, prepared, end, (aftermath, look), events, steps)?,
        Err(OpError::Engine(error)) if error.is_no_database() => unreadable(session, options, prepared, end, error, steps),
        Err(error) => return Err(error),
    };
    outcome.durations.judge = judge_duration;
    outcome.durations.settle = session.since(begun);

    end_entry.time = session.stamp();
    end_entry.result = Some(outcome.result);
    let after = outcome.after.as_ref().map(|(id, _)| *id);
    (end_entry.after, end_entry.failed) = match outcome.result {
        OperationResult::RolledBack => (Some(outcome.pre.id), after.filter(|id| *id != outcome.pre.id)),
        _ => (after, None),
    };
    end_entry.note = outcome.rollback_error.as_ref().map(|error| format!("the rollback failed: {error}"));
    // The next command finds it unfinished, and says so.
    if let Err(error) = journal::write(session.store, &end_entry) {
        session.progress.warn(&format!("the operation log could not be written: {}", super::with_causes(&error)));
    }
    Ok(outcome)
}

/// Takes the snapshot before the command, or knows it from before; returns it with what the engine's checks find and how much they checked, and the
/// fingerprint that the database has now, where it can be told. The command finds the database as free as without us.
fn take_pre(session: &Session<'_>, options: &Options) -> Result<(Taken, Checked, Option<String>), OpError> {
    let label = options.label(SnapshotKind::Pre);
    let head = capture::newest(session)?;
    let parent = head.as_ref().map(|(id, _)| *id);
    let refuse_damage = |findings: &[Finding]| match findings.iter().find(|finding| finding.check == "integrity") {
        Some(finding) => Err(OpError::from(EngineError::Damaged(finding.message.clone()))),
        None => Ok(()),
    };
    let recalled = seen::recall(session)?;
    if let Some((seen, state)) = &recalled
        && let Some((findings, extent)) = seen.checked(options.full_check)
    {
        refuse_damage(&findings)?;
        let unwritable = unwritable(&mut *(session.open)()?, state)?;
        let pre = capture::save(session, label, state.clone(), parent, 0)?;
        seen::remember(session, &Seen { snapshot: pre.id, ..seen.clone() });
        return Ok((pre, (findings.into_iter().chain(unwritable).collect(), extent), Some(seen.fingerprint.clone())));
    }
    let earlier = recalled.as_ref().and_then(|(seen, _)| seen.memory);
    let fingerprint = (session.fingerprint)();
    let mut engine = (session.open)()?;
    let look_over = |read: &mut dyn ReadTransaction| match options.full_check {
        true => read.findings().map(|findings| (findings, Extent::All)),
        false => read.look_over(),
    };
    let (pre, findings, extent) = std::thread::scope(|scope| {
        let mut read = engine.begin_read()?;
        let check = || -> Result<Checked, EngineError> { look_over(&mut *(session.open)()?.begin_read()?) };
        // The checks need a core of their own only where there is more to do than to check; and only of a database that nobody writes
        // meanwhile do they see what the snapshot sees.
        let beside = (fingerprint.is_some() && recalled.is_none()).then(|| scope.spawn(check));
        let time = session.stamp();
        let is_recalled = recalled.is_some();
        let read_state = match recalled {
            Some((_, state)) => Ok((state, BatchStats::default())),
            None => {
                let reference = head.as_ref().map(|(_, snapshot)| capture::load(session.store, snapshot)).transpose()?;
                let (mode, rules) = (BatchMode::Durable, Rules::Adapt);
                let known = seen::marked(session)?;
                let references = References { rules: reference.as_ref(), known: known.as_ref() };
                capture::read_state(&mut *read, session.store, mode, references, rules, session.progress)
            }
        };
        // What is remembered of how it was read saves checking most of it again.
        if is_recalled && let Some(memory) = seen::memory_of_now(session) {
            read.remember(&memory.engine);
            read.sees_remembered();
        }
        let found = beside.and_then(|thread| thread.join().ok()).and_then(Result::ok).filter(|_| (session.fingerprint)() == fingerprint);
        let (findings, extent) = match found {
            Some(found) => found,
            None => look_over(&mut *read)?,
        };
        // What is damaged is told as such, whatever else came of it, and makes no snapshot.
        refuse_damage(&findings)?;
        let (state, stats) = read_state?;
        let pre = capture::save_at(session, label, state, parent, 0, time)?;
        capture::tell_skipped(session, &pre.state.schema);
        Ok::<_, OpError>((Taken { stats, ..pre }, findings, extent))
    })?;
    // Not remembered with the rest: what this build has is no affair of the file.
    let unwritable = unwritable(&mut *engine, &pre.state)?;
    drop(engine);
    let fingerprint = fingerprint.filter(|known| (session.fingerprint)().as_ref() == Some(known));
    if let Some(fingerprint) = &fingerprint {
        let memory = pre.state.memory.is_some().then_some(pre.id).or(earlier);
        seen::remember(session, &Seen::with(fingerprint.clone(), pre.id, &findings, extent, memory));
    }
    Ok((pre, (findings.into_iter().chain(unwritable).collect(), extent), fingerprint))
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

/// What the engine's checks found, and how much they checked.
type Checked = (Vec<Finding>, Extent);

/// What was read after the command, on an engine that is still open.
pub(super) type Look = (Box<dyn Engine>, u64);

/// Reads the database after the command, and judges what happened to it.
pub(super) fn judge(
    session: &Session<'_>,
    prepared: &Prepared,
    options: &Options,
    mode: BatchMode,
) -> Result<(Aftermath, Option<Look>), OpError> {
    let pre = &prepared.pre;
    let mut engine = (session.open)()?;
    let judged = {
        let mut read = engine.begin_read()?;
        let known = seen::marked(session)?;
        let references = References { rules: Some(&pre.state), known: known.as_ref() };
        let (state, _) = capture::read_state(&mut *read, session.store, mode, references, Rules::Keep, session.progress)?;
        if state.is_same(&pre.state) {
            None
        } else {
            let comparison = Comparison::new(session.store, &pre.state, &state)?;
            let findings = if options.full_check {
                read.findings()?.into_iter().map(|finding| FoundSince { finding, new: None }).collect()
            } else {
                read.findings_since(&Past { store: session.store, comparison: &comparison })?
            };
            let known = Baseline { findings: &prepared.findings, extent: prepared.extent };
            let verdict = verdict::judge(session.store, &comparison, (known, &findings), &options.allow)?;
            let guards = guard::judge(&options.guards, &comparison, &verdict, &prepared.guards, &mut *read);
            let schema = comparison.schema.clone();
            let damage = findings.into_iter().map(|found| found.finding).filter(|finding| finding.check == "integrity").collect();
            Some((Box::new(Judgement { verdict, schema, state, damage, guards }), read.stamp()?))
        }
    };
    Ok(match judged {
        None => (Aftermath::Unchanged, Some((engine, 0))),
        Some((judgement, stamp)) => (Aftermath::Changed(judgement), Some((engine, stamp))),
    })
}

fn settle(
    session: &Session<'_>,
    options: &Options,
    prepared: Prepared,
    end: CommandEnd,
    judged: (Aftermath, Option<Look>),
    mut events: Vec<FileEvent>,
    steps: &mut dyn Steps,
) -> Result<Outcome, OpError> {
    let Prepared { pre, journal_mode, look: file, duration, .. } = prepared;
    let durations = Durations { prepare: duration, ..Durations::default() };
    let (aftermath, look) = judged;
    let mode_event = |engine: &mut dyn Engine| match (journal_mode.clone(), engine.journal_mode().ok().flatten()) {
        (Some(before), Some(after)) if before != after => Some(FileEvent::JournalMode { before, after }),
        _ => None,
    };
    let (judgement, mut engine, stamp) = match (&aftermath, look) {
        (Aftermath::Changed(judgement), Some((engine, stamp))) => (judgement, engine, stamp),
        (_, look) => {
            let result = if end.is_success() { OperationResult::Done } else { OperationResult::RolledBack };
            let mut limits = Vec::new();
            if result == OperationResult::RolledBack {
                limits.extend(restore_permissions(session, file.as_ref()));
            }
            if let Some((mut engine, _)) = look {
                events.extend(mode_event(&mut *engine));
                if result == OperationResult::RolledBack {
                    limits.extend(restore_mode(&mut *engine, &events));
                }
            }
            let (after, files) = settle_files(session, options, &pre, result)?;
            return Ok(Outcome { pre, after, end, aftermath, events, files, result, limits, rollback_error: None, durations });
        }
    };
    events.extend(mode_event(&mut *engine));
    let is_fine = end.is_success() && judgement.is_fine();
    let decision = if is_fine { OnFailure::Keep } else { steps.decide(&end, Some(judgement)) };
    let kind = if decision == OnFailure::Rollback { SnapshotKind::Failed } else { SnapshotKind::Post };
    let taken = capture::save(session, options.label(kind), judgement.state.clone(), Some(pre.id), stamp)?;
    let after = Some((taken.id, taken.snapshot.clone()));
    let changes = files::changes(session.store, pre.snapshot.files, taken.files.as_ref())?;
    let mut files = changes.map(|changes| FilesAfter { changes, back: None });
    let mut rollback_error = None;
    let mut limits = Vec::new();
    let result = match decision {
        OnFailure::Keep if is_fine => OperationResult::Done,
        OnFailure::Keep => OperationResult::Kept,
        OnFailure::Rollback => {
            let label = options.label(SnapshotKind::Failed);
            let go_on = &mut |_: &super::plan::Plan, _: &Taken| Ok(true);
            let beside = if options.with_files { Some(Beside::of(session, pre.id, pre.snapshot.files)) } else { None };
            let mut back = |first: Option<Taken>, files: Option<&mut Beside>| {
                let around = Around { on_plan: &mut *go_on, files };
                rollback::rollback(session, &mut *engine, &pre.state, Scope::Everything, &label, first, around)
            };
            let mut done = beside.transpose().and_then(|mut beside| back(Some(taken), beside.as_mut()));
            if let Err(OpError::Files(error)) = &done {
                // Files that cannot go back keep no row from going back.
                limits.push(format!("the files could not be put back: {}", super::with_causes(error)));
                done = back(None, None);
            }
            match done {
                Ok(done) => {
                    if let (Some(files), Some(done)) = (&mut files, &done) {
                        files.back.clone_from(&done.files);
                    }
                    limits.extend(done.map(|done| done.plan.limits).unwrap_or_default());
                    limits.extend(restore_mode(&mut *engine, &events));
                    limits.extend(restore_permissions(session, file.as_ref()));
                    OperationResult::RolledBack
                }
                Err(error) => {
                    rollback_error = Some(error);
                    OperationResult::Kept
                }
            }
        }
    };
    Ok(Outcome { pre, after, end, aftermath, events, files, result, limits, rollback_error, durations })
}

/// A snapshot, and what a command did to the files since an earlier one.
type AfterFiles = (Option<(ObjectId, Snapshot)>, Option<FilesAfter>);

/// Settles the files of a migration that left the database as it was: takes a snapshot only if they changed.
fn settle_files(session: &Session<'_>, options: &Options, pre: &Taken, result: OperationResult) -> Result<AfterFiles, OpError> {
    let unchanged = Some((pre.id, pre.snapshot.clone()));
    let live = files::capture(session, BatchMode::IdsOnly, Unreadable::Tell)?;
    let Some(changes) = files::changes(session.store, pre.snapshot.files, live.as_ref())? else { return Ok((unchanged, None)) };
    if changes.is_empty() {
        return Ok((unchanged, Some(FilesAfter::default())));
    }
    let is_failed = result == OperationResult::RolledBack;
    let kind = if is_failed { SnapshotKind::Failed } else { SnapshotKind::Post };
    let taken = capture::save(session, options.label(kind), pre.state.clone(), Some(pre.id), 0)?;
    let mut back = None;
    if is_failed && options.with_files {
        back = put_back(session, pre, &taken)
            .map_err(|error| session.progress.warn(&format!("the files could not be put back: {}", super::with_causes(&error))))
            .ok()
            .flatten();
    }
    Ok((Some((taken.id, taken.snapshot)), Some(FilesAfter { changes, back })))
}

/// Puts the files alone back.
fn put_back(session: &Session<'_>, pre: &Taken, now: &Taken) -> Result<Option<Written>, OpError> {
    let mut beside = Beside::of(session, pre.id, pre.snapshot.files)?;
    beside.stage(session, now.files.as_ref())?;
    beside.publish();
    beside.prove(files::capture(session, BatchMode::IdsOnly, Unreadable::Tell)?.as_ref());
    Ok(beside.written)
}

/// Makes the file's permissions and owner what they were. Says that it did, or why it could not.
fn restore_permissions(session: &Session<'_>, before: Option<&FileLook>) -> Option<String> {
    let before = before?;
    let after = session.place.look()?;
    if (before.mode, before.owner) == (after.mode, after.owner) {
        return None;
    }
    Some(match session.place.protect(before) {
        Ok(()) => "the command had changed the permissions of the file; they are what they were".to_owned(),
        Err(error) => format!("the command changed the permissions of the file, and they could not be put back: {error}"),
    })
}

/// Makes the journal mode what it was. Says why it could not.
fn restore_mode(engine: &mut dyn Engine, events: &[FileEvent]) -> Option<String> {
    events.iter().find_map(|event| match event {
        FileEvent::JournalMode { before, after } => engine
            .set_journal_mode(before)
            .err()
            .map(|error| format!("the journal mode is still `{after}`, and was `{before}`: {}", super::with_causes(&error))),
        _ => None,
    })
}

/// Settles a migration after which there is no database to read: what stands in its place is set aside, and the database made anew.
fn unreadable(
    session: &Session<'_>,
    options: &Options,
    prepared: Prepared,
    end: CommandEnd,
    error: EngineError,
    steps: &mut dyn Steps,
) -> Outcome {
    let Prepared { pre, journal_mode, look, duration, .. } = prepared;
    let mut rollback_error = None;
    let mut result = OperationResult::Kept;
    let mut limits = Vec::new();
    let event = match error {
        EngineError::Missing(_) if session.source.engine == "sqlite" => FileEvent::Deleted,
        EngineError::Missing(_) => FileEvent::Dropped,
        _ => FileEvent::Replaced,
    };
    if steps.decide(&end, None) == OnFailure::Rollback {
        if options.with_files {
            limits.push("the files were left as they are: without a database there was no safety snapshot".to_owned());
        }
        match rollback::recreate(session, &pre.state, look.as_ref()) {
            Ok(_) => {
                result = OperationResult::RolledBack;
                limits.extend(restore_permissions(session, look.as_ref()));
                let mode = journal_mode.filter(|mode| mode == "wal");
                let set = |mode: &str| (session.open)().and_then(|mut engine| engine.set_journal_mode(mode));
                if let Some(Err(error)) = mode.as_deref().map(set) {
                    limits.push(format!("the journal mode could not be restored: {}", super::with_causes(&error)));
                }
            }
            Err(failed) => rollback_error = Some(failed),
        }
    }
    let durations = Durations { prepare: duration, ..Durations::default() };
    let aftermath = Aftermath::Unreadable(error);
    Outcome { pre, after: None, end, aftermath, events: vec![event], files: None, result, limits, rollback_error, durations }
}
