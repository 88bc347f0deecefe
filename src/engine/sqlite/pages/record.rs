//! Records: how a row's values stand in bytes (<https://www.sqlite.org/fileformat2.html>, section 2.1), and which column of a shape each belongs to.

use super::super::text::{self, Encoding};
use super::Odd;
use super::memory::TableMemory;
use crate::rows::ColumnWriter;

/// What becomes of the fields of a table's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// The column of the hidden row number.
    pub row_number: Option<usize>,
    /// The fields, in the order of the record.
    pub fields: Vec<Field>,
}

/// The column of a field that is passed over.
pub(super) const SKIPPED: usize = usize::MAX;

/// One field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    /// The column of the shape, or [`SKIPPED`].
    pub column: usize,
    /// Whether the column is the row number: its field is empty.
    pub is_row_number: bool,
    /// Whether an integer stands for a real (affinity REAL).
    pub is_real: bool,
    /// The canonical JSON of what a row has that was written before the column was added; none where that is not known.
    pub missing: Option<String>,
}

/// Reads a variable-length integer; returns it with its length.
#[inline(always)]
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let &first = bytes.first()?;
    if first < 0x80 { Some((u64::from(first), 1)) } else { long_varint(bytes, first) }
}

/// Reads a variable-length integer of more than one byte.
fn long_varint(bytes: &[u8], first: u8) -> Option<(u64, usize)> {
    let mut value = u64::from(first & 0x7f);
    for at in 1..8 {
        let &byte = bytes.get(at)?;
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((value, at + 1));
        }
    }
    Some((value << 8 | u64::from(*bytes.get(8)?), 9))
}

/// Reads a signed integer of up to eight bytes.
#[inline]
fn integer(bytes: &[u8]) -> i64 {
    // Narrow ones first: they are the most.
    match *bytes {
        [a] => i64::from(a as i8),
        [a, b] => i64::from(i16::from_be_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_be_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => i64::from_be_bytes([a, b, c, d, e, f, g, h]),
        _ => bytes
            .iter()
            .enumerate()
            .fold(0, |value, (at, &byte)| if at == 0 { i64::from(byte as i8) } else { value << 8 | i64::from(byte) }),
    }
}

impl Layout {
    /// Says what the fields mean, one line each.
    pub fn signature(&self) -> String {
        let row_number = self.row_number.map_or("-".to_owned(), |column| column.to_string());
        let line = |field: &Field| {
            let missing = field.missing.as_deref().unwrap_or("?");
            format!("{} {} {} {missing}\n", field.column, u8::from(field.is_row_number), u8::from(field.is_real))
        };
        std::iter::once(format!("{row_number}\n")).chain(self.fields.iter().map(line)).collect()
    }

    /// Tells whether a leaf that is what it was when the memory was made still means what it meant, for all columns that there were then; those
    /// that were added since have their default in it.
    pub fn extends(&self, memory: &TableMemory) -> bool {
        let signature = self.signature();
        match signature.strip_prefix(memory.signature.as_str()) {
            None => false,
            Some("") => true,
            Some(more) => !memory.has_surplus && memory.has_row_numbers && more.lines().all(|line| !line.ends_with('?')),
        }
    }

    /// Appends a row to the columns; tells whether its record has more fields than the table has columns.
    pub fn push(&self, row_number: i64, record: &[u8], encoding: Encoding, writers: &mut [ColumnWriter]) -> Result<bool, Odd> {
        let short = || Odd::new("a record ends early");
        let (header_bytes, mut at) = varint(record).ok_or_else(short)?;
        let header_bytes = usize::try_from(header_bytes).ok().filter(|bytes| *bytes <= record.len() && *bytes >= at).ok_or_else(short)?;
        let (header, mut body) = record.split_at(header_bytes);
        if let Some(column) = self.row_number {
            writer(writers, column)?.push_integer(row_number);
        }
        for field in &self.fields {
            if at >= header.len() {
                if field.column == SKIPPED {
                    continue;
                }
                let writer = writer(writers, field.column)?;
                let missing = field.missing.as_deref().ok_or_else(|| Odd::new("a value is missing that was computed"))?;
                if field.is_row_number {
                    writer.push_integer(row_number);
                } else {
                    writer.push_cell(missing.as_bytes(), &mut std::iter::empty());
                }
                continue;
            }
            let (kind, length) = varint(&header[at..]).ok_or_else(short)?;
            at += length;
            let length = match kind {
                0 | 8 | 9 => 0,
                1..=4 => kind as usize,
                5 => 6,
                6 | 7 => 8,
                10 | 11 => return Err(Odd::new("a value is of a kind that is reserved")),
                _ => usize::try_from((kind - 12) / 2).map_err(|_| short())?,
            };
            if length > body.len() {
                return Err(short());
            }
            let (value, rest) = body.split_at(length);
            body = rest;
            if field.column == SKIPPED {
                continue;
            }
            let writer = writer(writers, field.column)?;
            if field.is_row_number {
                writer.push_integer(row_number);
                continue;
            }
            match kind {
                0 => writer.push_null(),
                1..=6 if field.is_real => writer.push_real(integer(value) as f64),
                1..=6 => writer.push_integer(integer(value)),
                7 => {
                    let real = f64::from_be_bytes(value.try_into().map_err(|_| short())?);
                    // SQLite takes what is no number for NULL.
                    if real.is_nan() { writer.push_null() } else { writer.push_real(real) }
                }
                8 | 9 if field.is_real => writer.push_real((kind - 8) as f64),
                8 | 9 => writer.push_integer((kind - 8) as i64),
                _ if kind % 2 == 0 => writer.push_blob(value),
                _ if encoding == Encoding::Utf8 => writer.push_text(value),
                _ => writer.push_text(&text::decode(value, encoding)),
            }
        }
        Ok(at < header.len())
    }
}

#[inline]
fn writer(writers: &mut [ColumnWriter], column: usize) -> Result<&mut ColumnWriter, Odd> {
    writers.get_mut(column).ok_or_else(|| Odd::new("a column is not there"))
}

/// Tells whether a declared type has the affinity REAL (<https://www.sqlite.org/datatype3.html>, section 3.1; in the order of `sqlite3AffinityType`).
pub(super) fn is_real(declared_type: &str) -> bool {
    let lower = declared_type.to_ascii_lowercase();
    let bytes = lower.as_bytes();
    let mut is_real = false;
    let mut is_numeric = true;
    for end in 1..=bytes.len() {
        let ends = |word: &str| bytes[..end].ends_with(word.as_bytes());
        let is_text = ends("char") || ends("clob") || ends("text");
        if is_text || ends("blob") && (is_real || is_numeric) {
            (is_real, is_numeric) = (false, false);
        } else if (ends("real") || ends("floa") || ends("doub")) && is_numeric {
            (is_real, is_numeric) = (true, false);
        } else if ends("int") {
            return false;
        }
    }
    is_real
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_is_what_sqlite_makes_of_a_type() {
        let connection = rusqlite::Connection::open_in_memory().expect("a database");
        for declared in [
            "",
            "REAL",
            "real",
            "DOUBLE",
            "DOUBLE PRECISION",
            "FLOAT",
            "FLOATING POINT",
            "CHARINT",
            "REAL TEXT",
            "TEXT REAL",
            "BLOB REAL",
            "REAL BLOB",
            "NUMERIC",
            "DECIMAL(10,5)",
            "DATE",
            "POINT",
            "realint",
            "xreal",
            "REALCHAR",
            "ANY",
            "BOOLEAN",
            "floaty mcfloat",
        ] {
            connection
                .execute_batch(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t(a {declared}); INSERT INTO t VALUES(1)"))
                .expect("made");
            let found: String = connection.query_row("SELECT typeof(a) FROM t", [], |row| row.get(0)).expect("read");
            assert_eq!(is_real(declared), found == "real", "{declared}");
        }
    }

    #[test]
    fn variable_length_integers_have_up_to_nine_bytes() {
        assert_eq!(varint(&[0x7f]), Some((127, 1)));
        assert_eq!(varint(&[0x81, 0x00]), Some((128, 2)));
        assert_eq!(varint(&[0xff; 9]), Some((u64::MAX, 9)));
        assert_eq!(varint(&[0x81; 8]), None);
        assert_eq!(varint(&[]), None);
    }
}
