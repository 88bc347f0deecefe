//! The npm package: packed, installed into a project, and run as people run it.

#![cfg(unix)]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::sandbox::{Sandbox, copy_folder, finish};

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("npm")
}

/// Tells whether the programs are there; where they are not, the test is skipped, and says so.
fn has(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing: Vec<_> =
        programs.iter().filter(|program| !std::env::split_paths(&path).any(|folder| folder.join(program).is_file())).collect();
    if !missing.is_empty() {
        println!("skipped: there is no {missing:?} here");
    }
    missing.is_empty()
}

/// Runs a program in a folder, with a home of its own, and no registry.
fn command(sandbox: &Sandbox, folder: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).args(arguments).env_clear().stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", sandbox.path("home")).env("TZ", "UTC");
    command.env("npm_config_registry", "http://127.0.0.1:9").env("npm_config_offline", "true").env("npm_config_update_notifier", "false");
    command
}

fn script(sandbox: &Sandbox, text: &str) -> PathBuf {
    let path = sandbox.path("fake-dbelay");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

#[test]
fn the_package_has_the_version_of_the_binary() {
    let text = std::fs::read_to_string(package().join("package.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
    for field in ["scripts", "dependencies", "optionalDependencies"] {
        assert!(document.get(field).is_none(), "nothing runs or comes along when it is installed");
    }
}

#[test]
fn the_packed_package_runs_the_binary_and_exits_as_it_does() {
    if !has(&["node", "npm", "npx", "sh"]) {
        return;
    }
    let sandbox = Sandbox::with("CREATE TABLE t(id INTEGER PRIMARY KEY)");
    let (source, project) = (sandbox.path("source"), sandbox.path("project"));
    copy_folder(&package(), &source);
    let _ = std::fs::remove_dir_all(source.join("vendor"));
    std::fs::create_dir_all(&project).unwrap();
    // Without what debuggers want it is a tenth as large to pack; where there is no `strip`, it takes longer.
    let binary = sandbox.path("dbelay");
    std::fs::copy(env!("CARGO_BIN_EXE_dbelay"), &binary).unwrap();
    let _ = Command::new("strip").arg(&binary).status();
    finish(&mut command(&sandbox, &source, "sh", &["build.sh", binary.to_str().unwrap()])).exits(0);
    let packed = finish(&mut command(&sandbox, &source, "npm", &["pack", "--pack-destination", ".."])).exits(0);
    let tarball = format!("../{}", packed.stdout.lines().last().unwrap());
    std::fs::write(project.join("package.json"), "{\"name\": \"shop\", \"private\": true}\n").unwrap();
    finish(&mut command(&sandbox, &project, "npm", &["install", "--no-audit", "--no-fund", &tarball])).exits(0);
    let npx = |arguments: &[&str]| finish(&mut command(&sandbox, &project, "npx", &[&["--no", "--", "dbelay"], arguments].concat()));
    npx(&["--version"]).exits(0).prints(&[env!("CARGO_PKG_VERSION")]);
    npx(&["--db", "../app.db", "migrate", "--", "false"]).exits(4).says(&["the migration command failed"]);
    npx(&["--no-such-option"]).exits(2);

    finish(&mut command(
        &sandbox,
        &project,
        "npx",
        &["--no", "--", "dbelay", "--db", "../app.db", "init", "--hooks", "npm", "--command", "true", "--yes"],
    ))
    .exits(0);
    finish(&mut command(&sandbox, &project, "npm", &["run", "--silent", "db:backup"])).exits(0).prints(&["snapshot"]);
    finish(&mut command(&sandbox, &project, "npm", &["run", "--silent", "db:migrate-safe"]))
        .exits(0)
        .says(&["the command changed nothing"]);
    finish(&mut command(&sandbox, &project, "npm", &["run", "--silent", "db:snapshots"])).exits(0).prints(&["manual"]);
}

#[test]
fn a_platform_without_a_binary_is_told_what_to_do() {
    if !has(&["node"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    copy_folder(&package().join("bin"), &source.join("bin"));
    let run = |binary: Option<&Path>| {
        let mut command = command(&sandbox, &source, "node", &["bin/dbelay.js", "--version"]);
        binary.map(|path| command.env("DBELAY_BINARY", path));
        finish(&mut command).exits(3)
    };
    run(None).says(&["brings no dbelay for ", "build.sh", "DBELAY_BINARY"]);
    run(Some(Path::new("nowhere"))).says(&["`nowhere` cannot be started"]);
}

#[test]
fn signals_are_passed_on_and_death_by_one_is_told() {
    if !has(&["node", "sh", "kill"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let wrapper = package().join("bin/dbelay.js").display().to_string();
    let dies = script(&sandbox, "#!/bin/sh\nkill -TERM $$\n");
    let status = command(&sandbox, &sandbox.path(""), "node", &[&wrapper]).env("DBELAY_BINARY", dies).status().unwrap();
    assert_eq!(status.signal(), Some(15), "{status}");

    let patient = script(&sandbox, "#!/bin/sh\ntrap 'exit 7' \"$1\"\necho ready\nwhile :; do sleep 0.05; done\n");
    for signal in ["TERM", "INT", "HUP"] {
        let mut command = command(&sandbox, &sandbox.path(""), "node", &[&wrapper, signal]);
        let mut child = command.env("DBELAY_BINARY", &patient).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        finish(Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()])).exits(0);
        assert_eq!(child.wait().unwrap().code(), Some(7), "{signal}");
    }
}
