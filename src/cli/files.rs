//! What commands say of the files beside the database.

use dbelay::files::write::Written;
use dbelay::id::ObjectId;
use dbelay::ops::files::back::{self, FilePlan};
use dbelay::ops::files::{self, Captured, FileError, Unreadable};
use dbelay::ops::journal::OperationResult;
use dbelay::ops::migrate::Outcome;
use dbelay::ops::{OpError, Session, capture};
use dbelay::render;
use dbelay::snapshot::files::changes::{FileChange, FileCounts, diff};
use dbelay::snapshot::files::listing::Listing;
use dbelay::snapshot::files::{EntryKind, Files};
use dbelay::snapshot::manifest::Snapshot;
use dbelay::store::{BatchMode, Store};
use serde_json::{Value, json};

use super::output::{ADDED, CHANGED, HEADING, REMOVED};
use super::time::{bytes, counted, number};
use super::{CliError, Context, DatabaseState, ErrorKind};

/// How many files are named at most where they are not what was asked for.
const SHOWN_MAX: usize = 20;

/// Plans the way of the live files to a snapshot's.
pub fn plan(session: &Session<'_>, target: ObjectId, live: Option<&Captured>) -> Result<FilePlan, OpError> {
    let (Some(folder), Some(live)) = (session.files, live) else { return Err(FileError::NoFolder.into()) };
    let snapshot = capture::read_snapshot(session.store, target)?;
    let listing = files::load(session.store, &snapshot.files.ok_or(FileError::NoFiles(target))?)?;
    back::plan(folder, &live.entries, &listing).map_err(|error| OpError::NotProven { what: error.to_string() })
}

/// Says in lines what a plan changes.
pub fn lines(plan: &FilePlan) -> Vec<String> {
    let line = |change: &FileChange| match (&change.before, &change.after) {
        (_, None) => format!("remove {} `{}`", change.before.as_ref().map_or("file", |entry| entry.kind.word()), change.path),
        (None, Some(after)) if after.kind == EntryKind::Dir => format!("make folder `{}`", change.path),
        (None, Some(after)) => format!("put {} `{}` back ({})", after.kind.word(), change.path, change.sentence()),
        (Some(_), Some(after)) => format!("put {} `{}` back: {}", after.kind.word(), change.path, change.sentence()),
    };
    let mut lines: Vec<String> = plan.changes.iter().take(SHOWN_MAX).map(line).collect();
    let more = plan.changes.len().saturating_sub(SHOWN_MAX);
    if more > 0 {
        lines.push(format!("and {more} more files ({})", FileCounts::of(&plan.changes).sentence()));
    }
    if !plan.left.is_empty() {
        lines.push(format!("leave as they are, since they are not included now: {}", files::named(&plan.left)));
    }
    lines
}

/// Describes a plan for programs.
pub fn document(plan: &FilePlan) -> Value {
    json!({ "changes": plan.changes.iter().map(render::files::change).collect::<Vec<_>>(), "left": plan.left })
}

/// Tells whether nothing was done, and nothing failed.
pub fn is_nothing(written: &Written) -> bool {
    *written == Written::default()
}

/// Says what was written.
pub fn written(written: &Written) -> String {
    let parts = [(written.written, "written"), (written.removed, "removed"), (written.dressed, "given its time and permissions")];
    let parts: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{} {word}", number(*n))).collect();
    if parts.is_empty() { "no files written".to_owned() } else { format!("files: {}", parts.join(", ")) }
}

/// Tells where the files are not those of a snapshot, after a rollback that left them alone.
pub fn tell_left_alone(session: &Session<'_>, cx: &Context, target: ObjectId, live: Option<&Captured>) -> Result<(), CliError> {
    if session.files.is_none() || capture::read_snapshot(session.store, target)?.files.is_none() {
        return Ok(());
    }
    let counts = FileCounts::of(&plan(session, target, live)?.changes);
    match counts.added + counts.removed + counts.changed {
        0 => {}
        1 => cx.output.note("1 file is not as it was then, and was left alone; `--with-files` puts it back"),
        n => cx
            .output
            .note(format_args!("{} files are not as they were then, and were left alone; `--with-files` puts them back", number(n))),
    }
    Ok(())
}

/// Makes an error of files that could not be put back; none where there are none.
pub fn failure(written: Option<&Written>, database: &str, safety: ObjectId) -> Option<CliError> {
    let written = written.filter(|written| !written.failures.is_empty())?;
    let failures = &written.failures;
    let count = match failures.len() {
        1 => "1 file is".to_owned(),
        n => format!("{n} files are"),
    };
    let cause =
        failures.iter().take(SHOWN_MAX).map(|failure| format!("`{}`: {}", failure.path, failure.why)).collect::<Vec<_>>().join("; ");
    let cause = if failures.len() > SHOWN_MAX { format!("{cause}; and {} more", failures.len() - SHOWN_MAX) } else { cause };
    let mut error = CliError::new(ErrorKind::NotRolledBack, cause)
        .context(format!("{database}, but {count} not"))
        .kind(ErrorKind::NotRolledBack)
        .state(DatabaseState::RolledBack)
        .hint(format_args!("the same command again tries once more; what was there before is in snapshot {}", safety.short()));
    let mut details = serde_json::Map::new();
    details.insert("files".to_owned(), json!(written));
    error.details = Some(details);
    Some(error)
}

/// Prints what a migration did to files.
pub fn tell_migration(cx: &Context, outcome: &Outcome) {
    let Some(after) = outcome.files.as_ref().filter(|files| !files.changes.is_empty()) else { return };
    let output = &cx.output;
    output.say(format_args!("{HEADING}files{HEADING:#}  {}", FileCounts::of(&after.changes).sentence()));
    for change in after.changes.iter().take(SHOWN_MAX) {
        let style = match render::files::sign(change) {
            '+' => ADDED,
            '-' => REMOVED,
            _ => CHANGED,
        };
        output.say(format_args!("  {style}{} {}{style:#}", render::files::sign(change), render::files::line(change)));
    }
    if after.changes.len() > SHOWN_MAX {
        output.say(format_args!("  … and {} more", after.changes.len() - SHOWN_MAX));
    }
    let Some(back) = &after.back else {
        if outcome.result == OperationResult::RolledBack {
            output.note("the files were left as the command left them; `dbelay rollback pre --with-files` puts them back");
        }
        return;
    };
    output.say(format_args!("{} put back", written(back)));
    for remark in &back.remarks {
        output.note(remark);
    }
    for failure in back.failures.iter().take(SHOWN_MAX) {
        output.warn(format_args!("`{}` is not what it was: {}", failure.path, failure.why));
    }
    if back.failures.len() > SHOWN_MAX {
        output.warn(format_args!("and {} more files are not what they were", back.failures.len() - SHOWN_MAX));
    }
}

/// Says in a sentence what a migration did to files; none where it changed none.
pub fn migration_remark(outcome: &Outcome) -> Option<String> {
    let files = outcome.files.as_ref().filter(|files| !files.changes.is_empty())?;
    let back = files.back.as_ref().map(|back| format!("; put back: {}", written(back))).unwrap_or_default();
    Some(format!("files beside the database: {}{back}", FileCounts::of(&files.changes).sentence()))
}

/// Says what changed in the live files since a snapshot's; none where nothing did.
pub fn changed_since(session: &Session<'_>, before: Option<ObjectId>) -> Result<Option<String>, CliError> {
    let live = files::capture(session, BatchMode::IdsOnly, Unreadable::Tell)?;
    let changes = files::changes(session.store, before, live.as_ref())?.unwrap_or_default();
    let paths: Vec<_> = changes.iter().map(|change| change.path.clone()).collect();
    Ok((!changes.is_empty()).then(|| format!("{} ({})", FileCounts::of(&changes).sentence(), files::named(&paths))))
}

/// Describes what a migration did to files, for programs.
pub fn migration_document(outcome: &Outcome) -> Value {
    let document = |files: &dbelay::ops::migrate::FilesAfter| {
        let changes: Vec<Value> = files.changes.iter().map(render::files::change).collect();
        json!({ "counts": FileCounts::of(&files.changes), "changes": changes, "back": files.back })
    };
    outcome.files.as_ref().map_or(Value::Null, document)
}

/// The files of a state: a snapshot's, or the live ones.
pub struct StateFiles {
    /// The files object.
    pub files: Files,
    /// Its entries.
    pub listing: Listing,
}

/// Reads the files of a snapshot; none where it has none.
pub fn of_snapshot(store: &Store, snapshot: &Snapshot) -> Result<Option<StateFiles>, CliError> {
    let Some(id) = &snapshot.files else { return Ok(None) };
    let listing = files::load(store, id)?;
    Ok(Some(StateFiles { files: listing.files.clone(), listing }))
}

/// Reads the live files; none where none are kept with the database.
pub fn live(session: &Session<'_>) -> Result<Option<StateFiles>, CliError> {
    let captured = files::capture(session, BatchMode::IdsOnly, Unreadable::Tell)?;
    Ok(captured.map(|Captured { files, entries, .. }| {
        let listing = Listing::of(files.clone(), entries.to_vec());
        StateFiles { files, listing }
    }))
}

/// What differs between the files of two states; none where either has none.
pub fn changes(before: Option<&StateFiles>, after: Option<&StateFiles>) -> Option<Vec<FileChange>> {
    Some(diff(&before?.listing.entries, &after?.listing.entries))
}

/// Says how many files a state has.
pub fn held(files: &Files) -> String {
    format!(
        "{}, {}, {}; {}",
        counted(files.files, "file"),
        counted(files.folders, "folder"),
        counted(files.links, "link"),
        bytes(files.bytes)
    )
}
