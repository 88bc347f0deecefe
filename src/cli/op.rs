//! `dbelay op log`: the operation log.

use std::io::Write;

use dbelay::id::ObjectId;
use dbelay::ops::journal::{self, Entry, OperationResult, Phase};
use dbelay::render::text;
use serde_json::{Value, json};

use super::output::{DIM, HEADING};
use super::project::{Need, Project};
use super::show::short;
use super::table::{Align, Table};
use super::time::{counted, stamp_text};
use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay op log
  dbelay op log -n 5 --json";

/// Look at the operations: who did what, when, from which state to which, and with what result
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What of them.
    #[command(subcommand)]
    pub command: OpCommand,
}

/// What to do with the operations.
#[derive(Debug, clap::Subcommand)]
pub enum OpCommand {
    Log(LogArgs),
}

/// List operations, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct LogArgs {
    /// Print at most so many
    #[arg(short = 'n', long = "number", value_name = "N")]
    pub number: Option<usize>,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    match &args.command {
        OpCommand::Log(args) => log(args, cx),
    }
}

/// An operation: its end, or its beginning where it has none.
struct Operation {
    index: u64,
    id: ObjectId,
    began: Option<String>,
    entry: Entry,
    is_open: bool,
}

/// Runs `dbelay op log`.
pub fn log(args: &LogArgs, cx: &Context) -> Result<Exit, CliError> {
    let project = Project::open(cx, Need::Existing)?;
    let log = journal::read(&project.store)?;
    let mut operations = Vec::new();
    for (index, id, entry) in &log {
        let ended = entry.phase == Phase::Begin && log.iter().any(|(_, _, end)| end.begin == Some(*index));
        if ended {
            continue;
        }
        let began = entry.begin.and_then(|begin| log.iter().find(|(index, _, _)| *index == begin)).map(|(_, _, begin)| begin.time.clone());
        operations.push(Operation { index: *index, id: *id, began, entry: entry.clone(), is_open: entry.phase == Phase::Begin });
    }
    operations.reverse();
    operations.truncate(args.number.unwrap_or(usize::MAX));
    if cx.output.is_json() {
        let list: Vec<Value> = operations
            .iter()
            .map(|operation| {
                json!({
                    "index": operation.index, "id": operation.id, "began": operation.began, "open": operation.is_open, "entry": operation.entry,
                })
            })
            .collect();
        cx.output.json(&json!({ "operations": list }))?;
        return Ok(Exit::DONE);
    }
    let mut table = Table::new(&[Align::Right, Align::Left, Align::Left, Align::Left, Align::Left, Align::Left]);
    table.line(HEADING, ["#", "time", "operation", "result", "from -> to", "by"]);
    for operation in &operations {
        let entry = &operation.entry;
        let way = match (entry.before, entry.after) {
            (Some(from), Some(to)) if entry.failed.is_some() => format!("{} -> {} -> {}", from.short(), short(entry.failed), to.short()),
            (None, None) if !entry.forgotten.is_empty() => counted(entry.forgotten.len() as u64, "snapshot"),
            (None, None) => String::new(),
            (None, to) => short(to),
            (from, to) => format!("{} -> {}", short(from), short(to)),
        };
        let by = [entry.user.as_str(), entry.host.as_str()].join("@");
        table.line(
            anstyle::Style::new(),
            [
                operation.index.to_string(),
                stamp_text(&entry.time),
                entry.kind.word().to_owned(),
                result(operation).to_owned(),
                way,
                by.trim_matches('@').to_owned(),
            ],
        );
        let said = if entry.command.is_empty() { entry.note.clone().unwrap_or_default() } else { entry.command.join(" ") };
        if !said.is_empty() {
            table.line(DIM, [String::new(), String::new(), text::clean(&said)]);
        }
    }
    let mut out = cx.output.paged();
    if operations.is_empty() {
        cx.output.say("no operations");
    } else {
        write_lines(&table, &mut out)?;
    }
    out.finish()?;
    Ok(Exit::DONE)
}

fn write_lines(table: &Table, out: &mut dyn Write) -> Result<(), CliError> {
    Ok(table.write("", out)?)
}

fn result(operation: &Operation) -> &'static str {
    match operation.entry.result {
        _ if operation.is_open => "open",
        Some(OperationResult::Done) => "done",
        Some(OperationResult::RolledBack) => "rolled back",
        Some(OperationResult::Kept) => "kept",
        Some(OperationResult::Failed) => "failed",
        Some(OperationResult::Abandoned) => "abandoned",
        None => "",
    }
}
