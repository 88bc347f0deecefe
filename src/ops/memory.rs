//! What is remembered of how a state was read, beside its snapshot: what the engine remembers of its pages, and facts of row groups that no manifest holds.
//!
//! Kept in the store's cache, one file a database; only ever saves time. It says what is true of contents, not of a place or a time, so that one that is
//! stale, or of another database, is only of no use; and what is damaged is not used.
//!
//! ## Layout
//! What the engine remembers, in its own layout; then the rest, in little-endian as all numbers: for each table the id of its manifest, the number of its row groups
//! in 4 bytes, and for each group its rows, its cut hash and the bytes of its JSON, 8 bytes each; the number of tables in 4 bytes, the length of what the engine
//! remembers in 8, the id of the snapshot, the magic `DBLYMEM1`; at the end the XXH3-128 of all bytes before.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_128;

use crate::id::ObjectId;
use crate::snapshot::regroup::GroupFacts;

const MAGIC: &[u8; 8] = b"DBLYMEM1";

/// What is remembered of a state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// The facts of each table's groups, by its manifest.
    pub tables: HashMap<ObjectId, Vec<GroupFacts>>,
    /// What the engine remembers, each table under the id of its manifest.
    pub engine: Vec<u8>,
}

impl Memory {
    /// Writes what is remembered of a snapshot.
    pub fn to_bytes(&self, snapshot: &ObjectId) -> Vec<u8> {
        let engine = self.engine.len() as u64;
        let groups: usize = self.tables.values().map(|facts| 40 + facts.len() * 24).sum();
        let mut out = Vec::with_capacity(self.engine.len() + groups + 128);
        out.extend_from_slice(&self.engine);
        let mut tables: Vec<_> = self.tables.iter().collect();
        tables.sort_unstable_by_key(|(id, _)| *id);
        let number = |out: &mut Vec<u8>, number: usize| out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
        for (id, groups) in &tables {
            out.extend_from_slice(&id.0);
            number(&mut out, groups.len());
            for facts in *groups {
                for number in [facts.rows, facts.cut_hash, facts.bytes] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
            }
        }
        number(&mut out, tables.len());
        out.extend_from_slice(&engine.to_le_bytes());
        out.extend_from_slice(&snapshot.0);
        out.extend_from_slice(MAGIC);
        let hash = xxh3_128(&out);
        out.extend_from_slice(&hash.to_le_bytes());
        out
    }

    /// Reads it, and of which snapshot it is; none where it is anything but what was written.
    pub fn of_bytes(mut bytes: Vec<u8>) -> Option<(ObjectId, Self)> {
        let (content, hash) = bytes.split_last_chunk::<16>()?;
        if xxh3_128(content) != u128::from_le_bytes(*hash) {
            return None;
        }
        let (rest, snapshot) = content.strip_suffix(MAGIC)?.split_last_chunk::<32>()?;
        let snapshot = ObjectId(*snapshot);
        let (rest, engine) = rest.split_last_chunk::<8>()?;
        let (rest, count) = rest.split_last_chunk::<4>()?;
        let engine = usize::try_from(u64::from_le_bytes(*engine)).ok()?;
        let mut rest = rest.get(engine..)?;
        let mut tables = HashMap::new();
        for _ in 0..u32::from_le_bytes(*count) {
            let (id, after) = rest.split_first_chunk::<32>()?;
            let (groups, after) = after.split_first_chunk::<4>()?;
            let (groups, after) = after.split_at_checked((u32::from_le_bytes(*groups) as usize).checked_mul(24)?)?;
            rest = after;
            let facts = |bytes: &[u8; 24]| {
                let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
                GroupFacts { rows: number(0), cut_hash: number(8), bytes: number(16) }
            };
            tables.insert(ObjectId(*id), groups.as_chunks::<24>().0.iter().map(facts).collect());
        }
        if !rest.is_empty() {
            return None;
        }
        bytes.truncate(engine);
        Some((snapshot, Self { tables, engine: bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let facts = |cut_hash| GroupFacts { rows: 5, cut_hash, bytes: cut_hash / 7 };
        let tables = HashMap::from([(ObjectId([1; 32]), vec![facts(1), facts(u64::MAX / 9)]), (ObjectId([2; 32]), Vec::new())]);
        let memory = Memory { tables, engine: b"pages".to_vec() };
        let bytes = memory.to_bytes(&ObjectId([9; 32]));
        assert_eq!(Memory::of_bytes(bytes.clone()), Some((ObjectId([9; 32]), memory)));
        for at in 0..bytes.len() {
            assert_eq!(Memory::of_bytes(bytes[..at].to_vec()), None);
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            assert_eq!(Memory::of_bytes(flipped), None);
        }
    }
}
