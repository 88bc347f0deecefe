//! What dbelay costs on a PostgreSQL database, against reading it and against its peers, alternately in one run on a private server with the usual
//! settings.
//!
//! The database is TPC-H with its keys; `DBELAY_BENCH_SCALE` is the scale factor (1, which is about 2 GB), `DBELAY_BENCH_ROUNDS` the number of rounds
//! (3; peers that are slow run in the first only), and `DBELAY_BENCH_STRICT` makes a missed bar a failure.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a benchmark that cannot go on has no result")]

#[cfg(unix)]
#[allow(dead_code, reason = "the tests need more of it")]
#[path = "../tests/it/cluster.rs"]
mod cluster;
#[cfg(unix)]
#[path = "postgres/server.rs"]
mod server;
#[cfg(unix)]
#[path = "shared/mod.rs"]
mod shared;

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
fn main() {
    shared::process::serve();
    if shared::environment::is_bench() && cfg!(feature = "postgres") {
        server::run();
    }
}
