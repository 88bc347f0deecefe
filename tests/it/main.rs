//! Tests through the built binary, on real databases, one module a topic.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that panics has failed, which is what it is for")]

mod bad_input;
mod cli;
mod contract;
mod crash;
mod databases;
mod demo;
mod diff;
mod migrate;
mod oracle;
mod property;
mod rollback;
mod sandbox;
mod store;
mod tidy;
mod undo;
