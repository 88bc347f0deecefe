//! Text that is no UTF-8: of a database whose encoding is UTF-16, and of DDL that somebody wrote in another encoding.
//!
//! SQLite converts between UTF-8 and UTF-16 by itself, but not without loss: an unpaired surrogate swallows the unit that follows it, and
//! U+FFFE and U+FFFF become U+FFFD (`READ_UTF8` and `READ_UTF16LE` in SQLite's `utf.c`). So nothing is left to it: text comes out of
//! such a database as the bytes that it stores (`CAST(x AS BLOB)`), goes in as such (`CAST(? AS TEXT)`), and is converted here.
//!
//! Units that are no UTF-16 become WTF-8 (<https://simonsapin.github.io/wtf-8/>): an unpaired surrogate is written in three bytes as if it were
//! a character. These are no UTF-8, and so are kept like any text that is none.

/// The first of 128 characters of a private use area that stand for the bytes 0x80 to 0xff in [`ddl_text`].
const BYTE_80: u32 = 0x10_ff80;

/// Writes DDL as text, whatever its bytes: one that is no part of UTF-8 becomes a character of its own, U+10FF80 for 0x80 and so on. Those
/// characters themselves, which nobody uses, are written byte by byte.
pub fn ddl_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let push_bytes = |text: &mut String, bytes: &[u8]| {
        text.extend(bytes.iter().filter_map(|byte| char::from_u32(BYTE_80 + u32::from(byte & 0x7f))));
    };
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if u32::from(letter) >= BYTE_80 {
                push_bytes(&mut text, letter.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(letter);
            }
        }
        push_bytes(&mut text, chunk.invalid());
    }
    text
}

/// Returns the bytes of DDL that [`ddl_text`] wrote as text.
pub fn ddl_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for letter in text.chars() {
        match u32::from(letter).checked_sub(BYTE_80).and_then(|low| u8::try_from(low).ok()) {
            Some(low) => bytes.push(0x80 | low),
            None => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// How a database stores text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Any bytes, UTF-8 as a rule.
    Utf8,
    /// 16-bit units, low byte first.
    Utf16le,
    /// 16-bit units, high byte first.
    Utf16be,
}

impl Encoding {
    /// Reads the value of `PRAGMA encoding`; anything unknown is UTF-8.
    pub fn named(name: &str) -> Self {
        match name {
            "UTF-16le" => Self::Utf16le,
            "UTF-16be" => Self::Utf16be,
            _ => Self::Utf8,
        }
    }
}

/// Converts stored text to UTF-8, or to WTF-8 where it cannot be UTF-8. An odd byte at the end is left out, as SQLite does.
pub fn decode(stored: &[u8], encoding: Encoding) -> Vec<u8> {
    let unit = |pair: [u8; 2]| if encoding == Encoding::Utf16be { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) };
    let units = stored.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    let mut text = Vec::with_capacity(stored.len());
    for letter in char::decode_utf16(units) {
        match letter {
            Ok(letter) => text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(error) => {
                let [high, low] = error.unpaired_surrogate().to_be_bytes();
                text.extend_from_slice(&[0xe0 | high >> 4, 0x80 | (high & 0x0f) << 2 | low >> 6, 0x80 | low & 0x3f]);
            }
        }
    }
    text
}

/// Converts UTF-8, WTF-8 included, to stored text. None where it is neither: such text cannot stand in a database of this encoding.
pub fn encode(text: &[u8], encoding: Encoding) -> Option<Vec<u8>> {
    let mut stored = Vec::with_capacity(text.len() * 2);
    let mut rest = text;
    while !rest.is_empty() {
        let valid = match std::str::from_utf8(rest) {
            Ok(all) => all,
            Err(error) => std::str::from_utf8(&rest[..error.valid_up_to()]).ok()?,
        };
        for unit in valid.encode_utf16() {
            stored.extend_from_slice(&bytes(unit, encoding));
        }
        rest = &rest[valid.len()..];
        if let [0xed, middle @ 0xa0..=0xbf, last @ 0x80..=0xbf, after @ ..] = rest {
            let unit = 0xd000 | u16::from(middle & 0x3f) << 6 | u16::from(last & 0x3f);
            stored.extend_from_slice(&bytes(unit, encoding));
            rest = after;
        } else if !rest.is_empty() {
            return None;
        }
    }
    Some(stored)
}

fn bytes(unit: u16, encoding: Encoding) -> [u8; 2] {
    if encoding == Encoding::Utf16be { unit.to_be_bytes() } else { unit.to_le_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ddl_of_any_bytes_comes_back() {
        for bytes in
            [&b"CREATE TABLE t(x) -- caf\xe9"[..], "grün \u{10ffe9} \u{10ffff}".as_bytes(), &[0xf4, 0x8f, 0xbf], &[0xff, 0x80, b'a', 0xc3]]
        {
            assert_eq!(ddl_bytes(&ddl_text(bytes)), bytes);
        }
        assert_eq!(ddl_text("plain grün 😀".as_bytes()), "plain grün 😀");
    }

    #[test]
    fn every_sequence_of_units_comes_back() {
        let odd: [&[u16]; 7] =
            [&[0x61, 0xd800], &[0xdc00, 0x61], &[0xd800, 0x41], &[0xd83d, 0xde00], &[0xfffe, 0xffff, 0xfeff], &[0, 0x61, 0], &[]];
        for units in odd {
            for encoding in [Encoding::Utf16le, Encoding::Utf16be] {
                let stored: Vec<u8> = units.iter().flat_map(|unit| bytes(*unit, encoding)).collect();
                assert_eq!(encode(&decode(&stored, encoding), encoding), Some(stored), "{units:x?}");
            }
        }
        assert_eq!(decode(&[0x3d, 0xd8, 0x00, 0xde], Encoding::Utf16le), "\u{1f600}".as_bytes());
        assert_eq!(decode(&[0xd8, 0x00, 0x00, 0x41], Encoding::Utf16be), [0xed, 0xa0, 0x80, b'A']);
        assert_eq!(encode(&[0xff], Encoding::Utf16le), None);
        assert_eq!(encode(&[0xed, 0xa0], Encoding::Utf16le), None);
    }
}
