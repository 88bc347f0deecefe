//! Changes of files beside the database, for people and for programs.

use serde_json::{Value, json};

use crate::snapshot::files::Entry;
use crate::snapshot::files::changes::FileChange;

/// Returns the sign of a change: `+`, `-` or `~`.
pub fn sign(change: &FileChange) -> char {
    match (&change.before, &change.after) {
        (None, _) => '+',
        (_, None) => '-',
        _ => '~',
    }
}

/// Writes a change in a line, without its sign.
pub fn line(change: &FileChange) -> String {
    let torn = if change.after.as_ref().is_some_and(|entry| entry.changing) { ", written while it was read" } else { "" };
    format!("{}  {}{torn}", change.path, change.sentence())
}

/// Describes an entry for programs. Times are nanoseconds since 1970, as text since they are beyond 2^53; permissions are octal digits.
pub fn entry(entry: &Entry) -> Value {
    json!({
        "path": entry.path, "kind": entry.kind, "size": entry.size, "mode": entry.mode.map(|mode| format!("{mode:03o}")),
        "mtime": entry.mtime.map(|mtime| mtime.to_string()), "target": entry.target, "changing": entry.changing,
    })
}

/// Describes a change for programs.
pub fn change(change: &FileChange) -> Value {
    json!({
        "path": change.path, "change": change.word(), "aspects": change.aspects,
        "before": change.before.as_ref().map(entry), "after": change.after.as_ref().map(entry),
    })
}
