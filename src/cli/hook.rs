//! `dbelay hook`: what hooks of git call. It never fails them, waits for nobody, and is silent where there is nothing to say.

use dbelay::git;
use dbelay::ops::capture;
use dbelay::render::text;
use dbelay::schema::diff::{Renames, diff};
use dbelay::snapshot::manifest::{Snapshot, SnapshotKind};
use dbelay::store::{Store, StoreError};

use super::database::Database;
use super::project::{self, find_store, read_config, resolve};
use super::time::age;
use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay hook post-checkout \"$@\"";

/// How long to wait for whoever holds the database, or for its server.
const WAIT_MS_MAX: u64 = 200;

/// Say after a checkout that the database has the schema of another branch; for a hook of git
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which hook
    #[arg(value_enum)]
    pub hook: Hook,
    /// What git gives it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

/// A hook of git.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Hook {
    /// After a checkout: the commit before, the commit now, 1 for a branch and 0 for files
    PostCheckout,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let Hook::PostCheckout = args.hook;
    if args.arguments.get(2).is_some_and(|flag| flag == "1") {
        match reminder(cx) {
            Ok(Some(text)) => cx.output.say(format_args!("dbelay: {text}")),
            Ok(None) => {}
            Err(error) => cx.output.verbose(1, format_args!("dbelay: {:#}", error.error)),
        }
    }
    Ok(Exit::DONE)
}

/// Says that the database has the schema of another branch, if it has.
fn reminder(cx: &Context) -> Result<Option<String>, CliError> {
    let Some(branch) = git::position(&cx.environment.cwd).and_then(|position| position.branch) else { return Ok(None) };
    let config = read_config(cx)?;
    let mut database = Database::of(cx, &resolve(cx, config.as_ref())?.url, config.as_ref())?;
    database.hurry(WAIT_MS_MAX);
    let (dir, exists) = find_store(cx, config.as_ref(), database.file());
    if !exists || database.file().is_some_and(|file| !file.exists()) {
        return Ok(None);
    }
    // Nobody is asked for a passphrase at every checkout.
    let store = match Store::open(&dir) {
        Err(StoreError::KeyNeeded(_)) => return Ok(None),
        store => store?,
    };
    // What was rolled back or overwritten is nobody's schema.
    let counts = |snapshot: &Snapshot| !matches!(snapshot.kind, SnapshotKind::Failed | SnapshotKind::Safety);
    let mut snapshots = capture::snapshots(&store)?;
    snapshots.retain(|(_, snapshot)| snapshot.source == database.source && counts(snapshot));
    let Some((newest_id, newest)) = snapshots.last() else { return Ok(None) };
    let Some(other) = branch_of(newest).filter(|other| *other != branch) else { return Ok(None) };
    let Some((id, here)) = snapshots.iter().rev().find(|(_, snapshot)| branch_of(snapshot) == Some(&branch)) else { return Ok(None) };
    let live = database.open()?.begin_read()?.schema()?;
    let is_of = |snapshot: &Snapshot| -> Result<bool, CliError> {
        Ok(!diff(&capture::load(&store, snapshot)?.schema, &live, &Renames::default()).has_drift())
    };
    if is_of(here)? {
        return Ok(None);
    }
    let when = age(project::time(newest), cx.now());
    let (newest_id, id) = (newest_id.short(), id.short());
    let other = text::clean(other);
    let what = if is_of(newest)? {
        format!("the database has the schema of branch `{other}` (snapshot {newest_id}, {when})")
    } else {
        format!(
            "the database does not have the schema of branch `{branch}`; it was last worked on in `{other}` (snapshot {newest_id}, {when})"
        )
    };
    Ok(Some(format!(
        "{what}; the last one on `{branch}` is {id}: `dbelay diff {id} live --schema` shows the difference, `dbelay rollback {id}` goes back to it"
    )))
}

fn branch_of(snapshot: &Snapshot) -> Option<&str> {
    snapshot.origin.git.as_ref()?.branch.as_deref()
}
