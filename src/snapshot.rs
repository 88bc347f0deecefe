//! The snapshot format.

pub mod changes;
pub mod manifest;
