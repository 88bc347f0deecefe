//! `dbelay query`: read-only SQL over a snapshot.

use std::io::Write;
use std::ops::ControlFlow;

use anstyle::Style;
use dbelay::engine::Engine;
use dbelay::id::ObjectId;
use dbelay::ops::capture::State;
use dbelay::ops::{compare, query};
use dbelay::render::text::number;
use dbelay::render::{self, csv};
use dbelay::schema::Settings;
use dbelay::snapshot::select::Target;
use dbelay::store::BatchMode;
use dbelay::value::Value;

use super::database::Database;
use super::output::{DIM, HEADING, Out};
use super::project::{Need, Project};
use super::table::{Align, Table};
use super::time::counted;
use super::{CliError, Context, ErrorKind, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay query HEAD \"SELECT count(*) FROM users\"
  dbelay query pre \"SELECT * FROM orders WHERE total > 100\" --format csv > orders.csv
  dbelay query live \"SELECT name FROM users\" --limit 10";

/// How many rows a table on the screen has, where nothing else is said.
const TABLE_ROWS_MAX: u64 = 1_000;

/// How many rows of a server's answer are taken, where nothing else is said.
const SERVER_ROWS_MAX: u64 = 100_000;

/// How many rows a server can be asked for at all.
const FETCHED_MAX: usize = 2_147_483_646;

/// What scratch databases on a server are called, before a number. Those that a crash left are dropped with the ones of rehearsals.
const SCRATCH: &str = "dbelay_rehearsal_";

/// Ask a snapshot a question in SQL
///
/// The question is one statement that reads. It is asked of a scratch database that has the snapshot's schema, and rows in the tables that the
/// question names; neither the snapshot nor the database is touched. A SQLite snapshot needs no more than the store. A PostgreSQL snapshot is asked on the
/// server of the database, in a scratch database beside it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which snapshot: live, HEAD, HEAD~2, an id, a tag, pre, post, failed, @{2 hours ago}
    pub snapshot: String,
    /// The question
    pub sql: String,
    /// In which form [default: table, or json with --json]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// At most so many rows [default: 1000 as a table]
    #[arg(long, value_name = "ROWS")]
    pub limit: Option<u64>,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns
    Table,
    /// Comma-separated values with a header
    Csv,
    /// One JSON document
    Json,
    /// One JSON object a line
    Jsonl,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let format = match (args.format, cx.output.is_json()) {
        (None | Some(Format::Json), true) => Format::Json,
        (Some(_), true) => return Err(CliError::usage("`--json` and another `--format` cannot be had together")),
        (format, false) => format.unwrap_or(Format::Table),
    };
    let project = Project::open(cx, Need::Existing)?;
    let (id, state) = select(&project, &args.snapshot)?;
    let limit = args.limit.unwrap_or(if format == Format::Table { TABLE_ROWS_MAX } else { u64::MAX });
    let mut answer = Answer { cx, format, id, limit, columns: Vec::new(), rows: 0, is_cut: false, table: Vec::new(), out: None };
    let filled = ask(&project, &state, &args.sql, args.limit.unwrap_or(SERVER_ROWS_MAX).saturating_add(1), &mut answer)?;
    let tables: Vec<String> = filled.iter().map(|(name, rows)| format!("{name} ({})", counted(*rows, "row"))).collect();
    cx.output.verbose(1, format_args!("loaded: {}", if tables.is_empty() { "nothing".to_owned() } else { tables.join(", ") }));
    answer.end()?;
    Ok(Exit::DONE)
}

/// Finds the state that a selector means.
pub fn select(project: &Project<'_>, selector: &str) -> Result<(Option<ObjectId>, State), CliError> {
    Ok(match project.select(selector)? {
        Target::Snapshot(id) => (Some(id), project.load(id)?.1),
        Target::Live => (None, project.with(|session| Ok(compare::live(session, None, BatchMode::Scratch)?))?),
    })
}

/// Who hears an answer.
pub trait Hears {
    /// Hears the columns' names, before the first row.
    fn columns(&mut self, columns: Vec<String>);

    /// Hears a row; an error ends the question.
    fn row(&mut self, row: Vec<Value>) -> Result<ControlFlow<()>, CliError>;

    /// Hears that a server had more rows than it was asked for.
    fn cut(&mut self) {}
}

/// Asks a state; returns the tables that were filled for it, with their rows. `server_rows_max` bounds what a server is asked for.
pub fn ask(
    project: &Project<'_>,
    state: &State,
    sql: &str,
    server_rows_max: u64,
    hears: &mut dyn Hears,
) -> Result<Vec<(String, u64)>, CliError> {
    let source = project.source()?;
    if source.engine != "sqlite" {
        return ask_server(project, state, sql, server_rows_max, hears);
    }
    // A store whose database is gone answers all the same.
    let options = project.database().ok().and_then(Database::sqlite_options).unwrap_or_default();
    let mut failed = None;
    let hears = std::cell::RefCell::new(hears);
    let filled = query::ask_sqlite(
        state,
        &project.store,
        &options,
        sql,
        project.progress(),
        &mut |names| hears.borrow_mut().columns(names),
        &mut |row| match hears.borrow_mut().row(row) {
            Ok(flow) => flow,
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        },
    );
    match (failed, filled) {
        (Some(error), _) => Err(error),
        (None, filled) => filled.map_err(usage),
    }
}

fn ask_server(
    project: &Project<'_>,
    state: &State,
    sql: &str,
    rows_max: u64,
    hears: &mut dyn Hears,
) -> Result<Vec<(String, u64)>, CliError> {
    let answered = server_scratch(project, &state.settings, |engine| {
        let rows_max = usize::try_from(rows_max).map_or(FETCHED_MAX, |rows| rows.min(FETCHED_MAX));
        query::ask_server(engine, state, &project.store, sql, rows_max, project.progress()).map_err(usage)
    });
    let (answer, filled) = answered?;
    hears.columns(answer.columns);
    for row in answer.rows {
        if hears.row(row)?.is_break() {
            break;
        }
    }
    if answer.is_cut {
        hears.cut();
    }
    Ok(filled)
}

/// Runs something with a new database beside the project's on its server, which is gone afterwards. Its name is held by a lock there, so that one
/// that a crash left is known as left.
pub fn server_scratch<T>(
    project: &Project<'_>,
    settings: &Settings,
    run: impl FnOnce(&mut dyn Engine) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let no_server = || {
        CliError::new(ErrorKind::Config, "this needs a scratch database on the database's server, and none is named")
            .hint("name the database with `--db`")
    };
    let database = project.database().map_err(|_| no_server())?;
    let server = database.server().ok_or_else(no_server)?;
    let mut digits = [0; 8];
    (project.cx.environment.random)(&mut digits);
    let name = format!("{SCRATCH}{:016x}", u64::from_ne_bytes(digits));
    let scratch = database.beside(&name).ok_or_else(no_server)?;
    let _hold =
        server.hold(&name).map_err(|error| CliError::from(error).context("there is no place for a scratch database on the server"))?;
    let mut engine =
        scratch.create(settings).map_err(|error| CliError::from(error).context("the scratch database could not be made on the server"))?;
    let _gone = Gone(&scratch);
    let done = run(&mut *engine);
    // A database that is in use cannot be dropped.
    drop(engine);
    done
}

/// A question that nobody understands is the asker's to mend.
fn usage(error: dbelay::ops::OpError) -> CliError {
    use dbelay::engine::EngineError;
    use dbelay::ops::OpError;
    match &error {
        OpError::Engine(EngineError::Statement { doing, .. }) if doing == "the query" || doing == "the question" => {
            CliError::from(error).kind(ErrorKind::Usage).hint("`dbelay show SNAPSHOT` lists the tables and their columns")
        }
        OpError::Engine(EngineError::Unsupported(_)) => CliError::from(error).kind(ErrorKind::Usage),
        _ => CliError::from(error),
    }
}

/// A scratch database on a server, dropped with this.
struct Gone<'a>(&'a Database);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.discard();
    }
}

struct Answer<'a> {
    cx: &'a Context,
    format: Format,
    id: Option<ObjectId>,
    limit: u64,
    columns: Vec<String>,
    rows: u64,
    is_cut: bool,
    /// The rows, where widths depend on all of them.
    table: Vec<Vec<Value>>,
    out: Option<Out>,
}

impl Hears for Answer<'_> {
    fn columns(&mut self, columns: Vec<String>) {
        self.columns = distinct(columns);
    }

    fn cut(&mut self) {
        self.is_cut = true;
    }

    fn row(&mut self, row: Vec<Value>) -> Result<ControlFlow<()>, CliError> {
        if self.rows == self.limit {
            self.is_cut = true;
            return Ok(ControlFlow::Break(()));
        }
        self.rows += 1;
        if self.format == Format::Table {
            self.table.push(row);
            return Ok(ControlFlow::Continue(()));
        }
        self.begin()?;
        let is_first = self.rows == 1;
        let object = |columns: &[String]| {
            let fields: Vec<String> = columns
                .iter()
                .zip(&row)
                .map(|(name, value)| format!("{}:{}", render::string(name), render::api_cell(&value.to_json())))
                .collect();
            format!("{{{}}}", fields.join(","))
        };
        let Some(out) = &mut self.out else { return Ok(ControlFlow::Break(())) };
        match self.format {
            Format::Json => write!(out, "{}\n{}", if is_first { "" } else { "," }, object(&self.columns))?,
            Format::Jsonl => writeln!(out, "{}", object(&self.columns))?,
            Format::Csv | Format::Table => {
                let mut line = String::new();
                csv::line(&mut line, row.iter().map(|value| render::plain_cell(&value.to_json())));
                out.write_all(line.as_bytes())?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Answer<'_> {
    /// Opens the output and writes what stands before the first row. Not before there is an answer: an error must not follow half a document.
    fn begin(&mut self) -> Result<(), CliError> {
        if self.out.is_some() {
            return Ok(());
        }
        let mut out = match self.format {
            Format::Json => self.cx.output.document(),
            Format::Table => self.cx.output.paged(),
            Format::Csv | Format::Jsonl => self.cx.output.rows(),
        };
        match self.format {
            Format::Json => {
                let id = self.id.map_or_else(|| "null".to_owned(), |id| format!("\"{id}\""));
                let columns: Vec<String> = self.columns.iter().map(|name| render::string(name)).collect();
                write!(out, "{{\"schema_version\":1,\"snapshot\":{id},\"columns\":[{}],\"rows\":[", columns.join(","))?;
            }
            Format::Csv => {
                let mut line = String::new();
                csv::line(&mut line, &self.columns);
                out.write_all(line.as_bytes())?;
            }
            Format::Jsonl | Format::Table => {}
        }
        self.out = Some(out);
        Ok(())
    }

    fn end(mut self) -> Result<(), CliError> {
        self.begin()?;
        let Some(mut out) = self.out.take() else { return Ok(()) };
        match self.format {
            Format::Json => writeln!(out, "\n],\"is_cut\":{}}}", self.is_cut)?,
            Format::Table => {
                let is_number = |at: usize| {
                    let mut cells = self.table.iter().filter_map(|row| row.get(at)).filter(|cell| !cell.is_null()).peekable();
                    cells.peek().is_some() && cells.all(|cell| matches!(cell, Value::Integer(_) | Value::Real(_)))
                };
                let aligns: Vec<Align> = (0..self.columns.len()).map(|at| if is_number(at) { Align::Right } else { Align::Left }).collect();
                let mut table = Table::new(&aligns);
                table.line(HEADING, &self.columns);
                for row in &self.table {
                    let cell = |value: &Value| if value.is_null() { "NULL".to_owned() } else { render::plain_cell(&value.to_json()) };
                    table.line(Style::new(), row.iter().map(cell));
                }
                table.write("", &mut out)?;
            }
            Format::Csv | Format::Jsonl => {}
        }
        out.finish()?;
        let rows = counted(self.rows, "row");
        if self.is_cut {
            self.cx.output.note(format_args!("only the first {} are shown; `--limit` sets how many", number(self.rows)));
        } else if self.format == Format::Table {
            self.cx.output.say(format_args!("{DIM}{rows}{DIM:#}"));
        }
        Ok(())
    }
}

/// Gives columns of the same name a number, so that an object can have them all.
fn distinct(columns: Vec<String>) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::with_capacity(columns.len());
    for name in columns {
        let free = (2..).map(|n| format!("{name}:{n}")).find(|other| !distinct.contains(other));
        distinct.push(if distinct.contains(&name) { free.unwrap_or_default() } else { name });
    }
    distinct
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_the_same_name_are_told_apart() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(distinct(names(&["id", "id", "name", "id"])), ["id", "id:2", "name", "id:3"]);
    }
}
