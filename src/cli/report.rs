//! Errors as people and scripts meet them, and exit codes. The only place that knows hints and codes.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | found something: differences with `--exit-code`, drift, check findings, damage that `fsck` was asked for |
//! | 2 | usage or configuration |
//! | 3 | failed, the database is unchanged |
//! | 4 | the migration failed or was stopped by a guard; the database is as it was before, because it was rolled back or never changed, verified |
//! | 5 | the migration failed or lost data, and the database was **not** rolled back |
//! | 10 | no store |
//! | 11 | locked by another |
//! | 12 | wrong key |
//! | 130 | interrupted |

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use dbelay::config::ConfigError;
use dbelay::engine::EngineError;
use dbelay::files::write::WriteError;
use dbelay::ops::OpError;
use dbelay::ops::files::FileError;
use dbelay::snapshot::select::SelectorError;
use dbelay::source::SourceError;
use dbelay::store::StoreError;
use serde_json::{Value, json};

use super::output::{ERROR, HINT, Output};

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// It is done.
    pub const DONE: Self = Self(0);
    /// What was looked for was found: differences, drift, damage.
    pub const FOUND: Self = Self(1);
    /// The command line or the configuration makes no sense.
    pub const USAGE: Self = Self(2);
    /// It failed, and the database is unchanged.
    pub const FAILED: Self = Self(3);
    /// The migration failed, and the database was put back.
    pub const ROLLED_BACK: Self = Self(4);
    /// The migration failed, and the database was not put back.
    pub const NOT_ROLLED_BACK: Self = Self(5);
    /// There is no store.
    pub const NO_STORE: Self = Self(10);
    /// Another process holds the lock.
    pub const LOCKED: Self = Self(11);
    /// The store is encrypted, and no key of it was given.
    pub const WRONG_KEY: Self = Self(12);
    /// Someone pressed Ctrl-C.
    pub const INTERRUPTED: Self = Self(130);
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// What kind of thing went wrong; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The command line makes no sense.
    Usage,
    /// `dbelay.toml` or the database URL makes no sense.
    Config,
    /// There is no store.
    NoStore,
    /// Another process holds the store or the database.
    Locked,
    /// The store is encrypted, and no key of it was given.
    WrongKey,
    /// There is no such snapshot, table, row or database.
    NotFound,
    /// The store is damaged where it was needed.
    Damaged,
    /// The database refused.
    Database,
    /// Someone pressed Ctrl-C.
    Interrupted,
    /// The migration failed or was stopped, and the database was put back.
    RolledBack,
    /// The migration failed or lost data, and the database was not put back.
    NotRolledBack,
    /// Anything else.
    Failed,
}

impl ErrorKind {
    /// Returns the exit code.
    pub fn exit(self) -> Exit {
        match self {
            Self::Usage | Self::Config | Self::NotFound => Exit::USAGE,
            Self::NoStore => Exit::NO_STORE,
            Self::Locked => Exit::LOCKED,
            Self::WrongKey => Exit::WRONG_KEY,
            Self::Interrupted => Exit::INTERRUPTED,
            Self::RolledBack => Exit::ROLLED_BACK,
            Self::NotRolledBack => Exit::NOT_ROLLED_BACK,
            Self::Damaged | Self::Database | Self::Failed => Exit::FAILED,
        }
    }

    /// Returns the kind's name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Config => "config",
            Self::NoStore => "no_store",
            Self::Locked => "locked",
            Self::WrongKey => "wrong_key",
            Self::NotFound => "not_found",
            Self::Damaged => "damaged",
            Self::Database => "database",
            Self::Interrupted => "interrupted",
            Self::RolledBack => "rolled_back",
            Self::NotRolledBack => "not_rolled_back",
            Self::Failed => "failed",
        }
    }
}

/// What state an error left the database in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseState {
    /// As it was before the command.
    Unchanged,
    /// Changed, then put back, and verified.
    RolledBack,
    /// Changed.
    Changed,
    /// Nobody can tell.
    Unknown,
}

impl DatabaseState {
    /// Returns the state's name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::RolledBack => "rolled_back",
            Self::Changed => "changed",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a command did not do what it was asked to. Any error turns into one by `?`.
#[derive(Debug)]
pub struct CliError {
    /// Its kind.
    pub kind: ErrorKind,
    /// What happened, and its causes.
    pub error: anyhow::Error,
    /// What to do next: with a command that works when pasted.
    pub hint: Option<String>,
    /// What state the database is in, where the command could have changed it.
    pub database_state: Option<DatabaseState>,
    /// What else programs should know: fields of the JSON document beside `error`.
    pub details: Option<serde_json::Map<String, Value>>,
}

impl CliError {
    /// Builds an error of a kind from a message.
    pub fn new(kind: ErrorKind, message: impl Display) -> Self {
        Self { kind, error: anyhow::anyhow!("{message}"), hint: None, database_state: None, details: None }
    }

    /// Builds the error of a command line that makes no sense.
    pub fn usage(message: impl Display) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Says of which kind it is.
    #[must_use]
    pub fn kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Says what state the database is in.
    #[must_use]
    pub fn state(mut self, state: DatabaseState) -> Self {
        self.database_state = Some(state);
        self
    }

    /// Says what was being done; what was said before becomes the cause.
    #[must_use]
    pub fn context(mut self, message: impl Display + Send + Sync + 'static) -> Self {
        self.error = self.error.context(message.to_string());
        self
    }

    /// Returns the causes, outermost first, without those that only repeat the one before.
    fn causes(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.error.chain().map(ToString::to_string).collect();
        lines.dedup();
        lines.remove(0);
        lines
    }
}

impl<E: Into<anyhow::Error>> From<E> for CliError {
    fn from(error: E) -> Self {
        let error = error.into();
        Self { kind: classify(&error), error, hint: None, database_state: None, details: None }
    }
}

/// Tells the kind of an error from the library by its type, wherever in the chain it is.
fn classify(error: &anyhow::Error) -> ErrorKind {
    error.chain().find_map(|cause| look_up(cause, "").map(|(kind, _)| kind)).unwrap_or(ErrorKind::Failed)
}

/// Says what helps against an error of a verb, with a database of this engine.
pub fn help(error: &OpError, engine: &str) -> Option<&'static str> {
    let causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |cause| cause.source());
    causes.into_iter().find_map(|cause| look_up(cause, engine)?.1)
}

/// Finds the kind of an error, and what helps against it.
fn look_up(cause: &(dyn std::error::Error + 'static), engine: &str) -> Option<(ErrorKind, Option<&'static str>)> {
    if let Some(error) = cause.downcast_ref::<OpError>() {
        return Some(match error {
            OpError::Store(error) => of_store(error),
            OpError::Engine(error) => of_engine(error, engine),
            OpError::Files(error) => of_files(error),
            OpError::Compare(_) | OpError::Format { .. } => (ErrorKind::Damaged, Some(FSCK)),
            OpError::Unmarkable(_) => (ErrorKind::Damaged, Some(FSCK)),
            OpError::NewerSnapshot { .. } => (ErrorKind::Failed, Some(NEWER)),
            OpError::NotProven { .. } => (ErrorKind::Failed, Some("nothing was changed; please report it with the schema of that table")),
            OpError::Unwritable(_) => (ErrorKind::Database, Some(extensions(engine))),
            OpError::NothingTo(_) => (ErrorKind::Failed, Some("`dbelay op log` lists what was done")),
            OpError::NameTaken { .. } => (ErrorKind::Failed, Some("name that table with another `--table`, or roll back everything")),
            OpError::NoTable(..) => (ErrorKind::NotFound, Some("`dbelay show` lists the tables of a snapshot")),
            OpError::Command { .. } => (ErrorKind::Failed, None),
            OpError::Aside { .. } => (ErrorKind::Database, None),
            OpError::Guard { .. } => (ErrorKind::Config, Some("mend its SQL under `[[guards.assert]]` in dbelay.toml")),
        });
    }
    if let Some(error) = cause.downcast_ref::<StoreError>() {
        return Some(of_store(error));
    }
    if let Some(error) = cause.downcast_ref::<EngineError>() {
        return Some(of_engine(error, engine));
    }
    if cause.downcast_ref::<SourceError>().is_some() || cause.downcast_ref::<ConfigError>().is_some() {
        return Some((ErrorKind::Config, None));
    }
    cause.downcast_ref::<SelectorError>().map(|_| (ErrorKind::NotFound, None))
}

const FSCK: &str = "`dbelay fsck --read-data` names what is damaged; snapshots that it does not name restore";

/// Says what helps where a function, collation or module is missing.
pub fn extensions(engine: &str) -> &'static str {
    match engine {
        POSTGRES => "install it on the server",
        _ => "name the library that brings it in dbelay.toml: `extensions = [\"./library\"]` under `[sqlite]`",
    }
}

const POSTGRES: &str = "postgres";
const KEY: &str = "give its passphrase with `DBELAY_PASSWORD_FILE` or `DBELAY_PASSWORD_COMMAND`, or its key file with `--key-file`";
const NEWER: &str = "use the dbelay that wrote it, or a newer one";

fn of_files(error: &FileError) -> (ErrorKind, Option<&'static str>) {
    match error {
        FileError::Unreadable { .. } => {
            (ErrorKind::Failed, Some("let this user read it, or leave it out: `exclude` under `[files]` in dbelay.toml"))
        }
        FileError::Stored(_) | FileError::Write(WriteError::Content(_)) => (ErrorKind::Damaged, Some(FSCK)),
        FileError::Write(WriteError::File { .. }) => (ErrorKind::Failed, None),
        FileError::NoFiles(_) => (ErrorKind::NotFound, Some("`dbelay show` tells whether a snapshot holds files")),
        FileError::NoFolder => (ErrorKind::Config, Some("name them: `include = [\"/uploads/\"]` under `[files]`")),
        FileError::Changing(_) => (ErrorKind::Failed, Some("stop what writes it, and try again")),
        FileError::InTheWay(_) => (ErrorKind::Usage, Some("choose an empty folder, or say `--overwrite`")),
        FileError::NotFound(..) => (ErrorKind::NotFound, Some("`dbelay show --files` lists the files of a snapshot")),
    }
}

fn of_store(error: &StoreError) -> (ErrorKind, Option<&'static str>) {
    match error {
        StoreError::NoStore(_) => (ErrorKind::NoStore, Some("`dbelay init` makes one, and so does the first `dbelay snapshot`")),
        StoreError::KeyNeeded(_) => (ErrorKind::WrongKey, Some(KEY)),
        StoreError::WrongKey { .. } => (ErrorKind::WrongKey, Some("`dbelay key list` with a right one lists the keys")),
        StoreError::Exists(_) | StoreError::TagName { .. } | StoreError::Key(_) => (ErrorKind::Usage, None),
        StoreError::NewerFormat { .. } => (ErrorKind::Config, Some(NEWER)),
        StoreError::NoSnapshot(_) => (ErrorKind::NotFound, Some("`dbelay log` lists the snapshots")),
        StoreError::Pinned(_) => (ErrorKind::Failed, Some("`dbelay unpin` lets it go")),
        StoreError::Locked { .. } | StoreError::Read => (ErrorKind::Locked, Some("wait until it is done, and try again")),
        StoreError::Missing(_)
        | StoreError::Damaged { .. }
        | StoreError::DamagedSnapshot(_)
        | StoreError::DamagedTag(_)
        | StoreError::Log { .. } => (ErrorKind::Damaged, Some(FSCK)),
        StoreError::Config { .. } => (ErrorKind::Damaged, Some("`dbelay fsck --repair` writes it anew where it can be told what it was")),
        StoreError::TooLong(_) | StoreError::Io { .. } => (ErrorKind::Failed, None),
    }
}

fn of_engine(error: &EngineError, engine: &str) -> (ErrorKind, Option<&'static str>) {
    let is_postgres = engine == POSTGRES;
    let either = |file: &'static str, server: &'static str| Some(if is_postgres { server } else { file });
    match error {
        EngineError::Locked { .. } => (
            ErrorKind::Locked,
            either(
                "close what holds the database, or raise `busy-timeout-ms` under `[sqlite]` in dbelay.toml",
                "end those sessions, or raise `lock-timeout-ms` under `[postgres]` in dbelay.toml",
            ),
        ),
        EngineError::Missing(_) => (
            ErrorKind::NotFound,
            either("check the path; `--db` names another", "check its name, or make it first with `createdb`; `--db` names another"),
        ),
        EngineError::Unreadable { .. } => (
            ErrorKind::Config,
            either(
                "check its permissions and those of its folder; `--db` names another",
                "check that the server runs, and the URL's host, user and password; `--db` names another",
            ),
        ),
        EngineError::NotADatabase { .. } => (ErrorKind::Config, Some("`--db` names another")),
        EngineError::Extension { .. } => (ErrorKind::Config, Some("`extensions` under `[sqlite]` in dbelay.toml names it")),
        EngineError::Lacks(_) => (ErrorKind::Database, Some(extensions(engine))),
        EngineError::Full => (ErrorKind::Database, Some("make room on the disk, and try again")),
        EngineError::Damaged(_) => (
            ErrorKind::Database,
            either(
                "`dbelay restore` writes a good snapshot into a new file",
                "`dbelay restore` writes a good snapshot into a new database",
            ),
        ),
        _ => (ErrorKind::Database, None),
    }
}

/// Prints the error if there is one, and returns how to exit.
pub fn conclude(result: Result<Exit, CliError>, output: &Output) -> Exit {
    output.set_bar(None);
    let error = match result {
        Ok(exit) => return exit,
        Err(error) => error,
    };
    if output.reader_is_gone() && is_broken_pipe(&error.error) {
        return Exit::DONE;
    }
    let mut error = error;
    if error.hint.is_none() {
        error.hint = error.error.chain().find_map(|cause| look_up(cause, output.engine())?.1).map(str::to_owned);
    }
    error.hint = error.hint.map(|hint| output.placed(&hint));
    output.line(text(&error));
    print_document(&error, output);
    error.kind.exit()
}

/// Prints what clap has to say: help and version to standard output, errors to standard error, both to exit as they should.
pub fn conclude_usage(error: &clap::Error, output: &Output) -> Exit {
    let styled = error.render();
    if !error.use_stderr() {
        let mut out = output.out();
        let text = styled.ansi().to_string();
        // Help is help, also with `--json`; who has gone away does not miss it.
        let _ = if output.is_json() {
            output.json(&json!({ "help": styled.to_string() }))
        } else {
            io::Write::write_all(&mut out, text.as_bytes()).and_then(|()| out.finish())
        };
        return Exit::DONE;
    }
    if !output.is_json() {
        output.prompt(styled.ansi());
        return Exit::USAGE;
    }
    let error = usage_error(error);
    output.line(first_line(&error));
    print_document(&error, output);
    Exit::USAGE
}

/// Takes clap's message apart: what is wrong comes first, then tips, then the usage.
fn usage_error(error: &clap::Error) -> CliError {
    use clap::error::ErrorKind as Clap;
    if error.kind() == Clap::DisplayHelpOnMissingArgumentOrSubcommand {
        return CliError::usage("no command was given").hint("`dbelay --help` lists the commands");
    }
    let rendered = error.render().to_string();
    let mut parts = rendered.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    let message = parts.next().unwrap_or_default();
    let tip = parts.find_map(|part| part.strip_prefix("tip: ").map(str::to_owned));
    CliError::usage(message.strip_prefix("error: ").unwrap_or(&message))
        .hint(tip.as_deref().unwrap_or("`dbelay --help` lists what can be said"))
}

fn print_document(error: &CliError, output: &Output) {
    if output.is_json() && !output.document_printed() {
        // Where standard output is gone, standard error and the exit code remain.
        let _ = output.json(&document(error));
    }
}

/// Returns an error as it is printed.
fn text(error: &CliError) -> String {
    let mut text = first_line(error);
    for cause in error.causes() {
        text.push_str(&format!("\n  caused by: {}", cause.replace('\n', "\n    ")));
    }
    if let Some(hint) = &error.hint {
        text.push_str(&format!("\n\n{HINT}hint{HINT:#}: {hint}"));
    }
    text
}

fn first_line(error: &CliError) -> String {
    format!("{ERROR}error{ERROR:#}: {}", error.error)
}

/// Returns an error as a JSON document.
fn document(error: &CliError) -> Value {
    let mut document = json!({ "error": {
        "kind": error.kind.name(),
        "message": error.error.to_string(),
        "causes": error.causes(),
        "hint": error.hint,
        "database_state": error.database_state.map(DatabaseState::name),
    }});
    if let (Some(fields), Some(details)) = (document.as_object_mut(), &error.details) {
        fields.extend(details.clone());
    }
    document
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn an_error_says_what_why_and_what_next() {
        let cause =
            anyhow::anyhow!("table `users` lost 1,204 rows").context("migration command failed (exit 1); the database was rolled back");
        let error = CliError::from(cause).hint("`dbelay diff pre failed --table users` shows the rows");
        assert_eq!(
            plain(&text(&error)),
            "error: migration command failed (exit 1); the database was rolled back\n  caused by: table `users` lost 1,204 rows\n\n\
             hint: `dbelay diff pre failed --table users` shows the rows"
        );
    }

    #[test]
    fn an_error_is_a_json_document_with_every_field() {
        let error = CliError::new(ErrorKind::RolledBack, "it failed").context("the migration failed").state(DatabaseState::RolledBack);
        assert_eq!(
            document(&error),
            json!({ "error": {
                "kind": "rolled_back", "message": "the migration failed", "causes": ["it failed"], "hint": null, "database_state": "rolled_back",
            }})
        );
    }

    #[test]
    fn kinds_have_the_documented_exit_codes() {
        use ErrorKind::*;
        let expected = [
            (Usage, 2),
            (Config, 2),
            (NotFound, 2),
            (Damaged, 3),
            (Database, 3),
            (Failed, 3),
            (RolledBack, 4),
            (NotRolledBack, 5),
            (NoStore, 10),
            (Locked, 11),
            (Interrupted, 130),
        ];
        for (kind, code) in expected {
            assert_eq!(kind.exit(), Exit(code), "{kind:?}");
        }
    }

    #[test]
    fn a_locked_database_is_recognised_below_its_context() {
        use anyhow::Context as _;
        let locked = Err::<(), _>(EngineError::Locked { who: String::new(), waited_ms: 5 }).context("the snapshot failed");
        assert_eq!(CliError::from(locked.expect_err("an error")).kind, ErrorKind::Locked);
        assert_eq!(CliError::from(io::Error::other("x")).kind, ErrorKind::Failed);
    }

    #[test]
    fn what_helps_fits_the_engine() {
        let locked = OpError::Engine(EngineError::Locked { who: String::new(), waited_ms: 5 });
        assert!(help(&locked, "sqlite").expect("a hint").contains("`busy-timeout-ms` under `[sqlite]`"));
        assert!(help(&locked, "postgres").expect("a hint").contains("`lock-timeout-ms` under `[postgres]`"));
        let missing = OpError::Engine(EngineError::Missing("postgres://localhost:5432/shop".to_owned()));
        assert!(help(&missing, "postgres").expect("a hint").contains("`createdb`"));
        assert!(help(&missing, "sqlite").expect("a hint").contains("check the path"));
    }

    #[test]
    fn a_usage_error_of_clap_becomes_one_sentence() {
        let error = <super::super::Cli as clap::Parser>::try_parse_from(["dbelay", "diff", "--jsn"]).expect_err("no such option");
        let error = usage_error(&error);
        assert_eq!(error.error.to_string(), "unexpected argument '--jsn' found");
        assert_eq!(error.hint.as_deref(), Some("a similar argument exists: '--json'"));
        let error = <super::super::Cli as clap::Parser>::try_parse_from(["dbelay", "restore"]).expect_err("arguments are missing");
        assert_eq!(usage_error(&error).error.to_string(), "the following required arguments were not provided: --to <URL> <SNAPSHOT>");
    }
}
