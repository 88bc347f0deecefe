//! `dbelay isolate`, hidden: runs a command that sees a scratch database where the real one is, or cannot write the real one. A rehearsal
//! starts it; it becomes the command.

use std::ffi::OsString;
use std::path::PathBuf;

use dbelay::process::namespace::{self, Overlay, View};

use super::{CliError, Context, ErrorKind, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay isolate --read-only \"$PWD/app.db\" -- make migrate
  dbelay isolate --folder \"$PWD\" --upper \"$S/upper\" --work \"$S/work\" --hide app.db-wal -- make migrate";

/// Run a command with another view of the database's folder
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The folder over which a layer is put
    #[arg(long, requires_all = ["upper", "work"], required_unless_present = "read_only")]
    pub folder: Option<PathBuf>,
    /// The layer
    #[arg(long)]
    pub upper: Option<PathBuf>,
    /// An empty folder beside the layer
    #[arg(long)]
    pub work: Option<PathBuf>,
    /// A name that is not to be seen in the folder; repeatable
    #[arg(long)]
    pub hide: Vec<OsString>,
    /// A file that must not be written
    #[arg(long, conflicts_with = "folder")]
    pub read_only: Option<PathBuf>,
    /// Only find out whether it can be done
    #[arg(long)]
    pub probe: bool,
    /// The command
    #[arg(last = true, value_name = "COMMAND", required_unless_present = "probe")]
    pub command: Vec<OsString>,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let view = match (&args.folder, &args.upper, &args.work, &args.read_only) {
        (Some(folder), Some(upper), Some(work), _) => {
            View::Overlay(Overlay { folder: folder.clone(), upper: upper.clone(), work: work.clone(), hidden: args.hide.clone() })
        }
        (_, _, _, Some(file)) => View::ReadOnly(file.clone()),
        _ => return Err(CliError::usage("neither a folder nor a file is named")),
    };
    namespace::enter(&view, &cx.environment.cwd)?;
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
