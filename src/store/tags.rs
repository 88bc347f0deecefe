//! Tags: names that people give to snapshots, a small file each.

use std::collections::BTreeMap;

use super::named::TAGS;
use super::{Store, StoreError};
use crate::durable;
use crate::id::ObjectId;

/// The longest tag name, in bytes.
pub const TAG_BYTES_MAX: usize = 100;

/// The file of a tag.
#[derive(Debug)]
pub(super) struct TagFile {
    /// Its name; none where its file does not open.
    pub name: Option<String>,
    /// The file, from the store's directory.
    pub file: String,
    /// What it names; none where it is damaged.
    pub id: Option<ObjectId>,
}

impl Store {
    /// Lists all tags by name.
    ///
    /// # Errors
    /// [`StoreError::DamagedTag`], [`StoreError::Io`].
    pub fn tags(&self) -> Result<BTreeMap<String, ObjectId>, StoreError> {
        let named = |tag: TagFile| match (tag.name, tag.id) {
            (Some(name), Some(id)) => Ok((name, id)),
            (name, _) => Err(StoreError::DamagedTag(name.unwrap_or(tag.file))),
        };
        self.tag_files()?.into_iter().map(named).collect()
    }

    /// Lists the tags that are whole by name, and the names of those that are not.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn whole_tags(&self) -> Result<(BTreeMap<String, ObjectId>, Vec<String>), StoreError> {
        let (mut whole, mut damaged) = (BTreeMap::new(), Vec::new());
        for tag in self.tag_files()? {
            match (tag.name, tag.id) {
                (Some(name), Some(id)) => drop(whole.insert(name, id)),
                (name, _) => damaged.push(name.unwrap_or(tag.file)),
            }
        }
        Ok((whole, damaged))
    }

    /// Lists the files of tags.
    pub(super) fn tag_files(&self) -> Result<Vec<TagFile>, StoreError> {
        let mut tags = Vec::new();
        for found in self.list_named(TAGS)?.into_iter().filter(|found| !found.path.is_dir()) {
            let file = self.relative(&found.path);
            let Some(name) = found.name else {
                tags.push(TagFile { name: None, file, id: None });
                continue;
            };
            if check_tag_name(&name).is_err() {
                continue;
            }
            let bytes = self.read_named(TAGS, &name)?.and_then(|content| content.bytes.ok());
            let id = bytes.and_then(|text| std::str::from_utf8(&text).ok()?.strip_suffix('\n')?.parse().ok());
            tags.push(TagFile { name: Some(name), file, id });
        }
        Ok(tags)
    }

    /// Lets a tag name a snapshot, durably.
    ///
    /// # Errors
    /// [`StoreError::TagName`], [`StoreError::NoSnapshot`], [`StoreError::Io`].
    pub fn set_tag(&self, name: &str, id: &ObjectId) -> Result<(), StoreError> {
        check_tag_name(name)?;
        self.snapshot(id)?;
        self.write_named(TAGS, name, format!("{id}\n").as_bytes()).map(drop)
    }

    /// Deletes a tag. One that is not there is no error.
    ///
    /// # Errors
    /// [`StoreError::TagName`], [`StoreError::Io`].
    pub fn delete_tag(&self, name: &str) -> Result<(), StoreError> {
        check_tag_name(name)?;
        self.remove_named(TAGS, name)
    }
}

/// Checks that a tag can have a name: one that a selector can be, and a file on every system.
///
/// # Errors
/// [`StoreError::TagName`].
pub fn check_tag_name(name: &str) -> Result<(), StoreError> {
    let lower = name.to_ascii_lowercase();
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > TAG_BYTES_MAX {
        "it is too long"
    } else if ["head", "live", "pre", "post", "failed"].contains(&lower.as_str()) {
        "this word is taken"
    } else if name.chars().any(|c| c.is_control() || c.is_whitespace() || "~^:@{}/\\?*[]<>|\"'`$&;!#%".contains(c)) {
        "only letters, digits and `-_.+,=` can stand in it"
    } else if name.starts_with(['-', '.']) || name.ends_with('.') || name.starts_with(durable::TEMPORARY) {
        "it cannot begin or end like this"
    } else if name.len() >= 4 && name.len() <= 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        "it looks like the id of a snapshot"
    } else {
        return Ok(());
    };
    Err(StoreError::TagName { name: name.chars().take(200).collect(), why })
}
