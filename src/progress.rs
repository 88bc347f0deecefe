//! How the library tells that work goes on. It reports; who shows it, and whether, is the caller's affair.

/// Hears of the progress of long work. Called from one thread at a time.
pub trait Progress: Sync {
    /// A piece of work begins; `total` in `unit`s, where it is known.
    fn begin(&self, what: &str, total: Option<u64>, unit: Unit);
    /// So many more units are done.
    fn advance(&self, units: u64);
    /// The piece of work is over.
    fn finish(&self);
    /// Something that the user should know happened, and does not stop the work.
    fn warn(&self, message: &str);
    /// Something that only somebody who asks for more than the usual wants to know.
    fn detail(&self, message: &str) {
        let _ = message;
    }
}

/// What a piece of work is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Rows of tables.
    Rows,
    /// Bytes.
    Bytes,
    /// Objects of the store.
    Objects,
}

/// Hears and forgets everything.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: Option<u64>, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
    fn warn(&self, _: &str) {}
}
