//! Reading one committed state, or the state of a transaction that changes it.
//!
//! A table is read by one `COPY` of a query in the order of its key, so that the server takes the key's index where that is cheaper than sorting.
//! A table without a key is read in the order of its rows' text, which is the same whatever the order in which they are stored.

use std::cell::RefCell;
use std::hash::Hasher as _;
use std::ops::ControlFlow;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3Default;

use super::catalog::{self, Catalog, Relation};
use super::link::{self, Link};
use super::name::{literal, quoted};
use super::value::{Codec, constant_default, fields};
use super::{Options, changes, dump, fingerprint, parts, schema};
use crate::engine::{Answer, Changes, EngineError, Finding, ReadTransaction, TablePart};
use crate::rows::{ColumnShape, CutRule, GroupBuilder, RowGroup, TableShape};
use crate::schema::{Schema, Settings};
use crate::value::Value;

/// From how many pages on (8 KiB each, as the server remembers them) a table's foreign keys are believed and not checked.
const CHECKED_PAGES_MAX: u64 = 16_384;

/// From how many pages on a database is read by more than one session.
const SIBLING_PAGES_MIN: f64 = 2_000.0;

/// The most findings of a check.
const FINDINGS_MAX: usize = 100;

/// The table under which large objects are kept.
pub(super) const LARGE_OBJECTS: &str = "pg_largeobject";

/// What both kinds of transactions read from.
pub(super) struct State<'e> {
    pub link: &'e Link,
    pub options: &'e Options,
    pub version: u32,
    /// The snapshot that other sessions can share; none in a transaction that writes.
    pub snapshot: Option<String>,
    /// How many more sessions may read beside this one.
    readers_left: usize,
    catalog: RefCell<Option<Arc<Catalog>>>,
}

impl<'e> State<'e> {
    pub fn new(link: &'e Link, options: &'e Options, version: u32, snapshot: Option<String>) -> Self {
        let readers_left = options.readers.saturating_sub(1);
        Self { link, options, version, snapshot, readers_left, catalog: RefCell::new(None) }
    }

    /// Returns the catalogue, read once.
    pub fn catalog(&self) -> Result<Arc<Catalog>, EngineError> {
        if let Some(known) = self.catalog.borrow().as_ref() {
            return Ok(Arc::clone(known));
        }
        let read = Arc::new(catalog::read(self.link, self.version, &self.options.connection.schema)?);
        *self.catalog.borrow_mut() = Some(Arc::clone(&read));
        Ok(read)
    }

    /// Begins to read beside this one, in a session of its own that sees the same snapshot; none for a small database.
    pub fn sibling(&mut self) -> Result<Option<Sibling>, EngineError> {
        let Some(snapshot) = self.snapshot.as_ref().filter(|_| self.readers_left > 0) else { return Ok(None) };
        self.readers_left -= 1;
        let pages = self.link.cell(
            "SELECT pg_catalog.sum(pg_catalog.pg_relation_size(oid)) / 8192 FROM pg_catalog.pg_class WHERE relkind IN ('r','m') AND oid >= 16384",
            "looking at the sizes of tables",
        )?;
        let pages: f64 = pages.and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
        if pages < SIBLING_PAGES_MIN {
            self.readers_left = 0;
            return Ok(None);
        }
        let link = Link::open(self.options)?;
        link.run("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", "beginning a transaction")?;
        link.run(&format!("SET TRANSACTION SNAPSHOT {}", literal(snapshot)), "sharing a snapshot")?;
        let catalog = self.catalog()?;
        Ok(Some(Sibling { link, options: self.options.clone(), version: self.version, catalog }))
    }

    /// Forgets the catalogue, since it was changed.
    pub fn forget_catalog(&self) {
        *self.catalog.borrow_mut() = None;
    }

    pub fn schema(&self) -> Result<Schema, EngineError> {
        let catalog = self.catalog()?;
        let Some(snapshot) = &self.snapshot else { return Ok(schema::of_catalog(&catalog)) };
        let program = dump::find(&self.options.program_folders, self.version)?;
        let text = dump::run(&program, &self.options.connection, Some(snapshot), self.options.lock_ms)?;
        let entries = dump::entries(&text)?;
        schema::assemble(self.link, &catalog, &entries, &self.options.connection.schema)
    }

    pub fn settings(&self) -> Result<Settings, EngineError> {
        let catalog = self.catalog()?;
        catalog::settings(self.link, self.version, &catalog)
    }

    pub fn shapes(&self) -> Result<Vec<TableShape>, EngineError> {
        let catalog = self.catalog()?;
        let is_user = |relation: &&Relation| relation.has_rows() && !catalog.members.contains(&(catalog::PG_CLASS, relation.oid));
        let mut relations: Vec<&Relation> = catalog.relations.values().filter(is_user).collect();
        relations.sort_by(|a, b| a.shown.cmp(&b.shown));
        let mut shapes: Vec<TableShape> = relations.into_iter().map(shape).collect();
        let has_large = self.link.cell("SELECT 1 FROM pg_catalog.pg_largeobject_metadata LIMIT 1", "looking for large objects")?;
        if has_large.is_some() {
            shapes.push(large_objects());
        }
        Ok(shapes)
    }

    /// Returns the question for a table's rows in its own order, and how each column is read: for the rows of `t` of which a condition is true; an
    /// empty one is true of all.
    pub fn question_where(&self, shape: &TableShape, condition: &str) -> Result<(String, Vec<Codec>), EngineError> {
        if shape.name == LARGE_OBJECTS {
            let sql = "SELECT m.oid::int8, pg_catalog.lo_get(m.oid), r.rolname, m.lomacl::text FROM pg_catalog.pg_largeobject_metadata m \
                       LEFT JOIN pg_catalog.pg_roles r ON r.oid = m.lomowner ORDER BY m.oid";
            return Ok((sql.to_owned(), vec![Codec::Integer, Codec::Bytes, Codec::Text, Codec::Text]));
        }
        let catalog = self.catalog()?;
        let relation = catalog.relation(&shape.name).ok_or_else(|| missing(&shape.name))?;
        let columns = shape.columns.iter().map(|column| {
            let found = relation.columns.iter().find(|attribute| attribute.name == column.name);
            found.ok_or_else(|| missing(&format!("{}.{}", shape.name, column.name)))
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let list: Vec<String> = columns.iter().map(|attribute| format!("t.{}", quoted(&attribute.name))).collect();
        let key: Vec<String> = shape.identity.iter().filter_map(|&at| list.get(at).cloned()).collect();
        let order = if key.is_empty() { "(t.*)::text COLLATE \"C\"".to_owned() } else { key.join(", ") };
        let condition = if condition.is_empty() { String::new() } else { format!(" WHERE {condition}") };
        let sql = format!("SELECT {} FROM ONLY {} t{condition} ORDER BY {order}", list.join(", "), relation.sql());
        Ok((sql, columns.iter().map(|attribute| Codec::of(&attribute.base)).collect()))
    }

    pub fn row_bytes(&self, shape: &TableShape) -> Result<u64, EngineError> {
        if shape.name == LARGE_OBJECTS {
            return Ok(0);
        }
        let catalog = self.catalog()?;
        let relation = catalog.relation(&shape.name).ok_or_else(|| missing(&shape.name))?;
        let sql = format!(
            "SELECT pg_catalog.avg(pg_catalog.octet_length(r::text))::int8 FROM (SELECT * FROM ONLY {} LIMIT 1000) r",
            relation.sql()
        );
        let bytes: u64 = self.link.cell(&sql, "estimating the length of rows")?.and_then(|cell| cell.parse().ok()).unwrap_or(0);
        Ok(if bytes == 0 { 0 } else { bytes + shape.columns.len() as u64 * 2 })
    }

    /// Reads the rows of `t` of which a condition is true; an empty one is true of all.
    pub fn read_table(
        &self,
        shape: &TableShape,
        rows: &str,
        rule: CutRule,
        sink: &mut dyn FnMut(RowGroup) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let (question, codecs) = self.question_where(shape, rows)?;
        read_rows(self.link, &question, shape, &codecs, rule, sink)
    }

    pub fn findings(&self) -> Result<Vec<Finding>, EngineError> {
        let catalog = self.catalog()?;
        let mut findings = Vec::new();
        for index in catalog.objects.iter().filter(|object| object.facts.contains_key("invalid")) {
            findings.push(Finding {
                check: "index".to_owned(),
                table: Some(index.table.clone()),
                message: format!("index `{}` is invalid: it was not built to its end, and no query uses it", index.name),
                count: 1,
            });
        }
        let pages = self.link.rows(
            "SELECT oid::int8, GREATEST(relpages, 0) FROM pg_catalog.pg_class WHERE relkind IN ('r','p') AND oid >= 16384",
            "checking foreign keys",
        )?;
        let parse = |cell: Option<&str>| cell.and_then(|cell| cell.parse::<u64>().ok()).unwrap_or(0);
        let pages: std::collections::HashMap<u64, u64> = pages.iter().map(|row| (parse(row.get(0)), parse(row.get(1)))).collect();
        for table in &catalog.tables {
            let Some(child) = catalog.relation(&table.name) else { continue };
            for key in &table.foreign_keys {
                let Some(parent) = catalog.relation(&key.parent) else { continue };
                let is_small = [child, parent].iter().all(|r| pages.get(&u64::from(r.oid)).copied().unwrap_or(0) <= CHECKED_PAGES_MAX);
                if findings.len() >= FINDINGS_MAX || !is_small {
                    continue;
                }
                let pairs: Vec<String> = key
                    .columns
                    .iter()
                    .zip(&key.parent_columns)
                    .map(|(column, other)| {
                        let is_known =
                            |relation: &Relation, name: &str| relation.columns.iter().any(|a| a.name == name && !a.base.is_empty());
                        // The operators of other types than the server's own may be anywhere.
                        let cast = if is_known(child, column) && is_known(parent, other) { "" } else { "::text" };
                        format!("p.{}{cast} = c.{}{cast}", quoted(other), quoted(column))
                    })
                    .collect();
                let held: Vec<String> = key.columns.iter().map(|column| format!("c.{} IS NOT NULL", quoted(column))).collect();
                let sql = format!(
                    "SELECT pg_catalog.count(*) FROM {} c WHERE {} AND NOT EXISTS (SELECT 1 FROM {} p WHERE {})",
                    own_rows(child),
                    held.join(" AND "),
                    own_rows(parent),
                    pairs.join(" AND ")
                );
                let count = parse(self.link.cell(&sql, "checking foreign keys")?.as_deref());
                if count > 0 {
                    findings.push(Finding {
                        check: "foreign_key".to_owned(),
                        table: Some(table.name.clone()),
                        message: format!("{count} rows of `{}` refer to rows of `{}` that are not there", table.name, key.parent),
                        count,
                    });
                }
            }
        }
        Ok(findings)
    }

    pub fn query(&self, sql: &str, rows_max: usize) -> Result<Answer, EngineError> {
        const DOING: &str = "the question";
        let no_question = || EngineError::Unsupported("only one statement that reads, without parameters, can be asked".to_owned());
        let refused = |error| match error {
            EngineError::ReadOnly(words) => EngineError::Unsupported(words),
            error if link::is_misplaced(&error) => no_question(),
            other => other,
        };
        self.link.run("SAVEPOINT dbelay_query", DOING)?;
        let asked = (|| {
            // A name in single quotes is taken as it is.
            let path = literal(&self.options.connection.schema);
            let path = if self.options.connection.schema == "public" { path } else { format!("{path}, 'public'") };
            // A transaction that writes does not while it is asked.
            self.link.run(&format!("SET LOCAL transaction_read_only = on; SET LOCAL search_path = {path}"), DOING)?;
            let described = self.link.describe(sql, DOING).map_err(|error| if link::is_several(&error) { no_question() } else { error })?;
            if described.columns.is_empty() || described.has_parameters {
                return Err(no_question());
            }
            self.link.run(&format!("DECLARE dbelay_query NO SCROLL CURSOR FOR {sql}"), DOING).map_err(refused)?;
            let rows = self.link.rows(&format!("FETCH {} FROM dbelay_query", rows_max.saturating_add(1)), DOING).map_err(refused)?;
            let value = |cell: Option<&str>, kind: &str| {
                let Some(text) = cell else { return Value::Null };
                let as_text = || Value::Text(text.as_bytes().to_vec());
                match Codec::of(kind) {
                    Codec::Boolean => Value::Boolean(text == "t"),
                    Codec::Integer => text.parse().map_or_else(|_| as_text(), Value::Integer),
                    Codec::Real => text.parse().map_or_else(|_| as_text(), Value::Real),
                    Codec::Bytes | Codec::Text => as_text(),
                }
            };
            let is_cut = rows.len() > rows_max;
            let rows = rows.iter().take(rows_max);
            let cells =
                |row: &link::TextRow| described.columns.iter().enumerate().map(|(at, (_, kind))| value(row.get(at), kind)).collect();
            let columns = described.columns.iter().map(|(name, _)| name.clone()).collect();
            Ok(Answer { columns, rows: rows.map(cells).collect(), is_cut })
        })();
        self.link.run("ROLLBACK TO SAVEPOINT dbelay_query; RELEASE SAVEPOINT dbelay_query", DOING)?;
        asked
    }

    /// Returns the stamp: which transactions had ended, of all that ever began. Whatever writes a row or the catalogue gets a number of its own
    /// that no other transaction has, so two equal stamps have nothing written between them. Sequences move without one, and are part of the stamp.
    pub fn stamp(&self) -> Result<u64, EngineError> {
        const DOING: &str = "looking at the server's transactions";
        let words = self.link.cell("SELECT pg_catalog.pg_current_snapshot()::text", DOING)?;
        let mut hasher = Xxh3Default::new();
        hasher.write(words.unwrap_or_default().as_bytes());
        hasher.write(fingerprint::sequences(self.link, DOING)?.as_bytes());
        Ok(hasher.finish())
    }
}

/// Names the rows that a table's constraints are about: its own, and its partitions', but not those of tables that inherit from it.
fn own_rows(relation: &Relation) -> String {
    if relation.kind == 'p' { relation.sql() } else { format!("ONLY {}", relation.sql()) }
}

fn missing(name: &str) -> EngineError {
    EngineError::Unsupported(format!("`{name}` is not there any more"))
}

/// Describes a table's columns and key.
pub(super) fn shape(relation: &Relation) -> TableShape {
    let stored: Vec<usize> = (0..relation.columns.len()).filter(|&at| relation.columns[at].generated != Some('v')).collect();
    let column = |&at: &usize| {
        let attribute = &relation.columns[at];
        ColumnShape {
            name: attribute.name.clone(),
            declared_type: attribute.sql_type.clone(),
            default: constant_default(&attribute.base, attribute.default.as_deref().filter(|_| attribute.generated.is_none())),
            hidden: false,
            generated: attribute.generated.is_some(),
        }
    };
    let key: Vec<usize> = relation.key.iter().filter_map(|(at, _)| stored.iter().position(|stored| stored == at)).collect();
    TableShape { name: relation.shown.clone(), columns: stored.iter().map(column).collect(), identity: key.clone(), locator: key }
}

/// Describes the large objects as a table.
fn large_objects() -> TableShape {
    let column = |name: &str, kind: &str| ColumnShape {
        name: name.to_owned(),
        declared_type: kind.to_owned(),
        default: "null".to_owned(),
        hidden: false,
        generated: false,
    };
    TableShape {
        name: LARGE_OBJECTS.to_owned(),
        columns: vec![column("oid", "oid"), column("data", "bytea"), column("owner", "name"), column("privileges", "aclitem[]")],
        identity: vec![0],
        locator: vec![0],
    }
}

/// Reads what a question answers as the rows of a shape.
///
/// # Errors
/// The server's, and [`EngineError::Unsupported`] where a value is not written as its type is.
pub(super) fn read_rows(
    link: &Link,
    question: &str,
    shape: &TableShape,
    codecs: &[Codec],
    rule: CutRule,
    sink: &mut dyn FnMut(RowGroup) -> ControlFlow<()>,
) -> Result<(), EngineError> {
    let mut builder = GroupBuilder::new(shape, rule);
    let mut scratch = Vec::new();
    let mut failed = None;
    let mut is_stopped = false;
    link.copy_out(&format!("COPY ({question}) TO STDOUT"), &format!("reading table `{}`", shape.name), &mut |line| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut count = 0;
        if !codecs.is_empty() {
            for (field, (codec, writer)) in fields(line).zip(codecs.iter().zip(builder.columns())) {
                count += 1;
                if let Err(found) = codec.read(field, &mut scratch, writer) {
                    failed = Some(found);
                    return ControlFlow::Break(());
                }
            }
        }
        if count != codecs.len() {
            failed = Some(format!("a row has {count} of {} values", codecs.len()));
            return ControlFlow::Break(());
        }
        match builder.end_row().map(&mut *sink) {
            Some(ControlFlow::Break(())) => {
                is_stopped = true;
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    })?;
    if let Some(found) = failed {
        return Err(EngineError::Unsupported(format!("table `{}` cannot be read: {found}", shape.name)));
    }
    if let (false, Some(group)) = (is_stopped, builder.finish()) {
        let _ = sink(group);
    }
    Ok(())
}

/// A transaction that reads.
pub(super) struct Reading<'e> {
    pub state: State<'e>,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let _ = self.state.link.run("ROLLBACK", "ending a transaction");
    }
}

/// What reads by a [`State`], of one that it has or makes.
pub(super) trait Stated {
    fn with<T>(&mut self, run: impl FnOnce(&mut State<'_>) -> T) -> T;

    /// Finds what became of a table since a mark, where only this transaction changed it and that is known.
    fn own_changes(&mut self, _mark: &str, _shape: &TableShape, _rows_max: u64) -> Result<Option<Changes>, EngineError> {
        Ok(None)
    }
}

impl Stated for Reading<'_> {
    fn with<T>(&mut self, run: impl FnOnce(&mut State<'_>) -> T) -> T {
        run(&mut self.state)
    }
}

impl<S: Stated> ReadTransaction for S {
    fn schema(&mut self) -> Result<Schema, EngineError> {
        self.with(|state| state.schema())
    }

    fn settings(&mut self) -> Result<Settings, EngineError> {
        self.with(|state| state.settings())
    }

    fn shapes(&mut self) -> Result<Vec<TableShape>, EngineError> {
        self.with(|state| state.shapes())
    }

    fn row_bytes(&mut self, shape: &TableShape) -> Result<u64, EngineError> {
        self.with(|state| state.row_bytes(shape))
    }

    fn read_table(
        &mut self,
        shape: &TableShape,
        rule: CutRule,
        sink: &mut dyn FnMut(RowGroup) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        self.with(|state| state.read_table(shape, "", rule, sink))
    }

    fn parts(&mut self, shape: &TableShape, parts_max: usize) -> Result<Vec<TablePart>, EngineError> {
        self.with(|state| parts::parts(state, shape, parts_max))
    }

    fn read_part(
        &mut self,
        shape: &TableShape,
        part: &TablePart,
        rule: CutRule,
        sink: &mut dyn FnMut(RowGroup) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        self.with(|state| state.read_table(shape, &part.rows, rule, sink))
    }

    fn findings(&mut self) -> Result<Vec<Finding>, EngineError> {
        self.with(|state| state.findings())
    }

    fn query(&mut self, sql: &str, rows_max: usize) -> Result<Answer, EngineError> {
        self.with(|state| state.query(sql, rows_max))
    }

    fn stamp(&mut self) -> Result<u64, EngineError> {
        self.with(|state| state.stamp())
    }

    fn sibling(&mut self) -> Result<Option<Box<dyn ReadTransaction + Send>>, EngineError> {
        self.with(|state| Ok(state.sibling()?.map(|sibling| Box::new(sibling) as Box<dyn ReadTransaction + Send>)))
    }

    fn mark(&mut self) -> Result<Option<String>, EngineError> {
        self.with(|state| changes::mark(state))
    }

    fn changes(&mut self, mark: &str, shape: &TableShape, rows_then: u64, rows_max: u64) -> Result<Changes, EngineError> {
        if let Some(own) = self.own_changes(mark, shape, rows_max)? {
            return Ok(own);
        }
        self.with(|state| changes::changes(state, mark, shape, rows_then, rows_max))
    }
}

/// A session that sees the snapshot of another one.
pub(super) struct Sibling {
    link: Link,
    options: Options,
    version: u32,
    catalog: Arc<Catalog>,
}

impl Stated for Sibling {
    fn with<T>(&mut self, run: impl FnOnce(&mut State<'_>) -> T) -> T {
        let mut state = State::new(&self.link, &self.options, self.version, None);
        *state.catalog.borrow_mut() = Some(Arc::clone(&self.catalog));
        run(&mut state)
    }
}
