//! Values as the server writes them in `COPY`'s text format, and as cells.
//!
//! Booleans, integers of up to 64 bits, reals and `bytea` are native cells; every other type is the server's own text, which is lossless under the
//! session's settings (`link.rs`). A text whose bytes are no UTF-8, of a database whose encoding is `SQL_ASCII`, is kept as it is.

use memchr::{memchr, memchr2};

use crate::rows::ColumnWriter;
use crate::value::Value;

/// How a column's values become cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// `bool`.
    Boolean,
    /// `int2`, `int4`, `int8`.
    Integer,
    /// `float4`, `float8`.
    Real,
    /// `bytea`.
    Bytes,
    /// Everything else.
    Text,
}

impl Codec {
    /// Chooses by the name of the type in the catalogue, that of the base type for a domain; empty for a type that is not the server's own.
    pub fn of(base: &str) -> Self {
        match base {
            "bool" => Self::Boolean,
            "int2" | "int4" | "int8" => Self::Integer,
            "float4" | "float8" => Self::Real,
            "bytea" => Self::Bytes,
            _ => Self::Text,
        }
    }

    /// Appends a field of a line of `COPY`, escapes and all.
    ///
    /// # Errors
    /// What was found that the server never writes for this type.
    pub fn read(self, field: Field<'_>, scratch: &mut Vec<u8>, writer: &mut ColumnWriter) -> Result<(), String> {
        let Field { bytes: field, is_plain } = field;
        let unexpected = || format!("`{}` is no {self:?}", String::from_utf8_lossy(field.get(..60).unwrap_or(field)));
        if !is_plain && field == b"\\N" {
            writer.push_null();
            return Ok(());
        }
        match self {
            Self::Boolean => match field {
                b"t" => writer.push_boolean(true),
                b"f" => writer.push_boolean(false),
                _ => return Err(unexpected()),
            },
            Self::Integer => {
                let digits = field.strip_prefix(b"-").unwrap_or(field);
                if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
                    return Err(unexpected());
                }
                writer.push_digits(field);
            }
            Self::Real => {
                let real = match field {
                    b"NaN" => f64::NAN,
                    b"Infinity" => f64::INFINITY,
                    b"-Infinity" => f64::NEG_INFINITY,
                    digits => std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or_else(unexpected)?,
                };
                writer.push_real(real);
            }
            Self::Bytes => {
                // The backslash of `\x` is doubled.
                let digits = field.strip_prefix(b"\\\\x").ok_or_else(unexpected)?;
                scratch.clear();
                scratch.reserve(digits.len() / 2);
                let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                for pair in digits.chunks(2) {
                    let (Some(high), Some(low)) = (pair.first().copied().and_then(nibble), pair.get(1).copied().and_then(nibble)) else {
                        return Err(unexpected());
                    };
                    scratch.push(high << 4 | low);
                }
                writer.push_blob(scratch);
            }
            Self::Text if is_plain => writer.push_plain(field),
            Self::Text => match memchr(b'\\', field) {
                None => writer.push_text(field),
                Some(_) => {
                    unescape(field, scratch);
                    writer.push_text(scratch);
                }
            },
        }
        Ok(())
    }
}

/// Undoes the escapes of `COPY`'s text format.
fn unescape(field: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut rest = field;
    while let Some(at) = memchr(b'\\', rest) {
        let (before, after) = rest.split_at(at);
        out.extend_from_slice(before);
        let Some(&escape) = after.get(1) else {
            rest = &[];
            break;
        };
        out.push(match escape {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            other => other,
        });
        rest = after.get(2..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// A field of a line of `COPY`, escapes and all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    bytes: &'a [u8],
    /// Whether all bytes are printable ASCII, none of them a quote or a backslash: such a text stands in JSON as it is.
    is_plain: bool,
}

/// The fields of a line.
struct Fields<'a> {
    line: &'a [u8],
    /// Where the next field begins; none after the last one.
    start: Option<usize>,
    /// The place of the eight bytes that were looked at last, and which of them are of interest.
    word: usize,
    hits: u64,
    /// The place of the next eight bytes.
    next: usize,
}

/// Splits a line of `COPY` into its fields.
pub fn fields(line: &[u8]) -> impl Iterator<Item = Field<'_>> {
    Fields { line, start: Some(0), word: 0, hits: 0, next: 0 }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let start = self.start?;
        let mut is_plain = true;
        let end = loop {
            if self.hits == 0 {
                if self.next >= self.line.len() {
                    break None;
                }
                (self.word, self.next) = (self.next, self.next + 8);
                self.hits = special_bytes(eight_bytes(self.line.get(self.word..).unwrap_or_default()));
                continue;
            }
            let at = self.word + self.hits.trailing_zeros() as usize / 8;
            if self.line.get(at) == Some(&b'\t') {
                self.hits &= self.hits - 1;
                break Some(at);
            }
            // The rest of such a field is passed at once.
            is_plain = false;
            let end = memchr(b'\t', self.line.get(at..).unwrap_or_default()).map(|length| at + length);
            (self.hits, self.next) = (0, end.map_or(self.line.len(), |end| end + 1));
            break end;
        };
        self.start = end.map(|end| end + 1);
        let bytes = self.line.get(start..end.unwrap_or(self.line.len()))?;
        Some(Field { bytes, is_plain })
    }
}

/// Reads the first eight bytes; spaces where there are fewer.
fn eight_bytes(bytes: &[u8]) -> u64 {
    let eight = bytes.first_chunk::<8>().copied().unwrap_or_else(|| {
        let mut padded = [b' '; 8];
        padded.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        padded
    });
    u64::from_le_bytes(eight)
}

/// Sets the high bit of each byte that is a control character, a quote, a backslash, or not ASCII. Exact for each byte: with the high bits
/// taken out first, no sum reaches the next byte (Hacker's Delight, 6-1).
fn special_bytes(word: u64) -> u64 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let low_bits = word & !HIGH;
    let is_printable = low_bits + LOW * 0x60;
    let differs = |byte: u8| ((word ^ (LOW * u64::from(byte))) & !HIGH) + LOW * 0x7f;
    word & HIGH | !(is_printable & differs(b'"') & differs(b'\\')) & HIGH
}

/// Appends a cell as a field of `COPY`'s text format.
pub fn write(out: &mut Vec<u8>, value: &Value) {
    match text_of(value) {
        None => out.extend_from_slice(b"\\N"),
        Some(text) => escape(out, &text),
    }
}

fn escape(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    loop {
        let special = [memchr2(b'\\', b'\n', rest), memchr2(b'\t', b'\r', rest)].into_iter().flatten().min();
        let Some(at) = special else { break };
        let (before, after) = rest.split_at(at);
        out.extend_from_slice(before);
        out.push(b'\\');
        out.push(match after.first() {
            Some(b'\n') => b'n',
            Some(b'\t') => b't',
            Some(b'\r') => b'r',
            _ => b'\\',
        });
        rest = after.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// Returns a cell as the text that the server reads; none for NULL.
pub fn text_of(value: &Value) -> Option<Vec<u8>> {
    Some(match value {
        Value::Null => return None,
        Value::Boolean(true) => b"t".to_vec(),
        Value::Boolean(false) => b"f".to_vec(),
        Value::Integer(integer) => integer.to_string().into_bytes(),
        Value::Real(real) if real.is_nan() => b"NaN".to_vec(),
        Value::Real(real) if real.is_infinite() => {
            if *real > 0.0 {
                b"Infinity".to_vec()
            } else {
                b"-Infinity".to_vec()
            }
        }
        Value::Real(real) => {
            let mut out = Vec::new();
            crate::value::encode_real(&mut out, *real);
            out
        }
        Value::Text(bytes) => bytes.clone(),
        Value::Blob(bytes) => {
            let mut out = Vec::with_capacity(bytes.len() * 2 + 2);
            out.extend_from_slice(b"\\x");
            for byte in bytes {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            out
        }
        // Large values come resolved.
        Value::Large { .. } => Vec::new(),
    })
}

/// Returns the canonical JSON of a short value as the server writes it; none where that takes more than its text.
pub fn cell(codec: Codec, text: &str) -> Option<Vec<u8>> {
    match codec {
        Codec::Integer => Some(text.as_bytes().to_vec()),
        Codec::Text if text.len() <= crate::value::LARGE_BYTES => {
            let mut json = Vec::new();
            crate::value::encode_text(&mut json, text.as_bytes());
            Some(json)
        }
        _ => None,
    }
}

/// Returns the canonical JSON of a column's default where it is a plain constant, else `null`.
pub fn constant_default(base: &str, default: Option<&str>) -> String {
    let none = "null".to_owned();
    let Some(default) = default else { return none };
    let codec = Codec::of(base);
    // `'x'::character varying`, `'-1'::integer`, `0`, `true`
    let quoted = default.strip_prefix('\'').and_then(|rest| {
        let end = rest.find('\'')?;
        let tail = rest.get(end + 1..)?;
        // A cast to a type and nothing after it: no operator, no second quote.
        let is_plain = tail.strip_prefix("::").is_some_and(|cast| cast.chars().all(|c| c.is_alphanumeric() || c == ' ' || c == '_'));
        (is_plain && !rest.get(..end)?.contains('\\')).then(|| rest.get(..end).unwrap_or_default())
    });
    match (codec, quoted) {
        (Codec::Boolean, None) if default == "true" || default == "false" => default.to_owned(),
        (Codec::Integer, text) => {
            let digits = text.unwrap_or(default);
            digits.parse::<i64>().map_or(none, |integer| integer.to_string())
        }
        (Codec::Text, Some(text)) if matches!(base, "text" | "varchar") => Value::Text(text.as_bytes().to_vec()).to_json(),
        _ => none,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{ColumnShape, CutRule, GroupBuilder, TableShape};

    fn cell(codec: Codec, field: &str) -> Result<String, String> {
        let column = ColumnShape::plain("a", "null");
        let shape = TableShape { name: "t".into(), columns: vec![column], identity: vec![], locator: vec![] };
        let mut builder = GroupBuilder::new(&shape, CutRule { rows_target: 10 });
        codec.read(fields(field.as_bytes()).next().expect("a field"), &mut Vec::new(), &mut builder.columns()[0])?;
        assert!(builder.end_row().is_none());
        let group = builder.finish().expect("a row");
        Ok(String::from_utf8(group.columns[0].json.clone()).expect("JSON"))
    }

    #[test]
    fn fields_become_cells() {
        for (codec, field, expected) in [
            (Codec::Boolean, "t", "[true]"),
            (Codec::Integer, "-9223372036854775808", "[-9223372036854775808]"),
            (Codec::Real, "1e+20", "[1e20]"),
            (Codec::Real, "-0", "[-0.0]"),
            (Codec::Real, "NaN", "[{\"real\":\"nan\"}]"),
            (Codec::Bytes, "\\\\x00ff", "[{\"blob\":\"AP8=\"}]"),
            (Codec::Text, "a\\tb\\\\N\\n", "[\"a\\tb\\\\N\\n\"]"),
            (Codec::Text, "", "[\"\"]"),
            (Codec::Text, "\\N", "[null]"),
        ] {
            assert_eq!(cell(codec, field).as_deref(), Ok(expected), "{field}");
        }
        assert!(cell(Codec::Integer, "1.5").is_err() && cell(Codec::Boolean, "true").is_err() && cell(Codec::Bytes, "x").is_err());
    }

    #[test]
    fn a_line_is_split_at_each_tab_and_plain_fields_are_known() {
        let is_plain = |field: &[u8]| field.iter().all(|byte| (0x20..0x80).contains(byte) && !matches!(byte, b'"' | b'\\'));
        let mut state = 7_u64;
        for _ in 0..20_000 {
            let mut draw = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % below
            };
            let line: Vec<u8> = (0..draw(40)).map(|_| b"abcdefgh0123 ~\x7f!#\t\t\t\"\\\x1f\x80\xff\xdc\xa2"[draw(27) as usize]).collect();
            let expected: Vec<Field<'_>> =
                line.split(|byte| *byte == b'\t').map(|bytes| Field { bytes, is_plain: is_plain(bytes) }).collect();
            assert_eq!(fields(&line).collect::<Vec<_>>(), expected, "{line:?}");
        }
    }

    #[test]
    fn cells_become_fields() {
        let field = |value: &Value| {
            let mut out = Vec::new();
            write(&mut out, value);
            String::from_utf8(out).expect("text")
        };
        assert_eq!(field(&Value::Null), "\\N");
        assert_eq!(field(&Value::Text(b"\\N\ta\nb\r".to_vec())), "\\\\N\\ta\\nb\\r");
        assert_eq!(field(&Value::Blob(vec![0, 255])), "\\\\x00ff");
        assert_eq!(field(&Value::Real(f64::NEG_INFINITY)), "-Infinity");
        assert_eq!(field(&Value::Boolean(false)), "f");
    }

    #[test]
    fn only_plain_constants_are_defaults() {
        for (base, default, expected) in [
            ("varchar", "'new'::character varying", "\"new\""),
            ("int4", "0", "0"),
            ("int4", "'-1'::integer", "-1"),
            ("bool", "true", "true"),
            ("text", "('a'::text || 'b'::text)", "null"),
            ("text", "'it''s'::text", "null"),
            ("timestamptz", "now()", "null"),
            ("int8", "nextval('s'::regclass)", "null"),
            ("numeric", "0", "null"),
        ] {
            assert_eq!(constant_default(base, Some(default)), expected, "{default}");
        }
    }
}
