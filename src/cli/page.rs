//! `migrate --report`: gathers what is told of a migration, and writes the page.

use std::path::Path;
use std::time::Duration;

use dbelay::check::{self, Finding};
use dbelay::ops::Session;
use dbelay::ops::compare::Comparison;
use dbelay::ops::migrate::{Aftermath, CommandEnd, FileEvent};
use dbelay::render::html::Role;
use dbelay::render::html::report::{
    Ending, Guard, NamedSnapshot, Report, ReportedLoss, ReportedTable, RuleFinding, Severity, Timing, page,
};
use dbelay::schema::diff::{SchemaDiff, unified};

use super::project::Project;
use super::{CliError, DatabaseState, Exit, snapshot, time};

/// How many changed rows of a table the page shows.
const ROWS_SHOWN: usize = 20;

/// What the page is about.
pub struct Told<'a> {
    /// The snapshot before.
    pub pre: &'a dbelay::ops::capture::Taken,
    /// Further snapshots: name and id.
    pub others: Vec<NamedSnapshot>,
    /// The command's end, and how it is said.
    pub end: &'a CommandEnd,
    /// The same in words.
    pub words: &'a str,
    /// What it did.
    pub aftermath: &'a Aftermath,
    /// What it did to the file.
    pub events: &'a [FileEvent],
    /// What else is worth knowing.
    pub remarks: Vec<String>,
    /// How long each part took.
    pub timings: Vec<(&'static str, Duration)>,
    /// The last of what it printed.
    pub output: &'a str,
    /// What the rules found before it.
    pub findings: &'a [Finding],
    /// Whether all that happened on a scratch copy.
    pub is_rehearsal: bool,
}

/// Writes the page. `result` is what the command line ends with.
///
/// # Errors
/// Where the page cannot be written, or the store cannot be read.
pub fn write(
    project: &Project<'_>,
    session: &Session<'_>,
    path: &Path,
    told: Told<'_>,
    result: &Result<Exit, CliError>,
) -> Result<(), CliError> {
    let (schema, ddl, tables) = match told.aftermath {
        Aftermath::Changed(judgement) => {
            let comparison = Comparison::new(session.store, &told.pre.state, &judgement.state)?;
            let mut tables = Vec::new();
            for change in &judgement.verdict.changes {
                let role = if change.is_ledger { Role::Ledger } else { Role::Ordinary };
                let rows = comparison.examples(&change.pair, ROWS_SHOWN)?;
                tables.push(ReportedTable { pair: change.pair.clone(), counts: change.counts.clone(), role, rows });
            }
            let ddl = unified(&told.pre.state.schema, &judgement.state.schema, "before", "after");
            (judgement.schema.clone(), ddl, tables)
        }
        _ => (SchemaDiff::default(), String::new(), Vec::new()),
    };
    let (losses, guards) = match told.aftermath {
        Aftermath::Changed(judgement) => (judgement.verdict.losses.as_slice(), judgement.guards.as_slice()),
        _ => (&[][..], &[][..]),
    };
    let is_unchanged = matches!(told.aftermath, Aftermath::Unchanged);
    let (ending, headline, hint) = match result {
        Ok(_) if is_unchanged => (Ending::Unchanged, "the command changed nothing".to_owned(), None),
        Ok(_) if told.is_rehearsal => (Ending::Done, "the rehearsal went well: nothing speaks against the migration".to_owned(), None),
        Ok(_) => (Ending::Done, "nothing speaks against what the migration did".to_owned(), Some("`dbelay rollback` puts everything back")),
        Err(error) => {
            let ending = match error.database_state {
                Some(DatabaseState::Unchanged) if is_unchanged || told.is_rehearsal => Ending::FailedUnchanged,
                Some(DatabaseState::RolledBack | DatabaseState::Unchanged) => Ending::RolledBack,
                _ => Ending::NotRolledBack,
            };
            (ending, error.error.to_string(), error.hint.as_deref())
        }
    };
    let mut remarks: Vec<String> = told.events.iter().map(FileEvent::sentence).collect();
    if let Aftermath::Changed(judgement) = told.aftermath {
        remarks.extend(judgement.verdict.moved.iter().map(|moved| format!("moved: {}", moved.sentence())));
        remarks.extend(judgement.verdict.remarks.iter().cloned());
    }
    remarks.extend(told.remarks);
    let mut snapshots = vec![NamedSnapshot { name: "pre".to_owned(), id: told.pre.id, holds: snapshot::holds(told.pre) }];
    snapshots.extend(told.others);
    let report = Report {
        ending,
        headline,
        hint: hint.map(str::to_owned),
        database: project.url.as_ref().map(ToString::to_string).unwrap_or_default(),
        origin: told.pre.snapshot.origin.clone(),
        message: told.pre.snapshot.message.clone(),
        time: time::stamp_text(&told.pre.snapshot.time),
        end: if told.end.is_interrupted { "interrupted".to_owned() } else { told.words.to_owned() },
        timings: told.timings.into_iter().map(|(name, duration)| Timing { name: name.to_owned(), duration }).collect(),
        snapshots,
        losses: losses
            .iter()
            .map(|loss| ReportedLoss { sentence: loss.sentence(), examples: loss.examples.clone(), allowed: loss.allowed })
            .collect(),
        remarks,
        guards: guards
            .iter()
            .map(|guard| Guard { name: guard.name.clone(), passed: guard.holds, message: guard.message.clone() })
            .collect(),
        findings: told.findings.iter().map(found).collect(),
        schema,
        ddl,
        tables,
        output: told.output.to_owned(),
    };
    let path = project.cx.environment.cwd.join(path);
    // Rows are in it.
    dbelay::durable::write(&path, page(&report).as_bytes())?;
    project.cx.output.say(format_args!("the report is `{}`", path.display()));
    Ok(())
}

fn found(finding: &Finding) -> RuleFinding {
    RuleFinding {
        rule: finding.rule.to_owned(),
        severity: match finding.severity {
            check::Severity::Error => Severity::Error,
            check::Severity::Warning => Severity::Warning,
        },
        place: format!("{}:{}", finding.path, finding.line),
        message: finding.message.clone(),
        help: finding.instead.clone(),
    }
}
