//! Marks: 64 bits that stand for what a cell says, so that millions of values can be compared in memory; and what kind of value it is.
//!
//! `5`, `5.0` and `"5"` have one mark: a table that rows were moved to may have other types. NULL and the empty text have the mark
//! [`NOTHING`]: neither holds anything that could be lost. The hash is XXH3.

use xxhash_rust::xxh3::xxh3_64;

/// The mark of NULL and of the empty text.
pub(super) const NOTHING: u64 = 0;

/// Returns what a cell says, whatever its type.
pub(super) fn meaning(cell: &str) -> &str {
    match cell.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner,
        None => cell.strip_suffix(".0").unwrap_or(cell),
    }
}

/// Returns a cell's mark.
pub(super) fn mark(cell: &str) -> u64 {
    if matches!(cell, "null" | "\"\"") { NOTHING } else { xxh3_64(meaning(cell).as_bytes()).max(1) }
}

/// Tells whether a cell holds what does not come about by chance: a text, a fraction, a large number; and not a count, a flag or a key.
pub(super) fn is_telling(cell: &str) -> bool {
    let said = meaning(cell);
    let digits = said.strip_prefix('-').unwrap_or(said);
    let is_integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_integer { digits.len() > 5 } else { !matches!(cell, "null" | "\"\"" | "true" | "false") }
}

/// Tells whether a cell looks like a time: a text that begins with a date, or a number that counts the seconds since 1970, or parts of a second, to some
/// time in this century.
pub(super) fn is_time(cell: &str) -> bool {
    let is_date = |text: &str| {
        let shape = |(at, byte): (usize, u8)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() };
        text.len() >= 10 && text.bytes().take(10).enumerate().all(shape)
    };
    if cell.starts_with('"') {
        return is_date(meaning(cell));
    }
    let is_epoch = |seconds: f64| (946_684_800.0..4_102_444_800.0).contains(&seconds);
    cell.parse::<f64>().is_ok_and(|number| [1.0, 1e3, 1e6, 1e9].iter().any(|unit| is_epoch(number / unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_the_same_has_one_mark() {
        assert!(mark("5") == mark("5.0") && mark("5") == mark("\"5\"") && mark("\"\"") == mark("null"));
        assert!(mark("\"05\"") != mark("5") && mark("0") != NOTHING && mark("1.5") != mark("15"));
    }

    #[test]
    fn times_are_known() {
        for cell in ["\"2026-01-02\"", "\"2026-01-02 03:04:05\"", "1767323045", "1767323045123", "1767323045.5"] {
            assert!(is_time(cell), "{cell}");
        }
        for cell in ["\"hello\"", "\"20260102\"", "5", "null", "{\"blob\":\"AQID\"}", "\"\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\""] {
            assert!(!is_time(cell), "{cell}");
        }
    }

    #[test]
    fn counts_and_flags_tell_nothing() {
        for (cell, expected) in [("1", false), ("\"12\"", false), ("true", false), ("1.5", true), ("\"ann\"", true), ("1767323045", true)] {
            assert_eq!(is_telling(cell), expected, "{cell}");
        }
    }
}
