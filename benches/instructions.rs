//! How many instructions the hot loops take for a byte of JSON, so that a regression shows on a machine whose times do not.
//!
//! Each loop runs under valgrind, a few times and some more times, and the difference is what counts: neither the start of the process nor the making
//! of the data is in it. The figures are compared with those in `instructions.json`, which `DBELAY_BENCH_WRITE` writes anew. More than
//! 5 % above is a regression, which `DBELAY_BENCH_STRICT` makes a failure.
//!
//! Valgrind has no instructions for SHA, so the id of a chunk is computed in software there, and everything that computes ids looks dearer than it is.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a benchmark that cannot go on has no result")]

#[path = "instructions/cases.rs"]
mod cases;
#[path = "shared/mod.rs"]
mod shared;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use cases::{CASES, TIMES_MAX};
use shared::environment::{is_bench, is_set, judge, read};
use shared::process::version;
use shared::table;

/// The argument after which the name of a case stands, and how many times it is to run.
const CASE: &str = "--case";

/// How many times a case runs, and then again.
const TIMES: (usize, usize) = (1, TIMES_MAX);

/// What is no regression yet.
const TOLERANCE: f64 = 0.05;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, name, times] = arguments.as_slice()
        && first == CASE
    {
        let (_, case) = CASES.iter().find(|(known, _)| known == name).unwrap();
        println!("{}", case(times.parse().unwrap()));
        return;
    }
    if !is_bench() {
        return;
    }
    let Some(valgrind) = version("valgrind", "--version") else {
        println!("skipped: valgrind is not installed");
        return;
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.json");
    let mut known: BTreeMap<String, f64> =
        std::fs::read(&path).map_or_else(|_| BTreeMap::new(), |json| serde_json::from_slice(&json).unwrap());
    let only: String = read("DBELAY_BENCH_ONLY", String::new());
    println!("Instructions for a byte of JSON, {valgrind}\n\n| | measured | committed | |\n|---|---|---|---|");
    let mut missed = 0;
    for (name, _) in CASES.iter().filter(|(name, _)| name.contains(&only)) {
        let (few, _) = count(name, TIMES.0);
        let (more, bytes) = count(name, TIMES.1);
        let measured = (more - few) / (TIMES.1 - TIMES.0) as f64 / bytes;
        let committed = known.insert((*name).to_owned(), (measured * 1e3).round() / 1e3);
        let change = committed.map(|committed| measured / committed - 1.0);
        let verdict = match change {
            None => "new".to_owned(),
            Some(change) if change > TOLERANCE => format!("**{:+.1} %: a regression**", change * 100.0),
            Some(change) => format!("{:+.1} %", change * 100.0),
        };
        missed += usize::from(change.is_some_and(|change| change > TOLERANCE));
        println!("| {name} | {} | {} | {verdict} |", table::short(measured), committed.map_or_else(|| "-".to_owned(), table::short));
    }
    if is_set("DBELAY_BENCH_WRITE") {
        std::fs::write(&path, serde_json::to_string_pretty(&known).unwrap() + "\n").unwrap();
        println!("\nwritten to {}", path.display());
    } else {
        judge(missed);
    }
}

/// Runs a case under valgrind; returns its instructions, and the bytes that it goes over each time.
fn count(name: &str, times: usize) -> (f64, f64) {
    let mut command = Command::new("valgrind");
    command.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]);
    command.arg(std::env::current_exe().unwrap()).args([CASE, name, &times.to_string()]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let line = said.lines().find(|line| line.contains("refs:")).unwrap();
    let digits: String = line.split("refs:").nth(1).unwrap().chars().filter(char::is_ascii_digit).collect();
    (digits.parse().unwrap(), String::from_utf8_lossy(&output.stdout).trim().parse().unwrap())
}
