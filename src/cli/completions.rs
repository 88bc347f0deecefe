//! `dbelay completions`: a completion script for a shell.

use std::io::Write;

use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay completions bash > ~/.local/share/bash-completion/completions/dbelay
  dbelay completions zsh > ~/.zfunc/_dbelay
  dbelay completions fish > ~/.config/fish/completions/dbelay.fish";

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "dbelay", &mut script);
    if cx.global.json {
        let script = String::from_utf8_lossy(&script);
        cx.output.json(&serde_json::json!({ "shell": args.shell.to_string(), "script": script }))?;
    } else {
        let mut out = cx.output.out();
        out.write_all(&script)?;
        out.finish()?;
    }
    Ok(Exit::DONE)
}
