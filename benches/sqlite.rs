//! What dbelay costs on SQLite databases, against copying them and against its peers, alternately in one run.
//!
//! Two databases: TPC-H (`DBELAY_BENCH_SCALE` is the scale factor, 1), and one like an application's (`DBELAY_BENCH_APP` is its factor, 1, which
//! is about 370 MB; 0 leaves it out, as it leaves out TPC-H). In each round (`DBELAY_BENCH_ROUNDS`, 3) each contender runs once; peers that are slow
//! run in the first only. Everything is in the page cache. `DBELAY_BENCH_FOLDER` names a folder that keeps the databases for the next run,
//! `DBELAY_BENCH_STRICT` makes a missed bar of TPC-H a failure, and `DBELAY_BENCH_DOLTLITE` takes doltlite from PyPI as one more peer.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a benchmark that cannot go on has no result")]

#[path = "shared/mod.rs"]
mod shared;

use shared::database::{Database, Wide};
use shared::environment::{Folder, is_bench, judge, read};
use shared::peers::Peers;
use shared::stage::{COPY, Stage};
use shared::{app, bars, doltlite, process, table, tpch};

/// Up to which size a rehearsal is measured too.
const REHEARSED_BYTES_MAX: u64 = 500_000_000;

fn main() {
    process::serve();
    if !is_bench() {
        return;
    }
    let folder = Folder::open();
    let rounds = read("DBELAY_BENCH_ROUNDS", 3);
    let peers = Peers::find();
    println!("Peers: {}. Not installed: {}.\n", list(&peers.versions), list(&peers.missing));
    let (scale, factor) = (read("DBELAY_BENCH_SCALE", 1.0), read("DBELAY_BENCH_APP", 1.0));
    let mut missed = 0;
    if scale > 0.0 {
        missed += run(&folder, tpch::sqlite(folder.path(), scale), &peers, rounds);
    }
    if factor > 0.0 {
        // The bars are those of TPC-H; how this one stands to them is only shown.
        run(&folder, app::sqlite(folder.path(), factor), &peers, rounds);
    }
    judge(missed);
}

/// Measures a database and prints its tables; returns how many bars are missed.
fn run(folder: &Folder, database: Database, peers: &Peers, rounds: usize) -> usize {
    println!("## {}: {}, {rounds} rounds\n", database.title, table::size(database.bytes() as f64));
    let mut stage = Stage::new(database, folder.work());
    for at in 0..rounds {
        stage.results.round = at;
        round(&mut stage, peers, at == 0);
    }
    doltlite::measure(&mut stage, folder.path());
    let missed = table::print_bars(&bars::sqlite(&stage.results));
    table::print_results(&stage.results, COPY);
    missed
}

fn round(stage: &mut Stage, peers: &Peers, is_first: bool) {
    stage.copy();
    peers.copies(stage);
    stage.first();
    stage.unchanged();
    if is_first {
        peers.dumps(stage);
        peers.keep(stage);
    }
    stage.updated();
    stage.diffs();
    if is_first {
        peers.keep_changed(stage);
        peers.compares(stage);
    }
    stage.rolled_back();
    stage.status();
    if is_first {
        peers.restores(stage);
    }
    let original = stage.database.path.clone();
    stage.put(Some("cp back"), &original);
    stage.migrated();
    if is_first && stage.database.bytes() < REHEARSED_BYTES_MAX {
        stage.rehearsed();
    }
    stage.column_added();
    for wide in [Wide::Column, Wide::Dropped, Wide::Churn] {
        stage.widely_changed(wide);
    }
}

fn list(words: &[impl AsRef<str>]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}
