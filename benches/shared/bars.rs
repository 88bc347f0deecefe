//! The bars of a database: what each operation may cost, against what was measured of its peers in the same rounds.

use super::peers::{BACKUP, SQLDIFF};
use super::results::Results;
use super::stage::{ADDED, COPY, DIFF, DIFF_STAT, FIRST, OVERHEAD, ROLLBACK, UNCHANGED, UPDATED};
use super::table::Bar;

/// What the most memory of any operation may be.
const PEAK_MB: f64 = 200.0;

/// Returns the bars for a SQLite database.
pub fn sqlite(results: &Results) -> Vec<Bar> {
    let ratio = |name: &str, other: &str| results.ratio(name, other);
    let kilobytes = |name: &str| results.stored(name).map(|bytes| bytes / 1e3);
    let size = results.stored(FIRST).zip(results.stored(BACKUP)).map(|(store, copy)| store / copy);
    let at_most = Bar::at_most;
    vec![
        at_most("first snapshot, against `sqlite3 .backup`", 1.5, Some(1.0), ratio(FIRST, BACKUP), ""),
        at_most("its size", 0.22, Some(0.17), size, ""),
        at_most("nothing changed, against `cp`", 0.1, Some(0.02), ratio(UNCHANGED, COPY), ""),
        at_most("1,000 scattered updates, against `cp`", 0.6, Some(0.3), ratio(UPDATED, COPY), ""),
        at_most("what they add to the store, manifests included", 100.0, None, kilobytes(UPDATED), " KB"),
        at_most("ADD COLUMN with a constant default, against `cp`", 0.3, Some(0.02), ratio(ADDED, COPY), ""),
        at_most("what it adds to the store", 20.0, None, kilobytes(ADDED), " KB"),
        // 0.15 s and 0.05 s where a copy takes 1.06 s.
        at_most("diff of those 1,000 rows, against `cp`", 0.14, Some(0.047), ratio(DIFF, COPY), ""),
        at_most("`diff --stat` of them, against `cp`", 0.14, Some(0.047), ratio(DIFF_STAT, COPY), ""),
        Bar { is_least: true, ..at_most("how many times faster than sqldiff", 50.0, None, ratio(SQLDIFF, DIFF), " times") },
        at_most("rollback of those 1,000 rows with its proof, against `cp`", 0.3, Some(0.1), ratio(ROLLBACK, COPY), ""),
        at_most("`migrate` around one row, without the command, against `cp`", 0.4, Some(0.1), ratio(OVERHEAD, COPY), ""),
        at_most("peak memory of any of these", PEAK_MB, None, Some(peak(results)), " MB"),
    ]
}

/// The most memory that dbelay took for anything, in megabytes.
pub fn peak(results: &Results) -> f64 {
    let is_own = |name: &str| {
        [FIRST, UNCHANGED, UPDATED, ADDED, DIFF, DIFF_STAT, ROLLBACK, OVERHEAD].contains(&name) || name.starts_with("snapshot")
    };
    results.measures().filter(|(name, _)| is_own(name)).map(|(_, measure)| measure.peak_bytes).max().unwrap_or_default() as f64 / 1e6
}
