//! Tests through the built binary, on real databases, one module a topic.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a test panics where it fails, and says which case it was")]

mod bad_input;
mod check;
mod cli;
#[cfg(all(unix, feature = "postgres"))]
mod cluster;
mod contract;
mod crash;
mod damage;
mod databases;
mod demo;
mod diff;
mod drill;
mod encryption;
mod export;
#[cfg(target_os = "linux")]
mod faults;
#[cfg(unix)]
mod files;
mod forget;
mod gc;
mod golden;
mod guards;
mod hooks;
#[cfg(unix)]
mod interrupted;
mod kills;
#[cfg(target_os = "linux")]
mod lost_writes;
mod migrate;
mod npm;
mod oracle;
mod pages;
#[cfg(target_os = "linux")]
mod pairs;
mod partial_restore;
#[cfg(all(target_os = "linux", feature = "postgres"))]
mod pg_kills;
#[cfg(all(unix, feature = "postgres"))]
mod postgres;
mod property;
mod query;
mod reading;
mod rehearse;
mod restoring;
mod rollback;
mod sandbox;
mod servers;
mod store;
mod tidy;
mod tools;
mod undo;
mod verdict;
mod verifying;
