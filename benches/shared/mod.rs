//! What several benchmarks need: databases to measure on, runs of processes and what they cost, peers, and tables in Markdown.
//!
//! A benchmark that cannot go on has no result, so whatever fails here ends it.

#![allow(dead_code, reason = "each benchmark needs a part of it")]

pub mod app;
pub mod bars;
pub mod database;
pub mod doltlite;
pub mod environment;
pub mod peers;
pub mod process;
pub mod results;
pub mod stage;
pub mod table;
pub mod tpch;
