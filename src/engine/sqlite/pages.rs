//! Reading rows from the pages of the file, past SQLite's virtual machine: many times as fast as through SQL, and on all cores.
//!
//! - Exact or not at all. Whatever is not as the file format says (<https://www.sqlite.org/fileformat2.html>) or not known here is [`Odd`], and the table is read
//!   through SQL instead, which then has the last word: a table is never read partly so and partly so.
//! - Nothing is read but under a transaction that SQLite itself holds ([`source`]). Nothing is ever written but by SQLite, which is asked to write what it would at its end.
//! - [`held`] keeps the file open, [`source`] reads pages, [`log`] knows those that are newer than the file, [`tree`] finds leaves and cells, [`record`] takes rows apart
//!   ([`layout`]), [`rows`] collects them, [`table`] reads a table whole. [`memory`] is what is kept of it, [`prints`] what of that is by column, and [`stale`] what changed since; [`undo`] says what a
//!   transaction wrote. [`structure`] checks what holds the rows.

pub(super) mod held;
mod layout;
pub(super) mod log;
mod memory;
mod prints;
mod record;
mod rows;
mod source;
mod stale;
pub(super) mod structure;
mod table;
#[cfg(test)]
mod tests;
mod tree;
mod undo;

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::read::State;
use crate::engine::{Answer, EngineError, Finding, ReadTransaction, TablePart};
use crate::rows::{CutRule, EditedColumn, RowGroup, TableShape, Then};
use crate::schema::{Schema, Settings};
use held::Held;
use log::{Log, Mark};
use memory::{Memory, TableMemory};
use source::Source;
use structure::Known;
use table::Table;

/// Why something is not read from pages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Odd(String);

impl Odd {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl From<rusqlite::Error> for Odd {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

/// The pages that a read transaction sees, and what is known of its tables.
#[derive(Debug)]
pub(super) struct Pages {
    source: Source,
    tables: Mutex<Tables>,
    /// What is remembered from before, until it is asked for.
    memory: Mutex<HashMap<String, TableMemory>>,
    /// Whether that is of what is seen now.
    is_of_now: AtomicBool,
    /// The pages that may be other than when the transaction began, where what is remembered is of then.
    changed: Option<HashSet<u32>>,
}

/// How each table is read, by its name.
type Tables = HashMap<String, Result<Arc<Table>, Odd>>;

/// Fewer leaves are not worth a part of their own.
const PART_LEAVES_MIN: usize = 256;

impl Pages {
    /// Takes the pages that a transaction sees, which has begun and stays open as long as they are used; `mark` is what it sees of a
    /// write-ahead log.
    pub fn of(state: &State<'_>, held: &Held, mark: Option<&Mark>) -> Result<Self, Odd> {
        Self::seen(state, held, mark, None)
    }

    /// Takes the pages as a transaction has written them, whose memory is to be of when it began. As long as they are used it writes no more.
    ///
    /// What it changed is written to the file for that, as it would be at its end; the journal is what undoes it.
    pub fn written(state: &State<'_>, held: &Held) -> Result<Self, Odd> {
        // A page that a statement holds is not written.
        if state.connection.is_busy() {
            return Err(Odd::new("a statement is not at its end"));
        }
        let mode: String = state.connection.pragma_query_value(Some("main"), "journal_mode", |row| row.get(0))?;
        if mode == "wal" {
            return Err(Odd::new("what is written goes into a write-ahead log"));
        }
        state.connection.cache_flush()?;
        let page_bytes: i64 = state.connection.pragma_query_value(Some("main"), "page_size", |row| row.get(0))?;
        let page_bytes = usize::try_from(page_bytes).map_err(|_| Odd::new("its pages have an odd size"))?;
        // SQLite's own name of the file, beside which it keeps the journal: ours may be a link to it.
        let database = state.connection.path().map(Path::new).ok_or_else(|| Odd::new("it has no file"))?;
        let changed = undo::changed_pages(&super::beside(database, "-journal"), page_bytes)?;
        Self::seen(state, held, None, Some(changed))
    }

    fn seen(state: &State<'_>, held: &Held, mark: Option<&Mark>, changed: Option<HashSet<u32>>) -> Result<Self, Odd> {
        let pages: i64 = state.connection.pragma_query_value(Some("main"), "page_count", |row| row.get(0))?;
        let pages = u32::try_from(pages).map_err(|_| Odd::new("it has an odd number of pages"))?;
        let mode: String = state.connection.pragma_query_value(Some("main"), "journal_mode", |row| row.get(0))?;
        // A file of which SQLite was told that it does not change is read without its log.
        let has_log = mode == "wal" && state.site.still.is_none();
        let log = match mark {
            _ if !has_log => None,
            Some(mark) => Log::of(mark, pages)?,
            None => return Err(Odd::new("what it sees of the write-ahead log could not be found out")),
        };
        let source = Source::of(Arc::clone(held.file()), log, pages, state.encoding)?;
        Ok(Self { source, tables: Mutex::default(), memory: Mutex::default(), is_of_now: AtomicBool::new(false), changed })
    }

    /// Checks the structure of the file that these pages are of ([`structure`]).
    pub fn check_structure(&self, roots: &[structure::Root]) -> Result<(), Odd> {
        let mut known = Known::none(self.source.pages());
        for table in self.tables().values().flatten() {
            table.add_known(&mut known);
        }
        if self.is_of_now.load(Ordering::Relaxed) {
            for table in self.memory.lock().unwrap_or_else(PoisonError::into_inner).values() {
                table.add_known(&mut known);
            }
        }
        structure::check(&self.source, roots, &known)
    }

    /// Takes what is remembered for what is seen now.
    pub fn sees_remembered(&self) {
        self.is_of_now.store(true, Ordering::Relaxed);
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // A thread that panicked left whole entries behind.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what an earlier transaction remembered, of this database or another.
    pub fn remember(&self, memory: &[u8]) {
        let Some(found) = Memory::of_bytes(memory) else { return };
        let now = (self.source.page_bytes() as u32, self.source.usable() as u32, self.source.encoding());
        if (found.page_bytes, found.usable, found.encoding) == now {
            *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = found.tables;
        }
    }

    /// Finds what is not what it was under a key, none where nothing is remembered, or it cannot be told.
    pub fn stale(&self, state: &State<'_>, shape: &TableShape, key: &str, groups: &[u64]) -> Option<Vec<usize>> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(key)?;
        let table = self.plan(state, shape).ok()?;
        // What is odd here is odd for whoever reads the table whole.
        table.stale(&self.source, shape, memory, groups, self.changed.as_ref()).ok().flatten()
    }

    /// Finds the columns of a stale group that have other values; see [`Table::read_edited`].
    pub fn read_edited(&self, shape: &TableShape, group: usize, then: Then<'_>) -> Result<Option<Vec<EditedColumn>>, EngineError> {
        let planned = self.tables().get(&shape.name).cloned();
        let read = || planned.unwrap_or_else(|| Err(Odd::new("it was not looked at")))?.read_edited(&self.source, shape, group, then);
        read().map_err(|odd| self.give_up(shape, odd))
    }

    /// Reads a stale group; see [`Table::read_stale`].
    pub fn read_stale(
        &self,
        shape: &TableShape,
        rule: CutRule,
        group: usize,
        sink: &mut dyn FnMut(RowGroup) -> ControlFlow<()>,
    ) -> Result<usize, EngineError> {
        let planned = self.tables().get(&shape.name).cloned();
        let read = || planned.unwrap_or_else(|| Err(Odd::new("it was not looked at")))?.read_stale(&self.source, shape, rule, group, sink);
        read().map_err(|odd| self.give_up(shape, odd))
    }

    /// Returns what is to be remembered of the tables that were read, each under the key that is given for it; and what was remembered under such a key before, of those
    /// that nobody asked for.
    pub fn memory(&self, keys: &[(&str, String)]) -> Vec<u8> {
        let planned = self.tables();
        let mut earlier = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = |(name, key): &(&str, String)| {
            let memory = match planned.get(*name) {
                Some(read) => read.as_ref().ok()?.memory()?,
                None => earlier.remove(key)?,
            };
            Some((key.clone(), memory))
        };
        let (page_bytes, usable) = (self.source.page_bytes() as u32, self.source.usable() as u32);
        Memory { page_bytes, usable, encoding: self.source.encoding(), tables: keys.iter().filter_map(&mut table).collect() }.into_bytes()
    }

    /// Makes a table one to be read through SQL.
    fn give_up(&self, shape: &TableShape, odd: Odd) -> EngineError {
        let why = odd.to_string();
        self.tables().insert(shape.name.clone(), Err(odd));
        EngineError::Void(format!("the pages of table `{}` are not as expected: {why}", shape.name))
    }

    /// Finds out how a table is read.
    fn plan(&self, state: &State<'_>, shape: &TableShape) -> Result<Arc<Table>, Odd> {
        if let Some(known) = self.tables().get(&shape.name) {
            return known.clone();
        }
        let found = Table::of(state, &self.source, shape).map(Arc::new);
        self.tables().insert(shape.name.clone(), found.clone());
        found
    }

    /// Splits a table into parts; none where it is to be read through SQL.
    pub fn parts(&self, state: &State<'_>, shape: &TableShape, parts_max: usize) -> Vec<TablePart> {
        let Ok(table) = self.plan(state, shape) else { return Vec::new() };
        let leaves = table.leaves.len();
        let count = (leaves / PART_LEAVES_MIN).clamp(1, parts_max.max(1));
        let page_bytes = self.source.page_bytes() as u64;
        let part = |at: usize| {
            let (from, until) = (leaves * at / count, leaves * (at + 1) / count);
            TablePart { rows: format!("{from}-{until}"), bytes: (until - from) as u64 * page_bytes }
        };
        (0..count).map(part).collect()
    }

    /// Reads a part of a table that was planned. What is odd makes the table one to be read through SQL.
    pub fn read_part(
        &self,
        shape: &TableShape,
        part: &TablePart,
        rule: CutRule,
        sink: &mut dyn FnMut(RowGroup) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let planned = self.tables().get(&shape.name).cloned();
        let read = || {
            let table = planned.unwrap_or_else(|| Err(Odd::new("it was not looked at")))?;
            let (from, until) = part.rows.split_once('-').ok_or_else(|| Odd::new("no part of it"))?;
            let number = |text: &str| text.parse::<usize>().map_err(|_| Odd::new("no part of it"));
            table.read(&self.source, shape, rule, number(from)?..number(until)?, sink)
        };
        read().map_err(|odd| self.give_up(shape, odd))
    }

    /// Says which tables are not read from pages, and why.
    pub fn remarks(&self) -> Vec<String> {
        let tables = self.tables();
        let remark = |(name, table): (&String, &Result<Arc<Table>, Odd>)| {
            table.as_ref().err().map(|why| format!("table `{name}` is read through SQL: {why}"))
        };
        let mut remarks: Vec<String> = tables.iter().filter_map(remark).collect();
        remarks.sort_unstable();
        remarks
    }
}

/// Another reader of the same pages.
pub(super) struct PageReader(pub Arc<Pages>);

impl PageReader {
    fn cannot<T>(&self) -> Result<T, EngineError> {
        Err(EngineError::Unsupported("only rows are read from pages".to_owned()))
    }
}

impl ReadTransaction for PageReader {
    fn schema(&mut self) -> Result<Schema, EngineError> {
        self.cannot()
    }

    fn settings(&mut self) -> Result<Settings, EngineError> {
        self.cannot()
    }

    fn shapes(&mut self) -> Result<Vec<TableShape>, EngineError> {
        self.cannot()
    }

    fn row_bytes(&mut self, _: &TableShape) -> Result<u64, EngineError> {
        self.cannot()
    }

    fn reads_tables(&self) -> bool {
        false
    }

    fn read_table(&mut self, shape: &TableShape, _: CutRule, _: &mut dyn FnMut(RowGroup) -> ControlFlow<()>) -> Result<(), EngineError> {
        Err(EngineError::Void(format!("table `{}` is to be read through SQL", shape.name)))
    }

    fn read_part(
        &mut self,
        shape: &TableShape,
        part: &TablePart,
        rule: CutRule,
        sink: &mut dyn FnMut(RowGroup) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        self.0.read_part(shape, part, rule, sink)
    }

    fn read_edited(&mut self, shape: &TableShape, group: usize, then: Then<'_>) -> Result<Option<Vec<EditedColumn>>, EngineError> {
        self.0.read_edited(shape, group, then)
    }

    fn read_stale(
        &mut self,
        shape: &TableShape,
        rule: CutRule,
        group: usize,
        sink: &mut dyn FnMut(RowGroup) -> ControlFlow<()>,
    ) -> Result<usize, EngineError> {
        self.0.read_stale(shape, rule, group, sink)
    }

    fn findings(&mut self) -> Result<Vec<Finding>, EngineError> {
        self.cannot()
    }

    fn query(&mut self, _: &str, _: usize) -> Result<Answer, EngineError> {
        self.cannot()
    }

    fn stamp(&mut self) -> Result<u64, EngineError> {
        self.cannot()
    }
}
