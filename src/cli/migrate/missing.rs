//! A migration that makes its database from nothing.

use std::path::PathBuf;

use dbelay::engine::EngineError;
use dbelay::ops::OpError;

use crate::cli::database::{Database, files};
use crate::cli::{CliError, Context, ErrorKind, Exit, project};

/// A database that was not there, and that an empty file stands for.
pub(super) struct Made {
    database: Database,
    file: PathBuf,
}

/// Makes an empty file where a migration is to make the database from nothing: an empty file is an empty database.
pub(super) fn make_missing(cx: &Context) -> Result<Option<Made>, CliError> {
    let config = project::read_config(cx)?;
    let resolved = project::resolve(cx, config.as_ref())?;
    let Some(path) = resolved.url.sqlite_path().filter(|path| path.symlink_metadata().is_err()) else { return Ok(None) };
    if !path.parent().is_some_and(std::path::Path::is_dir) {
        return Ok(None);
    }
    let database = Database::of(cx, &resolved.url, config.as_ref())?;
    fs_err::OpenOptions::new().write(true).create_new(true).open(path)?;
    cx.output.note(format_args!("there is no database at `{}` yet; an empty one was made for the migration to fill", path.display()));
    let file = database.file().unwrap_or(path).to_owned();
    Ok(Some(Made { database, file }))
}

/// Says how to make a database that its server does not have: dbelay does not know what a new one is to be like.
pub(super) fn how_to_make(cx: &Context, error: CliError) -> CliError {
    let is_missing = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(EngineError::Missing(_)))
            || matches!(cause.downcast_ref(), Some(OpError::Engine(EngineError::Missing(_))))
    };
    if error.hint.is_some() || !error.error.chain().any(is_missing) {
        return error;
    }
    let name = || {
        let config = project::read_config(cx).ok()?;
        let database = Database::of(cx, &project::resolve(cx, config.as_ref()).ok()?.url, config.as_ref()).ok()?;
        Some(shlex::try_quote(database.server()?.name()).ok()?.into_owned())
    };
    match name() {
        Some(name) => error.hint(format_args!("make it first: `createdb {name}`; then its migrations can fill it")),
        None => error,
    }
}

impl Made {
    /// Takes the file away where nothing came of it. `is_real_run` tells whether the command was to fill it, and not a scratch copy alone.
    pub(super) fn settle(self, cx: &Context, result: &Result<Exit, CliError>, is_real_run: bool) {
        // Another process may be filling it right now.
        if matches!(result, Err(error) if error.kind == ErrorKind::Locked) {
            return;
        }
        let path = &self.file;
        let is_empty = path.metadata().is_ok_and(|metadata| metadata.len() == 0);
        let is_back = matches!(result, Err(error) if error.kind == ErrorKind::RolledBack || error.kind == ErrorKind::Interrupted);
        let has_nothing = || self.database.open().and_then(|mut engine| Ok(engine.begin_read()?.schema()?.objects.is_empty()));
        if is_empty || is_back && has_nothing().unwrap_or(false) {
            // With a journal beside it, the file is not ours alone any more: somebody has it open, or left a transaction open.
            if files(path).any(|file| file != *path && file.symlink_metadata().is_ok()) {
                return;
            }
            // An empty database that stays is one that was not there before, and no more.
            let _ = dbelay::durable::remove(path);
            if is_empty && result.is_ok() && is_real_run {
                cx.output.warn(format_args!("the command did not touch `{}`; is it the database that it migrates?", path.display()));
            }
        }
    }
}
