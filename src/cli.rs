//! The command line: what can be said, and the way from there to an exit code. One file a command below it, each with its `Args` and
//! `run(&Args, &Context) -> Result<Exit, CliError>`.
//!
//! Commands return errors and never print them; [`output`] is the only printer, [`report`] the only place with hints and exit codes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

pub mod adopt;
pub mod database;
pub mod files;
pub mod forgotten;
pub mod output;
pub mod pager;
pub mod progress;
pub mod project;
pub mod report;
pub mod secret;
pub mod sql;
pub mod table;
pub mod terminal;
pub mod time;

pub mod cat;
pub mod check;
pub mod completions;
pub mod demo;
pub mod demo_apply;
pub mod diff;
pub mod export;
pub mod forget;
pub mod fsck;
pub mod gc;
pub mod hook;
pub mod import;
pub mod init;
pub mod isolate;
pub mod key;
pub mod log;
pub mod man;
pub mod migrate;
pub mod op;
pub mod page;
pub mod pin;
pub mod query;
pub mod redo;
pub mod rehearse;
pub mod restore;
pub mod rollback;
pub mod show;
pub mod snapshot;
pub mod status;
pub mod tag;
pub mod undo;
pub mod verify;

pub use output::Output;
pub use report::{CliError, DatabaseState, ErrorKind, Exit};

/// Snapshots, diffs and exact rollbacks for databases, and a safety net for migrations
///
/// dbelay takes a snapshot, runs the migration command that a project already uses, looks at what really happened to the data, and
/// can put everything back exactly. Between migrations it is git for table data.
#[derive(Debug, Parser)]
#[command(name = "dbelay", version, arg_required_else_help = true, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  dbelay demo                                 see it work on a scratch database
  dbelay migrate -- npx prisma migrate deploy
  dbelay diff pre post --stat
  dbelay rollback
  dbelay undo

Exit codes:
  0 done, 1 found something, 2 usage or configuration, 3 failed and the database is unchanged,
  4 the migration failed or lost data and the database is as it was, 5 the migration failed and was not rolled back,
  10 no store, 11 locked by another, 12 wrong key, 130 interrupted";

/// What every command takes.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Database URL, path, or a name from dbelay.toml
    #[arg(long, value_name = "URL|NAME", global = true)]
    pub db: Option<String>,
    /// Directory of the store [default: the nearest .dbelay]
    #[arg(long, value_name = "DIR", env = "DBELAY_STORE", hide_env_values = true, global = true)]
    pub store: Option<PathBuf>,
    /// Key file that opens the encrypted store
    #[arg(long, value_name = "PATH", env = "DBELAY_KEY_FILE", hide_env_values = true, global = true)]
    pub key_file: Option<PathBuf>,
    /// Print one JSON document, also for errors
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t, global = true)]
    pub color: When,
    /// Print no progress and no remarks
    #[arg(short, long, conflicts_with = "verbose", global = true)]
    pub quiet: bool,
    /// Print more of what is being done; twice for even more
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Answer every question with yes
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Print what would be done, and change nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Do not give PostgreSQL's objects their owners and privileges back
    #[arg(long, global = true)]
    pub no_owner: bool,
    /// Do not send long output through a pager
    #[arg(long, global = true)]
    pub no_pager: bool,
    /// Die at the n-th durable write; for tests of crashes
    #[arg(long, value_name = "N", hide = true, env = "DBELAY_TEST_DIE_AT_STEP", hide_env = true, global = true)]
    pub die_at_step: Option<u64>,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(init::Args),
    Demo(demo::Args),
    #[command(alias = "run")]
    Migrate(migrate::Args),
    #[command(alias = "backup")]
    Snapshot(snapshot::Args),
    Log(log::Args),
    Show(show::Args),
    Status(status::Args),
    Check(check::Args),
    Diff(diff::Args),
    Rollback(rollback::Args),
    Restore(restore::Args),
    Undo(undo::Args),
    Redo(redo::Args),
    Op(op::Args),
    #[command(name = "op-log", hide = true)]
    OpLog(op::LogArgs),
    Tag(tag::Args),
    Pin(pin::Args),
    Unpin(pin::UnpinArgs),
    Forget(forget::Args),
    Cat(cat::Args),
    Gc(gc::Args),
    Query(query::Args),
    Export(export::Args),
    Import(import::Args),
    Fsck(fsck::Args),
    Key(key::Args),
    Verify(verify::Args),
    Completions(completions::Args),
    Man(man::Args),
    #[command(hide = true)]
    DemoApply(demo_apply::Args),
    #[command(hide = true)]
    Isolate(isolate::Args),
    #[command(hide = true)]
    Hook(hook::Args),
}

/// What dbelay knows of the world around it; built in `main.rs`, where alone the clock, the environment and randomness are read.
pub struct Environment {
    /// The directory that relative paths start from.
    pub cwd: PathBuf,
    /// This program's file.
    pub program: PathBuf,
    /// The environment variables that are UTF-8.
    pub vars: BTreeMap<String, String>,
    /// The clock.
    pub now: Box<dyn Fn() -> DateTime<Utc> + Send + Sync>,
    /// Fills a slice with random bytes.
    pub random: fn(&mut [u8]),
    /// Who runs it; empty where nobody says.
    pub user: String,
    /// On which machine.
    pub host: String,
    /// In which process.
    pub pid: u32,
    /// Whether standard input is a terminal.
    pub stdin_terminal: bool,
    /// Whether standard output is a terminal.
    pub stdout_terminal: bool,
    /// Whether standard error is a terminal.
    pub stderr_terminal: bool,
}

impl Environment {
    /// Returns a variable that is set and not empty.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// What a command is given besides its own arguments.
pub struct Context {
    /// The global options.
    pub global: Global,
    /// The world.
    pub environment: Environment,
    /// The printer.
    pub output: Output,
}

impl Context {
    /// Returns the time.
    pub fn now(&self) -> DateTime<Utc> {
        (self.environment.now)()
    }
}

/// Parses, runs, prints the error if there is one, and returns how to exit.
pub fn main(args: Vec<OsString>, environment: Environment) -> Exit {
    match Cli::try_parse_from(&args) {
        Ok(Cli { global, command }) => {
            if let Some(n) = global.die_at_step {
                dbelay::durable::die_at_step(n);
            }
            let output = Output::new(&global, &environment);
            let context = Context { global, environment, output };
            let result = run(&command, &context).map_err(|error| forgotten::explain(error, &context));
            report::conclude(result, &context.output)
        }
        Err(error) => {
            let output = Output::new(&peek(&args), &environment);
            report::conclude_usage(&error, &output)
        }
    }
}

fn run(command: &Command, cx: &Context) -> Result<Exit, CliError> {
    match command {
        Command::Init(args) => init::run(args, cx),
        Command::Demo(args) => demo::run(args, cx),
        Command::Migrate(args) => migrate::run(args, cx),
        Command::Snapshot(args) => snapshot::run(args, cx),
        Command::Log(args) => log::run(args, cx),
        Command::Show(args) => show::run(args, cx),
        Command::Status(args) => status::run(args, cx),
        Command::Check(args) => check::run(args, cx),
        Command::Diff(args) => diff::run(args, cx),
        Command::Rollback(args) => rollback::run(args, cx),
        Command::Restore(args) => restore::run(args, cx),
        Command::Undo(args) => undo::run(args, cx),
        Command::Redo(args) => redo::run(args, cx),
        Command::Op(args) => op::run(args, cx),
        Command::OpLog(args) => op::log(args, cx),
        Command::Tag(args) => tag::run(args, cx),
        Command::Pin(args) => pin::run(args, cx),
        Command::Unpin(args) => pin::unpin(args, cx),
        Command::Forget(args) => forget::run(args, cx),
        Command::Cat(args) => cat::run(args, cx),
        Command::Gc(args) => gc::run(args, cx),
        Command::Query(args) => query::run(args, cx),
        Command::Export(args) => export::run(args, cx),
        Command::Import(args) => import::run(args, cx),
        Command::Fsck(args) => fsck::run(args, cx),
        Command::Key(args) => key::run(args, cx),
        Command::Verify(args) => verify::run(args, cx),
        Command::Completions(args) => completions::run(args, cx),
        Command::Man(args) => man::run(args, cx),
        Command::DemoApply(args) => demo_apply::run(args, cx),
        Command::Isolate(args) => isolate::run(args, cx),
        Command::Hook(args) => hook::run(args, cx),
    }
}

/// Finds the options that decide how an error is printed in a command line that could not be parsed. What follows `--` is not ours.
fn peek(args: &[OsString]) -> Global {
    let mut global = Global::default();
    let mut args = args.iter().skip(1).map(|arg| arg.to_string_lossy()).take_while(|arg| arg != "--");
    while let Some(arg) = args.next() {
        let color = match arg.strip_prefix("--color") {
            Some("") => args.next().map(|value| value.into_owned()),
            Some(value) => value.strip_prefix('=').map(str::to_owned),
            None => None,
        };
        match color.as_deref() {
            Some("always") => global.color = When::Always,
            Some("never") => global.color = When::Never,
            _ => global.json |= arg == "--json",
        }
    }
    global
}

/// Returns the description of the whole command line, for completions and manual pages.
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        fn check(command: &clap::Command) {
            for sub in command.get_subcommands() {
                if sub.has_subcommands() {
                    check(sub);
                } else {
                    let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                    assert!(help.starts_with("Examples:\n  dbelay "), "{} has no examples", sub.get_name());
                }
            }
        }
        check(&command());
    }

    #[test]
    fn global_options_are_taken_before_and_after_the_command() {
        for line in ["dbelay --json --db a.db diff", "dbelay diff --json --db a.db"] {
            let cli = parse(line).expect(line);
            assert!(cli.global.json);
            assert_eq!(cli.global.db.as_deref(), Some("a.db"));
        }
    }

    #[test]
    fn the_wrapped_command_keeps_its_own_options() {
        let cli = parse("dbelay run --allow users.name,posts -- make --json -v").expect("it parses");
        let Command::Migrate(args) = cli.command else { panic!("not migrate") };
        assert_eq!(args.command, ["make", "--json", "-v"]);
        assert_eq!(args.allow, ["users.name", "posts"]);
        assert!(!cli.global.json && cli.global.verbose == 0);
        assert!(parse("dbelay migrate").is_err());
    }

    #[test]
    fn an_unparsed_command_line_still_says_how_to_print() {
        let peeked = |line: &str| peek(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>());
        assert!(peeked("dbelay nonsense --json").json);
        assert!(!peeked("dbelay migrate --wrong -- x --json").json);
        assert_eq!(peeked("dbelay --color=never x").color, When::Never);
        assert_eq!(peeked("dbelay --color always x").color, When::Always);
    }

    #[test]
    fn cat_wants_a_table_or_an_object() {
        assert!(parse("dbelay cat HEAD").is_err());
        assert!(parse("dbelay cat HEAD users --key 7").is_ok());
        assert!(parse("dbelay cat --object abcd").is_ok());
    }
}
