//! doltlite: Dolt's tables in an engine that takes the place of SQLite. Taken from PyPI where `DBELAY_BENCH_DOLTLITE` asks for it, since that needs a
//! network.

use std::path::Path;
use std::process::{Command, Stdio};

use super::environment::is_set;
use super::process::{Cost, succeed};
use super::stage::Stage;

/// The version that is taken.
const PACKAGE: &str = "doltlite==0.51.3";

/// What measures it.
const SCRIPT: &str = include_str!("on_doltlite.py");

/// Measures it, once, with its package in the folder. It works on rows that are written into its own file first; its times are those of its
/// statements, without the start of a process.
pub fn measure(stage: &mut Stage, folder: &Path) {
    if !is_set("DBELAY_BENCH_DOLTLITE") {
        return;
    }
    let environment = folder.join("doltlite");
    let python = environment.join("bin/python");
    if !python.exists() {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&environment));
        succeed(Command::new(&python).args(["-m", "pip", "install", "--quiet", PACKAGE]));
    }
    let (script, repository) = (stage.path("on_doltlite.py"), stage.path("doltlite.db"));
    std::fs::write(&script, SCRIPT).unwrap();
    let changes = stage.database.changes;
    let mut command = Command::new(&python);
    command.arg(&script).arg(&stage.database.path).arg(&repository).args([changes.table, changes.cell.0, changes.cell.1]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, seconds, bytes] = fields.as_slice() else { panic!("{line}") };
        let name = format!("doltlite {name}");
        stage.results.add(&name, Cost { seconds: seconds.parse().unwrap(), ..Cost::default() });
        stage.results.add_stored(&name, bytes.parse::<i64>().unwrap().max(0).unsigned_abs());
    }
    std::fs::remove_file(repository).unwrap();
}
