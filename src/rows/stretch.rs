//! Stretches: consecutive rows of a table, such as those that stand on one page, with a hash of each column's cells in them.
//!
//! The hash of a column is XXH3-128 over its cells' canonical JSON, joined by commas, wherever a row group ends among them; times an odd number that is the
//! column's own (modulo 2^128), so that the sum of all columns' hashes tells two columns apart that changed places.

use xxhash_rust::xxh3::xxh3_128;

use super::ColumnWriter;

/// Returns the hash of a column, by its number, with these cells in a stretch.
pub fn stretch_hash(column: usize, cells: &[u8]) -> u128 {
    xxh3_128(cells).wrapping_mul(column as u128 * 2 + 1)
}

/// A stretch on its way.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    /// Where its first cell stands in each column, of the group that is being built.
    starts: Vec<usize>,
    /// The cells that stand in groups that ended, where there are such.
    before: Option<Vec<Vec<u8>>>,
}

/// Where the next cell of a column will stand.
fn next_start(column: &ColumnWriter) -> usize {
    // After a bracket, or a comma that is still to come.
    if column.json.len() == 1 { 1 } else { column.json.len() + 1 }
}

impl Stretch {
    /// Begins with the next row.
    pub fn begin(&mut self, columns: &[ColumnWriter]) {
        self.before = None;
        self.starts.clear();
        self.starts.extend(columns.iter().map(next_start));
    }

    /// Takes what stands in a group that ends.
    pub fn leave(&mut self, columns: &[ColumnWriter]) {
        let before = self.before.get_or_insert_with(|| vec![Vec::new(); columns.len()]);
        for ((column, start), before) in columns.iter().zip(&mut self.starts).zip(before) {
            let cells = column.json.get(*start..).unwrap_or_default();
            if !before.is_empty() && !cells.is_empty() {
                before.push(b',');
            }
            before.extend_from_slice(cells);
            *start = 1;
        }
    }

    /// Ends with the last row; writes the hashes of the columns over what is there.
    pub fn end(&mut self, columns: &[ColumnWriter], hashes: &mut Vec<u128>) {
        hashes.clear();
        if self.before.is_some() {
            self.leave(columns);
        }
        match self.before.take() {
            Some(cells) => hashes.extend(cells.iter().enumerate().map(|(at, cells)| stretch_hash(at, cells))),
            None => {
                let cells = columns.iter().zip(&self.starts).map(|(column, start)| column.json.get(*start..).unwrap_or_default());
                hashes.extend(cells.enumerate().map(|(at, cells)| stretch_hash(at, cells)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ColumnShape, CutRule, GroupBuilder, TableShape};
    use super::*;

    #[test]
    fn hashes_are_those_of_the_cells_wherever_groups_end() {
        let columns = vec![ColumnShape::plain("a", "null"), ColumnShape::plain("b", "null")];
        let shape = TableShape { name: "t".into(), columns, identity: vec![0], locator: vec![0] };
        for rows_target in [1, 4, 100, 1 << 40] {
            let mut builder = GroupBuilder::new(&shape, CutRule { rows_target }).with_stretches();
            let mut hashes = Vec::new();
            for stretch in 0..40_i64 {
                builder.begin_stretch();
                let rows: Vec<i64> = (0..stretch % 13).map(|row| stretch * 100 + row).collect();
                for row in &rows {
                    builder.columns()[0].push_integer(*row);
                    builder.columns()[1].push_text(format!("{}", row % 3).as_bytes());
                    builder.end_row();
                }
                builder.end_stretch(&mut hashes);
                let join = |cell: &dyn Fn(&i64) -> String| rows.iter().map(cell).collect::<Vec<_>>().join(",");
                let expected = [
                    stretch_hash(0, join(&|row| row.to_string()).as_bytes()),
                    stretch_hash(1, join(&|row| format!("\"{}\"", row % 3)).as_bytes()),
                ];
                assert_eq!(hashes, expected, "{rows_target} {stretch}");
            }
        }
    }

    #[test]
    fn columns_that_change_places_have_another_sum() {
        let sum = |cells: [&[u8]; 2]| stretch_hash(0, cells[0]).wrapping_add(stretch_hash(1, cells[1]));
        assert_ne!(sum([b"1,2", b"3"]), sum([b"3", b"1,2"]));
    }
}
