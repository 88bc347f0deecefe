//! What an error about a snapshot that is not there leaves open: whether it was forgotten, when and by whom. The operation log knows.
//!
//! Every command may meet one: `pre` and `post` name what the log names, `undo` goes to states of long ago. So the error is looked at here, after
//! the command, and no command has to think of it. Never makes an error of an error: where the log says nothing, it stays as it was.

use dbelay::id::ObjectId;
use dbelay::ops::OpError;
use dbelay::ops::journal::{self, Entry, Forgotten};
use dbelay::snapshot::select::{ID_DIGITS_MIN, SelectorError};
use dbelay::store::{Store, StoreError};

use super::project::{self, find_store};
use super::time::stamp_text;
use super::{CliError, Context, ErrorKind};

/// Adds to an error about a missing snapshot that it was forgotten, where it was.
pub fn explain(error: CliError, cx: &Context) -> CliError {
    let meant = error.error.chain().find_map(missing);
    let Some(meant) = meant else { return error };
    let Some((entry, forgotten)) = look_up(&meant, cx) else { return error };
    let by = [entry.user.as_str(), entry.host.as_str()].join("@");
    let by = if by == "@" { String::new() } else { format!(" by {}", by.trim_matches('@')) };
    let why = entry.note.filter(|note| note != "named").map(|note| format!(" ({note})")).unwrap_or_default();
    let message = format!("snapshot {} was forgotten at {}{by}{why}", forgotten.id.short(), stamp_text(&entry.time));
    let CliError { error, hint, database_state, details, .. } = error.context(message);
    let hint = hint.or_else(|| Some("`dbelay log` lists the snapshots that are there, `dbelay op log` what was forgotten".to_owned()));
    CliError { kind: ErrorKind::NotFound, error, hint, database_state, details }
}

/// What was asked for and is not there.
enum Meant {
    Id(ObjectId),
    /// A tag, or an id's first digits.
    Name(String),
}

fn missing(cause: &(dyn std::error::Error + 'static)) -> Option<Meant> {
    let store = match cause.downcast_ref::<OpError>() {
        Some(OpError::Store(error)) => Some(error),
        _ => cause.downcast_ref::<StoreError>(),
    };
    if let Some(StoreError::NoSnapshot(id)) = store {
        return Some(Meant::Id(*id));
    }
    match cause.downcast_ref::<SelectorError>()? {
        SelectorError::Nothing { written, .. } => written.split('~').next().map(|name| Meant::Name(name.to_owned())),
        _ => None,
    }
}

fn look_up(meant: &Meant, cx: &Context) -> Option<(Entry, Forgotten)> {
    let config = project::read_config(cx).ok()?;
    let url = project::resolve(cx, config.as_ref()).ok();
    let file = url.and_then(|resolved| super::database::Database::of(cx, &resolved.url, config.as_ref()).ok());
    let (dir, _) = find_store(cx, config.as_ref(), file.as_ref().and_then(super::database::Database::file));
    let log = journal::read(&Store::open(&dir).ok()?).ok()?;
    let is_meant = |forgotten: &Forgotten| match meant {
        Meant::Id(id) => forgotten.id == *id,
        Meant::Name(name) => {
            let digits = name.to_ascii_lowercase();
            let is_id = digits.len() >= ID_DIGITS_MIN && forgotten.id.to_string().starts_with(&digits);
            is_id || forgotten.tags.contains(name)
        }
    };
    journal::forgotten(&log, is_meant).map(|(entry, forgotten)| (entry.clone(), forgotten.clone()))
}
