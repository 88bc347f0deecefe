//! `dbelay export`: a snapshot as a file that others can read.
//!
//! A file appears whole or not at all, is its owner's alone, and never takes the place of another one. [`bundle`] is the form of several files in one.

mod bundle;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use dbelay::durable::TemporaryFile;
use dbelay::id::ObjectId;
use dbelay::ops::capture::State;
use dbelay::ops::plan::plan;
use dbelay::ops::{export, part, rollback};
use dbelay::schema::TableKind;
use dbelay::snapshot::manifest::SourceName;
use dbelay::source::{DatabaseUrl, UrlOrigin};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use super::database::Database;
use super::output::GOOD;
use super::project::{self, Need, Project};
use super::query::select;
use super::sql::{SqlWriter, sql_writer};
use super::time::{bytes, counted};
use super::{CliError, Context, ErrorKind, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay export
  dbelay export HEAD --format json --output shop.json
  dbelay export pre --table users --format csv --output - | head
  dbelay export \"@{yesterday}\" --output yesterday.sql.gz";

/// How many numbers are tried for a name that is free.
const NAMES_MAX: u32 = 10_000;

/// What only a new SQLite database can be given, in the order in which it takes it: with the last one its pages are there.
const CREATION: [&str; 3] = ["encoding", "page_size", "auto_vacuum"];

/// Write a snapshot into a file that others can read
///
/// The file is named by the database and the time of the snapshot, unless `--output` says otherwise, and is readable for its owner alone. A file that is there
/// already is never written over. Most forms can be read back with `dbelay import`; CSV cannot, since it has no types and no schema.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which snapshot: live, HEAD, HEAD~2, an id, a tag, pre, post, failed, @{2 hours ago}
    #[arg(default_value = "HEAD")]
    pub snapshot: String,
    /// In which form [default: by the name of --output, else sql]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Where to; `-` for standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Only this table, with its indexes and triggers; can be given more than once
    #[arg(long = "table", value_name = "TABLE")]
    pub tables: Vec<String>,
}

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON document: schema, and data by table
    Json,
    /// A JSON object a line: the schema first, then a line for each row
    Jsonl,
    /// Comma-separated values with a header; a zip of one file a table where there are several
    Csv,
    /// A dump that `sqlite3` or `psql` loads into an empty database
    Sql,
    /// The same, compressed by gzip
    #[value(name = "sql.gz")]
    SqlGz,
    /// A SQLite database, of a SQLite snapshot
    Sqlite,
    /// database.sql with metadata, configuration and attachments
    Zip,
}

impl Format {
    /// Returns how its files' names end.
    fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Sql => "sql",
            Self::SqlGz => "sql.gz",
            Self::Sqlite => "sqlite",
            Self::Zip => "zip",
        }
    }

    /// Tells the form by a file's name.
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let endings = [
            (".csv.zip", Self::Csv),
            (".sql.gz", Self::SqlGz),
            (".json", Self::Json),
            (".jsonl", Self::Jsonl),
            (".ndjson", Self::Jsonl),
            (".csv", Self::Csv),
            (".sql", Self::Sql),
            (".sqlite", Self::Sqlite),
            (".sqlite3", Self::Sqlite),
            (".db", Self::Sqlite),
            (".zip", Self::Zip),
        ];
        endings.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| format)
    }
}

/// What is exported.
pub struct Subject<'a> {
    project: &'a Project<'a>,
    source: SourceName,
    id: Option<ObjectId>,
    time: DateTime<Utc>,
    timestamp: String,
    state: State,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let project = Project::open(cx, Need::Existing)?;
    let is_stdout = args.output.as_deref() == Some(Path::new("-"));
    let by_name = args.output.as_deref().and_then(Format::of);
    let format = match (args.format, by_name) {
        (Some(format), _) => format,
        (None, Some(format)) => format,
        (None, None) if args.output.is_some() && !is_stdout => {
            return Err(CliError::usage("which form is meant does not follow from the file's name").hint("say it with `--format`"));
        }
        (None, None) => Format::Sql,
    };
    if is_stdout && cx.output.is_json() && format != Format::Json {
        return Err(CliError::usage("`--json` and another form on standard output cannot be had together"));
    }
    let subject = subject(&project, args)?;
    let tables = shown_tables(&subject.state, !args.tables.is_empty());
    let is_many = format == Format::Csv && tables.len() != 1;
    if is_many && is_stdout {
        return Err(CliError::usage("CSV holds one table, and several would be exported").hint("name one with `--table`"));
    }
    if format == Format::Csv
        && let Some(path) = args.output.as_deref().filter(|_| !is_stdout)
        && is_many != path.to_string_lossy().to_ascii_lowercase().ends_with(".zip")
    {
        let hint = if is_many { "name it `.csv.zip`, or name one table with `--table`" } else { "name it `.csv`" };
        return Err(CliError::usage("several tables as CSV are a zip of one file each, and one table is a file").hint(hint));
    }
    if format == Format::Sqlite && subject.source.engine != "sqlite" {
        let message =
            "a SQLite database is only made of a snapshot of a SQLite database: values of other engines would not stay what they are";
        return Err(
            CliError::usage(message).hint("`--format sql` loads into a database of its own engine, `--format json` can be read by all")
        );
    }
    if is_stdout {
        return to_stdout(&subject, format, &tables);
    }
    let mut names = names(&subject, args.output.as_deref(), format, is_many)?;
    let folder = names.peek().and_then(|path| path.parent()).map(Path::to_path_buf).unwrap_or_default();
    if cx.global.dry_run {
        let name = names.find(|path| path.symlink_metadata().is_err()).unwrap_or_default();
        cx.output.say(format_args!("would write {} into `{}`", counted(subject.state.rows(), "row"), name.display()));
        if cx.output.is_json() {
            cx.output.json(&json!({ "dry_run": true, "snapshot": subject.id, "file": name.to_string_lossy() }))?;
        }
        return Ok(Exit::DONE);
    }
    let failed = |error: io::Error| CliError::from(error).context(format!("`{}` cannot be written", folder.display()));
    let mut file = TemporaryFile::create_in(&folder).map_err(failed)?;
    match format {
        Format::Sqlite => sqlite(&subject, file.path())?,
        format => write(&subject, format, &tables, &mut file)?,
    }
    let taken = |error: io::Error| match (error.kind(), &args.output) {
        (io::ErrorKind::AlreadyExists, Some(path)) => exists(path),
        _ => failed(error),
    };
    let path = file.publish_as_free(&mut names).map_err(taken)?;
    let size = path.metadata().map(|metadata| metadata.len()).unwrap_or(0);
    let name = subject.id.map_or_else(|| "the live database".to_owned(), |id| format!("{} {}", args.snapshot, project::id(&id)));
    cx.output.say(format_args!(
        "{GOOD}done{GOOD:#}: {name} is in `{}` ({}, {})",
        path.display(),
        counted(subject.state.rows(), "row"),
        bytes(size)
    ));
    if cx.output.is_json() {
        cx.output.json(&json!({
            "result": "done",
            "snapshot": subject.id,
            "format": format.extension(),
            "file": path.to_string_lossy(),
            "bytes": size,
            "rows": subject.state.rows(),
        }))?;
    }
    Ok(Exit::DONE)
}

fn subject<'a>(project: &'a Project<'a>, args: &Args) -> Result<Subject<'a>, CliError> {
    let (id, state) = select(project, &args.snapshot)?;
    let time = match id {
        Some(id) => project::time(&project.load(id)?.0),
        None => project.cx.now(),
    };
    let names = project.tables(&args.tables, &state.schema);
    let state = if names.is_empty() { state } else { part::of_tables(&state, &names)? };
    let timestamp = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    Ok(Subject { project, source: project.source()?, id, time, timestamp, state })
}

/// Returns the indexes of the tables that a table-by-table form has: not the engine's own and those behind virtual ones, unless they are named.
fn shown_tables(state: &State, is_named: bool) -> Vec<usize> {
    let is_machinery = |name: &str| {
        let kind = state.schema.table(name).map(|table| &table.kind);
        matches!(kind, Some(TableKind::Internal | TableKind::Shadow { .. }))
    };
    let tables = state.tables.iter().enumerate();
    tables.filter(|(_, (_, manifest))| is_named || !is_machinery(&manifest.name)).map(|(at, _)| at).collect()
}

fn to_stdout(subject: &Subject<'_>, format: Format, tables: &[usize]) -> Result<Exit, CliError> {
    if format == Format::Sqlite {
        return Err(CliError::usage("a database cannot be written to standard output").hint("name a file with `--output`"));
    }
    let mut out = subject.project.cx.output.document();
    write(subject, format, tables, &mut out)?;
    out.finish()?;
    Ok(Exit::DONE)
}

/// Lists the names that the file may get: the one that is asked for, else one by database and time, and the same with a number.
fn names(
    subject: &Subject<'_>,
    output: Option<&Path>,
    format: Format,
    is_many: bool,
) -> Result<std::iter::Peekable<Box<dyn Iterator<Item = PathBuf>>>, CliError> {
    let cwd = &subject.project.cx.environment.cwd;
    let names: Box<dyn Iterator<Item = PathBuf>> = match output {
        Some(path) => {
            let path = cwd.join(path);
            // Before anything is read.
            if path.symlink_metadata().is_ok() {
                return Err(exists(&path));
            }
            Box::new(std::iter::once(path))
        }
        None => {
            let extension = if is_many { "csv.zip" } else { format.extension() };
            let stem = format!("{}-{}", database_name(&subject.source), subject.time.format("%Y-%m-%dT%H%M%SZ"));
            let folder = cwd.clone();
            Box::new((1..=NAMES_MAX).map(move |number| {
                let number = if number == 1 { String::new() } else { format!("-{number}") };
                folder.join(format!("{stem}{number}.{extension}"))
            }))
        }
    };
    Ok(names.peekable())
}

fn exists(path: &Path) -> CliError {
    CliError::new(ErrorKind::Usage, format_args!("`{}` exists, and an export never writes over a file", path.display()))
        .hint("choose another name, or leave `--output` out")
}

/// Returns what a database is called in a file's name: letters, digits, `-`, `_` and `.`.
fn database_name(source: &SourceName) -> String {
    let place = source.place.split('?').next().unwrap_or_default();
    let last = place.rsplit(['/', '\\']).next().unwrap_or_default();
    let stem = match (source.engine.as_str(), last.rsplit_once('.')) {
        ("sqlite", Some((stem, _))) if !stem.is_empty() => stem,
        _ => last,
    };
    let name: String = stem.chars().map(|c| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' }).collect();
    let name = name.trim_start_matches('.').chars().take(100).collect::<String>();
    if name.is_empty() { "database".to_owned() } else { name }
}

/// Writes any form but a database.
fn write(subject: &Subject<'_>, format: Format, tables: &[usize], out: &mut dyn Write) -> Result<(), CliError> {
    let (state, store) = (&subject.state, &subject.project.store);
    let head = export::Head { timestamp: &subject.timestamp, snapshot: subject.id, source: &subject.source };
    match format {
        Format::Json => export::json(out, &head, state, store)?,
        Format::Jsonl => export::jsonl(out, &head, state, store)?,
        Format::Csv => match tables {
            [at] => export::csv(out, &state.tables[*at].1, store)?,
            tables => bundle::csv(subject, tables, out)?,
        },
        Format::Sql => sql(subject, out)?,
        Format::SqlGz => {
            let mut packed = GzEncoder::new(out, Compression::default());
            sql(subject, &mut packed)?;
            packed.finish()?;
        }
        Format::Zip => bundle::zip(subject, out)?,
        Format::Sqlite => {}
    }
    Ok(())
}

/// Writes a dump that makes the state of an empty database.
fn sql(subject: &Subject<'_>, out: &mut dyn Write) -> Result<(), CliError> {
    let (project, state) = (subject.project, &subject.state);
    let writer = sql_writer(&subject.source, project.with_owners())?;
    let what = subject.id.map_or_else(|| "the live database".to_owned(), |id| format!("snapshot {id}"));
    let place: String = subject.source.place.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    writeln!(out, "-- {what} of {place}, {}", subject.timestamp)?;
    let how = match writer {
        SqlWriter::Sqlite => "sqlite3 new.db < THIS_FILE",
        #[cfg(feature = "postgres")]
        SqlWriter::Postgres { .. } => "psql -X -v ON_ERROR_STOP=1 -d NEW_DATABASE -f THIS_FILE",
    };
    writeln!(out, "-- Load it into an empty database: {how}")?;
    if writer == SqlWriter::Sqlite {
        // What only a new database can be given comes before everything else.
        for name in CREATION {
            let Some(setting) = state.settings.get(name) else { continue };
            if !setting.value.is_empty() && setting.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                writeln!(out, "PRAGMA {name}='{}';", setting.value)?;
            }
        }
    }
    let nothing = part::nothing(state);
    let plan = plan(&nothing, state);
    writer.patch(out, &plan, &nothing, state, &project.store)
}

/// Makes a database of the state, proven equal to it.
fn sqlite(subject: &Subject<'_>, path: &Path) -> Result<(), CliError> {
    let project = subject.project;
    let target = beside(project, path)?;
    project.with_database(&target, |session| {
        let mut engine = target.create(&subject.state.settings)?;
        rollback::restore(session, &mut *engine, &subject.state)?;
        Ok(())
    })
}

/// Names a file that is opened as the project's database is.
pub fn beside(project: &Project<'_>, path: &Path) -> Result<Database, CliError> {
    if let Some(database) = project.database().ok().and_then(|database| database.at(path.to_owned())) {
        return Ok(database);
    }
    let url = DatabaseUrl::parse(&path.to_string_lossy(), &UrlOrigin::Flag, &project.cx.environment.cwd, &|_| true)?;
    Database::of(project.cx, &url, project.config.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_follows_from_the_end_of_a_name() {
        for (name, expected) in [
            ("a.json", Some(Format::Json)),
            ("a.SQL", Some(Format::Sql)),
            ("a.sql.gz", Some(Format::SqlGz)),
            ("x/a.csv.zip", Some(Format::Csv)),
            ("a.zip", Some(Format::Zip)),
            ("a.db", Some(Format::Sqlite)),
            ("a.gz", None),
            ("sql", None),
        ] {
            assert_eq!(Format::of(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn a_file_is_named_by_its_database() {
        let name = |engine: &str, place: &str| database_name(&SourceName { engine: engine.to_owned(), place: place.to_owned() });
        assert_eq!(name("sqlite", "/srv/app.db"), "app");
        assert_eq!(name("sqlite", "/srv/my app.v2.sqlite"), "my_app.v2");
        assert_eq!(name("sqlite", "/srv/.hidden"), "hidden");
        assert_eq!(name("postgres", "postgres://h:5432/shop?schema=app"), "shop");
        assert_eq!(name("postgres", "postgres://h:5432/"), "database");
    }
}
