//! `dbelay demo-apply`: a migration tool for those who have none, as small as it can be. Runs the statements of a file with foreign keys
//! enforced, as most migration tools do, each on its own. For `dbelay demo` and for tests.

use std::path::PathBuf;

use super::database::Database;
use super::project::{read_config, resolve};
use super::{CliError, Context, ErrorKind, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay demo-apply migrations/001.sql --db app.db";

/// Run the SQL statements of a file on the database
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The file
    pub file: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let config = read_config(cx)?;
    let database = Database::of(cx, &resolve(cx, config.as_ref())?.url, config.as_ref())?;
    let sql = fs_err::read_to_string(cx.environment.cwd.join(&args.file))?;
    let file = database.file().ok_or_else(|| CliError::usage("the demonstration has a SQLite file"))?;
    let connection = rusqlite::Connection::open(file)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.execute_batch(&sql).map_err(|error| CliError::new(ErrorKind::Database, error))?;
    cx.output.say(format_args!("applied {}", args.file.display()));
    Ok(Exit::DONE)
}
