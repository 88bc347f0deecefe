//! The boundary to a database.
//!
//! An engine reads a consistent state as plain data ([`Schema`], [`TableShape`], [`RowGroup`]) and changes a database by plain
//! steps, in one transaction, through the database's own software. It knows nothing of snapshots or the store. Everything
//! that is the same for all engines (what to change, in which order, and the proof) is decided in `ops`.

#[cfg(feature = "postgres")]
pub mod postgres;
pub mod since;
pub mod sqlite;

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::rows::{CutRule, EditedColumn, RowGroup, TableShape, Then};
use crate::schema::{Schema, SchemaObject, Settings};
use crate::value::Value;
use since::{Extent, FoundSince, History};

/// An error from anywhere, as the cause of another.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What stopped an engine. Whatever it was but [`EngineError::Uncertain`], an open transaction is rolled back when it is dropped.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is no database at this place.
    #[error("there is no database at `{0}`")]
    Missing(String),
    /// There is something, and it cannot be opened.
    #[error("`{place}` cannot be opened: {reason}")]
    Unreadable {
        /// The place.
        place: String,
        /// The system's words.
        reason: String,
    },
    /// The file is something else.
    #[error("`{place}` is not a {engine} database: {reason}")]
    NotADatabase {
        /// The place.
        place: String,
        /// The engine's name.
        engine: &'static str,
        /// What was found instead.
        reason: String,
    },
    /// Others held the database longer than the wait.
    #[error("the database is locked by another process{who} (waited {waited_ms} ms)")]
    Locked {
        /// Who, as far as it can be known, with a leading blank; else empty.
        who: String,
        /// How long the engine waited.
        waited_ms: u64,
    },
    /// The database may not be written.
    #[error("the database cannot be written: {0}")]
    ReadOnly(String),
    /// There is no room left.
    #[error("no space left while writing the database")]
    Full,
    /// The database contradicts itself.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// A library that the configuration names cannot be loaded.
    #[error("the extension `{}` cannot be loaded", path.display())]
    Extension {
        /// The library.
        path: std::path::PathBuf,
        /// The database's own words.
        source: BoxError,
    },
    /// Something in the database is beyond what the engine can do.
    #[error("{0}")]
    Unsupported(String),
    /// What was handed over of a table is void: it is to be read anew, at once ([`ReadTransaction::read_table`]).
    #[error("{0}")]
    Void(String),
    /// A statement failed.
    #[error("{doing} failed")]
    Statement {
        /// What was being done, with the object's name.
        doing: String,
        /// The database's own words.
        source: BoxError,
    },
    /// Rows cannot be written, because something that their table needs is not there.
    #[error("{0}")]
    Lacks(Obstacle),
    /// The connection was lost, or the disk failed, while changes were made durable, and whether they are cannot be found out.
    #[error("the connection was lost or the disk failed while the changes were committed, and whether they were is not known")]
    Uncertain,
    /// What was to be written could not be had.
    #[error("reading what is to be written failed")]
    Input(#[source] BoxError),
}

impl EngineError {
    /// Tells whether there is no database that could be read: it is gone, or what stands there is none, or no sound one.
    pub fn is_no_database(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::NotADatabase { .. } | Self::Damaged(_))
    }
}

/// Names the settings of a state that its engine would not take; of an engine that is not known here none.
pub fn odd_settings(engine: &str, settings: &Settings) -> Vec<String> {
    match engine {
        "sqlite" => sqlite::settings::odd(settings),
        #[cfg(feature = "postgres")]
        "postgres" => postgres::settings::odd(settings),
        _ => Vec::new(),
    }
}

/// Something wrong in a database, found by the engine's own checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which check: `integrity` (damage), `foreign_key`, `constraint` (rows that their own table would refuse), `index` (keys that another
    /// version computed), `unchecked` (what could not be checked), and, from `ops`, `unwritable`.
    pub check: String,
    /// The table, where it is known.
    pub table: Option<String>,
    /// The finding in words.
    pub message: String,
    /// How many rows it concerns; 1 where it is not about rows.
    pub count: u64,
}

/// The answer to a question in SQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The columns' names, in order.
    pub columns: Vec<String>,
    /// The rows, in the order in which the engine gave them.
    pub rows: Vec<Vec<Value>>,
    /// Whether there were more rows.
    pub is_cut: bool,
}

/// What became of a table's rows since a mark.
#[derive(Debug)]
pub enum Changes {
    /// Nobody can tell.
    Unknown,
    /// These rows are there that were not there as they are, in the table's own order; and so many are gone of those that were there then, rows that
    /// were changed among them. Neither: the table is what it was.
    Rows {
        /// Complete rows of the shape.
        new: Vec<RowGroup>,
        /// How many rows are gone.
        gone: u64,
        /// The keys of rows that may be gone, where they are known: the canonical JSON of their identity cells, joined by commas. Those of `new` need
        /// not be among them.
        keys: Vec<Vec<u8>>,
    },
}

/// Something that a schema needs and this engine lacks, so that a table cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// The table.
    pub table: String,
    /// The object that needs it, with its kind: ``index `by_name` ``.
    pub object: String,
    /// What is missing, in the database's words: ``no such collation sequence: unicase``.
    pub missing: String,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { table, object, missing } = self;
        write!(f, "the rows of table `{table}` cannot be written: {object} needs what this engine does not have ({missing})")
    }
}

/// A database that can be opened for reading and writing. One transaction at a time.
pub trait Engine: Send {
    /// Returns the engine's name: `sqlite`.
    fn name(&self) -> &'static str;

    /// Begins a transaction that sees one committed state, whatever others write meanwhile. What a database changes outside of transactions (where
    /// a sequence stands) is as it is when it is read.
    ///
    /// # Errors
    /// [`EngineError::Missing`], [`EngineError::NotADatabase`], [`EngineError::Locked`]. A retry is safe.
    fn begin_read(&mut self) -> Result<Box<dyn ReadTransaction + '_>, EngineError>;

    /// Begins a transaction that keeps every other writer of rows out until it ends. Triggers and foreign key actions are off in it.
    ///
    /// # Errors
    /// As [`Engine::begin_read`], and [`EngineError::ReadOnly`]. A retry is safe.
    fn begin_write(&mut self) -> Result<Box<dyn WriteTransaction + '_>, EngineError>;

    /// Returns how the database keeps its journal, where that is a property of its place and not of its state (`wal`, `delete`); none where an
    /// engine knows no such thing.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn journal_mode(&mut self) -> Result<Option<String>, EngineError>;

    /// Makes the database keep its journal so. Others must not hold it.
    ///
    /// # Errors
    /// [`EngineError::Locked`], [`EngineError::Unsupported`] where it stays as it is.
    fn set_journal_mode(&mut self, mode: &str) -> Result<(), EngineError>;

    /// Finds what keeps this engine from making these tables of a schema and writing their rows: functions, collations and modules that
    /// are not there. The database itself is not looked at.
    ///
    /// # Errors
    /// Only where nothing can be tried at all.
    fn obstacles(&mut self, target: &Schema, shapes: &[TableShape]) -> Result<Vec<Obstacle>, EngineError>;

    /// Runs all of the engine's own checks on a scratch database, and writes one generated row into each of its ordinary tables, in a transaction that
    /// is rolled back. Triggers do not fire in it.
    ///
    /// # Errors
    /// [`EngineError::Unsupported`] where the engine has no such thing; the database's.
    fn try_out(&mut self, schema: &Schema) -> Result<Tryout, EngineError> {
        let _ = schema;
        Err(EngineError::Unsupported(format!("{} databases are not tried out", self.name())))
    }
}

/// What became of a database that was tried out.
#[derive(Debug, Clone, Default)]
pub struct Tryout {
    /// What the engine's checks found.
    pub findings: Vec<Finding>,
    /// What became of each table's row.
    pub trials: Vec<Trial>,
}

/// The row that was to be written into a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// The table.
    pub table: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: TrialOutcome,
}

/// What became of a row that was made up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "why")]
pub enum TrialOutcome {
    /// It was taken.
    Written,
    /// A constraint refused it, which a row that was made up may deserve.
    NotWritten(String),
    /// It was refused in a way that shows damage.
    Failed(String),
}

/// One committed state of a database; in a [`WriteTransaction`], with the changes made so far.
pub trait ReadTransaction {
    /// Reads what the database declares. Where the engine has a catalogue of facts, a transaction that writes may know them alone, without the
    /// statements and in no order ([`Schema::contradicted_by`]).
    fn schema(&mut self) -> Result<Schema, EngineError>;

    /// Reads the settings that belong to the state.
    fn settings(&mut self) -> Result<Settings, EngineError>;

    /// Returns the shape of each table with rows of its own, the engine's own tables among them, in an order that is the same for the same schema.
    fn shapes(&mut self) -> Result<Vec<TableShape>, EngineError>;

    /// Estimates the mean bytes of canonical JSON a row, from a sample; 0 for an empty table.
    fn row_bytes(&mut self, shape: &TableShape) -> Result<u64, EngineError>;

    /// Reads a table in its own order, cut by the rule, and hands over one group after another until there are no more or the
    /// sink breaks.
    fn read_table(
        &mut self,
        shape: &TableShape,
        rule: CutRule,
        sink: &mut dyn FnMut(RowGroup) -> ControlFlow<()>,
    ) -> Result<(), EngineError>;

    /// Tells whether this transaction reads tables whole ([`ReadTransaction::read_table`]). One that stands beside another may read parts alone.
    fn reads_tables(&self) -> bool {
        true
    }

    /// Splits a table with a key into consecutive parts of about the same size, at most so many, that can be read side by side; none where that cannot
    /// be done, or would not help.
    ///
    /// # Errors
    /// The database's.
    fn parts(&mut self, shape: &TableShape, parts_max: usize) -> Result<Vec<TablePart>, EngineError> {
        let _ = (shape, parts_max);
        Ok(Vec::new())
    }

    /// Reads a part of a table as if it were the whole table, as [`ReadTransaction::read_table`] does.
    ///
    /// # Errors
    /// As there, and [`EngineError::Void`].
    fn read_part(
        &mut self,
        shape: &TableShape,
        part: &TablePart,
        rule: CutRule,
        sink: &mut dyn FnMut(RowGroup) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let _ = (part, rule, sink);
        Err(EngineError::Unsupported(format!("table `{}` is not read in parts", shape.name)))
    }

    /// Returns another transaction that sees the same state and can be used beside this one; none where the engine has no such thing, or it would not
    /// help.
    ///
    /// # Errors
    /// Where it cannot be begun.
    fn sibling(&mut self) -> Result<Option<Box<dyn ReadTransaction + Send>>, EngineError> {
        Ok(None)
    }

    /// Returns a mark of the state that this transaction sees, for [`ReadTransaction::changes`] of later ones; none where the engine has no
    /// such thing. In a transaction that writes: before it has written.
    ///
    /// # Errors
    /// The database's.
    fn mark(&mut self) -> Result<Option<String>, EngineError> {
        Ok(None)
    }

    /// Finds what became of a table since a mark, when it had so many rows and the same declaration. At most `rows_max` new rows are handed over; of
    /// more nobody can tell.
    ///
    /// # Errors
    /// The database's.
    fn changes(&mut self, mark: &str, shape: &TableShape, rows_then: u64, rows_max: u64) -> Result<Changes, EngineError> {
        let _ = (mark, shape, rows_then, rows_max);
        Ok(Changes::Unknown)
    }

    /// Takes what [`ReadTransaction::memory`] gave in an earlier transaction: of this database, of what it was then, or of any other. What is of no use is
    /// passed over. In a transaction that writes only what [`WriteTransaction::starts_as_remembered`] named is of use, and it writes no more from then on.
    fn remember(&mut self, memory: &[u8]) {
        let _ = memory;
    }

    /// Says that what was given to [`ReadTransaction::remember`] is of the very state that this transaction sees.
    fn sees_remembered(&mut self) {}

    /// Finds what became of a table since a memory: `key` is what it was remembered under, and `groups` how many rows its row groups had. Returns the numbers of
    /// those that are to be read again, in order; a column that was added behind the others since, and has its default in every row, makes no
    /// group another. None where nobody can tell.
    ///
    /// # Errors
    /// The database's.
    fn stale(&mut self, shape: &TableShape, key: &str, groups: &[u64]) -> Result<Option<Vec<usize>>, EngineError> {
        let _ = (shape, key, groups);
        Ok(None)
    }

    /// Finds the columns of a group that [`ReadTransaction::stale`] named which have other values than then; `then` is asked for what was, of it and its neighbours. None
    /// where it is not sure that the group has its rows as then, with the same keys, or what they have: it is to be read whole.
    ///
    /// # Errors
    /// As [`ReadTransaction::read_part`].
    fn read_edited(&mut self, shape: &TableShape, group: usize, then: Then<'_>) -> Result<Option<Vec<EditedColumn>>, EngineError> {
        let _ = (shape, group, then);
        Ok(None)
    }

    /// Reads the rows from a group on that [`ReadTransaction::stale`] named, here or in the transaction that this one stands beside, up to where a group
    /// begins as one did then; returns which, or how many there were.
    ///
    /// # Errors
    /// As [`ReadTransaction::read_part`].
    fn read_stale(
        &mut self,
        shape: &TableShape,
        rule: CutRule,
        group: usize,
        sink: &mut dyn FnMut(RowGroup) -> ControlFlow<()>,
    ) -> Result<usize, EngineError> {
        let _ = (rule, group, sink);
        Err(EngineError::Void(format!("nothing is known of table `{}`", shape.name)))
    }

    /// Returns what is worth remembering of the tables that were read, each under the key that is given beside its name; none where the engine has no such thing.
    ///
    /// # Errors
    /// The database's.
    fn memory(&mut self, keys: &[(&str, String)]) -> Result<Option<Vec<u8>>, EngineError> {
        let _ = keys;
        Ok(None)
    }

    /// Says what was not read in the quickest way, and why: for whoever wants to know.
    fn remarks(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Runs the engine's own checks: structure and foreign keys. Findings come in the engine's order, at most 100 a check.
    fn findings(&mut self) -> Result<Vec<Finding>, EngineError>;

    /// Runs those of its own checks that a migration can wait for, before it begins. Tells whether these were all.
    ///
    /// # Errors
    /// The database's.
    fn look_over(&mut self) -> Result<(Vec<Finding>, Extent), EngineError> {
        Ok((self.findings()?, Extent::All))
    }

    /// Finds damage, and references that point nowhere now and did not at another time, at a cost that follows what became of the database since.
    /// Of the tables with such references all that point nowhere are told.
    ///
    /// # Errors
    /// The database's.
    fn findings_since(&mut self, history: &dyn History) -> Result<Vec<FoundSince>, EngineError> {
        let _ = history;
        let is_meant = |finding: &Finding| matches!(finding.check.as_str(), "integrity" | "foreign_key");
        Ok(self.findings()?.into_iter().filter(is_meant).map(|finding| FoundSince { finding, new: None }).collect())
    }

    /// Answers a question in the engine's own SQL with at most this many rows. The question is one statement that reads.
    ///
    /// # Errors
    /// [`EngineError::Unsupported`] for a statement that is no such question, [`EngineError::Statement`] for one that fails.
    fn query(&mut self, sql: &str, rows_max: usize) -> Result<Answer, EngineError>;

    /// Returns a number that stays the same between two transactions of the same [`Engine`] value only if nobody else changed the database between
    /// them, and if nobody changed anything at its place: for a server, any of its databases.
    fn stamp(&mut self) -> Result<u64, EngineError>;
}

/// Consecutive rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePart {
    /// Which rows, in the words of the engine that split the table.
    pub rows: String,
    /// About how many bytes they take in the database.
    pub bytes: u64,
}

/// Rows on their way into a database: complete rows of a shape, or locator cells, as each method says. Large values come
/// resolved, never as [`Value::Large`].
pub type RowSource<'a> = &'a mut dyn Iterator<Item = Result<Vec<Value>, BoxError>>;

/// What a patch is applied to: a database in a transaction, or a script.
///
/// The order of calls: [`PatchTarget::alter_objects`], [`PatchTarget::drop_objects`], [`PatchTarget::create_tables`], rows,
/// [`PatchTarget::finish_schema`], [`PatchTarget::refresh`], [`PatchTarget::finish_rows`], rows of the engine's own tables,
/// [`PatchTarget::write_settings`].
pub trait PatchTarget {
    /// Takes from objects that stay, each given as it is and as it is to be, what they have too much ([`crate::schema::alter`] says which can be
    /// changed so). It may wait for [`PatchTarget::drop_objects`]; what they lack comes with [`PatchTarget::finish_schema`].
    fn alter_objects(&mut self, changes: &[(SchemaObject, SchemaObject)]) -> Result<(), EngineError> {
        if changes.is_empty() { Ok(()) } else { Err(EngineError::Unsupported("objects are made anew here".to_owned())) }
    }

    /// Drops these objects, given in creation order, and what the engine drops with them. Never fires a foreign key action.
    fn drop_objects(&mut self, objects: &[SchemaObject]) -> Result<(), EngineError>;

    /// Creates these objects, tables empty, in this order: the tables, and what an engine needs before there can be rows. Everything else of the
    /// target waits for [`PatchTarget::finish_schema`].
    fn create_tables(&mut self, objects: &[SchemaObject]) -> Result<(), EngineError>;

    /// Deletes the rows with these locator cells.
    fn delete_rows(&mut self, shape: &TableShape, locators: RowSource<'_>) -> Result<u64, EngineError>;

    /// Sets these columns (indexes into the shape) of the rows found by locator: each item holds the locator cells, then one cell a
    /// column.
    fn update_rows(&mut self, shape: &TableShape, columns: &[usize], rows: RowSource<'_>) -> Result<u64, EngineError>;

    /// Inserts complete rows, in the order in which they come.
    fn insert_rows(&mut self, shape: &TableShape, rows: RowSource<'_>) -> Result<u64, EngineError>;

    /// Deletes every row of a table.
    fn clear_table(&mut self, shape: &TableShape) -> Result<(), EngineError>;

    /// Creates what the target has besides its tables, and makes the order and the verbatim text of all objects the target's.
    fn finish_schema(&mut self, target: &Schema) -> Result<(), EngineError>;

    /// Computes the rows of a materialized view from what its query finds now.
    fn refresh(&mut self, name: &str) -> Result<(), EngineError> {
        Err(EngineError::Unsupported(format!("`{name}` cannot be refreshed")))
    }

    /// Puts back what was taken out of the way of rows, as the target has it.
    fn finish_rows(&mut self, target: &Schema) -> Result<(), EngineError> {
        let _ = target;
        Ok(())
    }

    /// Writes the settings of scope [`crate::schema::SettingScope::Exact`].
    fn write_settings(&mut self, settings: &Settings) -> Result<(), EngineError>;
}

/// A transaction that changes a database. Dropped without [`WriteTransaction::commit`], it leaves no trace.
pub trait WriteTransaction: ReadTransaction + PatchTarget {
    /// Tells whether [`ReadTransaction::schema`] has every statement in this transaction, so that a snapshot can be taken in it.
    fn has_statements(&self) -> bool {
        true
    }

    /// Says that this transaction, which has written nothing yet, sees the state of a mark: what then changed since, it changed itself.
    ///
    /// # Errors
    /// The database's.
    fn starts_as(&mut self, mark: &str) -> Result<(), EngineError> {
        let _ = mark;
        Ok(())
    }

    /// Says that this transaction, which has written nothing yet, sees the state of a memory ([`ReadTransaction::memory`]), page for page: that memory, and no other, then
    /// tells what it changed itself.
    fn starts_as_remembered(&mut self, memory: &[u8]) {
        let _ = memory;
    }

    /// Makes the changes durable.
    ///
    /// # Errors
    /// After an error the database is as it was before the transaction, but for [`EngineError::Uncertain`], after which it is that or as it was to be.
    /// Where a call failed in the transaction before, an engine may refuse; it never says that it committed what it forgot.
    fn commit(self: Box<Self>) -> Result<(), EngineError>;
}
