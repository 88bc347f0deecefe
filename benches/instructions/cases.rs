//! The hot loops, each on data that is always the same, so that their instructions can be counted.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::ops::ControlFlow;

use dbelay::id::ObjectId;
use dbelay::rows::{ColumnShape, CutRule, GroupBuilder, RowGroup, TableShape};
use dbelay::snapshot::changes::Cells;
use dbelay::snapshot::compare::{BoxError, Objects};
use dbelay::snapshot::manifest::{Group, ManifestColumn, Node, TableManifest};
use dbelay::snapshot::rowdiff::diff_exact;
use dbelay::store::{BatchMode, Store};
use dbelay::value::split_array;

use super::shared::database::Random;

/// Rows of a group, so that its chunks have the size that they usually have.
const ROWS: usize = 6_000;

/// How often a loop runs at most.
pub const TIMES_MAX: usize = 5;

/// Runs a loop so many times, and returns how many bytes of JSON it went over each time.
pub type Case = fn(usize) -> u64;

/// The loops by name.
pub const CASES: &[(&str, Case)] = &[
    ("encode integers", |times| encode(times, 0)),
    ("encode reals", |times| encode(times, 1)),
    ("encode text", |times| encode(times, 2)),
    ("cut groups", cut),
    ("id of a chunk", id),
    ("split a chunk into cells", split),
    ("compress and put a chunk", put),
    ("get and decompress a chunk", get),
    ("compare chunks with one changed cell", compare),
];

/// The values of a group: whole numbers as keys are, amounts of money, and prose.
struct Data {
    integers: Vec<i64>,
    reals: Vec<f64>,
    texts: Vec<String>,
}

impl Data {
    /// Makes values; other seeds make others, which compress as well.
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let words = ["carefully", "final", "deposits", "sleep", "quick \"ly\"", "ironic\n", "caf\u{e9}", "accounts"];
        let mut data = Self { integers: Vec::new(), reals: Vec::new(), texts: Vec::new() };
        for row in 0..ROWS {
            data.integers.push((row * 4 + random.below(4)) as i64);
            data.reals.push(random.below(10_000_000) as f64 / 100.0);
            let mut text = String::new();
            (0..3 + random.below(4)).for_each(|_| write!(text, "{} ", words[random.below(words.len())]).unwrap());
            data.texts.push(text);
        }
        data
    }

    /// Encodes the columns that are wanted, as one group.
    fn group(&self, wanted: &[usize]) -> RowGroup {
        let mut builder = GroupBuilder::new(&shape(wanted.len()), CutRule { rows_target: 1 << 40 });
        for row in 0..ROWS {
            for (writer, column) in builder.columns().iter_mut().zip(wanted) {
                match column {
                    0 => writer.push_integer(self.integers[row]),
                    1 => writer.push_real(self.reals[row]),
                    _ => writer.push_text(self.texts[row].as_bytes()),
                }
            }
            assert!(builder.end_row().is_none());
        }
        builder.finish().unwrap()
    }

    /// The chunk of prose.
    fn chunk(&self) -> Vec<u8> {
        self.group(&[2]).columns.remove(0).json
    }
}

fn shape(columns: usize) -> TableShape {
    let column = |at: usize| ColumnShape {
        name: format!("c{at}"),
        declared_type: String::new(),
        default: "null".to_owned(),
        hidden: false,
        generated: false,
    };
    TableShape { name: "t".to_owned(), columns: (0..columns).map(column).collect(), identity: vec![0], locator: vec![0] }
}

fn encode(times: usize, column: usize) -> u64 {
    let data = Data::new(1);
    let mut bytes = 0;
    for _ in 0..times {
        bytes = black_box(&data).group(&[column]).columns[0].json.len() as u64;
    }
    bytes
}

fn cut(times: usize) -> u64 {
    let data = Data::new(1);
    let mut bytes = 0;
    for _ in 0..times {
        let mut builder = GroupBuilder::new(&shape(1), CutRule { rows_target: 64 });
        let mut groups = Vec::new();
        for integer in &data.integers {
            builder.columns()[0].push_integer(*integer);
            groups.extend(builder.end_row());
        }
        groups.extend(builder.finish());
        assert!(black_box(&groups).len() > 10);
        bytes = groups.iter().map(|group| group.columns[0].json.len() as u64).sum();
    }
    bytes
}

fn id(times: usize) -> u64 {
    let json = Data::new(1).chunk();
    for _ in 0..times {
        black_box(ObjectId::of(black_box(&json)));
    }
    json.len() as u64
}

fn split(times: usize) -> u64 {
    let json = Data::new(1).chunk();
    (0..times).for_each(|_| assert_eq!(split_array(black_box(&json)).unwrap().len(), ROWS));
    json.len() as u64
}

fn put(times: usize) -> u64 {
    // As many are made whether they are put or not.
    let chunks: Vec<Vec<u8>> = (0..TIMES_MAX as u64).map(|seed| Data::new(seed).chunk()).collect();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path(), [0; 16]).unwrap();
    let batch = store.begin(BatchMode::Scratch).unwrap();
    for chunk in &chunks[..times] {
        black_box(batch.put(chunk, None).unwrap());
    }
    chunks[0].len() as u64
}

fn get(times: usize) -> u64 {
    let json = Data::new(1).chunk();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path(), [0; 16]).unwrap();
    let batch = store.begin(BatchMode::Durable).unwrap();
    let id = batch.put(&json, None).unwrap();
    batch.finish().unwrap();
    (0..times).for_each(|_| assert_eq!(store.get(&id).unwrap().len(), json.len()));
    json.len() as u64
}

/// Objects that are there without decompression.
#[derive(Default)]
struct Memory(HashMap<ObjectId, Vec<u8>>);

impl Objects for Memory {
    fn read(&self, id: &ObjectId) -> Result<Vec<u8>, BoxError> {
        self.0.get(id).cloned().ok_or_else(|| "there is no such object".into())
    }
}

impl Memory {
    fn put(&mut self, json: Vec<u8>) -> ObjectId {
        let id = ObjectId::of(&json);
        self.0.insert(id, json);
        id
    }

    /// Puts a table of one group.
    fn table(&mut self, group: RowGroup) -> TableManifest {
        let (rows, bytes, first) = (group.rows, group.bytes(), group.first_key);
        let ids: Vec<Option<ObjectId>> = group.columns.into_iter().map(|column| Some(self.put(column.json))).collect();
        let shape = shape(ids.len());
        let columns =
            shape.columns.into_iter().zip(&ids).map(|(shape, id)| ManifestColumn { shape, digest: id.unwrap() }).collect::<Vec<_>>();
        let node = Node::Groups(vec![Group { rows, first, columns: ids }]);
        let root = Some(self.put(serde_json::to_vec(&node).unwrap()));
        let (identity, locator, cut) = (shape.identity, shape.locator, CutRule { rows_target: 1 << 40 });
        TableManifest { name: shape.name, columns, identity, locator, cut, rows, bytes, depth: 1, root }
    }
}

fn compare(times: usize) -> u64 {
    let mut data = Data::new(1);
    let mut memory = Memory::default();
    let before = memory.table(data.group(&[0, 1, 2]));
    data.texts[ROWS / 2].push_str("changed");
    let group = data.group(&[0, 1, 2]);
    let bytes = group.columns[2].json.len() as u64;
    let after = memory.table(group);
    for _ in 0..times {
        let counts = diff_exact(&before, &after, &memory, Cells::Telling, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(counts.changed, 1);
    }
    bytes
}
