//! Which operation `undo` takes back and `redo` does again: a pure walk through the operation log.
//!
//! Every finished operation that changed the database is a step. `undo` returns to the state before the last step that is not yet
//! undone; another `undo` goes one further; `redo` goes forward again until a new step is made.

use super::journal::{Entry, Indexed, OperationKind, OperationResult, Phase};
use crate::id::ObjectId;
use crate::snapshot::manifest::SourceName;

/// A step that can be taken back or done again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The index of the entry that began it.
    pub index: u64,
    /// What it was.
    pub kind: OperationKind,
    /// When it ended.
    pub time: String,
    /// The state before it.
    pub before: ObjectId,
    /// The state after it.
    pub after: ObjectId,
    /// Whether the files beside the database went with it.
    pub files: bool,
}

/// What can be undone and redone; the next one is last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steps {
    /// Steps to undo.
    pub undo: Vec<Step>,
    /// Steps to redo.
    pub redo: Vec<Step>,
}

/// Replays the log of one source.
pub fn steps(log: &[Indexed], source: &SourceName) -> Steps {
    let mut steps = Steps::default();
    for (index, _, entry) in log.iter().filter(|(_, _, entry)| entry.phase == Phase::End && entry.source == *source) {
        match (entry.kind, entry.result) {
            (OperationKind::Undo, Some(OperationResult::Done)) => {
                if let Some(step) = steps.undo.pop() {
                    steps.redo.push(step);
                }
            }
            (OperationKind::Redo, Some(OperationResult::Done)) => {
                if let Some(step) = steps.redo.pop() {
                    steps.undo.push(step);
                }
            }
            (_, Some(OperationResult::Failed | OperationResult::Abandoned)) => {}
            (OperationKind::Migrate | OperationKind::Rollback, Some(_)) => {
                if let Some(step) = step(*index, entry) {
                    steps.undo.push(step);
                    steps.redo.clear();
                }
            }
            _ => {}
        }
    }
    steps
}

fn step(index: u64, entry: &Entry) -> Option<Step> {
    let (before, after) = (entry.before?, entry.after?);
    // A migration that was rolled back ended where it began: its step is the way to what it left.
    let (before, after) = match (entry.result, entry.failed) {
        (Some(OperationResult::RolledBack), Some(failed)) => (failed, before),
        _ => (before, after),
    };
    let index = entry.begin.unwrap_or(index);
    (before != after).then(|| Step { index, kind: entry.kind, time: entry.time.clone(), before, after, files: entry.files })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: OperationKind, before: u8, after: u8) -> Entry {
        Entry {
            time: String::new(),
            kind,
            phase: Phase::End,
            begin: None,
            source: SourceName { engine: "sqlite".into(), place: "a".into() },
            user: String::new(),
            host: String::new(),
            pid: 1,
            command: Vec::new(),
            before: Some(ObjectId([before; 32])),
            after: Some(ObjectId([after; 32])),
            failed: None,
            of: None,
            files: false,
            result: Some(OperationResult::Done),
            exit: None,
            findings: Vec::new(),
            guards: Vec::new(),
            forgotten: Vec::new(),
            note: None,
            drill: None,
        }
    }

    fn check(entries: Vec<Entry>, undo: &[u8], redo: &[u8]) {
        let log: Vec<Indexed> = (0..).zip(entries).map(|(index, entry)| (index, ObjectId([0; 32]), entry)).collect();
        let steps = steps(&log, &log[0].2.source);
        let befores = |steps: &[Step]| steps.iter().map(|step| step.before.0[0]).collect::<Vec<_>>();
        assert_eq!((befores(&steps.undo), befores(&steps.redo)), (undo.to_vec(), redo.to_vec()));
    }

    #[test]
    fn undo_goes_back_step_by_step_and_redo_forward() {
        use OperationKind::{Migrate, Redo, Rollback, Snapshot, Undo};
        check(vec![entry(Migrate, 1, 2), entry(Migrate, 2, 3)], &[1, 2], &[]);
        check(vec![entry(Migrate, 1, 2), entry(Migrate, 2, 3), entry(Undo, 3, 2)], &[1], &[2]);
        check(vec![entry(Migrate, 1, 2), entry(Migrate, 2, 3), entry(Undo, 3, 2), entry(Undo, 2, 1)], &[], &[2, 1]);
        check(vec![entry(Migrate, 1, 2), entry(Undo, 2, 1), entry(Redo, 1, 2)], &[1], &[]);
        check(vec![entry(Migrate, 1, 2), entry(Undo, 2, 1), entry(Rollback, 1, 5)], &[1], &[]);
        check(vec![entry(Snapshot, 1, 2), entry(Migrate, 3, 3)], &[], &[]);
    }

    #[test]
    fn undoing_a_rolled_back_migration_brings_back_what_it_left() {
        let mut rolled_back = entry(OperationKind::Migrate, 1, 1);
        rolled_back.result = Some(OperationResult::RolledBack);
        rolled_back.failed = Some(ObjectId([9; 32]));
        check(vec![rolled_back], &[9], &[]);
    }
}
