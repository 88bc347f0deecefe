//! How cost grows with the size of a database: TPC-H in SQLite of 10 MB, 100 MB and 1 GB, and of 10 GB where `DBELAY_BENCH_LARGEST` is set, which
//! needs 30 GB of room.
//!
//! `DBELAY_BENCH_ROUNDS` is the number of rounds (3; the largest has one), `DBELAY_BENCH_FOLDER` a folder that keeps the databases for the next run.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a benchmark that cannot go on has no result")]

#[path = "shared/mod.rs"]
mod shared;

use shared::environment::{Folder, is_bench, is_set, read};
use shared::stage::{COPY, DIFF, FIRST, ROLLBACK, Stage, UNCHANGED, UPDATED};
use shared::{bars, process, table, tpch};

/// Scale factors, from 10 MB to 1 GB.
const SCALES: [f64; 3] = [0.008, 0.08, 0.8];

/// The scale factor of 10 GB.
const LARGEST: f64 = 8.0;

fn main() {
    process::serve();
    if !is_bench() {
        return;
    }
    let folder = Folder::open();
    let rounds = read("DBELAY_BENCH_ROUNDS", 3);
    let largest = is_set("DBELAY_BENCH_LARGEST").then_some(LARGEST);
    let columns = [COPY, FIRST, UNCHANGED, UPDATED, DIFF, ROLLBACK];
    println!("Seconds, medians of {rounds} rounds, and the most memory of any.\n");
    println!("| database | {} | store | added by the updates | peak memory |", columns.join(" | "));
    println!("|{}", "---|".repeat(columns.len() + 4));
    for scale in SCALES.into_iter().chain(largest) {
        let database = tpch::sqlite(folder.path(), scale);
        let size = table::size(database.bytes() as f64);
        let mut stage = Stage::new(database, folder.work());
        let rounds = if scale < LARGEST { rounds } else { 1 };
        for at in 0..rounds {
            stage.results.round = at;
            stage.copy();
            stage.first();
            stage.unchanged();
            stage.updated();
            stage.diffs();
            stage.rolled_back();
        }
        let results = &stage.results;
        let seconds = |name: &&str| results.find(name).and_then(|measure| measure.seconds()).map(|spread| table::short(spread.median));
        let seconds: Vec<String> = columns.iter().map(|name| seconds(name).unwrap_or_default()).collect();
        let stored = |name: &str| table::size(results.stored(name).unwrap_or_default());
        println!("| {size} | {} | {} | {} | {:.0} MB |", seconds.join(" | "), stored(FIRST), stored(UPDATED), bars::peak(results));
    }
}
