//! One cell: its kinds, its canonical JSON, its total order.
//!
//! ## Canonical JSON of a cell
//! Two cells hold the same value if and only if their canonical JSON is the same bytes. That is what makes object ids
//! comparable, so each rule here is part of the store's format:
//! - NULL is `null`; booleans (engines that have them) are `true` and `false`.
//! - Integers are JSON integers, all 64 bits of them, no leading zeros, no `+`, no exponent.
//! - Reals always hold a `.` or an `e`: the shortest digits that read back as the same 64 bits, laid out as the crate `ryu`
//!   does (plain up to 16 integer digits and down to 1e-5, scientific beyond), `-0.0` kept. Infinities are
//!   `{"real":"inf"}` and `{"real":"-inf"}`, NaN (no engine but PostgreSQL stores one) is `{"real":"nan"}`.
//! - Text is a JSON string that escapes only `"`, `\` and the control characters below U+0020 (`\b \t \n \f \r`, else `\u00xx`
//!   with lower-case digits); everything else stands as itself in UTF-8. Text whose bytes are no UTF-8 is `{"text":"<base64>"}`.
//! - Blobs are `{"blob":"<base64>"}`; base64 is the standard alphabet with padding (RFC 4648, section 4).
//! - A value of more than [`LARGE_BYTES`] bytes is an object of its own, whose bytes are the value's canonical JSON; the cell is
//!   `{"ref":"<id>","bytes":n}`, n being the length of the text or blob itself.
//!
//! No rule produces insignificant white space.

mod scan;

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

pub use scan::{Difference, cells_at, differences};

use crate::id::ObjectId;

/// The longest text or blob, in bytes, that stands in a column chunk itself.
pub const LARGE_BYTES: usize = 64 * 1024;

/// A cell's value.
#[derive(Debug, Clone)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// A boolean, of an engine that has them.
    Boolean(bool),
    /// A 64-bit integer.
    Integer(i64),
    /// A 64-bit float.
    Real(f64),
    /// Text; the bytes are UTF-8 unless the database holds others.
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
    /// A text or blob that is an object of its own.
    Large {
        /// The object that holds the value's canonical JSON.
        id: ObjectId,
        /// The length of the text or blob.
        bytes: u64,
    },
}

/// The bytes are not the canonical JSON of a cell, or of an array of cells.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not canonical JSON of {expected}: `{found}`")]
pub struct ValueError {
    expected: &'static str,
    found: String,
}

impl ValueError {
    fn new(expected: &'static str, found: &[u8]) -> Self {
        let end = found.len().min(60);
        Self { expected, found: String::from_utf8_lossy(&found[..end]).into_owned() }
    }
}

impl Value {
    /// Appends the canonical JSON.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => encode_null(out),
            Self::Boolean(true) => out.extend_from_slice(b"true"),
            Self::Boolean(false) => out.extend_from_slice(b"false"),
            Self::Integer(value) => encode_integer(out, *value),
            Self::Real(value) => encode_real(out, *value),
            Self::Text(bytes) => encode_text(out, bytes),
            Self::Blob(bytes) => encode_blob(out, bytes),
            Self::Large { id, bytes } => encode_large(out, id, *bytes),
        }
    }

    /// Returns the canonical JSON as text.
    pub fn to_json(&self) -> String {
        let mut out = Vec::new();
        self.encode(&mut out);
        String::from_utf8(out).expect("canonical JSON is UTF-8")
    }

    /// Reads a cell from its canonical JSON.
    ///
    /// # Errors
    /// [`ValueError`] on anything else; nothing is guessed.
    pub fn decode(json: &[u8]) -> Result<Self, ValueError> {
        let error = || ValueError::new("a cell", json);
        let text = std::str::from_utf8(json).map_err(|_| error())?;
        match json.first() {
            Some(b'n') if text == "null" => Ok(Self::Null),
            Some(b't') if text == "true" => Ok(Self::Boolean(true)),
            Some(b'f') if text == "false" => Ok(Self::Boolean(false)),
            Some(b'"') => {
                if json.len() >= 2 && memchr::memchr(b'\\', json).is_none() {
                    let inner = &json[1..json.len() - 1];
                    if json[json.len() - 1] == b'"' && memchr::memchr(b'"', inner).is_none() {
                        return Ok(Self::Text(inner.to_vec()));
                    }
                }
                let inner: String = serde_json::from_str(text).map_err(|_| error())?;
                Ok(Self::Text(inner.into_bytes()))
            }
            Some(b'{') => Self::decode_tagged(text).ok_or_else(error),
            Some(b'-' | b'0'..=b'9') => {
                if memchr::memchr3(b'.', b'e', b'E', json).is_some() {
                    text.parse().map(Self::Real).map_err(|_| error())
                } else {
                    text.parse().map(Self::Integer).map_err(|_| error())
                }
            }
            _ => Err(error()),
        }
    }

    fn decode_tagged(text: &str) -> Option<Self> {
        let map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
        let string = |key: &str| map.get(key).and_then(serde_json::Value::as_str);
        if let Some(encoded) = string("blob") {
            return BASE64.decode(encoded).ok().map(Self::Blob);
        }
        if let Some(encoded) = string("text") {
            return BASE64.decode(encoded).ok().map(Self::Text);
        }
        match string("real") {
            Some("inf") => return Some(Self::Real(f64::INFINITY)),
            Some("-inf") => return Some(Self::Real(f64::NEG_INFINITY)),
            Some("nan") => return Some(Self::Real(f64::NAN)),
            _ => {}
        }
        let id = string("ref")?.parse().ok()?;
        Some(Self::Large { id, bytes: map.get("bytes")?.as_u64()? })
    }

    /// Tells whether this is SQL NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Boolean(_) => 1,
            Self::Integer(_) | Self::Real(_) => 2,
            Self::Text(_) => 3,
            Self::Blob(_) => 4,
            Self::Large { .. } => 5,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    /// Orders as SQLite does: NULL, then numbers by size, then text and blobs by bytes. An integer stands before the real of
    /// the same size, so that 1 and 1.0 are neighbours but not equal.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Real(a), Self::Real(b)) => a.total_cmp(b),
            (Self::Integer(a), Self::Real(b)) => compare_integer_real(*a, *b),
            (Self::Real(a), Self::Integer(b)) => compare_integer_real(*b, *a).reverse(),
            (Self::Text(a), Self::Text(b)) | (Self::Blob(a), Self::Blob(b)) => a.cmp(b),
            (Self::Large { id: a, .. }, Self::Large { id: b, .. }) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

fn compare_integer_real(integer: i64, real: f64) -> Ordering {
    // 2^63 as a float: reals from there on exceed every i64.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if real.is_nan() || real >= LIMIT {
        return Ordering::Less;
    }
    if real < -LIMIT {
        return Ordering::Greater;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked above")]
    let whole = real.trunc() as i64;
    integer.cmp(&whole).then_with(|| {
        let rest = real - real.trunc();
        if rest < 0.0 { Ordering::Greater } else { Ordering::Less }
    })
}

/// Appends `null`.
pub fn encode_null(out: &mut Vec<u8>) {
    out.extend_from_slice(b"null");
}

/// Appends an integer.
pub fn encode_integer(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    encode_unsigned(out, value.unsigned_abs());
}

/// The numbers from 00 to 99, one after the other.
const PAIRS: [u8; 200] = {
    let mut pairs = [b'0'; 200];
    let mut number = 0;
    while number < 100 {
        pairs[number * 2] = b'0' + (number / 10) as u8;
        pairs[number * 2 + 1] = b'0' + (number % 10) as u8;
        number += 1;
    }
    pairs
};

/// Appends the digits of a number.
#[inline]
fn encode_unsigned(out: &mut Vec<u8>, mut rest: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    while rest >= 100 {
        let pair = (rest % 100) as usize * 2;
        rest /= 100;
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if rest >= 10 {
        let pair = rest as usize * 2;
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    } else {
        at -= 1;
        digits[at] = b'0' + rest as u8;
    }
    append_last(out, &digits, at);
}

/// Appends the last of some bytes, from one on: as many as mostly are there are copied at once, since a copy of a known length is no call.
#[inline]
fn append_last(out: &mut Vec<u8>, bytes: &[u8; 20], from: usize) {
    if from >= 12 {
        let count = bytes.len() - from;
        let mut short = [0_u8; 8];
        for (to, byte) in short.iter_mut().zip(&bytes[from..]) {
            *to = *byte;
        }
        out.extend_from_slice(&short);
        out.truncate(out.len() - (short.len() - count));
    } else {
        out.extend_from_slice(&bytes[from..]);
    }
}

/// Appends a real.
pub fn encode_real(out: &mut Vec<u8>, value: f64) {
    if encode_short_real(out, value) {
        return;
    }
    if value.is_finite() {
        let mut buffer = ryu::Buffer::new();
        out.extend_from_slice(buffer.format_finite(value).as_bytes());
    } else if value.is_nan() {
        out.extend_from_slice(b"{\"real\":\"nan\"}");
    } else if value > 0.0 {
        out.extend_from_slice(b"{\"real\":\"inf\"}");
    } else {
        out.extend_from_slice(b"{\"real\":\"-inf\"}");
    }
}

/// Appends a real that has at most two digits after the point, and few before it; tells whether it is one.
///
/// Two decimals of at most 15 digits never stand for the same real, so the one that was found here is the shortest too.
#[inline]
fn encode_short_real(out: &mut Vec<u8>, value: f64) -> bool {
    const LIMIT: f64 = 1e13;
    let hundredths = value * 100.0;
    if hundredths.abs() >= LIMIT || hundredths.abs() < 1.0 || hundredths.is_nan() {
        return false;
    }
    // Whether it is rounded well shows below; `round` would be a call.
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked above")]
    let whole = (hundredths + 0.5_f64.copysign(hundredths)) as i64;
    if whole as f64 / 100.0 != value {
        return false;
    }
    if whole < 0 {
        out.push(b'-');
    }
    let mut digits = [0_u8; 20];
    let size = whole.unsigned_abs();
    let mut at = 17;
    let pair = (size % 100) as usize * 2;
    digits[at] = b'.';
    digits[18..20].copy_from_slice(&PAIRS[pair..pair + 2]);
    let mut rest = size / 100;
    while rest >= 100 {
        let pair = (rest % 100) as usize * 2;
        rest /= 100;
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    let pair = rest as usize * 2;
    at -= 2;
    digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    at += usize::from(rest < 10);
    append_last(out, &digits, at);
    if digits[19] == b'0' {
        out.pop();
    }
    true
}

/// Appends text, whatever its length and its bytes.
pub fn encode_text(out: &mut Vec<u8>, bytes: &[u8]) {
    if is_plain(bytes) {
        out.reserve(bytes.len() + 2);
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    if std::str::from_utf8(bytes).is_err() {
        out.extend_from_slice(b"{\"text\":\"");
        encode_base64(out, bytes);
        out.extend_from_slice(b"\"}");
        return;
    }
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut start = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[usize::from(byte)];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&bytes[start..at]);
        start = at + 1;
        out.push(b'\\');
        out.push(escape);
        if escape == b'u' {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(&[b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    out.extend_from_slice(&bytes[start..]);
    out.push(b'"');
}

/// Tells whether all bytes are ASCII and none is to be escaped, eight at a time: a byte has its high bit set in `hit` if it is below 0x20, `"`, `\`, or above 0x7f.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let hit = |word: u64| {
        // The usual test for a zero byte (Hacker's Delight, 6-1) after an exclusive or; it may only err after a true hit.
        let equals = |byte: u8| {
            let other = word ^ (LOW * u64::from(byte));
            other.wrapping_sub(LOW) & !other
        };
        let below = word.wrapping_sub(LOW * 0x20) & !word;
        (below | equals(b'"') | equals(b'\\') | word) & HIGH
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let any = words.iter().fold(0, |seen, word| seen | hit(u64::from_le_bytes(*word)));
    // The last eight again, where there are so many.
    let last = match bytes.last_chunk::<8>() {
        Some(last) => hit(u64::from_le_bytes(*last)),
        None => u64::from(rest.iter().any(|byte| ESCAPES[usize::from(*byte)] != 0 || *byte >= 0x80)),
    };
    any | last == 0
}

/// For each byte the letter that follows the backslash, 0 where the byte stands as itself.
const ESCAPES: [u8; 256] = {
    let mut table = [0_u8; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Appends a blob, whatever its length.
pub fn encode_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"{\"blob\":\"");
    encode_base64(out, bytes);
    out.extend_from_slice(b"\"}");
}

/// Appends the cell that stands for a large value.
pub fn encode_large(out: &mut Vec<u8>, id: &ObjectId, bytes: u64) {
    out.extend_from_slice(format!("{{\"ref\":\"{id}\",\"bytes\":{bytes}}}").as_bytes());
}

fn encode_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    let length = bytes.len().div_ceil(3) * 4;
    out.resize(start + length, 0);
    let written = BASE64.encode_slice(bytes, &mut out[start..]).expect("the buffer has the encoded length");
    debug_assert_eq!(written, length);
}

/// Splits a canonical JSON array of cells into its elements, in order.
///
/// Checks only what it needs to find the borders; a cell itself is checked where it is decoded.
///
/// # Errors
/// [`ValueError`] where the bytes are no array, or a string or object does not end.
pub fn split_array(json: &[u8]) -> Result<Vec<&[u8]>, ValueError> {
    let error = || ValueError::new("an array of cells", json);
    let inner = json.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")).ok_or_else(error)?;
    let mut cells = Vec::new();
    if inner.is_empty() {
        return Ok(cells);
    }
    let mut start = 0;
    loop {
        let end = start + cell_length(&inner[start..]).ok_or_else(error)?;
        if end == start {
            return Err(error());
        }
        cells.push(&inner[start..end]);
        match inner.get(end) {
            None => return Ok(cells),
            Some(b',') => start = end + 1,
            Some(_) => return Err(error()),
        }
    }
}

fn cell_length(rest: &[u8]) -> Option<usize> {
    match rest.first()? {
        b'"' => {
            let mut at = 1;
            loop {
                at += memchr::memchr2(b'"', b'\\', rest.get(at..)?)?;
                if rest[at] == b'"' {
                    return Some(at + 1);
                }
                at += 2;
            }
        }
        // Tagged cells hold base64, hex digits and plain words only: no brace, and no quote that is escaped.
        b'{' => Some(memchr::memchr(b'}', rest)? + 1),
        _ => Some(memchr::memchr(b',', rest).unwrap_or(rest.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: Value, expected: &str) {
        assert_eq!(value.to_json(), expected);
        assert_eq!(Value::decode(expected.as_bytes()), Ok(value));
    }

    #[test]
    fn cells_have_one_spelling_that_reads_back() {
        check(Value::Null, "null");
        check(Value::Boolean(true), "true");
        check(Value::Integer(0), "0");
        check(Value::Integer(i64::MIN), "-9223372036854775808");
        check(Value::Integer(i64::MAX), "9223372036854775807");
        check(Value::Real(1.0), "1.0");
        check(Value::Real(-0.0), "-0.0");
        check(Value::Real(1e308), "1e308");
        check(Value::Real(5e-324), "5e-324");
        check(Value::Real(0.1), "0.1");
        check(Value::Real(f64::INFINITY), "{\"real\":\"inf\"}");
        check(Value::Text("a\"\\\n\u{1}é😀\0z".into()), "\"a\\\"\\\\\\n\\u0001é😀\\u0000z\"");
        check(Value::Text(vec![0xff, 0x00]), "{\"text\":\"/wA=\"}");
        check(Value::Blob(vec![]), "{\"blob\":\"\"}");
        check(Value::Blob(vec![1, 2, 3, 4]), "{\"blob\":\"AQIDBA==\"}");
        check(Value::Large { id: ObjectId::of(b""), bytes: 70000 }, &format!("{{\"ref\":\"{}\",\"bytes\":70000}}", ObjectId::of(b"")));
    }

    #[test]
    fn reals_are_spelt_as_ryu_spells_them() {
        let check = |value: f64| {
            let expected = if value.is_finite() { ryu::Buffer::new().format_finite(value).to_owned() } else { return };
            assert_eq!(Value::Real(value).to_json(), expected);
        };
        let mut state = 1_u64;
        for round in 0..200_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            check(f64::from_bits(state));
            let whole = (state >> 33) as i64 - (1 << 30);
            check(whole as f64 / 100.0);
            check((whole * 4_099) as f64 / 1_000.0);
            check((state >> (round % 60)) as f64 / 100.0);
            check(f64::from_bits((whole as f64 / 100.0).to_bits() + 1));
        }
        for value in [0.0, -0.0, 0.01, 0.1, -0.07, 0.005, 1e11, 99_999_999_999.99, 1e13, 1e15, 1e16, 123_456_789_012.34] {
            check(value);
            check(-value);
        }
    }

    #[test]
    fn text_is_escaped_as_serde_json_does() {
        let all: String = (0..0x250).filter_map(char::from_u32).collect();
        assert_eq!(Value::Text(all.clone().into_bytes()).to_json(), serde_json::to_string(&all).expect("text serialises"));
    }

    #[test]
    fn escapes_are_seen_wherever_they_stand() {
        for (byte, length) in (0..=255_u8).flat_map(|byte| [1, 5, 8, 20].map(|length| (byte, length))) {
            for at in 0..length {
                let mut bytes = vec![b'a'; length];
                bytes[at] = byte;
                assert_eq!(is_plain(&bytes), ESCAPES[usize::from(byte)] == 0 && byte < 0x80, "{byte} at {at}");
            }
        }
    }

    #[test]
    fn arrays_split_where_their_cells_end() {
        let cells = ["null", "-1", "\"a,b\\\"]\"", "{\"blob\":\"AQ==\"}", "{\"ref\":\"00\",\"bytes\":1}", "\"\\\\\"", "1.5"];
        let array = format!("[{}]", cells.join(","));
        let split = split_array(array.as_bytes()).expect("a canonical array");
        assert_eq!(split, cells.iter().map(|cell| cell.as_bytes()).collect::<Vec<_>>());
        assert_eq!(cells_at(array.as_bytes(), &[0, 3, 6]), Ok(vec![split[0], split[3], split[6]]));
        assert!(cells_at(array.as_bytes(), &[7]).is_err() && cells_at(b"[]", &[0]).is_err());
        assert_eq!(split_array(b"[]"), Ok(vec![]));
        for damaged in ["", "[", "[1", "1]", "[,]", "[1,]", "[\"a]", "[\"a\"b]", "[{\"blob\":]", "[\"\\"] {
            assert!(split_array(damaged.as_bytes()).is_err(), "{damaged}");
        }
    }

    #[test]
    fn values_are_ordered_as_sqlite_orders_them() {
        let ordered = [
            Value::Null,
            Value::Real(f64::NEG_INFINITY),
            Value::Integer(i64::MIN),
            Value::Integer(-1),
            Value::Real(-0.5),
            Value::Integer(1),
            Value::Real(1.0),
            Value::Real(1.5),
            Value::Integer(2),
            Value::Integer(i64::MAX),
            Value::Real(9.3e18),
            Value::Text("a".into()),
            Value::Blob(vec![0]),
        ];
        for (at, pair) in ordered.windows(2).enumerate() {
            assert!(pair[0] < pair[1], "{at}: {pair:?}");
        }
    }
}
