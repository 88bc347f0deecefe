//! `dbelay import`: a file that holds a database becomes a snapshot.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use dbelay::engine::Engine;
use dbelay::engine::sqlite::scratch::Scratch;
use dbelay::ops::capture::{Label, Taken};
use dbelay::ops::import;
use dbelay::ops::import::json::{self as export, Head, Reader};
use dbelay::ops::journal::{self, Entry, OperationKind, OperationResult, Phase};
use dbelay::ops::{OpError, Session};
use dbelay::schema::Settings;
use dbelay::snapshot::manifest::{SnapshotKind, SourceName};
use dbelay::store::check_tag_name;
use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};

use super::database::Database;
use super::export::beside;
use super::output::DIM;
use super::project::{self, Need, Project, create_store, find_store, read_config};
use super::query::server_scratch;
use super::snapshot::{document, holds};
use super::{CliError, Context, ErrorKind, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay import backup.sql.gz -m \"the nightly dump\"
  dbelay import shop-2026-01-01T120000Z.zip --tag january
  dbelay import old.db --as-source && dbelay diff HEAD live";

/// How many bytes of a file tell what it is.
const HEAD_BYTES: usize = 64 * 1024;

/// Words that only dumps of PostgreSQL have near their beginning.
const POSTGRES_WORDS: [&str; 7] = [
    "-- PostgreSQL database dump",
    "SET statement_timeout",
    "SET client_encoding",
    "SET LOCAL client_encoding",
    "pg_catalog.",
    "\\restrict ",
    " FROM stdin;",
];

/// Make a snapshot from a SQLite file, an SQL dump or an export
///
/// Read are SQLite files, dumps of SQLite (`.dump` of sqlite3, `export --format sql`), also compressed by gzip, and the exports json, jsonl and zip. An
/// export of PostgreSQL as json or jsonl is read on the project's server, in a scratch database. The file itself is only read. Without `--as-source`
/// the snapshot is one of the file, and stands beside those of the project's database.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The file
    pub file: PathBuf,
    /// Why; kept with the snapshot
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Give it this name
    #[arg(long, value_name = "NAME")]
    pub tag: Option<String>,
    /// Make it a snapshot of the project's database, as its newest
    #[arg(long)]
    pub as_source: bool,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Sql,
    PostgresSql,
    Json,
    Zip,
    Gzip,
    PostgresArchive,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    if let Some(tag) = &args.tag {
        check_tag_name(tag)?;
    }
    let path = cx.environment.cwd.join(&args.file);
    let path = path.canonicalize().map_err(|error| unreadable(&path, &error))?;
    let mut file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
    let kind = look(&mut file).map_err(|error| unreadable(&path, &error))?;
    let dir = find_store(cx, read_config(cx)?.as_ref(), None);
    if !dir.1 && !cx.global.dry_run {
        create_store(cx, &dir.0)?;
        cx.output.note(format_args!("a new store was made in `{}`", dir.0.display()));
    }
    let project = Project::open(cx, Need::Existing)?;
    if cx.global.dry_run {
        cx.output.say(format_args!("would import `{}`", path.display()));
        if cx.output.is_json() {
            cx.output.json(&json!({ "dry_run": true, "file": path.to_string_lossy() }))?;
        }
        return Ok(Exit::DONE);
    }
    let _lock = project.lock("import")?;
    if let Some(tag) = &args.tag
        && project.store.tags()?.contains_key(tag)
    {
        return Err(CliError::usage(format_args!("there is a tag `{tag}` already")).hint("choose another name, or leave `--tag` out"));
    }
    let import = Import { project: &project, args, path: &path };
    let taken = import.file(kind, file)?;
    if let Some(tag) = &args.tag {
        project.store.set_tag(tag, &taken.id)?;
    }
    report(cx, args, &path, &taken)?;
    Ok(Exit::DONE)
}

fn report(cx: &Context, args: &Args, path: &Path, taken: &Taken) -> Result<(), CliError> {
    if cx.output.is_json() {
        let mut document: Value = document(taken, args.tag.as_deref());
        document["file"] = path.to_string_lossy().into();
        document["source"] = json!(taken.snapshot.source);
        return Ok(cx.output.json(&document)?);
    }
    let tag = args.tag.as_ref().map(|tag| format!(" (tag {tag})")).unwrap_or_default();
    let mut out = cx.output.out();
    std::io::Write::write_fmt(
        &mut out,
        format_args!("snapshot {}{tag} of {}: {}\n", project::id(&taken.id), taken.snapshot.source.place, holds(taken)),
    )?;
    out.finish()?;
    if !args.as_source {
        let id = taken.id.short();
        cx.output.say(format_args!("{DIM}`dbelay rollback {id} --force-identity` puts it into the project's database{DIM:#}"));
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> CliError {
    let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Failed };
    CliError::new(kind, format_args!("`{}` cannot be read: {error}", path.display()))
}

/// Tells what a file holds by its beginning, and goes back there.
fn look(file: &mut File) -> std::io::Result<Kind> {
    let mut head = Vec::new();
    file.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(kind_of(&head))
}

fn kind_of(head: &[u8]) -> Kind {
    if head.starts_with(b"SQLite format 3\0") {
        return Kind::Sqlite;
    }
    if head.starts_with(&[0x1f, 0x8b]) {
        return Kind::Gzip;
    }
    if head.starts_with(b"PK\x03\x04") {
        return Kind::Zip;
    }
    if head.starts_with(b"PGDMP") {
        return Kind::PostgresArchive;
    }
    let text = String::from_utf8_lossy(head);
    if text.trim_start().starts_with('{') {
        return Kind::Json;
    }
    if POSTGRES_WORDS.iter().any(|word| text.contains(word)) { Kind::PostgresSql } else { Kind::Sql }
}

struct Import<'a> {
    project: &'a Project<'a>,
    args: &'a Args,
    path: &'a Path,
}

impl Import<'_> {
    fn file(&self, kind: Kind, file: File) -> Result<Taken, CliError> {
        match kind {
            Kind::Sqlite => {
                let mut engine = beside(self.project, self.path)?.open()?;
                self.take(&mut *engine, "sqlite", None)
            }
            Kind::Zip => {
                let mut zip = zip::ZipArchive::new(file).map_err(|error| self.misfit(&error.to_string()))?;
                let mut metadata = Vec::new();
                let entry = zip
                    .by_name("metadata.json")
                    .map_err(|_| self.misfit("it has no `metadata.json`, as the zips of `dbelay export` have"))?;
                entry.take(HEAD_BYTES as u64 * 1024).read_to_end(&mut metadata)?;
                let metadata: Value = serde_json::from_slice(&metadata)?;
                if metadata["source"]["engine"] != "sqlite" {
                    return Err(self.postgres_dump("its `database.sql`"));
                }
                let time = metadata["timestamp"].as_str().map(str::to_owned);
                let entry = zip.by_name("database.sql").map_err(|_| self.misfit("it has no `database.sql`"))?;
                self.sql(BufReader::new(entry), time)
            }
            Kind::Gzip => self.text(BufReader::with_capacity(HEAD_BYTES, MultiGzDecoder::new(file))),
            _ => self.text(BufReader::with_capacity(HEAD_BYTES, file)),
        }
    }

    fn text(&self, mut input: impl BufRead) -> Result<Taken, CliError> {
        let mut head = Vec::new();
        let cut = |error| CliError::from(error).context(format!("`{}` cannot be imported", self.path.display()));
        input.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(cut)?;
        let kind = kind_of(&head);
        let input = std::io::Cursor::new(head).chain(input);
        match kind {
            Kind::Json => self.json(input),
            Kind::PostgresSql => Err(self.postgres_dump("it")),
            Kind::PostgresArchive => {
                Err(CliError::usage(format_args!("`{}` is an archive of pg_dump, which only pg_restore reads", self.path.display()))
                    .hint("restore it into an empty database with `pg_restore`, and take a snapshot there: `dbelay --db URL snapshot`"))
            }
            Kind::Sql => self.sql(input, None),
            Kind::Sqlite | Kind::Zip | Kind::Gzip => {
                Err(self.misfit("it is compressed, and what is in it is no text").hint("unpack it first"))
            }
        }
    }

    fn misfit(&self, why: &str) -> CliError {
        CliError::new(ErrorKind::Usage, format_args!("`{}` cannot be imported: {why}", self.path.display()))
    }

    fn postgres_dump(&self, what: &str) -> CliError {
        let message = format!(
            "`{}` cannot be imported: {what} is a dump of PostgreSQL, which is a program for psql and not only data",
            self.path.display()
        );
        CliError::usage(message).hint(
            "load it into an empty database with `psql -X -v ON_ERROR_STOP=1 -f`, and take a snapshot there: `dbelay --db URL snapshot`",
        )
    }

    fn sql(&self, input: impl BufRead, time: Option<String>) -> Result<Taken, CliError> {
        let mut scratch = Scratch::new(&Settings::default(), &self.options())?;
        scratch.load(input).map_err(|error| {
            CliError::from(error).kind(ErrorKind::Usage).context(format!("`{}` cannot be imported", self.path.display()))
        })?;
        self.take(scratch.engine(), "sqlite", time)
    }

    fn json(&self, input: impl BufRead) -> Result<Taken, CliError> {
        let failed = |error: OpError| CliError::from(error).context(format!("`{}` cannot be imported", self.path.display()));
        let mut reader = Reader::new(input);
        let head: Head = reader.head().map_err(|error| failed(error).kind(ErrorKind::Usage))?;
        let mut fill = |engine: &mut dyn Engine| {
            export::fill(engine, &head, &mut reader, &self.project.store, self.project.progress()).map_err(failed)?;
            self.take(engine, &head.source.engine, Some(head.timestamp.clone()))
        };
        if head.source.engine == "sqlite" {
            let mut scratch = Scratch::new(&head.settings, &self.options())?;
            return fill(scratch.engine());
        }
        server_scratch(self.project, &head.settings, |engine| fill(engine))
    }

    fn options(&self) -> dbelay::engine::sqlite::Options {
        self.project.database().ok().and_then(Database::sqlite_options).unwrap_or_default()
    }

    /// Takes the snapshot of a database that was filled from the file.
    fn take(&self, engine: &mut dyn Engine, kind: &str, time: Option<String>) -> Result<Taken, CliError> {
        let source = if self.args.as_source {
            let source = self.project.source()?;
            if source.engine != kind {
                return Err(CliError::usage(format_args!(
                    "`{}` holds a {kind} database, and `{}` is none",
                    self.path.display(),
                    source.place
                )));
            }
            source
        } else {
            SourceName { engine: kind.to_owned(), place: self.path.to_string_lossy().into_owned() }
        };
        let of = time.map(|time| format!(", as of {time}")).unwrap_or_default();
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let message = self.args.message.clone().unwrap_or_else(|| format!("imported from {name}{of}"));
        // Only who and where are taken from it; it is never opened.
        let database = match self.project.database() {
            Ok(database) => database,
            Err(_) => &beside(self.project, self.path)?,
        };
        self.project.with_database(database, |session| {
            let session = Session { source: source.clone(), origin: session.origin.clone(), ..*session };
            let label = Label { message: Some(message.clone()), ..Label::new(SnapshotKind::Manual) };
            let taken = import::take(&session, &mut *engine.begin_read()?, label)?;
            let mut entry = Entry::new(&session, OperationKind::Import, Phase::End);
            (entry.after, entry.result) = (Some(taken.id), Some(OperationResult::Done));
            entry.note = Some(format!("from {}", self.path.display()));
            journal::write(session.store, &entry).map_err(OpError::from)?;
            Ok(taken)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_beginning() {
        for (head, expected) in [
            (&b"SQLite format 3\0..."[..], Kind::Sqlite),
            (&[0x1f, 0x8b, 8], Kind::Gzip),
            (b"PK\x03\x04", Kind::Zip),
            (b"PGDMP", Kind::PostgresArchive),
            (b" \n{\"a\"", Kind::Json),
            (b"--\n-- PostgreSQL database dump\n--\n", Kind::PostgresSql),
            (b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;", Kind::Sql),
            (b"", Kind::Sql),
        ] {
            assert_eq!(kind_of(head), expected, "{}", String::from_utf8_lossy(head));
        }
    }
}
