//! `dbelay diff`: what differs between two states.

use std::io::Write;
use std::ops::ControlFlow;

use dbelay::engine::sqlite::condition::Condition;
use dbelay::ops::OpError;
use dbelay::ops::capture::{self, State};
use dbelay::ops::compare::{self, Comparison};
use dbelay::ops::plan;
use dbelay::render::csv::Csv;
use dbelay::render::html::Html;
use dbelay::render::json::{Json, JsonLines};
use dbelay::render::text::{Detail, Text, Theme};
use dbelay::render::{Renderer, StateName, TableEnd};
use dbelay::rows::TableShape;
use dbelay::schema::diff::{SchemaDiff, unified};
use dbelay::snapshot::changes::{Cell, Cells, ColumnPair, RowChange, RowCounts, TableFate, TablePair};
use dbelay::snapshot::select::{Selector, Target};
use dbelay::store::BatchMode;

use super::files::{self, StateFiles};
use super::output::{ADDED, CHANGED, DIM, HEADING, Out, REMOVED};
use super::project::{Need, Project};
use super::sql::sql_writer;
use super::{CliError, Context, ErrorKind, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay diff
  dbelay diff pre post --stat
  dbelay diff HEAD~2 live users --filter removed
  dbelay diff pre post --format sql --reverse > undo.sql
  dbelay diff pre failed --format html > diff.html
  dbelay diff --table users --ignore-column updated_at";

/// Rendered text is written on from here.
const BUFFER_BYTES: usize = 64 * 1024;

/// Show what differs between two states of the database
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// One or two states, default HEAD and live (one means: it and live), then tables
    #[arg(value_name = "A [B]] [TABLE")]
    pub args: Vec<String>,
    /// Only this table; repeatable
    #[arg(short, long = "table", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// Per table: rows added, removed and changed, and the columns touched
    #[arg(long)]
    pub stat: bool,
    /// Only the names of what differs
    #[arg(long, conflicts_with = "stat")]
    pub name_only: bool,
    /// Only the schema
    #[arg(long)]
    pub schema: bool,
    /// Only the rows
    #[arg(long, conflicts_with = "schema")]
    pub data: bool,
    /// In which form; `sql` is a patch from A to B
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// From B to A instead
    #[arg(short = 'R', long)]
    pub reverse: bool,
    /// Only these kinds of row changes; repeatable
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',')]
    pub filter: Vec<Filter>,
    /// Only rows for which this SQL condition holds before or after
    #[arg(long = "where", value_name = "SQL")]
    pub condition: Option<String>,
    /// At most so many rows a table
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Do not compare this column; repeatable
    #[arg(long = "ignore-column", value_name = "[TABLE.]COLUMN", value_delimiter = ',')]
    pub ignore_columns: Vec<String>,
    /// Exit with 1 if anything differs
    #[arg(long)]
    pub exit_code: bool,
}

/// The form of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One JSON document
    Json,
    /// One JSON document a line, a line a change
    Jsonl,
    /// A script that makes B of A
    Sql,
    /// A line for each cell that differs
    Csv,
    /// A page for a browser, in one file
    Html,
}

/// A kind of row change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Filter {
    /// Rows that only B has
    Added,
    /// Rows that only A has
    Removed,
    /// Rows that both have, with other values
    Changed,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let format = match (args.format, cx.output.is_json()) {
        (None | Some(Format::Json), true) => Format::Json,
        (Some(_), true) => return Err(CliError::usage("`--json` and another `--format` cannot be had together")),
        (format, false) => format.unwrap_or(Format::Text),
    };
    let project = Project::open(cx, Need::Existing)?;
    let words = words(args, &project)?;
    let (mut names, mut states) = load(&project, &words)?;
    let mut files = load_files(&project, &words)?;
    if args.reverse {
        names.swap(0, 1);
        states.swap(0, 1);
        files.swap(0, 1);
    }
    let tables = {
        let has = |name: &str| states.iter().any(|state| state.schema.tables.iter().any(|table| table.name.eq_ignore_ascii_case(name)));
        words.tables.iter().map(|name| project.name(name, has).to_owned()).collect::<Vec<_>>()
    };
    let words = Words { tables, ..words };
    if format == Format::Sql {
        return script(args, cx, &project, &words.tables, &states);
    }
    let comparison = Comparison::new(&project.store, &states[0], &states[1])?;
    let chosen = choose(&comparison, &words.tables)?;
    let conditions = Conditions::new(args.condition.as_deref(), &chosen)?;
    let detail = if args.name_only {
        Detail::Names
    } else if args.stat {
        Detail::Stat
    } else {
        Detail::Rows
    };
    let theme = Theme { heading: HEADING, added: ADDED, removed: REMOVED, changed: CHANGED, dim: DIM };
    let mut renderer: Box<dyn Renderer> = match format {
        Format::Text => Box::new(Text::new(theme, detail)),
        Format::Json => Box::new(Json::new(detail == Detail::Rows)),
        Format::Jsonl => Box::new(JsonLines),
        Format::Csv | Format::Sql => Box::new(Csv),
        Format::Html => Box::new(Html::default()),
    };
    let out = match format {
        Format::Text => cx.output.paged(),
        _ => cx.output.document(),
    };
    let has_column = |name: &str| {
        let tables = states.iter().flat_map(|state| &state.schema.tables);
        tables
            .into_iter()
            .any(|table| table.columns.iter().any(|column| name.eq_ignore_ascii_case(&format!("{}.{}", table.name, column.name))))
    };
    let ignored = args.ignore_columns.iter().map(|name| project.name(name, has_column).to_owned()).collect();
    let cells = match (format, detail) {
        (Format::Text | Format::Json, Detail::Names | Detail::Stat) => Cells::Unread,
        // They show only what differs in a changed row.
        (Format::Text | Format::Csv, _) => Cells::Shown,
        _ => Cells::All,
    };
    let mut walk = Walk { args, ignored, renderer: &mut *renderer, cells, conditions, out, text: String::new(), differs: false };
    walk.renderer.begin(&mut walk.text, &names[0], &names[1]);
    let has_schema = !args.data && words.tables.is_empty();
    let is_narrowed = !args.filter.is_empty() || args.condition.is_some() || !args.ignore_columns.is_empty() || !words.tables.is_empty();
    let schema = if has_schema { comparison.schema.clone() } else { narrow(&comparison.schema, &chosen, args.data) };
    let ddl = if has_schema { unified(&states[0].schema, &states[1].schema, &names[0].label(), &names[1].label()) } else { String::new() };
    walk.differs |= !schema.is_empty();
    walk.renderer.schema(&mut walk.text, &schema, &ddl);
    let mut machinery = Vec::new();
    if !args.schema {
        for pair in &chosen {
            if comparison.is_machinery(pair) && words.tables.is_empty() {
                if !comparison.is_equal(pair) {
                    machinery.push(pair.name().to_owned());
                }
            } else {
                walk.table(&project, &comparison, pair)?;
            }
        }
    }
    walk.differs |= !machinery.is_empty();
    // What is asked of tables, or of rows, is not asked of files.
    let file_changes = files::changes(files[0].as_ref(), files[1].as_ref()).filter(|_| has_schema && !args.schema && !is_narrowed);
    if let Some(changes) = &file_changes {
        walk.differs |= !changes.is_empty();
        walk.renderer.files(&mut walk.text, changes);
    }
    walk.renderer.end(&mut walk.text, &machinery);
    walk.flush(0)?;
    let differs = walk.differs;
    walk.out.finish()?;
    if !differs && format == Format::Text {
        let (before, after) = (names[0].label(), names[1].label());
        if is_narrowed || args.data || args.schema {
            cx.output.say(format_args!("{DIM}no such difference between {before} and {after}{DIM:#}"));
        } else {
            cx.output.say(format_args!("{DIM}{before} and {after} are the same{DIM:#}"));
        }
    }
    Ok(if differs && args.exit_code { Exit::FOUND } else { Exit::DONE })
}

/// What the positional arguments mean.
struct Words {
    states: [String; 2],
    tables: Vec<String>,
}

fn words(args: &Args, project: &Project<'_>) -> Result<Words, CliError> {
    let mut states = Vec::new();
    let mut rest = args.args.as_slice();
    let known = project.known(project.source().ok().as_ref())?;
    let all = project.known(None)?;
    let now = project.cx.now().with_timezone(&chrono::Local);
    while let Some((word, others)) = rest.split_first() {
        let parsed = Selector::parse(word).map_err(CliError::from);
        let found = parsed
            .and_then(|selector| Ok(selector.resolve(&known, now).or_else(|error| selector.resolve(&all, now).map_err(|_| error))?));
        match found {
            Ok(_) if states.len() < 2 => states.push(word.clone()),
            // What is no state is a table, but a first word that is neither should be told of as a state.
            Err(error) if states.is_empty() && args.args.len() == rest.len() && !is_table(project, word) => return Err(error),
            _ => break,
        }
        rest = others;
    }
    let tables = args.tables.iter().chain(rest).cloned().collect();
    let mut states = states.into_iter();
    let states = match (states.next(), states.next()) {
        (None, _) => ["HEAD".to_owned(), "live".to_owned()],
        (Some(a), None) => [a, "live".to_owned()],
        (Some(a), Some(b)) => [a, b],
    };
    Ok(Words { states, tables })
}

fn is_table(project: &Project<'_>, name: &str) -> bool {
    let head = project.select("HEAD").ok().and_then(|target| match target {
        Target::Snapshot(id) => project.load(id).ok(),
        Target::Live => None,
    });
    head.is_some_and(|(_, state)| {
        let has = |name: &str| state.schema.tables.iter().any(|table| table.name.eq_ignore_ascii_case(name));
        has(project.name(name, has))
    })
}

fn load(project: &Project<'_>, words: &Words) -> Result<([StateName; 2], [State; 2]), CliError> {
    let mut loaded: [Option<(StateName, State)>; 2] = [None, None];
    for (text, loaded) in words.states.iter().zip(&mut loaded) {
        if let Target::Snapshot(id) = project.select(text)? {
            let (snapshot, state) = project.load(id)?;
            *loaded = Some((project.state_name(text, id, &snapshot), state));
        }
    }
    let live_name = || StateName { name: "live".to_owned(), id: None, time: None };
    let live = |reference: Option<&State>| project.with(|session| Ok(compare::live(session, reference, BatchMode::Scratch)?));
    let [a, b] = loaded;
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (Some(a), None) => {
            let b = (live_name(), live(Some(&a.1))?);
            (a, b)
        }
        (None, Some(b)) => ((live_name(), live(Some(&b.1))?), b),
        (None, None) => {
            let state = live(None)?;
            ((live_name(), state.clone()), (live_name(), state))
        }
    };
    Ok(([a.0, b.0], [a.1, b.1]))
}

/// Reads the files of both states; none where a state has none.
fn load_files(project: &Project<'_>, words: &Words) -> Result<[Option<StateFiles>; 2], CliError> {
    let load = |text: &str| match project.select(text)? {
        Target::Snapshot(id) => files::of_snapshot(&project.store, &capture::read_snapshot(&project.store, id)?),
        Target::Live => project.with(files::live),
    };
    Ok([load(&words.states[0])?, load(&words.states[1])?])
}

/// Picks the pairs of the named tables, or all of them.
fn choose(comparison: &Comparison<'_>, tables: &[String]) -> Result<Vec<TablePair>, CliError> {
    if tables.is_empty() {
        return Ok(comparison.pairs.clone());
    }
    let mut chosen = Vec::new();
    for name in tables {
        let is_named = |shape: &Option<TableShape>| shape.as_ref().is_some_and(|shape| shape.name.eq_ignore_ascii_case(name));
        let found: Vec<TablePair> =
            comparison.pairs.iter().filter(|pair| is_named(&pair.before) || is_named(&pair.after)).cloned().collect();
        if found.is_empty() {
            return Err(OpError::NoTable(name.clone(), "either state".to_owned()).into());
        }
        chosen.extend(found);
    }
    Ok(chosen)
}

/// Keeps what concerns the chosen tables.
fn narrow(diff: &SchemaDiff, chosen: &[TablePair], is_data: bool) -> SchemaDiff {
    let names: Vec<&str> = chosen.iter().map(TablePair::name).collect();
    let is_kept = |change: &&dbelay::schema::diff::SchemaChange| !is_data && names.contains(&change.table.as_str());
    SchemaDiff { changes: diff.changes.iter().filter(is_kept).cloned().collect(), text_differs: false, settings: Vec::new() }
}

/// `--where`, for each side of each table.
struct Conditions {
    tables: Vec<(String, [Option<Condition>; 2])>,
    is_any: bool,
}

impl Conditions {
    fn new(text: Option<&str>, chosen: &[TablePair]) -> Result<Self, CliError> {
        let Some(text) = text else { return Ok(Self { tables: Vec::new(), is_any: false }) };
        let mut tables = Vec::new();
        let mut refused = None;
        for pair in chosen {
            let mut prepare = |shape: &Option<TableShape>| {
                let names: Vec<&str> = shape.as_ref()?.columns.iter().map(|column| column.name.as_str()).collect();
                Condition::new(&names, text).map_err(|error| refused = Some(error)).ok()
            };
            tables.push((pair.name().to_owned(), [prepare(&pair.before), prepare(&pair.after)]));
        }
        // A condition speaks of the tables that have its columns; one that no table understands is a mistake.
        if let Some(error) = refused
            && tables.iter().all(|(_, sides)| sides.iter().all(Option::is_none))
        {
            return Err(CliError::from(error).kind(ErrorKind::Usage).context(format!("no table understands the condition `{text}`")));
        }
        Ok(Self { tables, is_any: true })
    }

    fn holds(&self, project: &Project<'_>, pair: &TablePair, change: &RowChange) -> Result<bool, CliError> {
        if !self.is_any {
            return Ok(true);
        }
        let Some((_, [before, after])) = self.tables.iter().find(|(name, _)| name == pair.name()) else { return Ok(false) };
        let check = |condition: &Option<Condition>, row: &[Cell]| -> Result<bool, CliError> {
            let Some(condition) = condition else { return Ok(false) };
            Ok(condition.holds(&compare::decode_cells(&project.store, row.iter())?)?)
        };
        match change {
            RowChange::Added(row) => check(after, row),
            RowChange::Removed(row) => check(before, row),
            RowChange::Changed { before: from, after: to, .. } => Ok(check(before, from)? || check(after, to)?),
        }
    }
}

/// Goes through the tables.
struct Walk<'a> {
    args: &'a Args,
    /// The columns that are not compared.
    ignored: Vec<String>,
    renderer: &'a mut dyn Renderer,
    /// The cells that it shows.
    cells: Cells,
    conditions: Conditions,
    out: Out,
    text: String,
    differs: bool,
}

impl Walk<'_> {
    fn flush(&mut self, at_least: usize) -> Result<(), CliError> {
        if self.text.len() > at_least {
            self.out.write_all(self.text.as_bytes())?;
            self.text.clear();
        }
        Ok(())
    }

    fn table(&mut self, project: &Project<'_>, comparison: &Comparison<'_>, pair: &TablePair) -> Result<(), CliError> {
        if comparison.is_equal(pair) {
            return Ok(());
        }
        let mut counts = RowCounts { cells: vec![0; pair.columns.len()], ..RowCounts::default() };
        let (mut shown, mut begun) = (0, false);
        let mut failed: Option<CliError> = None;
        let cells = match self.args.condition {
            Some(_) => Cells::All,
            None => self.cells,
        };
        let found = comparison.rows(pair, cells, &mut |change| {
            let Some(change) = without(pair, &self.ignored, change) else { return ControlFlow::Continue(()) };
            match self.row(project, pair, &change, &mut counts, &mut shown, &mut begun) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        counts.renumbered = if self.args.filter.is_empty() && self.args.condition.is_none() { found.renumbered } else { 0 };
        if !begun && pair.fate() == TableFate::Kept && counts.renumbered == 0 {
            return Ok(());
        }
        self.differs = true;
        if !begun {
            self.renderer.table(&mut self.text, pair);
        }
        self.renderer.table_end(&mut self.text, pair, TableEnd { counts: &counts, shown });
        self.flush(BUFFER_BYTES)
    }

    fn row(
        &mut self,
        project: &Project<'_>,
        pair: &TablePair,
        change: &RowChange,
        counts: &mut RowCounts,
        shown: &mut u64,
        begun: &mut bool,
    ) -> Result<(), CliError> {
        let kind = match change {
            RowChange::Added(_) => Filter::Added,
            RowChange::Removed(_) => Filter::Removed,
            RowChange::Changed { .. } => Filter::Changed,
        };
        let is_wanted = self.args.filter.is_empty() || self.args.filter.contains(&kind);
        if !is_wanted || !self.conditions.holds(project, pair, change)? {
            return Ok(());
        }
        match change {
            RowChange::Added(_) => counts.added += 1,
            RowChange::Removed(_) => counts.removed += 1,
            RowChange::Changed { columns, .. } => {
                counts.changed += 1;
                for &column in columns {
                    counts.cells[column] += 1;
                }
            }
        }
        if !*begun {
            *begun = true;
            self.renderer.table(&mut self.text, pair);
        }
        if self.args.limit.is_none_or(|limit| *shown < limit) {
            *shown += 1;
            self.renderer.row(&mut self.text, pair, change);
        }
        self.flush(BUFFER_BYTES)
    }
}

/// Takes ignored columns out of a change; none is left where nothing else differs.
fn without(pair: &TablePair, ignored: &[String], change: RowChange) -> Option<RowChange> {
    let RowChange::Changed { before, after, mut columns } = change else { return Some(change) };
    let is_named = |shape: &Option<TableShape>, column: Option<usize>| {
        let Some((shape, column)) = shape.as_ref().zip(column) else { return false };
        let name = &shape.columns[column].name;
        ignored
            .iter()
            .any(|wanted| wanted.eq_ignore_ascii_case(name) || wanted.to_lowercase() == format!("{}.{}", shape.name, name).to_lowercase())
    };
    columns.retain(|&at| {
        let ColumnPair { before, after } = pair.columns[at];
        !is_named(&pair.before, before) && !is_named(&pair.after, after)
    });
    (!columns.is_empty()).then_some(RowChange::Changed { before, after, columns })
}

fn script(args: &Args, cx: &Context, project: &Project<'_>, tables: &[String], states: &[State; 2]) -> Result<Exit, CliError> {
    let is_narrowed = !args.filter.is_empty() || args.condition.is_some() || args.limit.is_some() || !args.ignore_columns.is_empty();
    if is_narrowed || args.stat || args.name_only || args.schema || args.data {
        return Err(CliError::usage("a patch is whole: `--format sql` can be narrowed to tables, and to nothing else"));
    }
    let sql = sql_writer(&project.source()?, project.with_owners())?;
    let [from, to] = states;
    let merged;
    let to = if tables.is_empty() {
        to
    } else {
        merged = plan::merge(from, to, tables)?;
        &merged
    };
    let plan = plan::plan(from, to);
    let mut out = cx.output.document();
    if !plan.is_empty() {
        sql.patch(&mut out, &plan, from, to, &project.store)?;
    }
    out.finish()?;
    for limit in &plan.limits {
        cx.output.note(limit);
    }
    Ok(if !plan.is_empty() && args.exit_code { Exit::FOUND } else { Exit::DONE })
}
