//! The proof that a snapshot restores: into a scratch database that is empty at first, compared by ids, checked by the engine, and written to.
//!
//! That the scratch database is empty at the beginning is looked at, so that what is found in it afterwards can only come from the snapshot. It is read
//! once more after the commit, by a connection of its own: what was proven inside the restoring transaction is not believed. Nothing but the scratch
//! database is written.

use std::time::Duration;

use serde::Serialize;

use super::capture::{self, References, Rules, State};
use super::journal::Drilled;
use super::{OpError, Session, rollback, with_causes};
use crate::engine::{EngineError, Finding, Trial, TrialOutcome};
use crate::schema::TableKind;
use crate::store::BatchMode;

/// What a drill showed.
#[derive(Debug, Clone, Serialize)]
pub struct Drill {
    /// What was done, and how long it took.
    #[serde(flatten)]
    pub drilled: Drilled,
    /// What speaks against it: the snapshot is not proven where there is any.
    pub failures: Vec<String>,
    /// What the engine's checks found, damage or not: a snapshot restores with the orphans that it has.
    pub findings: Vec<Finding>,
    /// What became of the row that was to be written into each table.
    pub trials: Vec<Trial>,
    /// What the engine cannot put back, and is no part of the proof.
    pub limits: Vec<String>,
}

impl Drill {
    /// Tells whether the snapshot is proven restorable.
    pub fn is_proof(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Restores a state into a scratch database, and tries it. Who made the scratch database's place takes it away.
///
/// # Errors
/// What says nothing of the snapshot: there is no room for the scratch database, it cannot be reached. What does is in the [`Drill`].
pub fn run(scratch: &Session<'_>, state: &State) -> Result<Drill, OpError> {
    let begun = scratch.clock();
    let rows = state.rows();
    let tables = state.schema.tables.iter().filter(|table| table.kind == TableKind::Ordinary).count() as u64;
    let mut drill = Drill {
        drilled: Drilled { restored_ms: 0, ms: 0, rows, tables, written: 0 },
        failures: Vec::new(),
        findings: Vec::new(),
        trials: Vec::new(),
        limits: Vec::new(),
    };
    let tried = try_out(scratch, state, &mut drill);
    drill.drilled.ms = millis(scratch.since(begun));
    match tried {
        Ok(()) => Ok(drill),
        Err(error) if is_about_the_snapshot(&error) => {
            drill.failures.push(with_causes(&error));
            Ok(drill)
        }
        Err(error) => Err(error),
    }
}

fn try_out(scratch: &Session<'_>, state: &State, drill: &mut Drill) -> Result<(), OpError> {
    let begun = scratch.clock();
    let mut engine = (scratch.create)(&state.settings)?;
    {
        let found = engine.begin_read()?.schema()?;
        if let Some(table) = found.tables.first() {
            let words = format!("the scratch database is not empty: it has table `{}`", table.name);
            return Err(EngineError::Unsupported(words).into());
        }
    }
    let (plan, _) = rollback::restore(scratch, &mut *engine, state)?;
    drop(engine);
    drill.drilled.restored_ms = millis(scratch.since(begun));
    drill.limits = plan.limits;
    let mut engine = (scratch.open)()?;
    let found = {
        let mut read = engine.begin_read()?;
        let references = References { rules: Some(state), known: None };
        capture::read_state(&mut *read, scratch.store, BatchMode::IdsOnly, references, Rules::Keep, scratch.progress)?.0
    };
    compare(state, &found, drill);
    let tried = engine.try_out(&found.schema)?;
    let is_damage = |finding: &&Finding| finding.check == "integrity";
    drill.failures.extend(tried.findings.iter().filter(is_damage).map(|finding| format!("the engine's check: {}", finding.message)));
    for trial in &tried.trials {
        match &trial.outcome {
            TrialOutcome::Written => drill.drilled.written += 1,
            TrialOutcome::NotWritten(_) => {}
            TrialOutcome::Failed(why) => drill.failures.push(format!("a row written into table `{}`: {why}", trial.table)),
        }
    }
    drill.findings = tried.findings;
    drill.trials = tried.trials;
    Ok(())
}

/// Holds what stands in the scratch database against the snapshot.
fn compare(state: &State, found: &State, drill: &mut Drill) {
    if state.is_same(found) {
        return;
    }
    let before = drill.failures.len();
    for (id, manifest) in &state.tables {
        match found.table(&manifest.name) {
            None => drill.failures.push(format!("table `{}` is not in the restored database", manifest.name)),
            Some((other, restored)) if other != id && restored.cut == manifest.cut && is_comparable(manifest, restored) => {
                drill.failures.push(format!("table `{}` is not what the snapshot has", manifest.name));
            }
            Some(_) => {}
        }
    }
    if !state.schema.is_same(&found.schema) {
        let object = state.schema.contradicted_by(&found.schema, &|_| true).unwrap_or_else(|| "an object".to_owned());
        drill.failures.push(format!("the restored schema is not the snapshot's: {object}"));
    }
    if !capture::exact_settings(&state.settings).eq(capture::exact_settings(&found.settings)) {
        drill.failures.push("the restored settings are not the snapshot's".to_owned());
    }
    let extra = found.tables.iter().filter(|(_, manifest)| state.table(&manifest.name).is_none());
    drill.failures.extend(extra.map(|(_, manifest)| format!("table `{}` is in the restored database alone", manifest.name)));
    if drill.failures.len() == before && state.format == found.format {
        drill.failures.push("the order of the restored tables is not the snapshot's".to_owned());
    }
}

/// Tells whether two manifests have the same columns; one of an earlier format may lack some, and then says nothing by its id.
fn is_comparable(a: &crate::snapshot::manifest::TableManifest, b: &crate::snapshot::manifest::TableManifest) -> bool {
    a.columns.len() == b.columns.len()
}

/// Tells whether an error says something of the snapshot, and not only of the place where it was tried.
fn is_about_the_snapshot(error: &OpError) -> bool {
    match error {
        OpError::Engine(error) => {
            matches!(error, EngineError::Damaged(_) | EngineError::Statement { .. } | EngineError::Lacks(_) | EngineError::Input(_))
        }
        OpError::Store(error) => matches!(error, crate::store::StoreError::Missing(_) | crate::store::StoreError::Damaged { .. }),
        OpError::Compare(_) | OpError::Format { .. } | OpError::NotProven { .. } | OpError::Unwritable(_) => true,
        _ => false,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
