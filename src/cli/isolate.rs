//! `dbelay isolate`, hidden: runs a command that sees a scratch database where the real one is. A rehearsal starts it; it becomes the command.

use std::ffi::OsString;
use std::path::PathBuf;

use dbelay::process::namespace::{self, StandIn};

use super::{CliError, Context, ErrorKind, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay isolate --real /srv/app --stand-in /srv/app/.scratch --file app.db -- make migrate";

/// Run a command with another folder in place of the database's
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The folder of the real database
    #[arg(long)]
    pub real: PathBuf,
    /// The folder that takes its place
    #[arg(long)]
    pub stand_in: PathBuf,
    /// The name of the database in both
    #[arg(long)]
    pub file: OsString,
    /// Only find out whether it can be done
    #[arg(long)]
    pub probe: bool,
    /// The command
    #[arg(last = true, value_name = "COMMAND", required_unless_present = "probe")]
    pub command: Vec<OsString>,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let Args { real, stand_in, file, .. } = args;
    let exchange = StandIn { real: real.clone(), stand_in: stand_in.clone(), file: file.clone() };
    namespace::enter(&exchange, &cx.environment.cwd)?;
    let Some((program, arguments)) = args.command.split_first() else { return Ok(Exit::DONE) };
    let mut command = std::process::Command::new(program);
    command.args(arguments);
    Err(become_command(&mut command, &program.to_string_lossy()))
}

#[cfg(unix)]
fn become_command(command: &mut std::process::Command, name: &str) -> CliError {
    let error = std::os::unix::process::CommandExt::exec(command);
    CliError::new(ErrorKind::Failed, format_args!("the command could not be started: `{name}`: {error}"))
}

#[cfg(not(unix))]
fn become_command(_: &mut std::process::Command, name: &str) -> CliError {
    CliError::new(ErrorKind::Failed, format_args!("the command could not be started: `{name}`"))
}
