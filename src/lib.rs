//! # dbelay: architecture
//!
//! dbelay takes an exact picture of a database before a migration command runs, another one after it, says what
//! really happened to schema and rows, and puts the old state back when it went wrong. The pictures live in a
//! content-addressed store, so that between migrations the same machinery is git for table data.
//!
//! ## Code map
//! - [`id`], [`value`], [`rows`], [`schema`]: the plain words that everything rests on: object ids, one cell, a row group
//!   in memory and the rule that cuts it, the neutral schema and its comparison. Pure.
//! - [`engine`]: the boundary to a database, object-safe traits over that plain data; one folder an engine below it: [`engine::sqlite`],
//!   [`engine::postgres`] (a cargo feature).
//! - [`store`]: objects, packs, snapshot files, tags, pins, operation log, lock, leases, gc, fsck, encryption. Knows bytes, never SQL.
//! - [`snapshot`]: the format above the store: manifests, trees of row groups, building, comparing and walking over them; retention.
//! - [`check`]: rules about migrations that have not run yet, one a file, asked of the live data. Pure.
//! - [`render`]: a comparison as text, JSON, CSV or a page, and the report of a migration. Pure.
//! - [`ops`]: the verbs. The only modules that see both a database and the store.
//! - [`source`], [`config`]: which database, and what `dbelay.toml` says. [`git`]: which branch and commit are checked out.
//! - [`files`]: the folder whose files are kept with a database: which are meant, and how they are written back.
//! - [`hooks`]: what `init --hooks` adds to files that are not ours. Pure.
//! - [`process`]: runs a command, passes signals on, ends it in time; [`process::namespace`] gives it a view of its own of the database's folder.
//! - [`durable`]: the only rename and fsync. [`progress`]: the library reports, never prints.
//! - The binary (`src/main.rs`, `src/cli/`) parses, prints, and is the only reader of clock, environment and randomness.
//!
//! ## Invariants, as absences
//! - The store imports no engine, schema or snapshot; an engine imports neither the store nor another engine.
//! - A server's database is read in one transaction and changed in one transaction; nothing is left in it, not even on a crash.
//! - Render and check do no I/O. The library prints nothing, and reads neither the time of day nor the environment.
//! - No file is renamed or synced outside [`durable`]; nothing in the store is changed once written, but for the
//!   operation log, which only grows. What is deleted, and what takes its place where a store is encrypted or repaired, follows the order that
//!   [`store`] specifies.
//! - A database is never restored by exchanging its file: always through its engine, in one transaction. What is no database any more, and only
//!   that, gets another name first, and a new file is filled in the same way ([`ops::rollback::recreate`]).
//!
//! `tests/it/tidy.rs` reads the imports and fails on what this page does not allow.

pub mod check;
pub mod config;
pub mod durable;
pub mod engine;
pub mod files;
pub mod git;
pub mod hooks;
pub mod id;
pub mod ops;
pub mod process;
pub mod progress;
pub mod render;
pub mod rows;
pub mod schema;
pub mod snapshot;
pub mod source;
pub mod store;
pub mod value;
