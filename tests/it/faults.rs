//! What can go wrong below a command while it runs, at every place where it can: it dies, a call fails, the disk is full.
//!
//! [`operations`] is the table of what is tried: whoever adds a command that writes adds a line there, and every test of this module takes
//! it up. By default a sample of the places is tried; `DBELAY_TEST_ALL_DEATHS=1` tries all of them, `DBELAY_TEST_OPERATION` names the only
//! operation to try, `DBELAY_TEST_SEED` chooses another sample. Figures are printed, an operation a line.
#![cfg(target_os = "linux")]

mod deaths;
mod failures;
pub mod operations;
pub mod project;
pub mod shim;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::kills::number;
use crate::property::Random;
use operations::{OPERATIONS, Operation};
use project::Project;

/// How many places of an operation are tried where not all of them are.
const SAMPLE: u64 = 5;

/// Tells whether every place is tried.
pub fn is_thorough() -> bool {
    std::env::var_os("DBELAY_TEST_ALL_DEATHS").is_some()
}

/// Chooses which of the places 1 to `count` are tried.
fn sample(count: u64, random: &mut Random) -> Vec<u64> {
    if is_thorough() || count <= SAMPLE {
        return (1..=count).collect();
    }
    // One of each stretch, so that a sample goes through the whole command.
    (0..SAMPLE).map(|part| 1 + part * count / SAMPLE + random.below(count.div_ceil(SAMPLE))).map(|place| place.min(count)).collect()
}

/// Takes every operation of the table through something in its journal modes; `run` returns how many faults it put there.
pub fn for_each_operation(what: &str, mut run: impl FnMut(&Project, &mut Random) -> u64) {
    let seed = number("DBELAY_TEST_SEED", 1);
    let only = std::env::var("DBELAY_TEST_OPERATION").ok();
    let mut random = Random::new(seed);
    let (mut all, mut failed) = (0, Vec::new());
    for (at, operation) in OPERATIONS.iter().enumerate() {
        if only.as_ref().is_some_and(|only| only != operation.name) {
            continue;
        }
        let modes: &[&str] = match (is_thorough(), at % 2) {
            (true, _) => &["delete", "wal"],
            (false, 0) => &["delete"],
            (false, _) => &["wal"],
        };
        for mode in modes {
            // One operation that fails does not keep the others from being tried: its panic has said why.
            let tried = catch_unwind(AssertUnwindSafe(|| run(&Project::new(operation, mode), &mut random)));
            match tried {
                Ok(count) => {
                    println!("{what}: {}, journal mode {mode}: {count}", operation.name);
                    all += count;
                }
                Err(_) => failed.push(format!("{}, journal mode {mode}", operation.name)),
            }
        }
    }
    println!("{what}: {all} in all (seed {seed})");
    assert!(failed.is_empty(), "{what}: these failed: {failed:#?}");
    assert!(all > 0 || only.is_some(), "nothing was tried");
}

/// Says where something happened, for messages of tests.
pub fn place(operation: &Operation, mode: &str, what: &str, at: u64) -> String {
    format!("{}, journal mode {mode}, {what} {at}", operation.name)
}
