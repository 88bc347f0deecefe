//! The row groups of a bottom node as they stand in its JSON, told apart without being decoded.
//!
//! Two nodes that differ have most groups in common, byte by byte; only the others are worth decoding. What is not written exactly as
//! [`super::manifest`] writes it (a field that a later version added, say) is left to the general decoder.

use super::manifest::Group;
use crate::id::ObjectId;

/// The hex digits of an id.
const ID_DIGITS: usize = 64;

/// A row group in its node's JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupText<'a> {
    /// All of it.
    pub text: &'a [u8],
    rows: u64,
    /// A JSON string.
    first: &'a [u8],
    /// What stands between the brackets.
    columns: &'a [u8],
}

/// Tells apart the groups of a bottom node; none where it is not written as nodes are.
pub(super) fn split_groups(node: &[u8]) -> Option<Vec<GroupText<'_>>> {
    let mut rest = node.strip_prefix(b"{\"groups\":[")?;
    let mut groups = Vec::with_capacity(16);
    if rest == b"]}" {
        return Some(groups);
    }
    loop {
        let (group, after) = take_group(rest)?;
        groups.push(group);
        match after {
            b"]}" => return Some(groups),
            [b',', after @ ..] => rest = after,
            _ => return None,
        }
    }
}

fn take_group(text: &[u8]) -> Option<(GroupText<'_>, &[u8])> {
    let rest = text.strip_prefix(b"{\"rows\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > 1 && rest.starts_with(b"0") {
        return None;
    }
    let rows = std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()?;
    let rest = rest.get(digits..)?.strip_prefix(b",\"first\":")?;
    let first = take_string(rest)?;
    let columns = rest.get(first.len()..)?.strip_prefix(b",\"columns\":[")?;
    let length = slots_length(columns)?;
    let after = columns.get(length..)?.strip_prefix(b"]}")?;
    let text = text.get(..text.len() - after.len())?;
    Some((GroupText { text, rows, first, columns: columns.get(..length)? }, after))
}

fn take_string(text: &[u8]) -> Option<&[u8]> {
    let mut at = text.starts_with(b"\"").then_some(1)?;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return text.get(..=at);
        }
        at += 2;
    }
}

/// Returns how many bytes a list of slots takes.
fn slots_length(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    if text.first() == Some(&b']') {
        return Some(0);
    }
    loop {
        at += slot_length(text.get(at..)?)?;
        match text.get(at)? {
            b',' => at += 1,
            b']' => return Some(at),
            _ => return None,
        }
    }
}

fn slot_length(text: &[u8]) -> Option<usize> {
    match text.first()? {
        // What stands between the quotes is looked at where it is decoded.
        b'"' => (text.get(ID_DIGITS + 1) == Some(&b'"')).then_some(ID_DIGITS + 2),
        b'n' => text.starts_with(b"null").then_some(4),
        _ => None,
    }
}

impl GroupText<'_> {
    /// Decodes the group; none where it is to be left to the general decoder.
    pub fn decode(&self) -> Option<Group> {
        let mut columns = Vec::with_capacity(self.columns.len() / (ID_DIGITS + 3) + 1);
        let mut at = 0;
        while let Some(slot) = self.columns.get(at..).filter(|rest| !rest.is_empty()) {
            let length = slot_length(slot)?;
            columns.push(if slot.starts_with(b"\"") { Some(decode_id(slot.get(1..=ID_DIGITS)?)?) } else { None });
            at += length + 1;
        }
        Some(Group { rows: self.rows, first: serde_json::from_slice(self.first).ok()?, columns })
    }
}

fn decode_id(digits: &[u8]) -> Option<ObjectId> {
    let mut id = [0; 32];
    let mut all = 0;
    for (byte, [high, low]) in id.iter_mut().zip(digits.as_chunks::<2>().0) {
        let (high, low) = (DIGITS[usize::from(*high)], DIGITS[usize::from(*low)]);
        all |= high | low;
        *byte = high << 4 | low & 15;
    }
    (all < 16).then_some(ObjectId(id))
}

/// What each byte is worth as a lower-case hex digit; 255 where it is none.
const DIGITS: [u8; 256] = {
    let mut table = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::manifest::Node;
    use super::*;

    fn group() -> impl Strategy<Value = Group> {
        let slot = prop_oneof![3 => any::<[u8; 32]>().prop_map(|id| Some(ObjectId(id))), 1 => Just(None)];
        (any::<u64>(), "[a-c,\"\\\\\\]\\}\n1]{0,10}|\\PC{0,6}", proptest::collection::vec(slot, 0..6))
            .prop_map(|(rows, first, columns)| Group { rows, first, columns })
    }

    proptest! {
        #[test]
        fn groups_are_those_of_the_general_decoder(groups in proptest::collection::vec(group(), 0..5)) {
            let json = serde_json::to_vec(&Node::Groups(groups.clone())).expect("json");
            let texts = split_groups(&json).expect("written as nodes are");
            let decoded: Option<Vec<Group>> = texts.iter().map(GroupText::decode).collect();
            prop_assert_eq!(decoded, Some(groups));
            for text in &texts {
                prop_assert_eq!(serde_json::from_slice::<Group>(text.text).ok(), text.decode());
            }
        }

        #[test]
        fn whatever_is_taken_means_the_same_to_the_general_decoder(
            groups in proptest::collection::vec(group(), 1..4),
            at in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut json = serde_json::to_vec(&Node::Groups(groups)).expect("json");
            let at = at.index(json.len());
            json[at] = byte;
            for text in split_groups(&json).unwrap_or_default() {
                if let Some(group) = text.decode() {
                    prop_assert_eq!(serde_json::from_slice::<Group>(text.text).ok(), Some(group));
                }
            }
        }
    }

    #[test]
    fn what_is_written_otherwise_is_left_to_the_general_decoder() {
        let id = "0f".repeat(32);
        let plain = format!(r#"{{"groups":[{{"rows":1,"first":"1","columns":["{id}"]}}]}}"#);
        assert_eq!(split_groups(plain.as_bytes()).map(|groups| groups.len()), Some(1));
        for (from, to) in
            [("\"rows\":1", "\"rows\": 1"), ("]}]}", "],\"later\":1}]}"), ("{\"groups", "{\"later\":1,\"groups"), ("]}]}", "]}],\"a\":1}")]
        {
            assert!(split_groups(plain.replace(from, to).as_bytes()).is_none(), "{to}");
        }
        let upper = plain.replace("0f0f", "0F0F");
        assert!(split_groups(upper.as_bytes()).is_some_and(|groups| groups[0].decode().is_none()));
        assert_eq!(split_groups(b"{\"groups\":[]}").map(|groups| groups.len()), Some(0));
    }
}
