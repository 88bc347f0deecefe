//! Damage to a store: every byte flipped, every file cut and taken away; what is found, what it costs, and what a repair saves.
//!
//! The store is made by the binary; flips are looked at in this process, through the library, since there are many.

use std::collections::BTreeSet;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use dbelay::engine::sqlite::{Options, Sqlite};
use dbelay::id::ObjectId;
use dbelay::ops::drill::{self, Drill};
use dbelay::ops::{FileLook, Place, Session, capture, fsck};
use dbelay::progress::Silent;
use dbelay::snapshot::manifest::{Origin, SourceName};
use dbelay::store::{FsckDepth, Store};

use crate::sandbox::{Sandbox, copy_folder, finish};

/// Makes a small store with three snapshots, objects that are deltas, tags, an operation log, and a cache.
fn small() -> Sandbox {
    let sandbox = Sandbox::with(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT); CREATE TABLE keyless(a); CREATE INDEX by_x ON t(x);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<60) INSERT INTO t SELECT i, hex(i*i*7919) FROM n;
         INSERT INTO keyless VALUES('k'),(x'00ff'),(NULL)",
    );
    sandbox.dbelay(&["snapshot", "--tag", "one"]).exits(0);
    sandbox.sql("UPDATE t SET x='changed' WHERE id=30");
    sandbox.dbelay(&["snapshot", "--tag", "two"]).exits(0);
    sandbox.sql("CREATE TABLE extra(id INTEGER PRIMARY KEY, y); INSERT INTO extra VALUES(1,2.5)");
    sandbox.dbelay(&["snapshot", "--tag", "three"]).exits(0);
    sandbox.dbelay(&["fsck", "--read-data", "--sample", "1%"]).exits(0);
    assert_eq!(files(&sandbox.path(".dbelay/cache")).len(), 2);
    sandbox
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().map(Result::unwrap);
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

fn relative(dir: &Path, path: &Path) -> String {
    path.strip_prefix(dir).unwrap().display().to_string()
}

/// Tells whether nothing depends on a file's content.
fn is_idle(name: &str) -> bool {
    [".gitignore", "lock", "leases"].contains(&name) || name.starts_with("cache/")
}

/// What fsck says of a store: the files that it names, and the snapshots that it calls whole.
fn look(dir: &Path) -> (BTreeSet<String>, BTreeSet<ObjectId>) {
    match Store::open(dir) {
        Err(error) => {
            // A larger number of the format is told as such, and a store without the file is none.
            let words = error.to_string();
            assert!(["config.json", "format version", "there is no store"].iter().any(|part| words.contains(part)), "{words}");
            (BTreeSet::from(["config.json".to_owned()]), BTreeSet::new())
        }
        Ok(store) => {
            let report = fsck::fsck(&store, FsckDepth::ReadData, &Silent).unwrap();
            (report.damage.into_iter().map(|told| told.damage.path).collect(), report.whole.into_iter().collect())
        }
    }
}

struct Nowhere;

impl Place for Nowhere {
    fn look(&self) -> Option<FileLook> {
        None
    }

    fn set_aside(&self, _: Option<&FileLook>) -> std::io::Result<Option<PathBuf>> {
        Ok(None)
    }

    fn protect(&self, _: &FileLook) -> std::io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Restores a snapshot into a new file, and proves it by ids.
fn restore(dir: &Path, id: ObjectId) -> Drill {
    let store = Store::open(dir).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("scratch.db");
    let state = capture::load(&store, &capture::read_snapshot(&store, id).unwrap()).unwrap();
    let session = Session {
        store: &store,
        source: SourceName { engine: "sqlite".to_owned(), place: path.display().to_string() },
        open: &|| Ok(Box::new(Sqlite::open(&path, &Options::default())?)),
        create: &|settings| Ok(Box::new(Sqlite::create(&path, settings, &Options::default())?)),
        place: &Nowhere,
        fingerprint: &|| None,
        origin: Origin::default(),
        files: None,
        pid: 1,
        now: &|| chrono::DateTime::UNIX_EPOCH,
        progress: &Silent,
    };
    drill::run(&session, &state).unwrap()
}

/// Asserts that all of these snapshots restore.
fn assert_restore(dir: &Path, ids: &BTreeSet<ObjectId>) {
    for id in ids {
        let drill = restore(dir, *id);
        assert!(drill.is_proof(), "{:?}", drill.failures);
    }
}

#[test]
fn every_flipped_byte_is_found_and_named_and_the_other_snapshots_restore() {
    let sandbox = small();
    let dir = sandbox.path(".dbelay");
    let (damage, all) = look(&dir);
    assert!(damage.is_empty() && all.len() == 3, "{damage:?}");
    let (mut found, mut harmless, mut restored) = (0, 0, 0);
    for path in files(&dir) {
        let name = relative(&dir, &path);
        let bytes = std::fs::read(&path).unwrap();
        let mut file = std::fs::File::options().write(true).open(&path).unwrap();
        // In place: a file that is written anew is brought to the disk by some systems, each time.
        let mut write_at = |at: usize, byte: u8| {
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            file.write_all(&[byte]).unwrap();
        };
        for (at, &byte) in bytes.iter().enumerate() {
            write_at(at, byte ^ (1 << ((at * 5 + at / 8) % 8)));
            let (damage, whole) = look(&dir);
            if is_idle(&name) {
                assert!(damage.is_empty() && whole == all, "byte {at} of {name}: {damage:?}");
                harmless += 1;
            } else {
                assert!(damage.contains(&name), "byte {at} of {name}: {damage:?}");
                found += 1;
            }
            let is_alone = name.starts_with("snapshots/");
            if is_alone {
                assert_eq!(whole.len(), 2, "byte {at} of {name}");
            }
            if name.starts_with("tags/") || name == "ops.jsonl" {
                assert_eq!(whole, all, "byte {at} of {name}");
            }
            if (found + harmless) % 199 == 0 {
                assert_restore(&dir, &whole);
                restored += whole.len();
            }
            write_at(at, byte);
        }
    }
    println!(
        "{} flips tried: {found} found in the right file, {harmless} harmless; {restored} snapshots restored in between",
        found + harmless
    );
    assert!(found > 5_000 && restored > 20);
    assert!(look(&dir).0.is_empty());
}

#[test]
fn every_cut_is_found_and_every_missing_file_that_something_needs() {
    let sandbox = small();
    let dir = sandbox.path(".dbelay");
    let (_, all) = look(&dir);
    let (mut cuts, mut torn) = (0, 0);
    for path in files(&dir) {
        let name = relative(&dir, &path);
        let bytes = std::fs::read(&path).unwrap();
        // Every length of small files, and of packs every third.
        let step = if name.starts_with("packs/") { 3 } else { 1 };
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        for length in (0..bytes.len()).rev().step_by(step) {
            file.set_len(length as u64).unwrap();
            let (damage, whole) = look(&dir);
            cuts += 1;
            let is_whole_but_for_its_end = name == "config.json" && length + 1 == bytes.len();
            if is_idle(&name) || name == "ops.jsonl" || is_whole_but_for_its_end {
                // A line without its end was never reported as written; a log that ends with a line is one.
                torn += 1;
                assert!(damage.is_empty() && whole == all, "{name} cut at {length}: {damage:?}");
            } else {
                assert!(damage.contains(&name), "{name} cut at {length}: {damage:?}");
            }
        }
        std::fs::remove_file(&path).unwrap();
        let (damage, whole) = look(&dir);
        let may_be_gone = is_idle(&name) || name == "ops.jsonl" || name.starts_with("tags/");
        assert_eq!(damage.is_empty(), may_be_gone, "{name} is gone: {damage:?}");
        assert_restore(&dir, &whole);
        std::fs::write(&path, &bytes).unwrap();
    }
    println!("{cuts} cuts tried, {torn} of them of files that may end anywhere");
    assert!(look(&dir).0.is_empty());
}

#[test]
fn a_flipped_or_cut_cache_changes_no_answer() {
    let sandbox = small();
    // What is remembered of a database that nobody wrote, of another state than that of today.
    let one = sandbox.dbelay(&["show", "one", "--json"]).json();
    let place = one["source"]["place"].as_str().unwrap();
    let name = format!(".dbelay/cache/seen-{}.json", ObjectId::of(format!("sqlite {place}").as_bytes()).short());
    let bytes = serde_json::to_vec(&serde_json::json!({ "fingerprint": "1:2:3", "snapshot": one["id"], "findings": null })).unwrap();
    for at in (0..bytes.len()).step_by(5) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        for bytes in [&flipped[..], &bytes[..at]] {
            std::fs::write(sandbox.path(&name), bytes).unwrap();
            sandbox.dbelay(&["status"]).exits(0).prints(&["the database is equal to it"]);
        }
    }
}

/// Flips bytes of a file, each given from the beginning or, negative, from the end.
fn flip(path: &Path, places: &[i64]) {
    let mut bytes = std::fs::read(path).unwrap();
    for place in places {
        let at = if *place < 0 { bytes.len() as i64 + place } else { *place };
        bytes[at as usize] ^= 0x10;
    }
    std::fs::write(path, bytes).unwrap();
}

/// Damages the chunk with the row numbers of `keyless`, which stands in the pack of the first snapshot as it is.
fn damage_a_chunk(pack: &Path) {
    let bytes = std::fs::read(pack).unwrap();
    let at = bytes.windows(7).position(|window| window == b"[1,2,3]").expect("a short chunk is not compressed");
    flip(pack, &[at as i64 + 3]);
}

fn packs(sandbox: &Sandbox) -> Vec<PathBuf> {
    let mut packs: Vec<PathBuf> = files(&sandbox.path(".dbelay/packs"));
    packs.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
    packs
}

#[test]
fn fsck_says_which_tables_damage_costs_and_which_snapshots_restore() {
    let sandbox = small();
    std::fs::write(sandbox.path(".dbelay/packs/.DS_Store"), "x").unwrap();
    std::fs::write(sandbox.path(".dbelay/tags/tmp-7"), "half").unwrap();
    sandbox.dbelay(&["fsck", "--read-data"]).exits(0).says(&["2 other files in the store's folders are ignored"]);
    // The pack that only the last snapshot needs.
    let three = sandbox.dbelay(&["show", "three", "--json"]).json();
    let extra = three["tables"].as_array().unwrap().iter().find(|table| table["name"] == "extra").unwrap()["manifest"].clone();
    let pack = packs(&sandbox).into_iter().find(|path| {
        let bytes = std::fs::read(path).unwrap();
        let id: ObjectId = extra.as_str().unwrap().parse().unwrap();
        bytes.windows(32).any(|window| window == id.0)
    });
    flip(&pack.unwrap(), &[9]);
    let report = sandbox.dbelay(&["fsck", "--read-data", "--json"]).exits(1).json();
    assert_eq!(report["whole"].as_array().unwrap().len(), 2, "{report}");
    assert_eq!(report["broken"][0]["snapshot"], three["id"], "{report}");
    let costs = &report["damage"][0]["costs"][0];
    assert_eq!(costs["snapshot"], three["id"], "{report}");
    sandbox.dbelay(&["fsck", "--read-data"]).exits(1).prints(&["it costs snapshot", "2 of 3 snapshots restore whole"]);
    sandbox.dbelay(&["verify"]).exits(1).prints(&["damaged: snapshot", "2 of 3 snapshots are whole"]);
    sandbox.dbelay(&["verify", "one", "two"]).exits(0).prints(&["sound: 2 snapshots"]);
    sandbox.dbelay(&["restore", "two", "--to", "two.db"]).exits(0);
}

#[test]
fn samples_go_round_until_every_pack_was_read() {
    let sandbox = small();
    for name in ["a", "b", "c"] {
        sandbox.sql(&format!("CREATE TABLE {name}(x); INSERT INTO {name} VALUES('{name}')"));
        sandbox.dbelay(&["snapshot"]).exits(0);
    }
    let packs = packs(&sandbox);
    assert!(packs.len() > 5, "{packs:?}");
    for pack in &packs {
        flip(pack, &[9]);
        let runs = packs.len();
        let found = (0..runs).any(|_| sandbox.dbelay(&["fsck", "--read-data", "--sample", "1%"]).code == 1);
        assert!(found, "{} was not read in {runs} samples", pack.display());
        flip(pack, &[9]);
    }
    sandbox.dbelay(&["fsck", "--read-data", "--sample", "30%"]).exits(0).prints(&[" read ("]);
    sandbox.dbelay(&["fsck", "--sample", "30%"]).exits(2);
    sandbox.dbelay(&["fsck", "--read-data", "--sample", "0%"]).exits(2).says(&["more than 0%"]);
}

#[test]
fn a_damaged_file_costs_only_itself_in_every_command() {
    let sandbox = small();
    let id = sandbox.dbelay(&["show", "two", "--json"]).json()["id"].as_str().unwrap().to_owned();
    flip(&sandbox.path(&format!(".dbelay/snapshots/{id}.json")), &[40, 41]);
    flip(&sandbox.path(".dbelay/tags/three"), &[3]);
    sandbox.dbelay(&["log"]).exits(0);
    sandbox.dbelay(&["show", "one"]).exits(0);
    sandbox.dbelay(&["show", "two"]).exits(3);
    sandbox.dbelay(&["restore", "one", "--to", "one.db"]).exits(0).says(&["the tag `three` is damaged"]);
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.dbelay(&["fsck"]).exits(1).prints(&["damage in snapshots/", "damage in tags/three"]);
}

#[test]
fn a_repair_saves_what_is_whole_and_a_snapshot_puts_the_rest_back() {
    let sandbox = small();
    let all = packs(&sandbox);
    // A payload of the largest, the index of the next.
    damage_a_chunk(&all[0]);
    flip(&all[1], &[-80]);
    sandbox.dbelay(&["fsck", "--repair", "--dry-run"]).exits(1).prints(&["would take out packs/", "afterwards"]);
    assert_eq!(packs(&sandbox), all, "a dry run changes nothing");
    let repaired = sandbox.dbelay(&["fsck", "--repair", "--json"]).exits(1).json();
    assert_eq!(repaired["packs"].as_array().unwrap().len(), 2, "{repaired}");
    assert_eq!(repaired["packs"].as_array().unwrap().iter().flat_map(|pack| pack["lost"].as_array().unwrap()).count(), 1, "{repaired}");
    for pack in &all[..2] {
        assert!(
            !pack.exists()
                && sandbox.path(".dbelay/damaged/packs").join(pack.strip_prefix(sandbox.path(".dbelay/packs")).unwrap()).exists()
        );
    }
    sandbox.dbelay(&["op", "log"]).exits(0).prints(&["fsck --repair", "packs taken out: 2"]);
    // What the live database still has comes back, also to the snapshots before.
    sandbox.dbelay(&["snapshot"]).exits(0);
    let after = sandbox.dbelay(&["fsck", "--read-data", "--json"]).json();
    assert_eq!(after["whole"].as_array().unwrap().len(), 4, "{after}");
    sandbox.dbelay(&["fsck", "--repair"]).prints(&["nothing to repair"]);
}

#[test]
fn an_index_that_is_lost_costs_no_object_that_stands_by_itself() {
    let sandbox = Sandbox::with("CREATE TABLE t(id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES(1,'a'),(2,'b')");
    sandbox.dbelay(&["snapshot", "--tag", "one"]).exits(0);
    let pack = packs(&sandbox).remove(0);
    for places in [&[-1][..], &[-70], &[-10, -30, -50, -90], &[2]] {
        flip(&pack, places);
        sandbox.dbelay(&["fsck"]).exits(1);
        sandbox.dbelay(&["fsck", "--repair"]).exits(0).prints(&["take out packs/", "sound"]);
        sandbox.dbelay(&["restore", "one", "--to", "copy.db"]).exits(0);
        std::fs::remove_file(sandbox.path("copy.db")).unwrap();
        assert!(pack.exists(), "everything was saved, so that the pack is what it was");
    }
    let bytes = std::fs::read(&pack).unwrap();
    std::fs::write(&pack, &bytes[..bytes.len() - 100]).unwrap();
    sandbox.dbelay(&["fsck", "--repair"]).exits(0);
    sandbox.dbelay(&["restore", "one", "--to", "copy.db"]).exits(0);
}

#[test]
fn objects_that_stand_on_a_lost_one_are_not_taken_as_known() {
    let sandbox = small();
    // The largest pack has what the others' deltas stand on.
    std::fs::remove_file(&packs(&sandbox)[0]).unwrap();
    sandbox.dbelay(&["fsck"]).exits(1);
    sandbox.dbelay(&["fsck", "--repair"]).exits(1);
    let taken = sandbox.dbelay(&["snapshot", "--json"]).exits(0).json();
    sandbox.dbelay(&["verify", taken["id"].as_str().unwrap()]).exits(0);
    sandbox.dbelay(&["verify", "--drill"]).exits(0).prints(&["proven: snapshot"]);
}

#[test]
fn small_files_are_mended_or_taken_out() {
    let sandbox = small();
    let id = |tag: &str| sandbox.dbelay(&["show", tag, "--json"]).json()["id"].as_str().unwrap().to_owned();
    let (one, two) = (id("one"), id("two"));
    flip(&sandbox.path(&format!(".dbelay/snapshots/{one}.json")), &[40]);
    flip(&sandbox.path(&format!(".dbelay/snapshots/{two}.json")), &[40, 50]);
    flip(&sandbox.path(".dbelay/tags/three"), &[3]);
    flip(&sandbox.path(".dbelay/ops.jsonl"), &[-5]);
    flip(&sandbox.path(".dbelay/config.json"), &[20]);
    sandbox.dbelay(&["log"]).exits(3).says(&["config.json", "dbelay fsck --repair"]);
    let run = sandbox.dbelay(&["fsck", "--repair"]).exits(0);
    run.says(&["wrote config.json as it was"]).prints(&[
        &format!("snapshots/{one}.json as it was"),
        "take out tags/two",
        "take out tags/three",
        "2 entries of it stay",
    ]);
    sandbox.dbelay(&["restore", "one", "--to", "one.db"]).exits(0);
    sandbox.dbelay(&["op", "log"]).exits(0).prints(&["fsck --repair"]);
    assert!(sandbox.path(&format!(".dbelay/damaged/snapshots/{two}.json")).exists());
    // Lost altogether, with everything else there.
    std::fs::remove_file(sandbox.path(".dbelay/config.json")).unwrap();
    sandbox.run(&["fsck", "--repair"]).exits(0).says(&["a new config.json"]);
    sandbox.dbelay(&["restore", "one", "--to", "again.db"]).exits(0);
}

#[test]
fn a_repair_that_dies_at_any_step_ends_the_same_when_it_is_run_again() {
    let sandbox = small();
    let all = packs(&sandbox);
    let two = sandbox.dbelay(&["show", "two", "--json"]).json()["id"].as_str().unwrap().to_owned();
    damage_a_chunk(&all[0]);
    flip(&all[1], &[-80]);
    flip(&sandbox.path(&format!(".dbelay/snapshots/{two}.json")), &[40]);
    flip(&sandbox.path(".dbelay/tags/three"), &[3]);
    flip(&sandbox.path(".dbelay/ops.jsonl"), &[-5]);
    let kept = tempfile::tempdir().unwrap();
    copy_folder(&sandbox.path(".dbelay"), kept.path());
    let end = |sandbox: &Sandbox| {
        let report = sandbox.dbelay(&["fsck", "--read-data", "--json"]).json();
        (report["whole"].clone(), report["broken"].clone(), report["objects"].clone())
    };
    let mut expected = None;
    for step in (1..200).rev().chain([0]).rev() {
        std::fs::remove_dir_all(sandbox.path(".dbelay")).unwrap();
        copy_folder(kept.path(), &sandbox.path(".dbelay"));
        let run = finish(sandbox.command().args(["--db", "app.db", "fsck", "--repair"]).env("DBELAY_TEST_DIE_AT_STEP", step.to_string()));
        if step == 0 {
            // It is not to die here.
            assert_eq!(run.code, 1, "{}", run.stderr);
            expected = Some(end(&sandbox));
            continue;
        }
        let is_over = run.code != -1;
        sandbox.dbelay(&["fsck", "--repair"]).exits(1);
        assert_eq!(Some(end(&sandbox)), expected, "step {step}");
        if is_over {
            assert!(step > 20, "only {step} steps");
            println!("died at each of {} steps", step - 1);
            return;
        }
    }
    panic!("more than 200 steps");
}
