//! The parts of a snapshot as data, and their JSON. `src/snapshot.rs` specifies them.

use serde::{Deserialize, Serialize};

use crate::id::ObjectId;
use crate::rows::{ColumnShape, CutRule, TableShape};
use crate::schema::Settings;

/// The newest format version that this build reads, and the one that it writes.
pub const FORMAT_VERSION: u32 = 2;

/// Tells whether manifests of a version have the values of stored generated columns.
pub fn keeps_generated(format: u32) -> bool {
    format >= 2
}

/// A snapshot, as `snapshots/<id>.json` holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The format version.
    pub format: u32,
    /// The database that it is of.
    pub source: SourceName,
    /// When the read transaction began, RFC 3339 in UTC with milliseconds.
    pub time: String,
    /// Why it was taken.
    pub kind: SnapshotKind,
    /// What its maker said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The newest snapshot of the same source at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ObjectId>,
    /// The id of the [`crate::schema::Schema`] object.
    pub schema: ObjectId,
    /// Settings of the database.
    pub settings: Settings,
    /// The tables with rows of their own, in creation order.
    pub tables: Vec<TableEntry>,
    /// The id of the [`super::files::Files`] object; none where no files are kept with the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<ObjectId>,
    /// Where and by what it was taken.
    pub origin: Origin,
}

/// Which database a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceName {
    /// The engine (`sqlite`).
    pub engine: String,
    /// The database's place without secrets: an absolute path, or a URL without password.
    pub place: String,
}

/// Why a snapshot was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotKind {
    /// Somebody asked for it.
    Manual,
    /// Before a migration.
    Pre,
    /// After a migration that was kept.
    Post,
    /// The state that a rolled-back migration left.
    Failed,
    /// Before dbelay changed the database itself.
    Safety,
    /// After dbelay made the database equal to an earlier snapshot.
    Restored,
}

/// A table in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEntry {
    /// Its name.
    pub name: String,
    /// How many rows it has.
    pub rows: u64,
    /// The id of its [`TableManifest`].
    pub manifest: ObjectId,
}

/// Where and by what a snapshot was taken. Never part of any comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The version of dbelay.
    pub dbelay: String,
    /// The user's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// The host's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// The migration command, for `pre`, `post` and `failed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Where the project's git history stood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitPosition>,
}

/// A place in a git history. At least one of both is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitPosition {
    /// The branch that was checked out, without `refs/heads/`; none where a commit itself was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit, in hex; none on a branch without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

impl GitPosition {
    /// Writes it for people: `main 1a2b3c4d`.
    pub fn words(&self) -> String {
        let commit = self.commit.as_deref().map(|commit| commit.get(..8).unwrap_or(commit));
        [self.branch.as_deref(), commit].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// What a snapshot knows of one table: an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableManifest {
    /// Its name.
    pub name: String,
    /// Its stored columns, each with its digest.
    pub columns: Vec<ManifestColumn>,
    /// See [`TableShape::identity`].
    pub identity: Vec<usize>,
    /// See [`TableShape::locator`].
    pub locator: Vec<usize>,
    /// The rule that cut it.
    pub cut: CutRule,
    /// How many rows.
    pub rows: u64,
    /// The JSON bytes of all its chunks, those not stored because all values are the default included.
    pub bytes: u64,
    /// How many levels of nodes stand above the row groups: 0 for an empty table, 1 where the root lists groups.
    pub depth: u32,
    /// The root [`Node`]; none for an empty table.
    pub root: Option<ObjectId>,
}

/// A column in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestColumn {
    /// Its shape.
    #[serde(flatten)]
    pub shape: ColumnShape,
    /// The digest over its chunks.
    pub digest: ObjectId,
}

impl TableManifest {
    /// Tells whether the keys name columns that are there, and no row number is hidden but in the first.
    pub fn is_consistent(&self) -> bool {
        let is_there = |at: &usize| *at < self.columns.len();
        self.identity.iter().all(is_there) && self.locator.iter().all(is_there) && !self.columns.iter().skip(1).any(|c| c.shape.hidden)
    }

    /// Returns the table's shape.
    pub fn shape(&self) -> TableShape {
        TableShape {
            name: self.name.clone(),
            columns: self.columns.iter().map(|column| column.shape.clone()).collect(),
            identity: self.identity.clone(),
            locator: self.locator.clone(),
        }
    }
}

/// A node of a table's tree: an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Node {
    /// Row groups, in table order.
    Groups(Vec<Group>),
    /// Ids of the nodes one level below, in table order.
    Nodes(Vec<Child>),
}

/// A node one level below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// How many rows stand below it.
    pub rows: u64,
    /// The node.
    pub node: ObjectId,
}

/// A row group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Group {
    /// How many rows.
    pub rows: u64,
    /// The first row's identity cells as canonical JSON, joined by commas.
    pub first: String,
    /// One slot a column, in manifest order. None, or a slot past the end: every value is the column's default.
    pub columns: Vec<Option<ObjectId>>,
}

impl Group {
    /// Returns a column's chunk; none where every value is the default.
    pub fn chunk(&self, column: usize) -> Option<ObjectId> {
        self.columns.get(column).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_without_git_is_written_as_before() {
        let old = r#"{"dbelay":"0.1.0","user":"ada"}"#;
        let origin: Origin = serde_json::from_str(old).expect("an origin of before");
        assert_eq!(serde_json::to_string(&origin).expect("json"), old);
        let git = GitPosition { branch: Some("main".to_owned()), commit: Some("0123456789".repeat(4)) };
        assert_eq!(git.words(), "main 01234567");
        let json = serde_json::to_string(&Origin { git: Some(git.clone()), ..origin }).expect("json");
        assert_eq!(serde_json::from_str::<Origin>(&json).expect("an origin").git, Some(git));
    }
}
