//! `dbelay restore --validate-only`: everything that a restore needs is looked at, and nothing is written.

use std::io::Write;
use std::path::Path;

use dbelay::engine::Engine;
use dbelay::engine::sqlite::scratch::Scratch;
use dbelay::id::ObjectId;
use dbelay::ops::capture::State;
use dbelay::ops::validate::validate;
use serde_json::json;

use super::is_empty;
use crate::cli::database::Database;
use crate::cli::output::{ERROR, GOOD};
use crate::cli::project::{self, Project};
use crate::cli::time::{bytes, counted};
use crate::cli::{CliError, Context, Exit};

/// Runs it; `target` is where the snapshot would go.
pub fn run(cx: &Context, project: &Project<'_>, id: ObjectId, state: &State, target: Option<&Database>) -> Result<Exit, CliError> {
    let is_sqlite = project.source().is_ok_and(|source| source.engine == "sqlite");
    let options = target.and_then(Database::sqlite_options).unwrap_or_default();
    let mut scratch = if is_sqlite { Some(Scratch::new(&state.settings, &options)?) } else { None };
    let mut opened = match target.filter(|_| !is_sqlite) {
        Some(target) if target.exists()? => Some(target.open()?),
        _ => None,
    };
    let engine: Option<&mut dyn Engine> = match (&mut scratch, &mut opened) {
        (Some(scratch), _) => Some(scratch.engine()),
        (None, Some(opened)) => Some(&mut **opened),
        (None, None) => None,
    };
    let mut found = validate(state, &project.store, engine, project.progress())?;
    drop(opened);
    if let Some(target) = target {
        if !is_empty(target, target.exists()?)? {
            found.problems.push(format!("`{}` exists and is not empty", target.shown()));
        }
        if let Some(path) = target.file() {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if !folder.is_dir() {
                found.problems.push(format!("there is no folder `{}`", folder.display()));
            } else if let Some(room) = dbelay::durable::free_bytes(folder).filter(|room| *room < found.bytes) {
                found.problems.push(format!(
                    "about {} are needed, and {} are free in `{}`",
                    bytes(found.bytes),
                    bytes(room),
                    folder.display()
                ));
            }
        }
    }
    let exit = if found.problems.is_empty() { Exit::DONE } else { Exit::FOUND };
    if cx.output.is_json() {
        cx.output.json(&json!({
            "valid": found.problems.is_empty(),
            "snapshot": id,
            "to": target.map(|target| target.source.place.as_str()),
            "tables": state.tables.len(),
            "rows": found.rows,
            "bytes": found.bytes,
            "problems": found.problems,
        }))?;
        return Ok(exit);
    }
    let mut out = cx.output.out();
    for problem in &found.problems {
        writeln!(out, "{ERROR}problem{ERROR:#}: {problem}")?;
    }
    let read =
        format!("{}, {} of {} read and decoded", counted(state.tables.len() as u64, "table"), counted(found.rows, "row"), project::id(&id));
    match target {
        _ if !found.problems.is_empty() => writeln!(out, "a restore would fail: {read}")?,
        Some(target) => writeln!(out, "{GOOD}valid{GOOD:#}: {read}; `{}` can take them. Nothing was written", target.shown())?,
        None => writeln!(out, "{GOOD}valid{GOOD:#}: {read}. Nothing was written")?,
    }
    out.finish()?;
    Ok(exit)
}
