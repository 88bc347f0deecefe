//! Finding objects in the bytes of a pack whose index cannot be believed.
//!
//! Payloads stand one after the other, and each says by itself where it ends: zstd frames and typed objects by their own layout, JSON by its brackets. What is found is
//! an object if it is one whole JSON value; its id is the SHA-256 of that, so nothing can be taken for something else. The index, as far as it can
//! still be read, adds what deltas stand on. Deltas without it are not found.

use std::io::Read;

use super::pack::{self, Entry, FOOTER_BYTES, MAGIC, OBJECT_BYTES_MAX};
use super::typed;

/// The first bytes of a zstd frame.
const FRAME: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The fewest bytes that an entry of an index has.
const ENTRY_BYTES_MIN: usize = 35;

/// The fewest bytes of an object that is believed to be one though damage stands before it.
const RAW_BYTES_MIN: usize = 16;

/// Looks through the bytes of a pack; hands every object to the sink as it is found, and returns what the index may say.
pub(super) fn search(bytes: &[u8], found: &mut dyn FnMut(&[u8])) -> Vec<Entry> {
    let mut at = if bytes.starts_with(MAGIC) { MAGIC.len() } else { MAGIC.len().min(bytes.len()) };
    // Where payloads seem to end: there the index begins.
    let mut end = at;
    let mut json = Vec::new();
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest.starts_with(typed::MAGIC)
            && let Ok((_, behind)) = typed::decode_first(rest, &mut json)
        {
            if is_json(&json) {
                found(&json);
            }
            at = bytes.len() - behind;
            end = at;
            continue;
        }
        if rest.starts_with(&FRAME)
            && let Ok(length) = zstd::zstd_safe::find_frame_compressed_size(rest)
            && let Some(frame) = rest.get(..length).filter(|frame| !frame.is_empty())
        {
            if let Some(json) = unpack(frame).filter(|json| is_json(json)) {
                found(&json);
            }
            at += length;
            end = at;
            continue;
        }
        let next = |magic: &[u8]| memchr::memmem::find(&rest[1..], magic).map_or(rest.len(), |next| next + 1);
        let until = next(&FRAME).min(next(typed::MAGIC));
        end = at + raw(&rest[..until], found);
        at += until;
    }
    index(bytes, end)
}

fn unpack(frame: &[u8]) -> Option<Vec<u8>> {
    let mut json = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(frame).ok()?;
    decoder.take(OBJECT_BYTES_MAX).read_to_end(&mut json).ok()?;
    Some(json)
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// Finds objects that stand as they are, one after the other; returns where they end. Behind damage only what is long enough to be no accident is
/// believed to be one.
fn raw(bytes: &[u8], found: &mut dyn FnMut(&[u8])) -> usize {
    let mut end = 0;
    let mut at = 0;
    while at < bytes.len() {
        // What objects begin with: arrays, objects, and texts and blobs that stand by themselves.
        let Some(next) = bytes[at..].iter().position(|byte| matches!(byte, b'[' | b'{' | b'"')) else { break };
        let from = at + next;
        let mut values = serde_json::Deserializer::from_slice(&bytes[from..]).into_iter::<serde::de::IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {
                at = from + values.byte_offset();
                let follows = from == end;
                if follows || at - from >= RAW_BYTES_MIN {
                    found(&bytes[from..at]);
                }
                if follows {
                    end = at;
                }
            }
            _ => at = from + 1,
        }
    }
    end
}

/// Reads an index as far as it can be read: where the footer says that it begins, else where the payloads seem to end.
fn index(bytes: &[u8], payload_end: usize) -> Vec<Entry> {
    let Some(footer) = bytes.len().checked_sub(usize::try_from(FOOTER_BYTES).unwrap_or(usize::MAX)) else { return Vec::new() };
    let told = bytes.get(footer..footer + 8).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()).map(u64::from_le_bytes);
    let told = told.and_then(|offset| usize::try_from(offset).ok());
    let read = |begin: usize| -> Vec<Entry> {
        let Some(index) = bytes.get(begin..footer).filter(|index| index.len() >= ENTRY_BYTES_MIN) else { return Vec::new() };
        pack::decode_index_loosely(index, begin as u64)
    };
    let by_footer = told.map(read).unwrap_or_default();
    let by_payloads = read(payload_end);
    if by_footer.len() >= by_payloads.len() { by_footer } else { by_payloads }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ObjectId;
    use crate::store::pack::{Codecs, PackWriter, encode_object};

    fn pack(objects: &[&[u8]]) -> Vec<u8> {
        let mut writer = PackWriter::new(Vec::new(), None).expect("memory");
        for json in objects {
            let (codec, base, stored) = encode_object(json, None, Codecs::All).expect("compressed");
            writer.append(ObjectId::of(json), codec, base, json.len() as u64, &stored).expect("memory");
        }
        writer.close().expect("memory").0
    }

    fn found(bytes: &[u8]) -> Vec<ObjectId> {
        let mut found = Vec::new();
        search(bytes, &mut |json| found.push(ObjectId::of(json)));
        found
    }

    #[test]
    fn objects_are_found_without_an_index() {
        let long = format!("[{}]", (0..500).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
        let text = format!("\"{}\"", "abc".repeat(200));
        let objects: [&[u8]; 5] = [b"[1,2]", b"{\"a\":[1],\"b\":\"longer\"}", long.as_bytes(), b"[\"x\"]", text.as_bytes()];
        let whole = pack(&objects);
        let expected: Vec<ObjectId> = objects.iter().map(|json| ObjectId::of(json)).collect();
        assert_eq!(found(&whole), expected);
        // Without its end, and with an index that says something else.
        let index = whole.len() - 64;
        assert_eq!(found(&whole[..index - 20])[..5], expected[..]);
        let entries = search(&whole, &mut |_| {});
        assert_eq!(entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), expected);
        // Damage in one payload costs that one.
        let mut damaged = whole.clone();
        damaged[9] = 0xff;
        assert_eq!(found(&damaged).iter().filter(|id| expected.contains(id)).count(), 4);
    }
}
