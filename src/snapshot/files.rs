//! Files beside the database: what a snapshot says of them.
//!
//! A snapshot's field `files` names a files object. All objects here are JSON as `src/snapshot.rs` says, but for chunks, which are raw bytes.
//!
//! ## Files object
//! | field | value |
//! |---|---|
//! | `format` | 1; a reader *must* refuse a larger number |
//! | `include`, `exclude` | the patterns under which the files were found: what they leave out is not known to have been absent |
//! | `files`, `folders`, `links` | how many entries of each kind |
//! | `bytes` | the bytes of all files together |
//! | `depth`, `root` | levels of nodes, and the topmost node; 0 and null where nothing was found |
//!
//! ## Node
//! `{"entries":[...]}` at the bottom, `{"nodes":[{"first","entries","node"}]}` above: the first path below the node, how many entries stand below it,
//! its id. A node is never empty. A listing is valid if and only if its paths rise strictly by their bytes, each is a path as below, nothing stands below a file
//! or a link, and the counts are right. A node ends after at least [`ENTRIES_MIN`] entries, above the bottom after at least 2 nodes, with the one whose last
//! path has an XXH3 (64 bits, seed 0, of the path's bytes) of at most (2^64 - 1) / ([`ENTRIES_TARGET`] x 16^L), L being 0 at the bottom and one more a level; or
//! after [`ENTRIES_MAX`] entries, above the bottom 64 nodes. So a change costs the nodes above it and no others, and equal listings have equal ids.
//!
//! ## Entry
//! | field | value |
//! |---|---|
//! | `path` | from the folder of the files, parts between `/`; no part is empty, `.` or `..`, and none holds a NUL |
//! | `kind` | `file`, `dir` or `symlink` |
//! | `mode`? | of a file or folder: the permission bits, set-user-id, set-group-id and sticky bit included |
//! | `mtime`? | nanoseconds since 1970. A folder's own follows from what happens in it: it is put back, and no difference |
//! | `size`? | of a file: its bytes; 0 if absent |
//! | `chunks`? | of a file: the ids of its chunks in their order, if there are at most [`CHUNKS_INLINE_MAX`] |
//! | `lists`? | of a longer file: the ids of JSON arrays of such ids, one after the other |
//! | `changing`? | true: the file was written each time that it was read, and these bytes may never have stood in it at once |
//! | `target`? | of a link: what it leads to, as it stands in it |
//!
//! A path or target that is no UTF-8 is written as the DDL of a schema object is: a byte that is no part of UTF-8 is the character U+10FF80 for 0x80 and so on,
//! and those characters themselves are written byte by byte.
//!
//! Owners, hard links, extended attributes and access lists are not kept. Of one file with two names there are two entries, and one content.
//!
//! ## Chunk
//! Raw bytes of a file; [`content`] says where a file is cut. A list ends after at least 16 chunks with the one whose id, its first eight bytes read as a
//! big-endian number, is at most (2^64 - 1) / 64; or after 256. A reader *must not* rely on where a file or a list was cut, only join the pieces and
//! compare the size.

pub mod changes;
pub mod content;
pub mod listing;

pub use listing::visit;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::compare::BoxError;
use crate::id::ObjectId;

/// The newest version of the files object that this build reads, and the one that it writes.
pub const FORMAT_VERSION: u32 = 1;

/// How many entries a node has on average.
pub const ENTRIES_TARGET: u64 = 64;

/// How many entries a node has at least, but for the last.
pub const ENTRIES_MIN: usize = 16;

/// How many entries a node has at most.
pub const ENTRIES_MAX: usize = 256;

/// How many ids of chunks stand in an entry itself.
pub const CHUNKS_INLINE_MAX: usize = 32;

/// The first of 128 characters of a private use area that stand for the bytes 0x80 to 0xff.
const BYTE_80: u32 = 0x10_ff80;

/// What stopped reading of files in the store.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// An object is missing or damaged.
    #[error("an object of the files cannot be read")]
    Read(#[source] BoxError),
    /// An object is not what it should be.
    #[error("object {id} is no part of a listing of files: {what}")]
    Malformed {
        /// Which one.
        id: ObjectId,
        /// What is wrong.
        what: String,
    },
}

/// A path below the folder of the files, or what a link leads to: bytes as the system has them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(pub Vec<u8>);

impl FilePath {
    /// Takes a path of this system, whose parts are plain names; none where it cannot be written down.
    pub fn of(path: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        for part in path.components() {
            if !bytes.is_empty() {
                bytes.push(b'/');
            }
            let std::path::Component::Normal(name) = part else { return None };
            bytes.extend_from_slice(&system_bytes(name)?);
        }
        Some(Self(bytes))
    }

    /// Takes what a link leads to; none where it cannot be written down.
    pub fn target(path: &Path) -> Option<Self> {
        system_bytes(path.as_os_str()).map(Self)
    }

    /// Tells what is wrong with it as the path of an entry: it may come from a store that somebody else wrote.
    pub fn fault(&self) -> Option<&'static str> {
        if self.0.contains(&0) {
            return Some("it holds a NUL");
        }
        let mut parts = self.0.split(|byte| *byte == b'/');
        if parts.any(|part| part.is_empty() || part == b"." || part == b"..") {
            return Some("it leaves its folder");
        }
        // What other systems take for the root, for a drive, or for a way up.
        if cfg!(windows) && self.0.iter().any(|byte| matches!(byte, b'\\' | b':')) {
            return Some("it is no path on this system");
        }
        None
    }

    /// Returns it as a path of this system; none where the system has no such name.
    pub fn to_path(&self) -> Option<PathBuf> {
        #[cfg(unix)]
        return Some(PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&self.0)));
        #[cfg(not(unix))]
        std::str::from_utf8(&self.0).ok().map(PathBuf::from)
    }

    /// Tells whether it stands below another.
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.strip_prefix(other.0.as_slice()).is_some_and(|rest| rest.first() == Some(&b'/'))
    }

    /// Writes it as text, whatever its bytes; [`FilePath::parse`] gives the same bytes back.
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(self.0.len());
        let push_bytes = |text: &mut String, bytes: &[u8]| {
            text.extend(bytes.iter().filter_map(|byte| char::from_u32(BYTE_80 + u32::from(byte & 0x7f))));
        };
        for piece in self.0.utf8_chunks() {
            for letter in piece.valid().chars() {
                if u32::from(letter) >= BYTE_80 {
                    push_bytes(&mut text, letter.encode_utf8(&mut [0; 4]).as_bytes());
                } else {
                    text.push(letter);
                }
            }
            push_bytes(&mut text, piece.invalid());
        }
        text
    }

    /// Reads what [`FilePath::encode`] wrote.
    pub fn parse(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len());
        for letter in text.chars() {
            match u32::from(letter).checked_sub(BYTE_80).and_then(|low| u8::try_from(low).ok()) {
                Some(low) => bytes.push(0x80 | low),
                None => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        Self(bytes)
    }
}

/// Writes it for people: what is no UTF-8, and what would move a terminal's cursor, as `\xNN`.
impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(self.0.len());
        for piece in self.0.utf8_chunks() {
            for letter in piece.valid().chars() {
                if letter.is_control() {
                    text.extend(letter.escape_default());
                } else {
                    text.push(letter);
                }
            }
            text.extend(piece.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
        }
        f.pad(&text)
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl Serialize for FilePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encode())
    }
}

impl<'de> Deserialize<'de> for FilePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let path = Self::parse(&text);
        // One path has one spelling.
        if path.encode() == text { Ok(path) } else { Err(D::Error::custom("a path is not in its one spelling")) }
    }
}

/// Returns the bytes of a name of this system, in which `/` separates.
fn system_bytes(name: &std::ffi::OsStr) -> Option<Vec<u8>> {
    #[cfg(unix)]
    return Some(std::os::unix::ffi::OsStrExt::as_bytes(name).to_vec());
    #[cfg(not(unix))]
    name.to_str().map(|text| text.replace('\\', "/").into_bytes())
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink,
}

impl EntryKind {
    /// Returns what people call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dir => "folder",
            Self::Symlink => "link",
        }
    }
}

/// A file, a folder or a link in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where.
    pub path: FilePath,
    /// What.
    pub kind: EntryKind,
    /// The permission bits of a file or folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// When it was last written, in nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime: Option<i64>,
    /// How many bytes a file has.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
    /// The chunks of a file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<ObjectId>,
    /// The lists of a long file's chunks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<ObjectId>,
    /// Whether the file was written each time that it was read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changing: bool,
    /// What a link leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<FilePath>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Entry {
    /// Makes an entry with nothing filled in.
    pub fn new(path: FilePath, kind: EntryKind) -> Self {
        Self { path, kind, mode: None, mtime: None, size: 0, chunks: Vec::new(), lists: Vec::new(), changing: false, target: None }
    }

    /// Tells whether a file has the same bytes as another, as far as ids prove it.
    pub fn has_content_of(&self, other: &Self) -> bool {
        (self.size, &self.chunks, &self.lists) == (other.size, &other.chunks, &other.lists)
    }

    /// Tells what is wrong with it.
    fn fault(&self) -> Option<&'static str> {
        if let Some(fault) = self.path.fault() {
            return Some(fault);
        }
        let has_content = self.size > 0 || !self.chunks.is_empty() || !self.lists.is_empty() || self.changing;
        let is_whole = match self.kind {
            EntryKind::File => {
                let has_bytes = !self.chunks.is_empty() || !self.lists.is_empty();
                self.target.is_none() && (self.chunks.is_empty() || self.lists.is_empty()) && has_bytes == (self.size > 0)
            }
            EntryKind::Dir => self.target.is_none() && !has_content,
            EntryKind::Symlink => self.target.as_ref().is_some_and(|target| !target.0.is_empty() && !target.0.contains(&0)) && !has_content,
        };
        if is_whole { None } else { Some("its fields do not fit its kind") }
    }
}

/// A files object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// The format version.
    pub format: u32,
    /// The patterns of what was looked for.
    pub include: Vec<String>,
    /// The patterns of what was left out.
    pub exclude: Vec<String>,
    /// How many files.
    pub files: u64,
    /// How many folders.
    pub folders: u64,
    /// How many links.
    pub links: u64,
    /// The bytes of all files.
    pub bytes: u64,
    /// How many levels of nodes.
    pub depth: u32,
    /// The topmost node.
    pub root: Option<ObjectId>,
}

/// A node of a listing: an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Node {
    /// Entries, by path.
    Entries(Vec<Entry>),
    /// The nodes one level below, by path.
    Nodes(Vec<Child>),
}

/// A node one level below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// The first path below it.
    pub first: FilePath,
    /// How many entries stand below it.
    pub entries: u64,
    /// The node.
    pub node: ObjectId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_survives_its_spelling() {
        let paths: [&[u8]; 6] = [b"a/b c", b"line\nbreak", "\u{fc}/\u{10ff85}".as_bytes(), b"\xff\xfe", b"a\xc3/\x80b", b""];
        for bytes in paths {
            let path = FilePath(bytes.to_vec());
            let json = serde_json::to_string(&path).expect("json");
            assert_eq!(serde_json::from_str::<FilePath>(&json).expect(&json), path);
        }
        // A character that stands for a byte of UTF-8 would be a second spelling.
        assert!(serde_json::from_str::<FilePath>("\"\u{10ffc3}\u{10ffbc}\"").is_err());
    }

    #[test]
    fn a_path_that_leaves_its_folder_is_none() {
        for bytes in ["/etc/passwd", "../x", "a/../../x", "a//b", "a/", "", ".", "a/./b", "a\0b"] {
            assert!(FilePath(bytes.into()).fault().is_some(), "{bytes:?}");
        }
        for bytes in ["a", "a/b", "..a/b..", "...", "a\\b", " "] {
            assert_eq!(FilePath(bytes.into()).fault().is_some(), cfg!(windows) && bytes.contains('\\'), "{bytes:?}");
        }
    }

    #[test]
    fn people_see_no_control_characters() {
        assert_eq!(FilePath(b"a\x1b[2J\n\xff".to_vec()).to_string(), "a\\u{1b}[2J\\n\\xff");
    }

    #[test]
    fn an_entry_is_written_without_what_it_does_not_have() {
        let entry = Entry { mode: Some(0o755), ..Entry::new(FilePath(b"uploads".to_vec()), EntryKind::Dir) };
        let json = serde_json::to_string(&entry).expect("json");
        assert_eq!(json, r#"{"path":"uploads","kind":"dir","mode":493}"#);
        assert_eq!(serde_json::from_str::<Entry>(&json).expect("an entry"), entry);
    }
}
