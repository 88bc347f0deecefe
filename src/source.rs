//! Which database: from what a user wrote, wherever it was written, to one place.
//!
//! [`resolve`] looks in a fixed order and takes the first hit: `--db`, `DBELAY_DATABASE_URL`, `dbelay.toml`, `DATABASE_URL` in the
//! environment, `DATABASE_URL` in `.env`. A variable that is set but empty is an error, not a miss; so is a URL that means two
//! files. [`discover`] offers candidates for `dbelay init` and decides nothing. Nothing here opens a database, and no text that
//! is made here, error, `Display` or `Debug`, holds a password.
//!
//! The environment comes in as a function. One exception is not ours: `dotenvy` fills `${NAME}` inside a `.env` value from the
//! process's environment.

pub mod discover;
mod dotenv;
pub mod libpq;
pub mod migrations;
mod url;

use std::path::{Path, PathBuf};

pub use self::dotenv::{DotEnvValue, read_dotenv};
pub use self::url::{DatabaseUrl, ServerKind, ServerUrl, redact};
use crate::config::{Config, SourceValue};

/// The variable that names the database to dbelay alone.
pub const OWN_VARIABLE: &str = "DBELAY_DATABASE_URL";
/// The variable that the ecosystem uses.
pub const COMMON_VARIABLE: &str = "DATABASE_URL";

/// Where a URL was written; it decides what a relative path is relative to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UrlOrigin {
    /// On the command line: relative to the current folder.
    Flag,
    /// In an environment variable: relative to the current folder.
    Environment,
    /// In this `.env` file: relative to its folder.
    DotEnv(PathBuf),
    /// In this `dbelay.toml`: relative to its folder.
    Config(PathBuf),
    /// In a Prisma schema: relative to the schema's folder.
    Prisma {
        /// The folder that holds `schema.prisma`.
        schema_dir: PathBuf,
    },
}

impl UrlOrigin {
    /// Returns the folder that a relative path of this origin starts from.
    pub fn base(&self, cwd: &Path) -> PathBuf {
        match self {
            Self::Flag | Self::Environment => cwd.to_owned(),
            Self::DotEnv(file) | Self::Config(file) => cwd.join(file.parent().unwrap_or(Path::new(""))),
            Self::Prisma { schema_dir } => cwd.join(schema_dir),
        }
    }
}

/// Why no database could be named. Each message ends in what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Nothing was written.
    #[error("the database URL{place} is empty; set it, for example to `sqlite:app.db`, or remove it")]
    Empty {
        /// Where, with a leading blank; else empty.
        place: String,
    },
    /// A database that exists in one process only.
    #[error(
        "`{written}` is a database in memory: it ends with the process that opened it, so no other program can take a snapshot of it; name a file, for example `app.db`"
    )]
    InMemory {
        /// What was written.
        written: String,
    },
    /// Two places fit.
    #[error("`{written}` can mean `{}` or `{}`{why}; {hint}", .candidates.0.display(), .candidates.1.display())]
    Ambiguous {
        /// What was written.
        written: String,
        /// The two places.
        candidates: Box<(PathBuf, PathBuf)>,
        /// Why both fit, with leading punctuation.
        why: String,
        /// What to write instead.
        hint: String,
    },
    /// A variable has two values in one file.
    #[error("`{name}` has different values in lines {first} and {second} of `{}`, and programs differ in which one counts; remove one", .path.display())]
    TwoValues {
        /// The variable.
        name: String,
        /// The file.
        path: PathBuf,
        /// The first line.
        first: u32,
        /// The second line.
        second: u32,
    },
    /// A database that dbelay cannot reach.
    #[error("{what} is not supported; {hint}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The text is no URL, by its scheme's own rules.
    #[error("the {kind} URL cannot be read: {why}; {hint}")]
    Malformed {
        /// Which kind of URL.
        kind: &'static str,
        /// What is wrong.
        why: String,
        /// What to do.
        hint: String,
    },
    /// A setting of a connection has a value that cannot be used.
    #[error("{setting} cannot be used: {why}; {hint}")]
    Setting {
        /// Which one, and where it was written.
        setting: String,
        /// What is wrong.
        why: String,
        /// What to do.
        hint: String,
    },
    /// A file that a connection needs.
    #[error("`{}` {why}; {hint}", .path.display())]
    FileNeeded {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What to do.
        hint: String,
    },
    /// Nothing names a database.
    #[error("no database is named: {looked}; run `dbelay init`, or give `--db app.db`")]
    NoDatabase {
        /// Where was looked.
        looked: String,
    },
    /// The configuration names no such source.
    #[error("there is no source and no file `{name}`; the sources in `{}` are: {}", .config.display(), .known.join(", "))]
    UnknownName {
        /// What was written.
        name: String,
        /// The configuration file.
        config: PathBuf,
        /// The names that it has.
        known: Vec<String>,
    },
    /// The configuration names a variable that is not set.
    #[error("`{}` takes the database from the variable `{name}`, which is not set in the environment or in `.env`; set it, or write the URL itself", .config.display())]
    UnsetVariable {
        /// The variable.
        name: String,
        /// The configuration file.
        config: PathBuf,
    },
    /// A line of a `.env` file cannot be read.
    #[error("`{name}` in `{}`, line {line}, cannot be read; put its value in single quotes", .path.display())]
    DotEnv {
        /// The variable.
        name: String,
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u32,
    },
}

/// Everything that [`resolve`] may look at.
pub struct Lookup<'a> {
    /// The value of `--db`.
    pub flag: Option<&'a str>,
    /// The environment.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// `dbelay.toml`.
    pub config: Option<&'a Config>,
    /// `.env`: where it is and what it holds.
    pub dotenv: Option<(&'a Path, &'a str)>,
    /// The current folder, absolute.
    pub cwd: &'a Path,
    /// Says whether something is at a path.
    pub exists: &'a dyn Fn(&Path) -> bool,
}

/// A database, and how it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The database.
    pub url: DatabaseUrl,
    /// Where its URL was written.
    pub origin: UrlOrigin,
    /// Both in words, without password: `app.db (from DATABASE_URL in .env)`.
    pub described: String,
}

/// Finds the database that is meant.
///
/// # Errors
/// [`SourceError::NoDatabase`] if nothing names one. Any other variant is about the first place that does.
pub fn resolve(lookup: &Lookup<'_>) -> Result<Resolved, SourceError> {
    if let Some(text) = lookup.flag {
        return from_flag(lookup, text);
    }
    if let Some(text) = (lookup.environment)(OWN_VARIABLE) {
        return finish(lookup, &text, UrlOrigin::Environment, OWN_VARIABLE);
    }
    if let Some(config) = lookup.config
        && let Some(value) = &config.database
    {
        return from_config(lookup, config, value, &name_of(&config.path));
    }
    if let Some((text, origin, place)) = variable(lookup, COMMON_VARIABLE)? {
        return finish(lookup, &text, origin, &place);
    }
    let mut looked = vec!["no `--db`", "no `DBELAY_DATABASE_URL`"];
    looked.push(if lookup.config.is_some() { "no `database` in `dbelay.toml`" } else { "no `dbelay.toml`" });
    looked.push(if lookup.dotenv.is_some() { "no `DATABASE_URL` in the environment or `.env`" } else { "no `DATABASE_URL`, no `.env`" });
    Err(SourceError::NoDatabase { looked: looked.join(", ") })
}

/// Finds what a variable names, in the environment or in `.env`; none where it is not set.
///
/// # Errors
/// As [`resolve`], about that variable.
pub fn named_by(lookup: &Lookup<'_>, name: &str) -> Result<Option<Resolved>, SourceError> {
    let Some((text, origin, place)) = variable(lookup, name)? else { return Ok(None) };
    finish(lookup, &text, origin, &place).map(Some)
}

/// Reads `--db`, which is the name of a source or a URL.
fn from_flag(lookup: &Lookup<'_>, text: &str) -> Result<Resolved, SourceError> {
    let Some(config) = lookup.config.filter(|config| !config.sources.is_empty()) else {
        return finish(lookup, text, UrlOrigin::Flag, "--db");
    };
    let file = lookup.cwd.join(text);
    let file_exists = !text.trim().is_empty() && (lookup.exists)(&file);
    if let Some(value) = config.sources.get(text) {
        if file_exists {
            return Err(SourceError::Ambiguous {
                written: text.to_owned(),
                candidates: Box::new((config.path.join("[sources]").join(text), file)),
                why: ": a source and a file have this name".to_owned(),
                hint: format!("write `--db ./{text}` for the file, or rename the source"),
            });
        }
        return from_config(lookup, config, value, &format!("source `{text}` in {}", name_of(&config.path)));
    }
    let looks_like_name = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    if looks_like_name && !file_exists {
        return Err(SourceError::UnknownName {
            name: text.to_owned(),
            config: config.path.clone(),
            known: config.sources.keys().cloned().collect(),
        });
    }
    finish(lookup, text, UrlOrigin::Flag, "--db")
}

/// Reads a value of `dbelay.toml`, which is a URL or names a variable.
fn from_config(lookup: &Lookup<'_>, config: &Config, value: &SourceValue, place: &str) -> Result<Resolved, SourceError> {
    match value {
        SourceValue::Url(text) => finish(lookup, text, UrlOrigin::Config(config.path.clone()), place),
        SourceValue::Variable(name) => match variable(lookup, name)? {
            Some((text, origin, found)) => finish(lookup, &text, origin, &format!("{found}, as {place} says")),
            None => Err(SourceError::UnsetVariable { name: name.clone(), config: config.path.clone() }),
        },
    }
}

/// Looks a variable up in the environment, then in `.env`. Returns its value, its origin and the words for it.
fn variable(lookup: &Lookup<'_>, name: &str) -> Result<Option<(String, UrlOrigin, String)>, SourceError> {
    if let Some(text) = (lookup.environment)(name) {
        return Ok(Some((text, UrlOrigin::Environment, format!("{name} in the environment"))));
    }
    let Some((path, contents)) = lookup.dotenv else { return Ok(None) };
    let value = read_dotenv(path, contents, name)?;
    Ok(value.map(|value| (value.value, UrlOrigin::DotEnv(path.to_owned()), format!("{name} in {}", name_of(path)))))
}

fn finish(lookup: &Lookup<'_>, text: &str, origin: UrlOrigin, place: &str) -> Result<Resolved, SourceError> {
    let url = DatabaseUrl::parse(text, &origin, lookup.cwd, lookup.exists).map_err(|error| match error {
        SourceError::Empty { .. } => SourceError::Empty { place: format!(" (from {place})") },
        other => other,
    })?;
    let described = format!("{url} (from {place})");
    Ok(Resolved { url, origin, described })
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case<'a> {
        flag: Option<&'a str>,
        environment: &'a [(&'a str, &'a str)],
        config: Option<&'a str>,
        dotenv: Option<&'a str>,
        files: &'a [&'a str],
    }

    const NOTHING: Case<'static> = Case { flag: None, environment: &[], config: None, dotenv: None, files: &[] };

    fn run(case: &Case<'_>) -> Result<Resolved, SourceError> {
        let config = case.config.map(|text| Config::parse(text, Path::new("/p/dbelay.toml")).expect("a valid configuration"));
        resolve(&Lookup {
            flag: case.flag,
            environment: &|name| case.environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
            config: config.as_ref(),
            dotenv: case.dotenv.map(|text| (Path::new("/p/.env"), text)),
            cwd: Path::new("/p"),
            exists: &|path| case.files.iter().any(|file| Path::new(file) == path),
        })
    }

    #[track_caller]
    fn check(case: &Case<'_>, expected: &str) {
        let actual = run(case).map_or_else(|error| error.to_string(), |resolved| resolved.described);
        assert_eq!(actual, expected);
    }

    #[test]
    fn the_first_place_that_names_a_database_wins() {
        let all = || Case {
            flag: Some("flag.db"),
            environment: &[(OWN_VARIABLE, "own.db"), (COMMON_VARIABLE, "common.db")],
            config: Some("database = \"config.db\""),
            dotenv: Some("DATABASE_URL=dotenv.db"),
            files: &[],
        };
        check(&all(), "flag.db (from --db)");
        check(&Case { flag: None, ..all() }, "own.db (from DBELAY_DATABASE_URL)");
        let common: &[_] = &[(COMMON_VARIABLE, "common.db")];
        check(&Case { flag: None, environment: common, ..all() }, "config.db (from dbelay.toml)");
        check(&Case { flag: None, environment: common, config: None, ..all() }, "common.db (from DATABASE_URL in the environment)");
        check(&Case { flag: None, environment: &[], config: None, ..all() }, "dotenv.db (from DATABASE_URL in .env)");
        check(&Case { environment: common, config: Some(""), ..NOTHING }, "common.db (from DATABASE_URL in the environment)");
    }

    #[test]
    fn no_database_names_what_was_looked_at_and_the_next_command() {
        let error = run(&NOTHING).expect_err("nothing is named").to_string();
        assert!(error.contains("run `dbelay init`") && error.contains("no `dbelay.toml`"), "{error}");
    }

    #[test]
    fn an_empty_variable_is_an_error_and_not_a_miss() {
        for environment in [[(OWN_VARIABLE, "")], [(COMMON_VARIABLE, "  ")]] {
            let error = run(&Case { environment: &environment, dotenv: Some("DATABASE_URL=x.db"), ..NOTHING }).expect_err("empty");
            assert!(error.to_string().contains(&format!("(from {}", environment[0].0)), "{error}");
        }
    }

    #[test]
    fn a_source_is_chosen_by_name() {
        let config = Some("[sources]\nprod = \"env:PROD_URL\"\ndev = \"data/dev.db\"\n");
        check(&Case { flag: Some("dev"), config, ..NOTHING }, "data/dev.db (from source `dev` in dbelay.toml)");
        let environment: &[_] = &[("PROD_URL", "postgres://me:secret@db/app")];
        check(
            &Case { flag: Some("prod"), config, environment, ..NOTHING },
            "postgres://me:***@db/app (from PROD_URL in the environment, as source `prod` in dbelay.toml says)",
        );
        let dotenv = Some("PROD_URL=prod.db");
        check(
            &Case { flag: Some("prod"), config, dotenv, ..NOTHING },
            "prod.db (from PROD_URL in .env, as source `prod` in dbelay.toml says)",
        );
        assert!(matches!(run(&Case { flag: Some("prod"), config, ..NOTHING }), Err(SourceError::UnsetVariable { .. })));
        assert!(matches!(run(&Case { flag: Some("stage"), config, ..NOTHING }), Err(SourceError::UnknownName { .. })));
        check(&Case { flag: Some("stage"), config, files: &["/p/stage"], ..NOTHING }, "stage (from --db)");
        let both = run(&Case { flag: Some("dev"), config, files: &["/p/dev"], ..NOTHING });
        assert!(matches!(both, Err(SourceError::Ambiguous { .. })));
    }

    #[test]
    fn relative_paths_start_where_they_were_written() {
        let config = Config::parse("database = \"a.db\"", Path::new("/up/dbelay.toml")).expect("valid");
        let resolved = resolve(&Lookup {
            flag: None,
            environment: &|_| None,
            config: Some(&config),
            dotenv: None,
            cwd: Path::new("/up/sub"),
            exists: &|_| false,
        })
        .expect("named");
        assert_eq!(resolved.url.sqlite_path(), Some(Path::new("/up/a.db")));
        assert_eq!(resolved.origin, UrlOrigin::Config(PathBuf::from("/up/dbelay.toml")));
    }
}
