//! Comparisons against a plain one of maps, whatever is equal, moved, changed, and which cells are asked for; and what is opened for them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::rows::{ColumnShape, CutRule, GroupBuilder, TableShape};
use crate::snapshot::build::{self, Bases};
use crate::snapshot::compare::BoxError;
use crate::store::{BatchMode, Store};

/// Rows by key: the hidden row number, and the cells of the other columns, an integer as its digits and a text as itself.
type Rows = BTreeMap<i64, (i64, [String; 3])>;

fn shape() -> TableShape {
    let number = ColumnShape { hidden: true, ..ColumnShape::plain("rowid", "null") };
    let columns = vec![
        number,
        ColumnShape::plain("key", "null"),
        ColumnShape::plain("a", "null"),
        ColumnShape::plain("b", "7"),
        ColumnShape::plain("c", "\"x\""),
    ];
    TableShape { name: "t".into(), columns, identity: vec![1], locator: vec![0] }
}

fn pair(before: &TableShape, after: &TableShape) -> TablePair {
    let columns = |at| ColumnPair { before: (at < before.columns.len()).then_some(at), after: (at < after.columns.len()).then_some(at) };
    TablePair {
        before: Some(before.clone()),
        after: Some(after.clone()),
        rows_before: 0,
        rows_after: 0,
        columns: (0..before.columns.len().max(after.columns.len())).map(columns).collect(),
        key: RowKey::Columns(vec![1]),
    }
}

/// Writes a table of the first columns of a shape into a store.
fn table(store: &Store, shape: &TableShape, rows: &Rows, bases: &Bases) -> (ObjectId, TableManifest) {
    let rule = CutRule { rows_target: 8 };
    let batch = store.begin(BatchMode::Durable).expect("a batch");
    let mut builder = GroupBuilder::new(shape, rule);
    let mut groups = Vec::new();
    for (key, (number, cells)) in rows {
        let columns = builder.columns();
        columns[0].push_integer(*number);
        columns[1].push_integer(*key);
        for (column, cell) in columns[2..].iter_mut().zip(cells) {
            match cell.parse::<i64>() {
                Ok(integer) => column.push_integer(integer),
                Err(_) => column.push_text(cell.as_bytes()),
            }
        }
        groups.extend(builder.end_row());
    }
    groups.extend(builder.finish());
    let stored = groups.into_iter().map(|group| build::store_group(&batch, group, bases).expect("stored")).collect();
    let table = build::assemble(&batch, shape, rule, stored, bases).expect("assembled");
    batch.finish().expect("finished");
    table
}

fn json(cell: &str) -> String {
    cell.parse::<i64>().map_or_else(|_| serde_json::to_string(cell).expect("json"), |integer| integer.to_string())
}

fn row(key: i64, (number, cells): &(i64, [String; 3]), width: usize) -> Row {
    let all = [number.to_string(), key.to_string()].into_iter().chain(cells.iter().map(|cell| json(cell)));
    all.take(width).map(String::into_boxed_str).collect()
}

/// Leaves of a row what is asked for.
fn asked(row: Row, cells: Cells, changed: Option<&[usize]>) -> Row {
    let is_told = |at: usize| match (cells, changed) {
        (Cells::All, _) | (Cells::Shown, None) => true,
        (Cells::Shown | Cells::Telling, _) => at == 1 || changed.is_some_and(|columns| columns.contains(&at)),
        (Cells::Unread, _) => false,
    };
    row.into_iter().enumerate().map(|(at, cell)| if is_told(at) { cell } else { "".into() }).collect()
}

/// What a comparison says, in words that can be sorted.
fn words(change: &RowChange) -> String {
    format!("{change:?}")
}

fn plainly(before: &Rows, after: &Rows, widths: [usize; 2], cells: Cells) -> (RowCounts, Vec<String>) {
    let mut counts = RowCounts { cells: vec![0; 5.min(widths[0].max(widths[1]))], ..RowCounts::default() };
    let mut changes = Vec::new();
    for key in before.keys().chain(after.keys()).copied().collect::<BTreeSet<_>>() {
        match (before.get(&key), after.get(&key)) {
            (Some(was), None) => {
                counts.removed += 1;
                changes.push(RowChange::Removed(asked(row(key, was, widths[0]), cells, None)));
            }
            (None, Some(is)) => {
                counts.added += 1;
                changes.push(RowChange::Added(asked(row(key, is, widths[1]), cells, None)));
            }
            (Some(was), Some(is)) => {
                let (before, after) = (row(key, was, widths[0]), row(key, is, widths[1]));
                let default = shape();
                let differs = |at: &usize| before.get(*at).map_or(default.columns[*at].default.as_str(), |cell| cell) != &*after[*at];
                let columns: Vec<usize> = (2..widths[1]).filter(differs).collect();
                if columns.is_empty() {
                    counts.renumbered += u64::from(was.0 != is.0);
                    continue;
                }
                counts.changed += 1;
                columns.iter().for_each(|at| counts.cells[*at] += 1);
                let (before, after) = (asked(before, cells, Some(&columns)), asked(after, cells, Some(&columns)));
                changes.push(RowChange::Changed { before, after, columns });
            }
            (None, None) => {}
        }
    }
    let mut changes: Vec<String> = changes.iter().map(words).collect();
    changes.sort();
    (counts, changes)
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::create(&dir.path().join(".dbelay"), [7; 16]).expect("a store");
    (dir, store)
}

fn check(before: &Rows, after: &Rows, width_before: usize) {
    let (_dir, store) = store();
    let (whole, mut narrow) = (shape(), shape());
    narrow.columns.truncate(width_before);
    let (id, from) = table(&store, &narrow, before, &Bases::default());
    let (_, to) = table(&store, &whole, after, &Bases::of(&store, id, &from, &whole));
    for cells in [Cells::All, Cells::Shown, Cells::Telling, Cells::Unread] {
        let mut changes = Vec::new();
        let counts = diff_rows(&pair(&narrow, &whole), Some(&from), Some(&to), &store, cells, &mut |change| {
            changes.push(words(&change));
            ControlFlow::Continue(())
        });
        changes.sort();
        assert_eq!((counts.expect("no error"), changes), plainly(before, after, [width_before, 5], cells));
    }
}

fn cell() -> impl Strategy<Value = String> {
    prop_oneof![(0..9_i64).prop_map(|n| n.to_string()), Just("7".to_owned()), Just("x".to_owned()), "[a,\"\\\\{}\\[\\]]{0,6}"]
}

fn rows() -> impl Strategy<Value = Rows> {
    let cells = || [cell(), cell(), cell()];
    proptest::collection::btree_map(0..400_i64, cells(), 0..120)
        .prop_map(|rows| (1..).zip(rows).map(|(number, (key, cells))| (key, (number, cells))).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn changed_cells_are_found_among_rows_that_come_and_go(
        before in rows(),
        cells in proptest::collection::vec((any::<proptest::sample::Index>(), 0..3_usize, cell()), 0..12),
        gone in proptest::collection::vec(0..400_i64, 0..4),
        come in proptest::collection::vec((0..400_i64, [cell(), cell(), cell()]), 0..4),
        is_renumbered in any::<bool>(),
    ) {
        let mut after = before.clone();
        for (at, column, cell) in cells {
            if let Some((_, (_, cells))) = (!after.is_empty()).then(|| after.iter_mut().nth(at.index(before.len()))).flatten() {
                cells[column] = cell;
            }
        }
        after.retain(|key, _| !gone.contains(key));
        for (key, cells) in come {
            after.entry(key).or_insert((key + 1_000, cells));
        }
        if is_renumbered {
            after.values_mut().skip(20).for_each(|(number, _)| *number += 5);
        }
        check(&before, &after, 5);
    }

    #[test]
    fn tables_without_anything_in_common_differ_in_every_row(before in rows(), after in rows()) {
        check(&before, &after, 5);
    }

    #[test]
    fn a_column_that_came_differs_where_it_is_not_its_default(
        before in rows(),
        cells in proptest::collection::vec((any::<proptest::sample::Index>(), cell()), 0..6),
    ) {
        let before: Rows = before.into_iter().map(|(key, (number, [a, b, _]))| (key, (number, [a, b, "x".to_owned()]))).collect();
        let mut after = before.clone();
        for (at, cell) in cells {
            if let Some((_, (_, cells))) = (!after.is_empty()).then(|| after.iter_mut().nth(at.index(before.len()))).flatten() {
                cells[2] = cell;
            }
        }
        check(&before, &after, 4);
    }
}

/// Remembers what was read.
struct Counting<'a>(&'a Store, Mutex<Vec<ObjectId>>);

impl Objects for Counting<'_> {
    fn read(&self, id: &ObjectId) -> Result<Vec<u8>, BoxError> {
        self.1.lock().expect("no panic").push(*id);
        self.0.read(id)
    }
}

#[test]
fn one_changed_cell_opens_its_chunks_and_those_of_its_key() {
    let (_dir, store) = store();
    let before: Rows =
        (0..4_000).map(|key| (key, (key + 1, [(key * 7 % 11).to_string(), "1".to_owned(), format!("text {key}")]))).collect();
    let mut after = before.clone();
    after.get_mut(&2_000).expect("a row").1[0] = "99".to_owned();
    let shape = shape();
    let (id, from) = table(&store, &shape, &before, &Bases::default());
    let (_, to) = table(&store, &shape, &after, &Bases::of(&store, id, &from, &shape));
    let lists = |manifest: &TableManifest| row_groups(manifest, &store).expect("groups");
    let (was, is) = lists(&from).into_iter().zip(lists(&to)).find(|(a, b)| a != b).expect("one group differs");
    let chunks: HashMap<ObjectId, usize> = lists(&from)
        .iter()
        .chain(&lists(&to))
        .flat_map(|group| group.columns.iter().copied().enumerate())
        .filter_map(|(at, id)| Some((id?, at)))
        .collect();
    for (cells, expected) in [
        (Cells::Unread, vec![was.chunk(2), is.chunk(2)]),
        (Cells::Telling, vec![was.chunk(2), is.chunk(2), is.chunk(1)]),
        (Cells::Shown, vec![was.chunk(2), is.chunk(2), is.chunk(1)]),
        (Cells::All, [was.chunk(2)].into_iter().chain(is.columns.iter().copied()).collect()),
    ] {
        let objects = Counting(&store, Mutex::default());
        let mut found = 0;
        diff_rows(&pair(&shape, &shape), Some(&from), Some(&to), &objects, cells, &mut |_| {
            found += 1;
            ControlFlow::Continue(())
        })
        .expect("no error");
        let read = objects.1.into_inner().expect("no panic");
        let mut opened: Vec<ObjectId> = read.iter().filter(|id| chunks.contains_key(id)).copied().collect();
        let mut expected: Vec<ObjectId> = expected.into_iter().flatten().collect();
        opened.sort();
        expected.sort();
        assert_eq!((found, opened), (1, expected), "{cells:?}");
        // The rest are nodes: a path from the top on each side.
        assert!(read.len() - opened_count(&read, &chunks) <= 2 * from.depth.max(to.depth) as usize, "{} nodes", read.len());
    }
}

fn opened_count(read: &[ObjectId], chunks: &HashMap<ObjectId, usize>) -> usize {
    read.iter().filter(|id| chunks.contains_key(id)).count()
}
