//! A migration that makes its database from nothing.

use crate::cli::{CliError, Context, ErrorKind, Exit, project};

/// A database that was not there, and that an empty file stands for.
pub(super) struct Made(project::Database);

/// Makes an empty file where a migration is to make the database from nothing: an empty file is an empty database.
pub(super) fn make_missing(cx: &Context) -> Result<Option<Made>, CliError> {
    let config = project::read_config(cx)?;
    let resolved = project::resolve(cx, config.as_ref())?;
    let Some(path) = resolved.url.sqlite_path().filter(|path| path.symlink_metadata().is_err()) else { return Ok(None) };
    if !path.parent().is_some_and(std::path::Path::is_dir) {
        return Ok(None);
    }
    let database = project::Database::of(&resolved.url, config.as_ref())?;
    fs_err::OpenOptions::new().write(true).create_new(true).open(path)?;
    cx.output.note(format_args!("there is no database at `{}` yet; an empty one was made for the migration to fill", path.display()));
    Ok(Some(Made(database)))
}

impl Made {
    /// Takes the file away where nothing came of it. `is_real_run` tells whether the command was to fill it, and not a scratch copy alone.
    pub(super) fn settle(self, cx: &Context, result: &Result<Exit, CliError>, is_real_run: bool) {
        // Another process may be filling it right now.
        if matches!(result, Err(error) if error.kind == ErrorKind::Locked) {
            return;
        }
        let path = &self.0.path;
        let is_empty = path.metadata().is_ok_and(|metadata| metadata.len() == 0);
        let is_back = matches!(result, Err(error) if error.kind == ErrorKind::RolledBack || error.kind == ErrorKind::Interrupted);
        let has_nothing = || self.0.open().and_then(|mut engine| Ok(engine.begin_read()?.schema()?.objects.is_empty()));
        if is_empty || is_back && has_nothing().unwrap_or(false) {
            // With a journal beside it, the file is not ours alone any more: somebody has it open, or left a transaction open.
            if project::files(path).any(|file| file != *path && file.symlink_metadata().is_ok()) {
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
