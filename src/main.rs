//! The `dbelay` command.

fn main() {}
