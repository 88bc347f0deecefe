//! What is told of a migration: what it did, what speaks against it, in what state the database is, and what to do next.

use dbelay::ops::guard::GuardResult;
use dbelay::ops::journal::OperationResult;
use dbelay::ops::migrate::{Aftermath, CommandEnd, Judgement, Outcome};
use dbelay::ops::verdict::{Loss, Verdict};
use dbelay::render::text;

use crate::cli::output::{ADDED, CHANGED, DIM, HEADING, REMOVED};
use crate::cli::table::{Align, Table};
use crate::cli::{CliError, Context, DatabaseState, ErrorKind};

/// How many losses an error names.
pub(super) const LOSSES_MAX: usize = 10;

/// Prints what a migration did.
pub(super) fn summary(cx: &Context, judgement: &Judgement) -> Result<(), CliError> {
    let output = &cx.output;
    let Judgement { schema, verdict, guards, .. } = judgement;
    if !schema.is_empty() {
        output.say(format_args!("{HEADING}schema{HEADING:#}"));
        for line in schema.lines() {
            let style = match line.as_bytes().first() {
                Some(b'+') => ADDED,
                Some(b'-') => REMOVED,
                _ => CHANGED,
            };
            output.say(format_args!("  {style}{}{style:#}", text::clean(&line)));
        }
    }
    if verdict.changes.iter().any(|change| !change.is_ledger) {
        output.say(format_args!("{HEADING}rows{HEADING:#}"));
        let mut table = Table::new(&[Align::Left, Align::Left, Align::Left]);
        for change in verdict.changes.iter().filter(|change| !change.is_ledger) {
            let touched = text::columns_touched(&change.pair, &change.counts);
            let columns = if touched.is_empty() { String::new() } else { format!("({})", touched.join(", ")) };
            table.line(anstyle::Style::new(), [text::title(&change.pair), text::sentence(&change.pair, &change.counts), columns]);
        }
        let mut lines = Vec::new();
        table.write("  ", &mut lines)?;
        for line in String::from_utf8_lossy(&lines).lines() {
            output.say(line);
        }
    }
    for change in verdict.changes.iter().filter(|change| change.is_ledger) {
        output.say(format_args!("{DIM}ledger: {}{DIM:#}", text::clean(&change.ledger_sentence())));
    }
    for moved in &verdict.moved {
        output.say(format_args!("moved: {}", text::clean(&moved.sentence())));
    }
    for remark in &verdict.remarks {
        output.say(format_args!("{DIM}remark: {}{DIM:#}", text::clean(remark)));
    }
    for loss in verdict.losses.iter().filter(|loss| loss.allowed) {
        output.say(format_args!("{DIM}allowed: {}{DIM:#}", text::clean(&loss.sentence())));
    }
    if let (count @ 1.., 0) = (guards.len(), judgement.broken_guards().count()) {
        let (noun, verb) = if count == 1 { ("guard", "holds") } else { ("guards", "hold") };
        output.say(format_args!("{DIM}{count} {noun} {verb}{DIM:#}"));
    }
    Ok(())
}

/// Says what went wrong, and why. `at` says where, with a trailing blank; else it is empty.
pub(super) fn what_went_wrong(end: &CommandEnd, aftermath: &Aftermath, words: &str, at: &str) -> (String, Vec<String>) {
    let what = match aftermath {
        Aftermath::Unreadable(_) => format!("after the command ({words}) {at}the database cannot be read"),
        _ if end.is_timed_out => format!("{at}the migration command took too long ({words})"),
        _ if end.is_interrupted => format!("{at}the migration was interrupted ({words})"),
        _ if !end.is_success() => format!("{at}the migration command failed ({words})"),
        Aftermath::Changed(judgement) if judgement.is_emptied() => format!("{at}the migration emptied the database (command {words})"),
        Aftermath::Changed(judgement) if judgement.verdict.unannounced().next().is_some() => {
            format!("{at}the migration lost data (command {words})")
        }
        Aftermath::Changed(judgement) if judgement.broken_guards().next().is_some() => {
            format!("{at}the migration broke a guard (command {words})")
        }
        _ => format!("{at}the migration damaged the database (command {words})"),
    };
    let causes = match aftermath {
        Aftermath::Unchanged => Vec::new(),
        Aftermath::Changed(judgement) => causes(judgement),
        Aftermath::Unreadable(error) => vec![text::clean(&error.to_string())],
    };
    (what, causes)
}

/// Returns what speaks against what happened: losses, guards, damage.
pub(super) fn causes(judgement: &Judgement) -> Vec<String> {
    let losses: Vec<&Loss> = judgement.verdict.unannounced().collect();
    let mut causes: Vec<String> = losses.iter().take(LOSSES_MAX).map(|loss| sentence(loss)).collect();
    if losses.len() > LOSSES_MAX {
        causes.push(format!("and {} more losses", losses.len() - LOSSES_MAX));
    }
    causes.extend(judgement.broken_guards().map(GuardResult::sentence).map(|text| text::clean(&text)));
    causes.extend(judgement.damage.iter().map(|finding| text::clean(&finding.message)));
    causes
}

/// Builds an error with causes, the first one first.
pub(super) fn chain(kind: ErrorKind, message: String, causes: Vec<String>) -> CliError {
    let error = causes.into_iter().rev().fold(None, |error: Option<CliError>, text| {
        Some(match error {
            None => CliError::new(kind, text),
            Some(error) => error.context(text),
        })
    });
    match error {
        None => CliError::new(kind, message),
        Some(error) => error.context(message).kind(kind),
    }
}

pub(super) fn failure(outcome: &Outcome, words: &str) -> CliError {
    let (what, mut causes) = what_went_wrong(&outcome.end, &outcome.aftermath, words, "");
    let pre = outcome.pre.id.short();
    let is_unchanged = matches!(outcome.aftermath, Aftermath::Unchanged);
    let (now, kind, state) = match outcome.result {
        _ if is_unchanged => {
            (format!("the database is unchanged, equal to snapshot {pre}"), ErrorKind::RolledBack, DatabaseState::Unchanged)
        }
        OperationResult::RolledBack => {
            (format!("the database was rolled back to snapshot {pre} and verified"), ErrorKind::RolledBack, DatabaseState::RolledBack)
        }
        _ => ("the database was not rolled back".to_owned(), ErrorKind::NotRolledBack, DatabaseState::Changed),
    };
    let kind = if outcome.end.is_interrupted && kind == ErrorKind::RolledBack { ErrorKind::Interrupted } else { kind };
    if let Some(error) = &outcome.rollback_error {
        causes.push(format!("the rollback failed: {}", dbelay::ops::with_causes(error)));
    }
    chain(kind, format!("{what}; {now}"), causes).state(state).hint(hint(outcome, is_unchanged))
}

fn sentence(loss: &Loss) -> String {
    let mut text = text::clean(&loss.sentence());
    if !loss.examples.is_empty() {
        text.push_str(&format!(" ({})", text::clean(&loss.examples.join("; "))));
    }
    text
}

/// Writes an option so that a shell takes it as it is.
fn allowance(name: &str) -> String {
    match shlex::try_quote(name) {
        // A name with a comma would be taken for two.
        Ok(_) if name.contains(',') => format!("(`allow = [{name:?}]` under [migrate] in dbelay.toml)"),
        Ok(quoted) if name.starts_with('-') => format!("--allow={quoted}"),
        Ok(quoted) => format!("--allow {quoted}"),
        Err(_) => "(in dbelay.toml)".to_owned(),
    }
}

/// Returns the options that announce the losses; none where there are none.
pub(super) fn allowances(verdict: &Verdict) -> Option<String> {
    let mut allowances: Vec<String> = verdict.unannounced().map(|loss| allowance(&loss.allowance())).collect();
    allowances.dedup();
    (!allowances.is_empty()).then(|| allowances.join(" "))
}

fn hint(outcome: &Outcome, is_unchanged: bool) -> String {
    let has_file = outcome.pre.snapshot.source.engine == "sqlite";
    if let Aftermath::Unreadable(_) = &outcome.aftermath
        && outcome.result != OperationResult::RolledBack
    {
        let (to, what) = if has_file { ("NEW.db", "file") } else { ("URL", "database") };
        return format!("`dbelay restore {} --to {to}` writes the state before it into a new {what}", outcome.pre.id.short());
    }
    let are_files_left = outcome.files.as_ref().is_some_and(|files| !files.changes.is_empty() && files.back.is_none());
    if is_unchanged && are_files_left {
        return "what the command said is above; `dbelay rollback pre --with-files` puts the files back".to_owned();
    }
    if is_unchanged {
        return "what the command said is above; nothing has to be undone".to_owned();
    }
    let allow = match &outcome.aftermath {
        Aftermath::Changed(judgement) if outcome.end.is_success() => allowances(&judgement.verdict),
        _ => None,
    };
    let allow = allow.map(|allow| format!("; if the loss is intended: `dbelay migrate {allow} -- ...`"));
    if let (Aftermath::Unreadable(_), OperationResult::RolledBack) = (&outcome.aftermath, outcome.result) {
        let held = if has_file { "the old file open" } else { "a connection to the old one" };
        return format!("it was made anew from the snapshot; programs that had {held} must be started anew");
    }
    match outcome.result {
        OperationResult::RolledBack => format!("`dbelay diff pre failed` shows what it did{}", allow.unwrap_or_default()),
        _ => {
            let engine = &outcome.pre.snapshot.source.engine;
            let help = outcome.rollback_error.as_ref().and_then(|error| crate::cli::report::help(error, engine));
            let first = help.map_or_else(String::new, |help| format!("{help}; then "));
            format!("{first}`dbelay rollback pre` puts everything back, `dbelay diff pre live` shows what the command did")
        }
    }
}
