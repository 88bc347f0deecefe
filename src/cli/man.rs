//! `dbelay man`: manual pages.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay man | man -l -
  dbelay man --dir ~/.local/share/man/man1";

/// Print the manual page, or write a page for each command
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Write a page for each command into this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(super::command().disable_help_subcommand(true)).render(&mut page)?;
        if cx.global.json {
            cx.output.json(&serde_json::json!({ "page": String::from_utf8_lossy(&page) }))?;
        } else {
            let mut out = cx.output.out();
            out.write_all(&page)?;
            out.finish()?;
        }
        return Ok(Exit::DONE);
    };
    let dir = cx.environment.cwd.join(dir);
    let mut command = super::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    if !cx.global.dry_run {
        fs_err::create_dir_all(&dir)?;
    }
    write_pages(&command, &dir, cx.global.dry_run, &mut pages)?;
    if cx.global.json {
        cx.output.json(&serde_json::json!({ "pages": pages }))?;
    } else {
        let verb = if cx.global.dry_run { "would write" } else { "wrote" };
        cx.output.say(format_args!("{verb} {} to {}", super::time::counted(pages.len() as u64, "page"), dir.display()));
    }
    Ok(Exit::DONE)
}

/// Writes the page of a command after those of the commands below it; hidden ones have none.
fn write_pages(command: &clap::Command, dir: &Path, dry_run: bool, pages: &mut Vec<PathBuf>) -> Result<(), CliError> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_pages(below, dir, dry_run, pages)?;
    }
    let man = clap_mangen::Man::new(command.clone());
    let path = dir.join(man.get_filename());
    if !dry_run {
        let mut page = Vec::new();
        man.render(&mut page)?;
        fs_err::write(&path, page)?;
    }
    pages.push(path);
    Ok(())
}
