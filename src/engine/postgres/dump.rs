//! The verbatim DDL of a database, through `pg_dump`.
//!
//! PostgreSQL keeps no DDL: `pg_dump` writes it anew from the catalogue, in the order in which it can be run. [`find`] chooses a program
//! that can read the server, [`run`] runs it, [`entries`] takes its text apart, one entry an object, and [`fixed_point`] mends expressions that
//! the server would not read back as it wrote them.

mod entries;
mod find;
mod fixed_point;
mod lex;
mod run;

pub use self::entries::{Entry, entries};
pub use self::find::find;
pub use self::fixed_point::fixed_point;
pub use self::run::run;
