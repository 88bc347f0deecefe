//! What differs between two listings of files.

use serde::Serialize;

use super::{Entry, EntryKind, FilePath};

/// In what a file differs that both sides have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// Another kind of thing has its name.
    Kind,
    /// Its bytes.
    Content,
    /// Its permission bits.
    Mode,
    /// When it was last written.
    Time,
    /// What it leads to.
    Target,
}

impl Aspect {
    /// Returns what people call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Content => "content",
            Self::Mode => "mode",
            Self::Time => "time",
            Self::Target => "target",
        }
    }
}

/// A path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Where.
    pub path: FilePath,
    /// What stands there before; none where nothing does.
    pub before: Option<Entry>,
    /// What stands there after.
    pub after: Option<Entry>,
    /// In what both differ.
    pub aspects: Vec<Aspect>,
}

impl FileChange {
    /// Returns `added`, `removed` or `changed`.
    pub fn word(&self) -> &'static str {
        match (&self.before, &self.after) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        }
    }

    /// Says what happened to it, without its path: `1200 bytes`, `content (10 -> 12 bytes), mode (644 -> 600)`.
    pub fn sentence(&self) -> String {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => self.aspects.iter().map(|aspect| detail(*aspect, before, after)).collect::<Vec<_>>().join(", "),
            (Some(entry), None) | (None, Some(entry)) => what(entry),
            (None, None) => String::new(),
        }
    }
}

fn what(entry: &Entry) -> String {
    match (entry.kind, &entry.target) {
        (EntryKind::File, _) => bytes(entry.size),
        (EntryKind::Symlink, Some(target)) => format!("link to {target}"),
        (kind, _) => kind.word().to_owned(),
    }
}

fn bytes(count: u64) -> String {
    if count == 1 { "1 byte".to_owned() } else { format!("{count} bytes") }
}

fn detail(aspect: Aspect, before: &Entry, after: &Entry) -> String {
    let mode = |entry: &Entry| entry.mode.map(|mode| format!("{mode:03o}")).unwrap_or_default();
    match aspect {
        Aspect::Kind => format!("{} -> {}", what(before), what(after)),
        Aspect::Content if before.size == after.size => format!("content ({})", bytes(after.size)),
        Aspect::Content => format!("content ({} -> {})", before.size, bytes(after.size)),
        Aspect::Mode => format!("mode ({} -> {})", mode(before), mode(after)),
        Aspect::Time => "time".to_owned(),
        Aspect::Target => match &after.target {
            Some(target) => format!("target (now {target})"),
            None => "target".to_owned(),
        },
    }
}

/// Compares two listings whose entries stand in the order of their paths. A file whose bytes differ is not also told to have another time; that of a
/// folder is no difference.
pub fn diff(before: &[Entry], after: &[Entry]) -> Vec<FileChange> {
    let mut changes = Vec::new();
    let (mut a, mut b) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (a.peek(), b.peek()) {
            (None, None) => return changes,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => a.path.cmp(&b.path),
        };
        let before = if order.is_le() { a.next() } else { None };
        let after = if order.is_ge() { b.next() } else { None };
        let aspects = match (before, after) {
            (Some(before), Some(after)) => {
                let aspects = aspects(before, after);
                if aspects.is_empty() {
                    continue;
                }
                aspects
            }
            _ => Vec::new(),
        };
        let Some(path) = before.or(after).map(|entry| entry.path.clone()) else { continue };
        changes.push(FileChange { path, before: before.cloned(), after: after.cloned(), aspects });
    }
}

fn aspects(before: &Entry, after: &Entry) -> Vec<Aspect> {
    if before.kind != after.kind {
        return vec![Aspect::Kind];
    }
    let has_content = !before.has_content_of(after);
    let has_target = before.target != after.target;
    let found = [
        (has_content, Aspect::Content),
        (has_target, Aspect::Target),
        (before.mode != after.mode, Aspect::Mode),
        (before.mtime != after.mtime && before.kind != EntryKind::Dir && !has_content && !has_target, Aspect::Time),
    ];
    found.into_iter().filter(|(differs, _)| *differs).map(|(_, aspect)| aspect).collect()
}

/// How many files, folders and links were added, removed and changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FileCounts {
    /// Those that only the later state has.
    pub added: u64,
    /// Those that only the earlier state has.
    pub removed: u64,
    /// Those that both have, differently.
    pub changed: u64,
    /// The bytes of all files before.
    pub bytes_before: u64,
    /// The bytes of all files after.
    pub bytes_after: u64,
}

impl FileCounts {
    /// Counts changes.
    pub fn of(changes: &[FileChange]) -> Self {
        let mut counts = Self::default();
        for change in changes {
            match (&change.before, &change.after) {
                (None, _) => counts.added += 1,
                (_, None) => counts.removed += 1,
                _ => counts.changed += 1,
            }
            counts.bytes_before += change.before.as_ref().map_or(0, |entry| entry.size);
            counts.bytes_after += change.after.as_ref().map_or(0, |entry| entry.size);
        }
        counts
    }

    /// Says them: `2 added, 1 changed`.
    pub fn sentence(&self) -> String {
        let parts = [(self.added, "added"), (self.removed, "removed"), (self.changed, "changed")];
        let parts: Vec<String> = parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        if parts.is_empty() { "none changed".to_owned() } else { parts.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ObjectId;

    fn file(path: &str, content: &[u8], mode: u32, mtime: i64) -> Entry {
        let chunks = vec![ObjectId::of(content)];
        let entry = Entry::new(FilePath(path.into()), EntryKind::File);
        Entry { mode: Some(mode), mtime: Some(mtime), size: content.len() as u64, chunks, ..entry }
    }

    #[test]
    fn what_differs_is_told_by_its_aspects() {
        let before = [file("a", b"1", 0o644, 1), file("b", b"1", 0o644, 1), file("c", b"1", 0o644, 1), file("d", b"1", 0o644, 1)];
        let after = [file("b", b"22", 0o600, 2), file("c", b"1", 0o644, 2), file("d", b"1", 0o644, 1), file("e", b"", 0o644, 1)];
        let changes = diff(&before, &after);
        let told: Vec<String> = changes.iter().map(|change| format!("{} {} {}", change.word(), change.path, change.sentence())).collect();
        assert_eq!(told, ["removed a 1 byte", "changed b content (1 -> 2 bytes), mode (644 -> 600)", "changed c time", "added e 0 bytes"]);
        assert_eq!(FileCounts::of(&changes).sentence(), "1 added, 1 removed, 2 changed");
        assert!(diff(&after, &after).is_empty());
    }

    #[test]
    fn another_kind_is_one_change() {
        let link = Entry { target: Some(FilePath(b"/x".to_vec())), ..Entry::new(FilePath(b"a".to_vec()), EntryKind::Symlink) };
        let changes = diff(&[file("a", b"1", 0o644, 1)], &[link]);
        assert_eq!(changes[0].sentence(), "1 byte -> link to /x");
    }
}
