//! `dbelay cat`: the rows of a table in a snapshot, or the bytes of a file.

use std::io::Write;
use std::ops::ControlFlow;

use dbelay::id::ObjectId;
use dbelay::ops::OpError;
use dbelay::ops::compare;
use dbelay::ops::files::FileError;
use dbelay::render::{self, csv};
use dbelay::rows::TableShape;
use dbelay::schema::Schema;
use dbelay::snapshot::changes::Row;
use dbelay::snapshot::files::{EntryKind, FilePath, content};
use dbelay::snapshot::manifest::{Group, TableManifest};
use dbelay::snapshot::select::Target;
use dbelay::snapshot::{chunks, rowdiff};
use dbelay::store::BatchMode;

use super::output::Out;
use super::project::{Need, Project};
use super::sql::{SqlWriter, sql_writer};
use super::{CliError, Context, ErrorKind, Exit, files};

const EXAMPLES: &str = "\
Examples:
  dbelay cat HEAD users
  dbelay cat pre users --key 1042
  dbelay cat HEAD users --format sql > users.sql
  dbelay cat pre --file uploads/logo.png > logo.png";

/// Print the rows of a table in a snapshot, or one of its files
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which snapshot: live, HEAD, HEAD~2, an id, a tag, pre, post, failed, @{2 hours ago}
    #[arg(required_unless_present = "object")]
    pub snapshot: Option<String>,
    /// Which table
    #[arg(required_unless_present_any = ["object", "file"])]
    pub table: Option<String>,
    /// Print the bytes of this file of the snapshot instead
    #[arg(long, value_name = "PATH", conflicts_with_all = ["table", "key", "format"])]
    pub file: Option<String>,
    /// Only the row with this primary key; the parts of a longer key between commas, or as a JSON array
    #[arg(long, value_name = "KEY", allow_negative_numbers = true)]
    pub key: Option<String>,
    /// In which form [default: csv, or json with --json]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Print the raw JSON bytes of an object of the store instead; `sha256sum` of them is its id
    #[arg(long, value_name = "ID", hide = true, conflicts_with_all = ["snapshot", "table", "key", "format"])]
    pub object: Option<String>,
}

/// The form of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON document
    Json,
    /// One JSON object a line
    Jsonl,
    /// Comma-separated values with a header
    Csv,
    /// INSERT statements
    Sql,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let project = Project::open(cx, Need::Existing)?;
    if let Some(digits) = &args.object {
        return object(&project, digits);
    }
    if let (Some(snapshot), Some(path)) = (&args.snapshot, &args.file) {
        return file(&project, snapshot, path);
    }
    let format = match (args.format, cx.output.is_json()) {
        (None | Some(Format::Json), true) => Format::Json,
        (Some(_), true) => return Err(CliError::usage("`--json` and another `--format` cannot be had together")),
        (format, false) => format.unwrap_or(Format::Csv),
    };
    let (Some(snapshot), Some(table)) = (&args.snapshot, &args.table) else {
        return Err(CliError::usage("name a snapshot and a table"));
    };
    let sql = if format == Format::Sql { Some(sql_writer(&project.source()?, project.with_owners())?) } else { None };
    let state = match project.select(snapshot)? {
        Target::Snapshot(id) => project.load(id)?.1,
        Target::Live => project.with(|session| Ok(compare::live(session, None, BatchMode::Scratch)?))?,
    };
    let by_name = |same: &dyn Fn(&str) -> bool| state.tables.iter().find(|(_, manifest)| same(&manifest.name));
    let find = |wanted: &str| by_name(&|name| name == wanted).or_else(|| by_name(&|name| name.eq_ignore_ascii_case(wanted)));
    let found = find(project.name(table, |name| find(name).is_some()));
    let Some((_, manifest)) = found else { return Err(OpError::NoTable(table.clone(), format!("snapshot `{snapshot}`")).into()) };
    let chosen = match &args.key {
        None => None,
        Some(key) => Some(find_row(&project, manifest, key)?.ok_or_else(|| {
            let message = format!("there is no row with the key {key} in table `{}` of {snapshot}", manifest.name);
            CliError::new(ErrorKind::NotFound, message).hint(format_args!("`dbelay log {} {key}` tells when it changed", manifest.name))
        })?),
    };
    let shape = manifest.shape();
    let out = if format == Format::Json { cx.output.document() } else { cx.output.rows() };
    let mut writer = Writer { format, sql, schema: &state.schema, shape: &shape, out, rows: 0 };
    writer.begin()?;
    match chosen {
        Some(row) => writer.row(&project, &row)?,
        None => {
            let mut failed = None;
            rowdiff::table_rows(manifest, &project.store, &mut |row| match writer.row(&project, &row) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }
    writer.end()?;
    Ok(Exit::DONE)
}

/// Finds the row with a key, given as text; the parts of a longer key stand between commas, or in a JSON array.
pub fn find_row(project: &Project<'_>, manifest: &TableManifest, key: &str) -> Result<Option<Row>, CliError> {
    if manifest.identity.is_empty() {
        return Err(CliError::usage(format_args!("table `{}` has no key", manifest.name)));
    }
    let parts: Vec<String> = match serde_json::from_str::<Vec<serde_json::Value>>(key) {
        Ok(parts) if manifest.identity.len() > 1 => {
            parts.into_iter().map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned)).collect()
        }
        _ if manifest.identity.len() == 1 => vec![key.to_owned()],
        _ => key.split(',').map(|part| part.trim().to_owned()).collect(),
    };
    if parts.len() != manifest.identity.len() {
        let names: Vec<&str> = manifest.identity.iter().map(|&at| manifest.columns[at].shape.name.as_str()).collect();
        return Err(CliError::usage(format_args!("the key of `{}` has {} parts: {}", manifest.name, names.len(), names.join(","))));
    }
    let groups = chunks::row_groups(manifest, &project.store)?;
    // Where the tree says which group it is in, that one is read first; the others only if it is not there.
    let likely = likely_group(manifest, &groups, &parts);
    let order = likely.into_iter().chain((0..groups.len()).filter(|at| Some(*at) != likely));
    for group in order.filter_map(|at| groups.get(at)) {
        let mut candidates: Vec<usize> = (0..usize::try_from(group.rows)?).collect();
        for (&column, part) in manifest.identity.iter().zip(&parts) {
            let cells = chunks::column_chunk(manifest, group, column, &project.store)?;
            candidates.retain(|&row| cells.get(row).is_some_and(|cell| &**cell != "null" && render::plain_cell(cell) == *part));
        }
        if let Some(&row) = candidates.first() {
            let cell = |column| Ok(chunks::column_chunk(manifest, group, column, &project.store)?.swap_remove(row));
            return (0..manifest.columns.len()).map(cell).collect::<Result<_, CliError>>().map(Some);
        }
    }
    Ok(None)
}

/// Finds the row group that a whole number as the key of a table in the order of its keys must be in.
fn likely_group(manifest: &TableManifest, groups: &[Group], parts: &[String]) -> Option<usize> {
    let [key] = parts else { return None };
    let key: i64 = key.parse().ok().filter(|_| manifest.identity == manifest.locator)?;
    let after = groups.partition_point(|group| group.first.parse::<i64>().is_ok_and(|first| first <= key));
    after.checked_sub(1)
}

struct Writer<'a> {
    format: Format,
    /// For the form that is SQL.
    sql: Option<SqlWriter>,
    schema: &'a Schema,
    shape: &'a TableShape,
    out: Out,
    rows: u64,
}

impl Writer<'_> {
    fn shown(&self) -> Vec<usize> {
        (0..self.shape.columns.len()).filter(|&column| render::is_shown(self.shape, column)).collect()
    }

    fn begin(&mut self) -> Result<(), CliError> {
        match self.format {
            Format::Json => write!(self.out, "{{\"schema_version\":1,\"table\":{},\"rows\":[", render::string(&self.shape.name))?,
            Format::Csv => {
                let mut line = String::new();
                csv::line(&mut line, self.shown().into_iter().map(|column| &self.shape.columns[column].name));
                self.out.write_all(line.as_bytes())?;
            }
            Format::Jsonl | Format::Sql => {}
        }
        Ok(())
    }

    fn row(&mut self, project: &Project<'_>, row: &Row) -> Result<(), CliError> {
        match self.format {
            Format::Json => {
                let comma = if self.rows > 0 { "," } else { "" };
                write!(self.out, "{comma}\n{}", render::row_object(self.shape, row))?;
            }
            Format::Jsonl => writeln!(self.out, "{}", render::row_object(self.shape, row))?,
            Format::Csv => {
                let cells = compare::decode_cells(&project.store, row.iter())?;
                let mut line = String::new();
                csv::line(&mut line, self.shown().into_iter().map(|column| render::plain_cell(&cells[column].to_json())));
                self.out.write_all(line.as_bytes())?;
            }
            Format::Sql => {
                let cells = compare::decode_cells(&project.store, row.iter())?;
                if let Some(sql) = &self.sql {
                    writeln!(self.out, "{}", sql.insert(self.schema, self.shape, &cells))?;
                }
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn end(mut self) -> Result<(), CliError> {
        if self.format == Format::Json {
            self.out.write_all(b"\n]}\n")?;
        }
        Ok(self.out.finish()?)
    }
}

/// Prints a file of a snapshot, byte for byte; for programs its entry, and its bytes as base64.
fn file(project: &Project<'_>, name: &str, path: &str) -> Result<Exit, CliError> {
    let (_, snapshot) = {
        let id = project.select_snapshot(name)?;
        (id, project.load(id)?.0)
    };
    let missing = || OpError::from(FileError::NotFound(path.to_owned(), format!("snapshot `{name}`")));
    let listing = files::of_snapshot(&project.store, &snapshot)?.ok_or_else(missing)?.listing;
    // As `show --files --json` writes it, or with leading `./` as people may.
    let wanted = FilePath::parse(path.strip_prefix("./").unwrap_or(path));
    let entry = listing.find(&wanted).filter(|entry| entry.kind == EntryKind::File).ok_or_else(missing)?;
    if entry.changing {
        project.cx.output.warn(format_args!("`{}` was written while it was read, and is perhaps not whole", entry.path));
    }
    let mut bytes = Vec::new();
    let mut out = if project.cx.output.is_json() { None } else { Some(project.cx.output.document()) };
    let read = content::read(&project.store, entry, &mut |piece| match &mut out {
        Some(out) => out.write_all(piece),
        None => {
            bytes.extend_from_slice(piece);
            Ok(())
        }
    });
    read.map_err(|error| OpError::from(FileError::from(error)))?;
    match out {
        Some(out) => out.finish()?,
        None => project.cx.output.json(&serde_json::json!({
            "file": render::files::entry(entry), "base64": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &bytes),
        }))?,
    }
    Ok(Exit::DONE)
}

fn object(project: &Project<'_>, digits: &str) -> Result<Exit, CliError> {
    let id: ObjectId = match project.store.find(digits).as_slice() {
        [id] if digits.len() >= 4 => *id,
        [] => return Err(CliError::new(ErrorKind::NotFound, format_args!("there is no object `{digits}`"))),
        _ => return Err(CliError::usage(format_args!("`{digits}` names several objects")).hint("write more digits")),
    };
    let mut out = project.cx.output.document();
    out.write_all(&project.store.get(&id)?)?;
    out.finish()?;
    Ok(Exit::DONE)
}
