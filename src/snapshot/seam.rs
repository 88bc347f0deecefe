//! Row groups of a table that was read in parts, side by side, as if it had been read at once.
//!
//! Where a group ends depends on where it began ([`crate::rows`]), so the groups at the head of a part are cut in another way than they are to be, up
//! to the first row that ends a group either way. Those rows are cut again, after the rows that the part before left over.

use crate::rows::{CutRule, GroupBuilder, RowGroup, TableShape};
use crate::value::split_array;

/// How many groups of a part's head are held back.
const HEAD_GROUPS_MAX: usize = 16;

/// How many bytes of them.
const HEAD_BYTES_MAX: u64 = 16 << 20;

/// The groups of one part, on their way.
#[derive(Debug)]
pub struct Part {
    rule: CutRule,
    is_first: bool,
    is_last: bool,
    head: Vec<RowGroup>,
    head_bytes: u64,
    is_passed: bool,
    /// The newest group, which may be cut off by the part's end.
    newest: Option<RowGroup>,
}

/// What a part left to be joined.
#[derive(Debug)]
pub struct Ends {
    head: Vec<RowGroup>,
    /// Whether these are all groups of the part.
    is_all: bool,
    tail: Option<RowGroup>,
}

impl Part {
    /// Begins a part of a table.
    pub fn new(rule: CutRule, is_first: bool, is_last: bool) -> Self {
        Self { rule, is_first, is_last, head: Vec::new(), head_bytes: 0, is_passed: is_first, newest: None }
    }

    /// Takes the next group; returns the group that now can be stored as it is.
    pub fn take(&mut self, group: RowGroup) -> Option<RowGroup> {
        if !self.is_passed && self.head.len() < HEAD_GROUPS_MAX && self.head_bytes < HEAD_BYTES_MAX {
            self.head_bytes += group.bytes();
            self.head.push(group);
            return None;
        }
        self.is_passed = true;
        if self.is_last { Some(group) } else { self.newest.replace(group) }
    }

    /// Ends the part; returns the last group that can be stored as it is, and what is to be joined.
    pub fn finish(self) -> (Option<RowGroup>, Ends) {
        let is_all = !self.is_first && !self.is_passed;
        let (whole, tail) = match self.newest {
            Some(group) if self.rule.is_whole(&group) => (Some(group), None),
            other => (None, other),
        };
        (whole, Ends { head: self.head, is_all, tail })
    }
}

/// Joins the ends of a table's parts, given in order: returns, for each part, the groups that come before those which were stored as they were, and the
/// last groups of the table. None where no row was found that ends a group either way; the table must be read at once then.
pub fn join(shape: &TableShape, rule: CutRule, parts: Vec<Ends>) -> Option<(Vec<Vec<RowGroup>>, Option<RowGroup>)> {
    let mut joined = Vec::with_capacity(parts.len());
    let mut carry: Option<RowGroup> = None;
    for Ends { head, is_all, tail } in parts {
        let (groups, rest) = cut_again(shape, rule, carry, head, is_all)?;
        joined.push(groups);
        carry = if is_all { rest } else { tail };
    }
    Some((joined, carry))
}

/// Cuts the head of a part after the rows that were left over; returns the groups, and the rows that are left over where the head is the whole part.
fn cut_again(
    shape: &TableShape,
    rule: CutRule,
    carry: Option<RowGroup>,
    head: Vec<RowGroup>,
    is_all: bool,
) -> Option<(Vec<RowGroup>, Option<RowGroup>)> {
    let mut groups = Vec::new();
    let mut left = None;
    let mut head = head.into_iter();
    if let Some(carry) = carry {
        let mut builder = GroupBuilder::new(shape, rule);
        // Its rows ended no group, and begin as they began then.
        append(&mut builder, carry, &mut groups)?;
        loop {
            let Some(group) = head.next() else {
                if !is_all {
                    return None;
                }
                left = builder.finish();
                break;
            };
            if append(&mut builder, group, &mut groups)? {
                break;
            }
        }
    }
    groups.extend(head);
    if is_all && left.is_none() {
        left = groups.pop_if(|last| !rule.is_whole(last));
    }
    Some((groups, left))
}

/// Appends rows to a builder; tells whether a group ended with the last one. None where they are no rows of its shape.
fn append(builder: &mut GroupBuilder, rows: RowGroup, ended: &mut Vec<RowGroup>) -> Option<bool> {
    let mut columns = Vec::with_capacity(rows.columns.len());
    for column in &rows.columns {
        columns.push(split_array(&column.json).ok()?);
    }
    let count = usize::try_from(rows.rows).ok()?;
    let cells: Vec<Vec<Vec<u8>>> = columns.iter().map(|column| column.iter().map(|cell| cell.to_vec()).collect()).collect();
    let mut large: Vec<_> = rows.columns.into_iter().map(|column| column.large.into_iter()).collect();
    let mut has_ended = false;
    for row in 0..count {
        for ((column, large), writer) in cells.iter().zip(&mut large).zip(builder.columns()) {
            writer.push_cell(column.get(row)?, large);
        }
        let group = builder.end_row();
        has_ended = group.is_some();
        ended.extend(group);
    }
    Some(has_ended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ColumnShape;
    use crate::value::LARGE_BYTES;

    fn shape() -> TableShape {
        let column = |name: &str| ColumnShape::plain(name, "null");
        TableShape { name: "t".into(), columns: vec![column("a"), column("b")], identity: vec![0], locator: vec![0] }
    }

    /// Reads rows from `from` up to `until`, as an engine would.
    fn read(rule: CutRule, (from, until): (i64, i64), sink: &mut dyn FnMut(RowGroup)) {
        let shape = shape();
        let mut builder = GroupBuilder::new(&shape, rule);
        for key in from..until {
            builder.columns()[0].push_integer(key);
            match key % 977 {
                0 => builder.columns()[1].push_text(&vec![b'x'; LARGE_BYTES + 1 + key as usize]),
                1 => builder.columns()[1].push_null(),
                _ => builder.columns()[1].push_text(format!("{{\"ref\", {key}").as_bytes()),
            }
            builder.end_row().into_iter().for_each(&mut *sink);
        }
        builder.finish().into_iter().for_each(sink);
    }

    fn said(group: &RowGroup) -> String {
        let columns: Vec<_> =
            group.columns.iter().map(|column| (&column.json, column.large.iter().map(|large| large.id).collect::<Vec<_>>())).collect();
        format!("{} {} {} {columns:?}", group.rows, group.first_key, group.cut_hash)
    }

    fn in_parts(rule: CutRule, bounds: &[i64]) -> Option<Vec<String>> {
        let last = bounds.len() - 2;
        let mut ends = Vec::new();
        let mut streamed: Vec<Vec<String>> = Vec::new();
        for (at, range) in bounds.windows(2).enumerate() {
            let mut part = Part::new(rule, at == 0, at == last);
            let mut stored = Vec::new();
            read(rule, (range[0], range[1]), &mut |group| stored.extend(part.take(group).map(|group| said(&group))));
            let (group, end) = part.finish();
            stored.extend(group.map(|group| said(&group)));
            ends.push(end);
            streamed.push(stored);
        }
        let (heads, rest) = join(&shape(), rule, ends)?;
        let mut all: Vec<String> = Vec::new();
        for (head, stored) in heads.iter().zip(streamed) {
            all.extend(head.iter().map(said));
            all.extend(stored);
        }
        all.extend(rest.iter().map(said));
        Some(all)
    }

    #[test]
    fn a_table_read_in_parts_has_the_groups_that_it_has_at_once() {
        for rows_target in [1, 2, 16, 64, 100_000] {
            let rule = CutRule { rows_target };
            let mut at_once = Vec::new();
            read(rule, (0, 12_000), &mut |group| at_once.push(said(&group)));
            for bounds in [
                vec![0, 12_000],
                vec![0, 0, 12_000],
                vec![0, 6_000, 12_000],
                vec![0, 1, 2, 3, 4_000, 4_000, 4_001, 11_999, 12_000, 12_000],
                vec![0, 3_017, 3_100, 6_001, 9_999, 12_000],
            ] {
                assert!(in_parts(rule, &bounds).expect("joined") == at_once, "{rows_target} rows, {bounds:?}");
            }
        }
    }

    #[test]
    fn parts_that_never_meet_are_not_joined() {
        // Groups of exactly four rows: what begins at another row never ends where these do.
        let rule = CutRule { rows_target: 1 };
        let far = CutRule { rows_target: u64::MAX };
        assert!(in_parts(rule, &[0, 10, 100]).is_some());
        assert!(in_parts(far, &[0, 10, 100]).is_some(), "all in one group");
        let mut part = Part::new(far, false, true);
        for _ in 0..HEAD_GROUPS_MAX + 1 {
            read(far, (0, 3), &mut |group| drop(part.take(group)));
        }
        let mut first = Part::new(far, true, false);
        read(far, (0, 3), &mut |group| drop(first.take(group)));
        let ends = [first, part].map(|part| part.finish().1);
        assert!(join(&shape(), far, ends.into()).is_none());
    }
}
