//! Tags: names that people give to snapshots, a small file each.

use std::collections::BTreeMap;
use std::fs;

use super::{Store, StoreError, entries};
use crate::durable;
use crate::id::ObjectId;

/// The longest tag name, in bytes.
pub const TAG_BYTES_MAX: usize = 100;

impl Store {
    /// Lists all tags by name.
    ///
    /// # Errors
    /// [`StoreError::DamagedTag`], [`StoreError::Io`].
    pub fn tags(&self) -> Result<BTreeMap<String, ObjectId>, StoreError> {
        self.tag_files()?.into_iter().map(|(name, id)| id.map(|id| (name.clone(), id)).ok_or(StoreError::DamagedTag(name))).collect()
    }

    /// Lists the tags that are whole by name, and the names of those that are not.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn whole_tags(&self) -> Result<(BTreeMap<String, ObjectId>, Vec<String>), StoreError> {
        let (mut whole, mut damaged) = (BTreeMap::new(), Vec::new());
        for (name, id) in self.tag_files()? {
            match id {
                Some(id) => drop(whole.insert(name, id)),
                None => damaged.push(name),
            }
        }
        Ok((whole, damaged))
    }

    pub(super) fn tag_files(&self) -> Result<Vec<(String, Option<ObjectId>)>, StoreError> {
        let mut tags = Vec::new();
        for (name, path) in entries(&self.dir.join("tags"))? {
            if check_tag_name(&name).is_err() || path.is_dir() {
                continue;
            }
            let text = fs::read(&path).map_err(|source| StoreError::io("reading", &path, source))?;
            let id = std::str::from_utf8(&text).ok().and_then(|text| text.strip_suffix('\n')).and_then(|text| text.parse().ok());
            tags.push((name, id));
        }
        tags.sort();
        Ok(tags)
    }

    /// Lets a tag name a snapshot, durably.
    ///
    /// # Errors
    /// [`StoreError::TagName`], [`StoreError::NoSnapshot`], [`StoreError::Io`].
    pub fn set_tag(&self, name: &str, id: &ObjectId) -> Result<(), StoreError> {
        check_tag_name(name)?;
        self.snapshot(id)?;
        let path = self.dir.join("tags").join(name);
        durable::write(&path, format!("{id}\n").as_bytes()).map_err(|source| StoreError::io("writing", &path, source))
    }

    /// Deletes a tag. One that is not there is no error.
    ///
    /// # Errors
    /// [`StoreError::TagName`], [`StoreError::Io`].
    pub fn delete_tag(&self, name: &str) -> Result<(), StoreError> {
        check_tag_name(name)?;
        let path = self.dir.join("tags").join(name);
        durable::remove(&path).map_err(|source| StoreError::io("deleting", &path, source))
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
