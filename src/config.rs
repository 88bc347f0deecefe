//! `dbelay.toml`: what a project says once instead of on every command line.
//!
//! Every key is known or an error: a misspelt `on-failure` must not fall back to a default. An error names file, line, column
//! and key, and never shows a value, which may be a URL with a password. Nothing here reads the environment: `env:NAME` stays a
//! name until [`crate::source::resolve`] looks it up.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::snapshot::retention::Policy;

/// The name of the file.
pub const FILE_NAME: &str = "dbelay.toml";
/// The longest wait for a lock that can be asked for: a day.
pub const BUSY_TIMEOUT_MS_MAX: u64 = 86_400_000;
/// The most connections that may read at once.
pub const READERS_MAX: usize = 64;

/// The contents of `dbelay.toml`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// Where the file is; paths in it are relative to its folder.
    #[serde(skip)]
    pub path: PathBuf,
    /// The database.
    pub database: Option<SourceValue>,
    /// The store's folder; `.dbelay` if it is not said.
    #[serde(deserialize_with = "store_folder")]
    pub store: Option<PathBuf>,
    /// Further databases, by name, for `--db NAME`.
    #[serde(deserialize_with = "sources")]
    pub sources: BTreeMap<String, SourceValue>,
    /// Which files are kept with the database.
    pub files: FilesConfig,
    /// What `dbelay migrate` does.
    pub migrate: MigrateConfig,
    /// What a migration must not do.
    pub guards: GuardsConfig,
    /// What `dbelay check` looks at.
    pub check: CheckConfig,
    /// What `dbelay forget` keeps where it is not told.
    pub retention: Policy,
    /// SQLite alone.
    pub sqlite: SqliteConfig,
    /// PostgreSQL alone.
    pub postgres: PostgresConfig,
}

/// `[migrate]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct MigrateConfig {
    /// What happens after a failed or destructive migration; decided by the terminal if it is not said.
    pub on_failure: Option<OnFailure>,
    /// Tables (`audit`) and columns (`users.legacy_name`) that a migration may destroy.
    #[serde(deserialize_with = "allowed")]
    pub allow: Vec<String>,
    /// The variable from which the migration command takes its database; a rehearsal points it at the scratch database.
    #[serde(deserialize_with = "variable_name")]
    pub url_env: Option<String>,
    /// Where the migrations' SQL is: patterns, from the folder of the file. Common places if it is not said.
    #[serde(deserialize_with = "patterns")]
    pub files: Option<Vec<String>>,
    /// Whether the database runs all of its own checks before and after, however long they take; else those that concern what changed.
    pub full_check: bool,
}

/// `[files]`: patterns as in gitignore files, from the folder of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct FilesConfig {
    /// Files and folders that are kept with the database.
    #[serde(deserialize_with = "file_patterns")]
    pub include: Vec<String>,
    /// Those among them that are not.
    #[serde(deserialize_with = "file_patterns")]
    pub exclude: Vec<String>,
}

/// `[check]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct CheckConfig {
    /// Findings that are meant: `rule`, `rule:table`, `rule:table.column`.
    pub ignore: Vec<String>,
    /// What a migration does about findings.
    pub on_findings: OnFindings,
}

/// What a migration does about findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFindings {
    /// They are told, and the command runs.
    #[default]
    Tell,
    /// The command does not run.
    Stop,
}

/// `[guards]`: what a migration must not do, whatever else it does.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct GuardsConfig {
    /// The most rows that any table may lose.
    #[serde(alias = "rows_removed_max")]
    pub rows_removed_max: Option<Limit>,
    /// The most rows of any table that may change.
    #[serde(alias = "rows_changed_max")]
    pub rows_changed_max: Option<Limit>,
    /// Tables that must stay as they are.
    pub unchanged: Vec<String>,
    /// Limits of single tables, which count in place of the general ones.
    pub tables: BTreeMap<String, TableGuards>,
    /// Questions in SQL whose answers are known.
    #[serde(rename = "assert", deserialize_with = "assertions")]
    pub assertions: Vec<Assertion>,
}

impl GuardsConfig {
    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `[guards.tables.NAME]`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TableGuards {
    /// The most rows that it may lose.
    #[serde(alias = "rows_removed_max")]
    pub rows_removed_max: Option<Limit>,
    /// The most of its rows that may change.
    #[serde(alias = "rows_changed_max")]
    pub rows_changed_max: Option<Limit>,
}

/// How many rows: a count, or a share of those that the table had before (`"5%"`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// So many rows.
    Rows(u64),
    /// So many in a hundred.
    Percent(f64),
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Rows(u64),
            Text(String),
        }
        let expected = "a limit is a number of rows, or a share of them such as \"5%\"";
        let written = Written::deserialize(deserializer).map_err(|_| D::Error::custom(expected))?;
        let percent = match written {
            Written::Rows(rows) => return Ok(Self::Rows(rows)),
            Written::Text(text) => text.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok()),
        };
        match percent {
            Some(percent) if (0.0..=100.0).contains(&percent) => Ok(Self::Percent(percent)),
            _ => Err(D::Error::custom(expected)),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => write!(f, "{rows}"),
            Self::Percent(percent) => write!(f, "{percent} %"),
        }
    }
}

/// `[[guards.assert]]`: a question in SQL, and what is known of its answer after the migration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Assertion {
    /// What the verdict calls it.
    pub name: String,
    /// One SELECT.
    pub sql: String,
    /// Its one value.
    #[serde(default)]
    pub equals: Option<Expected>,
    /// The least that its one value may be.
    #[serde(default, alias = "at_least")]
    pub at_least: Option<f64>,
    /// The most that its one value may be.
    #[serde(default, alias = "at_most")]
    pub at_most: Option<f64>,
    /// Whether all its rows must be what they were before the migration.
    #[serde(default, alias = "unchanged-by-the-migration", alias = "unchanged_by_the_migration")]
    pub unchanged: bool,
}

/// The value that an assertion expects.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Expected {
    /// A truth value, which is 1 or 0 to databases without such.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// A real.
    Real(f64),
    /// A text.
    Text(String),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Real(value) => write!(f, "{value:?}"),
            Self::Text(value) => write!(f, "\"{value}\""),
        }
    }
}

fn assertions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Assertion>, D::Error> {
    let assertions = Vec::<Assertion>::deserialize(deserializer)?;
    for (at, assertion) in assertions.iter().enumerate() {
        let Assertion { name, sql, equals, at_least, at_most, unchanged } = assertion;
        let bounds = usize::from(equals.is_some()) + usize::from(at_least.is_some() || at_most.is_some()) + usize::from(*unchanged);
        let wrong = if name.trim().is_empty() || name.chars().any(char::is_control) {
            "the name of an assertion is empty or no plain text".to_owned()
        } else if assertions.iter().take(at).any(|other| other.name == *name) {
            format!("two assertions are called `{name}`")
        } else if sql.trim().is_empty() {
            format!("the assertion `{name}` has no SQL")
        } else if [at_least, at_most].into_iter().flatten().any(|bound| !bound.is_finite()) {
            format!("a bound of the assertion `{name}` is no finite number")
        } else if bounds != 1 {
            format!("the assertion `{name}` needs one of `equals`, `at-least` (with or without `at-most`), and `unchanged = true`")
        } else {
            continue;
        };
        return Err(D::Error::custom(wrong));
    }
    Ok(assertions)
}

/// What happens after a failed or destructive migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// The database is put back.
    Rollback,
    /// The user is asked.
    Ask,
    /// The database stays as the migration left it.
    Keep,
}

/// `[sqlite]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SqliteConfig {
    /// How long to wait for another process's lock.
    #[serde(deserialize_with = "busy_timeout")]
    pub busy_timeout_ms: u64,
    /// Libraries that bring what the schema needs: functions, collations, modules.
    #[serde(deserialize_with = "libraries")]
    pub extensions: Vec<String>,
    /// Whether rows are read from the pages of the file, past SQLite's own SQL. Through SQL it is as exact, and many times as slow.
    pub read_pages: bool,
}

impl Default for SqliteConfig {
    fn default() -> Self {
        Self { busy_timeout_ms: 5000, extensions: Vec::new(), read_pages: true }
    }
}

/// `[postgres]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PostgresConfig {
    /// How long to wait for another session's lock.
    #[serde(deserialize_with = "lock_timeout")]
    pub lock_timeout_ms: u64,
    /// Whether owners and privileges are put back.
    pub owners: bool,
    /// How many connections may read at once; by the number of cores if it is not said.
    #[serde(deserialize_with = "readers")]
    pub readers: Option<usize>,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self { lock_timeout_ms: 5000, owners: true, readers: None }
    }
}

/// A database as the file names it.
#[derive(Clone, PartialEq, Eq)]
pub enum SourceValue {
    /// A URL or path.
    Url(String),
    /// `env:NAME`: the variable that holds the URL.
    Variable(String),
}

impl fmt::Debug for SourceValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => write!(f, "Url({})", crate::source::redact(url)),
            Self::Variable(name) => write!(f, "Variable({name})"),
        }
    }
}

impl<'de> Deserialize<'de> for SourceValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.trim().is_empty() {
            return Err(D::Error::custom("a database URL is empty; write a path, a URL or `env:NAME`"));
        }
        match text.strip_prefix("env:") {
            None => Ok(Self::Url(text)),
            Some(name) if is_variable_name(name) => Ok(Self::Variable(name.to_owned())),
            Some(_) => Err(D::Error::custom("after `env:` comes the name of a variable (letters, digits, `_`)")),
        }
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn store_folder<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() {
        return Err(D::Error::custom("the store's folder is empty; write a path, or remove the key for `.dbelay`"));
    }
    Ok(Some(PathBuf::from(text)))
}

fn sources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, SourceValue>, D::Error> {
    let sources = BTreeMap::<String, SourceValue>::deserialize(deserializer)?;
    match sources.keys().find(|name| name.is_empty() || name.contains(['/', '\\', ':']) || name.trim() != *name) {
        Some(name) => Err(D::Error::custom(format_args!(
            "the source name `{name}` could be taken for a path or URL; use letters, digits, `-` and `_`"
        ))),
        None => Ok(sources),
    }
}

fn allowed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let allowed = Vec::<String>::deserialize(deserializer)?;
    match allowed.iter().find(|entry| entry.trim().is_empty() || entry.starts_with('.') || entry.ends_with('.')) {
        Some(entry) => Err(D::Error::custom(format_args!("`{entry}` names nothing; write `table` or `table.column`"))),
        None => Ok(allowed),
    }
}

fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let patterns = Vec::<String>::deserialize(deserializer)?;
    for pattern in &patterns {
        if pattern.trim().is_empty() || pattern.starts_with('/') || pattern.split('/').any(|part| part == "..") {
            return Err(D::Error::custom(format_args!("`{pattern}` names no files below the folder of this file")));
        }
        globset::Glob::new(pattern).map_err(D::Error::custom)?;
    }
    Ok(Some(patterns))
}

fn file_patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let patterns = Vec::<String>::deserialize(deserializer)?;
    for pattern in &patterns {
        let body = pattern.trim().trim_start_matches('!');
        if body.is_empty() || body.starts_with('#') || body.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(D::Error::custom(format_args!(
                "`{pattern}` names no files below the folder of this file; patterns are as in gitignore files"
            )));
        }
        ignore::gitignore::GitignoreBuilder::new("").add_line(None, pattern).map_err(D::Error::custom)?;
    }
    Ok(patterns)
}

fn variable_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name = String::deserialize(deserializer)?;
    if !is_variable_name(&name) {
        return Err(D::Error::custom("this is no name of a variable (letters, digits, `_`)"));
    }
    Ok(Some(name))
}

fn libraries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let libraries = Vec::<String>::deserialize(deserializer)?;
    if libraries.iter().any(|library| library.trim().is_empty()) {
        return Err(D::Error::custom("the name of an extension is empty; write the path of its library"));
    }
    Ok(libraries)
}

fn busy_timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let ms = u64::deserialize(deserializer)?;
    if ms > BUSY_TIMEOUT_MS_MAX {
        return Err(D::Error::custom(format_args!("{ms} ms is longer than a day ({BUSY_TIMEOUT_MS_MAX} ms)")));
    }
    Ok(ms)
}

fn lock_timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match busy_timeout(deserializer)? {
        0 => Err(D::Error::custom("0 ms would be for ever to PostgreSQL; write at least 1")),
        ms => Ok(ms),
    }
}

fn readers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    match usize::deserialize(deserializer)? {
        readers @ 1..=READERS_MAX => Ok(Some(readers)),
        readers => Err(D::Error::custom(format_args!("{readers} connections cannot be had; write a number from 1 to {READERS_MAX}"))),
    }
}

/// `dbelay.toml` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}`, line {line}, column {column}{}: {message}", .path.display(), key.as_ref().map(|key| format!(", key `{key}`")).unwrap_or_default())]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The key with its table (`migrate.on-failure`), where it can be told.
    pub key: Option<String>,
    /// What is wrong with it, without any secret.
    pub message: String,
}

impl Config {
    /// Reads the text of a `dbelay.toml`.
    ///
    /// # Errors
    /// [`ConfigError`] if it is no TOML, has an unknown key, or a value out of its range.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        match toml::from_str::<Self>(text) {
            Ok(config) => Ok(Self { path: path.to_owned(), ..config }),
            Err(error) => Err(explain(text, path, &error)),
        }
    }

    /// Returns the store's folder, under the folder of the file unless it is absolute.
    pub fn store_path(&self) -> PathBuf {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        folder.join(self.store.as_deref().unwrap_or(Path::new(".dbelay")))
    }

    /// Returns the extensions' libraries: a path is under the folder of the file unless it is absolute, a bare name is left to the system's search.
    pub fn extension_paths(&self) -> Vec<PathBuf> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let path = |name: &String| if name.contains(['/', '\\']) { folder.join(name) } else { PathBuf::from(name) };
        self.sqlite.extensions.iter().map(path).collect()
    }

    /// Writes what `dbelay init` puts into a new file.
    pub fn template(database: &str, files: &[&str]) -> String {
        let database = toml::Value::String(database.to_owned());
        let quoted = |pattern: &&str| toml::Value::String((*pattern).to_owned()).to_string();
        let files = match files {
            [] => "# files = [\"migrations/*.sql\"]".to_owned(),
            files => format!("files = [{}]", files.iter().map(quoted).collect::<Vec<_>>().join(", ")),
        };
        format!(
            r#"# dbelay: snapshots and safe migrations. `dbelay --help` lists the commands.

# The database: a path, a URL, or "env:NAME" for a variable. Keep passwords out of this file: "env:DATABASE_URL".
database = {database}

# Where snapshots are kept, from this file's folder.
# store = ".dbelay"

# Other databases, for `--db NAME`.
# [sources]
# staging = "env:STAGING_DATABASE_URL"

# Files that are kept with the database, in the same snapshots: patterns as in .gitignore, from this file's folder.
# `dbelay rollback --with-files` puts them back, `dbelay restore --files` writes them into a folder.
# [files]
# include = ["/uploads/", "/config/*.toml"]
# exclude = ["*.tmp"]

[migrate]
# After a migration that failed or lost data: "rollback", "ask" or "keep".
# If it is not said: "ask" on a terminal, else "rollback".
# on-failure = "rollback"

# Tables and columns whose loss is intended.
# allow = ["users.legacy_name"]

# The variable in which your migration command looks for its database; a rehearsal sets it.
# url-env = "DATABASE_URL"

# Have the database run all of its own checks before and after, which takes long where it is large. If it is not said: all of them where that is quick,
# else its structure, and the references that what changed can have broken.
# full-check = true

# Where your migrations are SQL: `dbelay check` reads them and asks the database whether they would go well.
{files}

# What no migration may do. A guard that is broken is cited by name, and the migration rolled back.
# [guards]
# The most rows that any table may lose, or that may change in it: a number, or a share of its rows.
# rows-removed-max = "1%"
# rows-changed-max = "50%"
# Tables that must stay as they are.
# unchanged = ["countries"]
# [guards.tables.users]
# rows-removed-max = 0
# [[guards.assert]]
# name = "every order has a customer"
# sql = "SELECT count(*) FROM orders WHERE customer_id IS NULL"
# Or `at-least`, `at-most`, or `unchanged = true`: what the migration must leave as it was.
# equals = 0
# [check]
# Findings that are meant: a rule, or a rule with a table or column. `dbelay check --rules` lists the rules.
# ignore = ["drop-table-with-data:audit_log"]
# What `dbelay migrate` does about findings: "tell" or "stop".
# on-findings = "tell"

# What `dbelay forget` keeps of each kind of snapshot; `dbelay forget --help` explains the options. HEAD, the state before the latest
# migration and what is pinned always stay.
# [retention]
# keep-last = 5
# keep-daily = 7
# keep-weekly = 5
# keep-monthly = "unlimited"
# keep-within = "30d"
# keep-tags = ["release"]

# [sqlite]
# How long to wait while another process holds the database.
# busy-timeout-ms = 5000
# Libraries with the functions, collations and modules that your application gives SQLite.
# extensions = ["./mod_spatialite"]

# [postgres]
# How long to wait for a lock that another session holds.
# lock-timeout-ms = 5000
# Whether owners and privileges are put back, where the roles are there.
# owners = true
# How many connections may read at once.
# readers = 4
"#
        )
    }
}

/// Adds the place to toml's own words. Those may quote a value, so what looks like a URL in them is hidden.
fn explain(text: &str, path: &Path, error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(text.len(), |span| span.start).min(text.len());
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.matches('\n').count() + 1;
    let column = before.get(line_start..).map_or(0, |part| part.chars().count()) + 1;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let written = text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or("");
    ConfigError {
        path: path.to_owned(),
        line: number(line),
        column: number(column),
        key: key_of(before.get(..line_start).unwrap_or(""), written),
        message: crate::source::redact(error.message().trim().trim_end_matches('.')),
    }
}

/// Returns the key that a line sets, after the last table header before it.
fn key_of(before: &str, line: &str) -> Option<String> {
    let header = |line: &str| {
        let name = line.trim().strip_prefix('[')?.split(']').next()?;
        Some(name.trim_matches(['[', ' ']).to_owned())
    };
    if let Some(table) = header(line) {
        return Some(table);
    }
    let key = line.split_once('=')?.0.trim();
    if key.is_empty() || key.starts_with('#') {
        return None;
    }
    Some(match before.lines().rev().find_map(header) {
        Some(table) => format!("{table}.{key}"),
        None => key.to_owned(),
    })
}

/// Finds the nearest folder, from `start` upwards, that holds something of this name, and returns the path of that.
pub fn find_upwards(start: &Path, name: &str) -> Option<PathBuf> {
    start.ancestors().map(|folder| folder.join(name)).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("p/dbelay.toml"))
    }

    #[track_caller]
    fn check_error(text: &str, expected: &[&str]) {
        let error = parse(text).expect_err("invalid").to_string();
        for part in expected {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
        assert!(!error.contains("hunter2") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn every_key_is_read() {
        let config = parse(concat!(
            "database = \"env:DATABASE_URL\"\nstore = \"../store\"\n[files]\ninclude = [\"/uploads/\"]\nexclude = [\"*.tmp\", \"!a.tmp\"]\n[sources]\nprod = \"postgres://u:hunter2@h/d\"\n",
            "[migrate]\non-failure = \"keep\"\nallow = [\"users.legacy_name\", \"audit\"]\nurl-env = \"DB\"\nfiles = [\"db/**/*.sql\"]\n",
            "[check]\nignore = [\"unparsed\"]\non-findings = \"stop\"\n",
            "[retention]\nkeep-last = 5\nkeep-yearly = \"unlimited\"\nkeep-within-daily = \"2m1h\"\nkeep-tags = [\"a,b\", \"c\"]\n",
            "[sqlite]\nbusy-timeout-ms = 10\nextensions = [\"./ext/a.so\", \"mod_spatialite\"]\n",
            "[postgres]\nlock-timeout-ms = 20\nowners = false\nreaders = 3\n"
        ))
        .expect("valid");
        assert_eq!(config.database, Some(SourceValue::Variable("DATABASE_URL".to_owned())));
        assert_eq!(config.store_path(), Path::new("p/../store"));
        assert_eq!((config.files.include.as_slice(), config.files.exclude.len()), (["/uploads/".to_owned()].as_slice(), 2));
        assert_eq!(config.migrate.on_failure, Some(OnFailure::Keep));
        assert_eq!(config.migrate.allow, ["users.legacy_name", "audit"]);
        assert_eq!(config.migrate.url_env.as_deref(), Some("DB"));
        assert_eq!(config.migrate.files, Some(vec!["db/**/*.sql".to_owned()]));
        assert_eq!((config.check.ignore.len(), config.check.on_findings), (1, OnFindings::Stop));
        let retention = config.retention.to_string();
        assert_eq!(retention, "keep 5 latest, all yearly snapshots, daily snapshots within 2m1h and all snapshots with tags [a, b] or [c]");
        assert_eq!(config.sqlite.busy_timeout_ms, 10);
        assert_eq!(config.postgres, PostgresConfig { lock_timeout_ms: 20, owners: false, readers: Some(3) });
        assert_eq!(config.extension_paths(), [Path::new("p/./ext/a.so"), Path::new("mod_spatialite")]);
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn an_empty_file_is_all_defaults() {
        let config = parse("").expect("valid");
        assert_eq!((config.database.clone(), config.sqlite.busy_timeout_ms), (None, 5000));
        assert_eq!(config.postgres, PostgresConfig { lock_timeout_ms: 5000, owners: true, readers: None });
        assert_eq!(config.store_path(), Path::new("p/.dbelay"));
    }

    #[test]
    fn errors_name_file_line_column_and_key() {
        check_error(
            "database = \"a.db\"\n[migrate]\non-failur = \"ask\"\n",
            &["p/dbelay.toml", "line 3, column 1", "`on-failur`", "migrate.on-failur"],
        );
        check_error("[migrate]\non-failure = \"undo\"\n", &["line 2, column 14", "migrate.on-failure", "`undo`", "`rollback`"]);
        check_error("[sqlite]\nbusy-timeout-ms = -1\n", &["line 2, column 19", "sqlite.busy-timeout-ms"]);
        check_error("[sqlite]\nbusy-timeout-ms = 86400001\n", &["longer than a day"]);
        check_error("database = \"\"\n", &["line 1, column 12", "key `database`", "empty"]);
        check_error("[postgres]\nlock-timeout-ms = 0\n", &["line 2, column 19", "postgres.lock-timeout-ms", "for ever"]);
        check_error("[postgres]\nreaders = 0\n", &["postgres.readers", "from 1 to 64"]);
        check_error("[postgres]\nbusy-timeout-ms = 1\n", &["postgres.busy-timeout-ms", "`lock-timeout-ms`"]);
        check_error("[sqlite]\nextensions = [\"\"]\n", &["sqlite.extensions", "empty"]);
        check_error("store = \" \"\n", &["key `store`", "empty"]);
        check_error("[retention]\nkeep-lats = 5\n", &["line 2, column 1", "`keep-lats`"]);
        check_error("[retention]\nkeep-last = -2\n", &["retention.keep-last", "`unlimited`"]);
        check_error("[retention]\nkeep-within = \"3w\"\n", &["retention.keep-within", "7 days"]);
        check_error("database = \"env:\"\n", &["name of a variable"]);
        check_error("[sources]\n\"a/b\" = \"x.db\"\n", &["`a/b`"]);
        check_error("[migrate]\nallow = [\"users.\"]\n", &["`users.`", "table.column"]);
        check_error("[migrate]\nfiles = [\"../x/*.sql\"]\n", &["migrate.files", "`../x/*.sql`"]);
        check_error("[migrate]\nfiles = [\"a[\"]\n", &["migrate.files"]);
        check_error("[files]\ninclude = [\"../x/\"]\n", &["files.include", "`../x/`", "gitignore"]);
        check_error("[files]\nexclude = [\"a[z-a]\"]\n", &["files.exclude"]);
        check_error("database = a.db\n", &["line 1"]);
        check_error("[migrate\n", &["line 1"]);
        check_error("\u{e9}", &["line 1"]);
    }

    #[test]
    fn an_error_never_shows_a_password() {
        check_error("sources = \"postgres://u:hunter2@h/d\"\n", &["key `sources`"]);
        check_error("sqlite = \"mysql://u:hun@hunter2@h/d\"\n", &["key `sqlite`"]);
        check_error("database = \"postgres://u:hunter2@h/d\n", &["line 1"]);
        check_error("migrate = \"host=h password=hunter2\"\n", &["key `migrate`"]);
    }

    #[test]
    fn the_template_means_what_was_given() {
        for database in ["app.db", "my \"quoted\"\\name.db", "env:DATABASE_URL"] {
            let config = parse(&Config::template(database, &[])).expect("a valid template");
            let expected =
                database.strip_prefix("env:").map_or(SourceValue::Url(database.to_owned()), |name| SourceValue::Variable(name.to_owned()));
            assert_eq!(config.database, Some(expected));
        }
        let all: String = Config::template("app.db", &[]).lines().map(|line| format!("{}\n", uncommented(line))).collect();
        let config = parse(&all).expect("the commented lines are valid too");
        assert_eq!(config.migrate.allow, ["users.legacy_name"]);
        assert_eq!(config.sources.len(), 1);
        assert_eq!(config.check.ignore, ["drop-table-with-data:audit_log"]);
        assert!(!config.retention.is_empty());
        let config = parse(&Config::template("app.db", &["a/*.sql", "b/*/up.sql"])).expect("a valid template");
        assert_eq!(config.migrate.files, Some(vec!["a/*.sql".to_owned(), "b/*/up.sql".to_owned()]));
    }

    fn uncommented(line: &str) -> &str {
        match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with('[') || rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => rest,
            _ => line,
        }
    }

    #[test]
    fn the_nearest_file_upwards_is_found() {
        let root = tempfile::tempdir().expect("a folder");
        let deep = root.path().join("a/b");
        fs_err::create_dir_all(&deep).expect("folders");
        fs_err::write(root.path().join("x.toml"), "").expect("a file");
        assert_eq!(find_upwards(&deep, "x.toml"), Some(root.path().join("x.toml")));
        fs_err::write(deep.join("x.toml"), "").expect("a file");
        assert_eq!(find_upwards(&deep, "x.toml"), Some(deep.join("x.toml")));
        assert_eq!(find_upwards(&deep, "no such file 51f0"), None);
    }
}
