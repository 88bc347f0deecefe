//! `dbelay fsck --repair`: saves what is whole out of a damaged store, and says what is gone.

use std::io::Write;
use std::path::PathBuf;

use dbelay::ops::journal::{self, OperationKind, OperationResult};
use dbelay::ops::{fsck, repair};
use dbelay::snapshot::manifest::SourceName;
use dbelay::store::{ConfigFate, FsckDepth, Store, StoreError, look_at_config, write_config};
use serde_json::{Value, json};

use super::write_report;
use crate::cli::output::{DIM, GOOD, HEADING, Out};
use crate::cli::project::{Need, Project, STORE_DIR, find_store, read_config};
use crate::cli::time::counted;
use crate::cli::verify::write_broken;
use crate::cli::{CliError, Context, ErrorKind, Exit};

/// Runs the command.
pub fn run(cx: &Context) -> Result<Exit, CliError> {
    let config = mend_config(cx)?;
    if cx.global.dry_run && config.is_some() {
        // Without it nothing else can be looked at.
        if cx.output.is_json() {
            cx.output.json(&json!({ "dry_run": true, "config": config }))?;
        }
        return Ok(Exit::FOUND);
    }
    let project = Project::open(cx, Need::Existing)?;
    let _lock = project.lock("fsck --repair")?;
    let plan = repair::plan(&project.store, project.progress())?;
    if cx.global.dry_run {
        if cx.output.is_json() {
            let mut document = json!(plan);
            document["dry_run"] = json!(true);
            cx.output.json(&document)?;
        } else {
            let mut out = cx.output.out();
            write_plan(&mut out, &plan, "would ")?;
            out.finish()?;
        }
        let is_sound = plan.files.is_empty() && plan.broken.is_empty();
        return Ok(if is_sound { Exit::DONE } else { Exit::FOUND });
    }
    if !plan.files.is_empty() {
        plan.files.execute(project.progress())?;
        let source = project.source().unwrap_or_else(|_| SourceName { engine: String::new(), place: String::new() });
        let mut entry = project.entry(OperationKind::Repair, source, OperationResult::Done);
        entry.note = Some(plan.note());
        journal::write(&project.store, &entry)?;
    }
    let repaired = Store::open(project.store.dir())?;
    let report = fsck::fsck(&repaired, FsckDepth::ReadData, project.progress())?;
    let exit = if report.damage.is_empty() { Exit::DONE } else { Exit::FOUND };
    if cx.output.is_json() {
        let mut document = json!(plan);
        document["config"] = json!(config);
        document["after"] = json!(report);
        cx.output.json(&document)?;
        return Ok(exit);
    }
    let mut out = cx.output.out();
    write_plan(&mut out, &plan, "")?;
    write_report(&mut out, &report, FsckDepth::ReadData)?;
    out.finish()?;
    if !plan.files.packs.is_empty() || !plan.files.aside.is_empty() || plan.files.log.is_some() {
        cx.output.note(format_args!("what was taken out stands in `{}`", repaired.dir().join("damaged").display()));
    }
    if !report.broken.is_empty() {
        cx.output.note(
            "`dbelay snapshot` of the live database puts back what it still has of it; `dbelay fsck --read-data` says what then is left",
        );
    }
    Ok(exit)
}

fn write_plan(out: &mut Out, plan: &repair::Plan, would: &str) -> Result<(), CliError> {
    let files = &plan.files;
    if files.is_empty() {
        writeln!(out, "{GOOD}nothing to repair{GOOD:#}")?;
    }
    for folder in &files.folders {
        writeln!(out, "{would}make `{folder}`")?;
    }
    for pack in &files.packs {
        writeln!(out, "{would}take out {}: {}", pack.path, pack.what)?;
        let lost =
            if pack.lost.is_empty() { String::new() } else { format!("; {} cannot be read", counted(pack.lost.len() as u64, "object")) };
        let known = if pack.known == 0 { String::new() } else { format!(", {} of which others have a copy", pack.known) };
        writeln!(out, "    {DIM}{} saved{known}{lost}{DIM:#}", counted(pack.saved, "object"))?;
    }
    for path in &files.mended {
        writeln!(out, "{would}write {path} as it was: one bit of it was turned")?;
    }
    for aside in &files.aside {
        writeln!(out, "{would}take out {}: {}", aside.path, aside.what)?;
    }
    if let Some(log) = &files.log {
        let kept = counted(log.kept, "entry");
        writeln!(out, "{would}cut the operation log at line {}: {}; {kept} of it stay", log.line, log.what)?;
    }
    if !would.is_empty() {
        for broken in &plan.broken {
            write_broken(out, broken)?;
        }
        writeln!(out, "{HEADING}afterwards{HEADING:#} {} whole, {} not", counted(plan.whole.len() as u64, "snapshot"), plan.broken.len())?;
    }
    Ok(())
}

/// Mends a store's `config.json` where that can be done, without which nothing else can be read; returns what was done.
fn mend_config(cx: &Context) -> Result<Option<Value>, CliError> {
    let config = read_config(cx)?;
    let (found, exists) = find_store(cx, config.as_ref(), None);
    // A store without its config is found by its name alone.
    let by_name = || cx.environment.cwd.ancestors().map(|folder| folder.join(STORE_DIR)).find(|dir| dir.is_dir());
    let dir: PathBuf = if exists || cx.global.store.is_some() || config.is_some() { found } else { by_name().unwrap_or(found) };
    let fate = match look_at_config(&dir) {
        // What there is to say of it is said when it is opened.
        Err(StoreError::NoStore(_)) => return Ok(None),
        fate => fate?,
    };
    let (said, word) = match &fate {
        ConfigFate::Sound => return Ok(None),
        ConfigFate::Mended(_) => ("config.json as it was: one bit of it was turned", "mended"),
        ConfigFate::Anew => ("a new config.json with another id of the store: everything else tells what it must be", "anew"),
        ConfigFate::Lost(why) => {
            return Err(CliError::new(ErrorKind::Damaged, format_args!("config.json cannot be made anew: {why}"))
                .hint("put a copy of the file back from where the store was copied to"));
        }
    };
    if cx.global.dry_run {
        cx.output.say(format_args!("would write {said}; then the rest can be looked at"));
        return Ok(Some(json!(word)));
    }
    let mut id = [0; 16];
    (cx.environment.random)(&mut id);
    write_config(&dir, &fate, id)?;
    cx.output.say(format_args!("wrote {said}"));
    Ok(Some(json!(word)))
}
