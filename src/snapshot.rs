//! The snapshot format, version 2, and everything that is computed from it alone.
//!
//! A snapshot is a file of the store (`snapshots/<id>.json`, id = SHA-256 of its bytes) that names objects; objects name objects.
//! All of them are JSON, written without insignificant white space, but for the chunks of files; their ids are the SHA-256 of those bytes. A field that is
//! not listed here *must* be ignored when read, so that a later version can add one; a missing one is an error unless marked `?`.
//!
//! ## Snapshot
//! | field | value |
//! |---|---|
//! | `format` | 2; a reader *must* read 1 too, and refuse a larger number |
//! | `source` | `{"engine","place"}`: the engine's name, and an absolute path or a URL without password |
//! | `time` | RFC 3339, UTC, milliseconds: when the read transaction began |
//! | `kind` | `manual`, `pre`, `post`, `failed` (left by a rolled-back migration), `safety` (before dbelay wrote itself) or `restored` (after it) |
//! | `message`? | what its maker said |
//! | `parent`? | the newest snapshot of the same source before it |
//! | `schema` | id of the schema object |
//! | `settings` | `{name: {"value","scope"}}`, scope `exact` (a rollback restores it) or `creation` (only a new database gets it) |
//! | `tables` | `[{"name","rows","manifest"}]` in creation order |
//! | `files`? | id of the files object, which `src/snapshot/files.rs` specifies: files beside the database, read after it. No part of a table, nor of what proves two states of a database equal |
//! | `origin` | `{"dbelay","user"?,"host"?,"command"?,"git"?}`, never part of a comparison; `git` is `{"branch"?,"commit"?}`, where the project's history stood |
//!
//! ## Schema object
//! The JSON of [`crate::schema::Schema`]: `objects` `[{"kind","name","table","sql"}]` in creation order with the DDL byte for byte (`sql`
//! is null for what the engine made by itself; a byte that is no part of UTF-8 is the character U+10FF80 for 0x80 and so on, and those
//! characters themselves are written byte by byte in the same way), then `tables` and `indexes` in neutral terms.
//!
//! ## Table manifest (an object)
//! | field | value |
//! |---|---|
//! | `name` | the table |
//! | `columns` | `[{"name","type","default","hidden"?,"generated"?,"digest"}]`; `default` is canonical JSON, in a string; `hidden` marks a row number that no `SELECT *` shows, always the first column; `generated` a column that the engine computed and stored |
//! | `identity` | indexes of the primary key's columns in key order, else of the row number; `[]` without either |
//! | `locator` | indexes of what addresses one row in the engine; `[]` if nothing does |
//! | `cut` | `{"rows_target"}`, see [`crate::rows`] |
//! | `rows`, `bytes` | rows, and JSON bytes of all chunks, empty slots counted as if they were stored |
//! | `depth`, `root` | levels of nodes, and the topmost node; 0 and null for an empty table |
//!
//! Generated columns that have no place in a row are not there: they follow from the others. Those that have are there, since another version
//! of the engine may compute other values; a manifest of version 1 is compared without them. A column's **digest** is the SHA-256 over its slots in table order:
//! byte 1 and the 32 bytes of the chunk's id for a stored chunk, byte 0 and the row count (64 bits, little endian) for an empty
//! slot; if there was an empty slot, then byte 2 and the default's JSON. Equal digests prove equal columns; unequal ones prove
//! nothing where the cuts or the defaults differ.
//!
//! ## Node (an object)
//! `{"groups":[{"rows","first","columns"}]}` at the bottom, `{"nodes":[{"rows","node"}]}` above. `first` is the canonical JSON of the first
//! row's identity cells, joined by commas. `columns` holds an id or null a column; null, and every slot past the end, is an *empty slot*:
//! each value is the column's default. Trailing empty slots *must* be left out, so that a column added with a constant default
//! leaves every group as it was. A node ends after at least 2 children with the one whose last row has a cut hash of at most
//! (2^64 - 1) / (R x 16^L), L being 1 at the bottom and one more a level, or after 64 children. Levels are added until one node is left.
//!
//! ## Column chunk (an object)
//! The JSON array of one column's cells in one row group; [`crate::value`] specifies a cell.
//!
//! ## Version 1
//! A manifest of version 1 has no generated column, and its schema object describes the columns of virtual tables, as their modules saw them
//! then. Both are read for ever. Which version a
//! manifest has is the `format` of the snapshot that names it.
//!
//! ## What follows
//! The same rows under the same cut rule give the same ids, whatever happened before. So equal manifest ids prove equal tables.

pub mod build;
pub mod changes;
pub mod chunks;
pub mod compare;
pub(crate) mod cores;
pub mod files;
pub mod manifest;
mod nodes;
pub mod reach;
pub mod regroup;
pub mod retention;
pub mod rowdiff;
pub mod seam;
pub mod select;
pub mod splice;
