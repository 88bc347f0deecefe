//! Encryption at rest, through the built binary.

use std::fs;
use std::path::Path;

use crate::oracle;
use crate::sandbox::{Run, Sandbox, copy_folder, finish};

const SQL: &str =
    "CREATE TABLE people(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO people VALUES(1,'Rumpelstilzchen'),(2,'Dornroeschen');";

fn run_with(sandbox: &Sandbox, args: &[&str], vars: &[(&str, &str)]) -> Run {
    finish(sandbox.command().args(args).envs(vars.iter().copied()))
}

fn with(sandbox: &Sandbox, password: &str, args: &[&str]) -> Run {
    run_with(sandbox, args, &[("DBELAY_PASSWORD", password)])
}

/// Makes a project whose store is encrypted, with one snapshot and a tag.
fn encrypted() -> Sandbox {
    let sandbox = Sandbox::with(SQL);
    run_with(&sandbox, &["init", "--db", "app.db", "--encrypt", "--label", "first"], &[("DBELAY_NEW_PASSWORD", "open sesame")])
        .exits(0)
        .says(&["is encrypted"]);
    with(&sandbox, "open sesame", &["snapshot", "-m", "geheimnis", "--tag", "release"]).exits(0);
    sandbox
}

fn bytes_of(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let files = walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
    files.map(|file| (file.path().display().to_string(), fs::read(file.path()).unwrap())).collect()
}

#[track_caller]
fn assert_tells_nothing(sandbox: &Sandbox, id: &str) {
    let all = bytes_of(&sandbox.path(".dbelay"));
    let words = ["Rumpelstilzchen", "people", "geheimnis", "release", "app.db", "CREATE TABLE", "sqlite"];
    for word in words.iter().map(ToString::to_string).chain([id.to_owned(), id[..16].to_owned()]) {
        for (path, bytes) in &all {
            let path = path.rsplit(".dbelay").next().unwrap();
            assert!(!path.contains(&word), "{word} in {path}");
            assert!(!bytes.windows(word.len()).any(|window| window == word.as_bytes()), "{word} in {path}");
        }
    }
}

fn head(sandbox: &Sandbox, password: &str) -> String {
    with(sandbox, password, &["show", "HEAD", "--json"]).exits(0).json()["id"].as_str().unwrap().to_owned()
}

#[test]
fn an_encrypted_store_restores_and_its_files_tell_nothing() {
    let sandbox = encrypted();
    let id = head(&sandbox, "open sesame");
    assert_tells_nothing(&sandbox, &id);
    with(&sandbox, "open sesame", &["restore", "release", "--to", "back.db"]).exits(0);
    oracle::assert_same(&sandbox.db(), &sandbox.path("back.db"));
    sandbox.sql("DELETE FROM people WHERE id=2");
    with(&sandbox, "open sesame", &["rollback", "release"]).exits(0);
    oracle::assert_same(&sandbox.path("back.db"), &sandbox.db());
    with(&sandbox, "open sesame", &["undo"]).exits(0);
    with(&sandbox, "open sesame", &["fsck", "--read-data"]).exits(0);
    assert_tells_nothing(&sandbox, &id);
}

#[test]
fn no_key_and_a_wrong_key_are_exit_12_and_change_nothing() {
    let sandbox = encrypted();
    let before = bytes_of(&sandbox.path(".dbelay"));
    for args in [&["log"][..], &["snapshot"], &["rollback", "release"], &["fsck"], &["migrate", "--", "true"], &["key", "list"]] {
        sandbox.run(args).exits(12).says(&["is encrypted", "DBELAY_PASSWORD_FILE"]);
        with(&sandbox, "wrong", args).exits(12).says(&["opens none of the 1 key"]);
    }
    let error = with(&sandbox, "wrong", &["log", "--json"]).exits(12).json();
    assert_eq!(error["error"]["kind"], "wrong_key");
    assert!(before == bytes_of(&sandbox.path(".dbelay")));
}

#[test]
fn a_passphrase_comes_from_a_file_or_a_command_and_a_key_file_by_option() {
    let sandbox = encrypted();
    fs::write(sandbox.path("words"), "open sesame\n").unwrap();
    run_with(&sandbox, &["log"], &[("DBELAY_PASSWORD_FILE", "words")]).exits(0);
    run_with(&sandbox, &["log"], &[("DBELAY_PASSWORD_COMMAND", "cat words")]).exits(0);
    run_with(&sandbox, &["log"], &[("DBELAY_PASSWORD_COMMAND", "false")]).exits(12).says(&["DBELAY_PASSWORD_COMMAND"]);
    with(&sandbox, "open sesame", &["key", "add", "--new-key-file", "shop.key", "--label", "ci"]).exits(0).says(&["shop.key"]);
    sandbox.run(&["log", "--key-file", "shop.key"]).exits(0);
    run_with(&sandbox, &["log"], &[("DBELAY_KEY_FILE", "shop.key")]).exits(0);
    sandbox.run(&["log", "--key-file", "words"]).exits(12).says(&["is no key file"]);
    let keys = sandbox.run(&["key", "list", "--key-file", "shop.key", "--json"]).exits(0).json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
}

#[test]
fn a_store_that_was_plain_becomes_an_encrypted_one_with_the_same_snapshots() {
    let sandbox = Sandbox::with(SQL);
    sandbox.dbelay(&["snapshot", "-m", "geheimnis", "--tag", "release"]).exits(0);
    sandbox.sql("UPDATE people SET name='Froschkoenig' WHERE id=2");
    sandbox.dbelay(&["snapshot"]).exits(0);
    let list = |run: Run| run.exits(0).json()["snapshots"].clone();
    let before = list(sandbox.dbelay(&["log", "--json"]));
    run_with(&sandbox, &["key", "add"], &[("DBELAY_NEW_PASSWORD", "one")]).exits(0).says(&["is encrypted"]);
    let after = run_with(&sandbox, &["log", "--json", "--db", "app.db"], &[("DBELAY_PASSWORD", "one")]);
    assert_eq!(before, list(after));
    let id = before[0]["id"].as_str().unwrap().to_owned();
    assert_tells_nothing(&sandbox, &id);
    let run = |args: &[&str]| with(&sandbox, "one", &[args, &["--db", "app.db"]].concat());
    run(&["fsck", "--read-data"]).exits(0);
    run(&["diff", "release", "HEAD", "--exit-code"]).exits(1).prints(&["Froschkoenig"]);
    run(&["op", "log"]).exits(0).prints(&["encrypted"]);
}

#[test]
fn keys_are_changed_rotated_and_removed_but_for_the_last() {
    let sandbox = encrypted();
    let first = |password: &str| {
        let keys = with(&sandbox, password, &["key", "list", "--json"]).exits(0).json();
        keys["keys"].as_array().unwrap().iter().find(|key| key["opened"] == true).unwrap()["id"].as_str().unwrap().to_owned()
    };
    with(&sandbox, "open sesame", &["key", "remove", &first("open sesame")]).exits(2).says(&["the only key"]);
    let new =
        |old: &str, new: &str, args: &[&str]| run_with(&sandbox, args, &[("DBELAY_PASSWORD", old), ("DBELAY_NEW_PASSWORD", new)]).exits(0);
    new("open sesame", "two", &["key", "add"]);
    with(&sandbox, "two", &["key", "remove", &first("open sesame")]).exits(0).says(&["key rotate"]);
    with(&sandbox, "open sesame", &["log"]).exits(12);
    new("two", "three", &["key", "change"]);
    with(&sandbox, "two", &["log"]).exits(12);
    new("three", "four", &["key", "add"]);
    let id = head(&sandbox, "three");
    with(&sandbox, "three", &["key", "rotate"]).exits(2).says(&["--yes"]);
    with(&sandbox, "three", &["key", "rotate", "--yes"]).exits(0);
    with(&sandbox, "four", &["log"]).exits(12);
    assert_eq!(head(&sandbox, "three"), id);
    with(&sandbox, "three", &["fsck", "--read-data"]).exits(0);
}

/// As [`encrypted`], by the key file `a.key`, which takes no time to open.
fn encrypted_by_file() -> Sandbox {
    let sandbox = Sandbox::with(SQL);
    sandbox.run(&["init", "--db", "app.db", "--encrypt", "--new-key-file", "a.key"]).exits(0);
    sandbox.run(&["snapshot", "--tag", "release", "--key-file", "a.key"]).exits(0);
    sandbox
}

#[test]
fn every_death_while_a_store_is_encrypted_or_its_key_exchanged_loses_nothing() {
    let plain = Sandbox::with(SQL);
    plain.run(&["init", "--db", "app.db"]).exits(0);
    plain.run(&["snapshot", "--tag", "release"]).exits(0);
    let sealed = encrypted_by_file();
    let cases: [(&str, &Sandbox, &[&str]); 3] = [
        ("encrypt", &plain, &["key", "add", "--new-key-file", "a.key"]),
        ("rotate", &sealed, &["key", "rotate", "--yes", "--key-file", "a.key"]),
        ("change", &sealed, &["key", "change", "--key-file", "a.key", "--new-key-file", "b.key"]),
    ];
    for (what, sandbox, args) in cases {
        let kept = tempfile::tempdir().unwrap();
        copy_folder(&sandbox.path(""), kept.path());
        let mut deaths = 0;
        for step in 1..200 {
            for entry in fs::read_dir(sandbox.path("")).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
            }
            copy_folder(kept.path(), &sandbox.path(""));
            let died = run_with(sandbox, args, &[("DBELAY_TEST_DIE_AT_STEP", &step.to_string())]).code != 0;
            let with = |key: &str, args: &[&str]| match key {
                "" => sandbox.run(args),
                key => sandbox.run(&[args, &["--key-file", key]].concat()),
            };
            let key = ["", "a.key", "b.key"].into_iter().find(|key| with(key, &["log"]).code == 0);
            let key = key.unwrap_or_else(|| panic!("{what}: nothing opens it after step {step}"));
            let check = |key: &str| {
                with(key, &["fsck", "--read-data"]).exits(0);
                with(key, &["restore", "release", "--to", "back.db"]).exits(0);
                oracle::assert_same(&sandbox.db(), &sandbox.path("back.db"));
                fs::remove_file(sandbox.path("back.db")).unwrap();
            };
            check(key);
            if !died {
                break;
            }
            deaths += 1;
            // The next key command goes on with what was begun; so does the one that does nothing else.
            with(key, &["key", "resume"]).exits(0);
            let keys = with(key, &["key", "list", "--json"]).exits(0).json();
            assert_eq!((&keys["encrypted"], &keys["unsettled"]), (&(!key.is_empty()).into(), &false.into()), "{what} after step {step}");
            with(key, &["key", "add", "--new-key-file", "c.key"]).exits(0);
            check("c.key");
        }
        println!("{what}: {deaths} deaths");
        assert!(deaths > 3, "{what}: {deaths} deaths");
    }
}

#[test]
fn a_sample_of_flipped_bytes_of_an_encrypted_store_is_found() {
    let sandbox = encrypted_by_file();
    let mut tried = 0;
    for (path, bytes) in bytes_of(&sandbox.path(".dbelay")) {
        if path.ends_with(".gitignore") || bytes.is_empty() || path.ends_with("/lock") || path.contains("/cache/") {
            continue;
        }
        for n in 0..10 {
            let at = (n * 7919 + tried) % bytes.len();
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, &flipped).unwrap();
            let run = sandbox.run(&["fsck", "--read-data", "--key-file", "a.key"]);
            assert!([1, 2, 3, 12].contains(&run.code), "byte {at} of {path}: {}\n{}", run.code, run.stdout);
            tried += 1;
        }
        fs::write(&path, &bytes).unwrap();
    }
    println!("{tried} flips");
    sandbox.run(&["fsck", "--read-data", "--key-file", "a.key"]).exits(0);
}

#[test]
fn encrypting_waits_for_nobody_who_reads_and_is_gone_on_with() {
    let sandbox = Sandbox::with(SQL);
    sandbox.run(&["init", "--db", "app.db"]).exits(0);
    sandbox.run(&["snapshot"]).exits(0);
    let reader = dbelay::store::Store::open(&sandbox.path(".dbelay")).unwrap();
    sandbox.run(&["key", "add", "--new-key-file", "a.key"]).exits(11).says(&["being read by another process", "key resume"]);
    sandbox.run(&["log", "--key-file", "a.key"]).exits(0).says(&["was interrupted", "key resume"]);
    drop(reader);
    sandbox.run(&["key", "resume", "--key-file", "a.key"]).exits(0).says(&["is gone on with"]);
    let log = sandbox.run(&["log", "--key-file", "a.key"]).exits(0);
    assert!(!log.stderr.contains("interrupted"), "{}", log.stderr);
    sandbox.run(&["fsck", "--read-data", "--key-file", "a.key"]).exits(0);
}
