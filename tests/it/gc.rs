//! Freeing space: what no snapshot needs goes, in two phases; what any needs stays, whatever runs beside it and wherever it dies.

use std::collections::BTreeSet;
use std::path::PathBuf;

use dbelay::store::{LockHolder, Store};
use serde_json::Value;

use crate::kills::number;
use crate::oracle;
use crate::property::Random;
use crate::sandbox::{Sandbox, copy_folder, finish};

/// The most steps that one command takes.
const STEPS_MAX: u64 = 400;

/// Rows of which nothing can be compressed away, and values that are objects of their own.
const ROWS: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT, big BLOB);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 400) INSERT INTO t SELECT i, hex(randomblob(200)), NULL FROM n;
    UPDATE t SET big = randomblob(70000) WHERE id IN (5, 300);";

fn store(sandbox: &Sandbox) -> Store {
    Store::open(&sandbox.path(".dbelay")).unwrap()
}

fn snapshot(sandbox: &Sandbox) -> String {
    sandbox.dbelay(&["snapshot", "--json"]).exits(0).json()["id"].as_str().unwrap().to_owned()
}

fn forget(sandbox: &Sandbox, id: &str) {
    std::fs::remove_file(sandbox.path(&format!(".dbelay/snapshots/{id}.json"))).unwrap();
}

fn gc(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    sandbox.dbelay(&[&["gc", "--json"], arguments].concat()).exits(0).json()
}

fn packs(sandbox: &Sandbox) -> BTreeSet<PathBuf> {
    let files = walkdir::WalkDir::new(sandbox.path(".dbelay/packs")).into_iter().map(|entry| entry.unwrap().into_path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "pack")).collect()
}

fn bytes(sandbox: &Sandbox) -> u64 {
    packs(sandbox).iter().map(|path| path.metadata().unwrap().len()).sum()
}

#[track_caller]
fn is_sound(sandbox: &Sandbox) {
    sandbox.dbelay(&["fsck", "--read-data"]).exits(0).prints(&["sound"]);
}

/// A project with two snapshots of different content; the first one's id is returned.
fn with_two_snapshots() -> (Sandbox, String) {
    let sandbox = Sandbox::with(ROWS);
    let first = snapshot(&sandbox);
    sandbox.sql("UPDATE t SET x = hex(randomblob(200)); UPDATE t SET big = randomblob(70001) WHERE id = 5");
    snapshot(&sandbox);
    (sandbox, first)
}

#[test]
fn what_only_a_forgotten_snapshot_needed_is_condemned_first_and_deleted_after_the_grace_period() {
    let (sandbox, first) = with_two_snapshots();
    let before = bytes(&sandbox);
    sandbox.dbelay(&["gc"]).exits(0).prints(&["nothing to free"]);
    forget(&sandbox, &first);
    sandbox
        .dbelay(&["gc"])
        .exits(0)
        .prints(&["1 pack written", "1 pack condemned", "still there"])
        .says(&["`dbelay gc --db app.db` deletes them after"]);
    assert_eq!(packs(&sandbox).len(), 3, "nothing was deleted");
    assert_eq!(gc(&sandbox, &["--grace", "10m"])["outcome"]["deleted"], 0);
    sandbox.dbelay(&["gc", "--grace", "0"]).exits(0).prints(&["freed", "1 pack deleted"]);
    assert!(bytes(&sandbox) < before * 2 / 3, "{} of {before}", bytes(&sandbox));
    is_sound(&sandbox);
    sandbox.dbelay(&["restore", "HEAD", "--to", "copy.db"]).exits(0);
    oracle::assert_same(&sandbox.db(), &sandbox.path("copy.db"));
    assert!(!sandbox.path(".dbelay/condemned.json").exists());
    sandbox.dbelay(&["op", "log"]).exits(0).prints(&["gc", "1 pack deleted"]);
}

#[test]
fn a_snapshot_that_uses_what_is_condemned_saves_it() {
    let sandbox = Sandbox::with(ROWS);
    let first = snapshot(&sandbox);
    forget(&sandbox, &first);
    assert_eq!(gc(&sandbox, &[])["outcome"]["condemned"], 1);
    // Its objects are there still, so that nothing is written for this one.
    snapshot(&sandbox);
    let done = gc(&sandbox, &["--grace", "0"]);
    assert_eq!((&done["outcome"]["pardoned"], &done["outcome"]["deleted"]), (&1.into(), &0.into()), "{done}");
    is_sound(&sandbox);
}

#[test]
fn nothing_is_deleted_while_somebody_reads() {
    let (sandbox, first) = with_two_snapshots();
    forget(&sandbox, &first);
    let reader = store(&sandbox);
    sandbox.dbelay(&["gc", "--grace", "0"]).exits(0).says(&["another dbelay reads the store"]);
    assert_eq!(packs(&sandbox).len(), 3);
    drop(reader);
    assert_eq!(gc(&sandbox, &["--grace", "0"])["outcome"]["deleted"], 1);
    is_sound(&sandbox);
}

#[test]
fn a_reader_finds_what_was_moved_after_it_began() {
    let (sandbox, first) = with_two_snapshots();
    let head = sandbox.dbelay(&["cat", "HEAD", "t", "--format", "csv"]).exits(0).stdout;
    forget(&sandbox, &first);
    // Without its lease, as one on a system that has none.
    std::fs::remove_file(sandbox.path(".dbelay/leases")).unwrap();
    let reader = store(&sandbox);
    let id = reader.find("").first().copied();
    std::fs::remove_file(sandbox.path(".dbelay/leases")).unwrap();
    assert!(gc(&sandbox, &["--grace", "0"])["outcome"]["deleted"].as_u64() > Some(0));
    let needed: Vec<_> = store(&sandbox).find("");
    assert!(id.is_some() && !needed.is_empty());
    for id in needed {
        reader.get(&id).unwrap();
    }
    assert_eq!(sandbox.dbelay(&["cat", "HEAD", "t", "--format", "csv"]).exits(0).stdout, head);
}

#[test]
fn one_frees_space_at_a_time_and_not_beside_a_snapshot() {
    let (sandbox, _) = with_two_snapshots();
    let holder = LockHolder { pid: 1, host: "another-name-of-this-container".into(), command: "snapshot".into(), since: "now".into() };
    let other = store(&sandbox);
    let lock = other.lock(&holder).unwrap();
    sandbox.dbelay(&["gc"]).exits(11).says(&["locked by `dbelay snapshot`"]);
    drop(lock);
    sandbox.dbelay(&["gc"]).exits(0);
}

#[test]
fn a_writer_that_opened_the_store_before_knows_after_the_lock_what_is_gone() {
    let sandbox = Sandbox::with(ROWS);
    let first = snapshot(&sandbox);
    forget(&sandbox, &first);
    let writer = store(&sandbox);
    let id = writer.find("")[0];
    std::fs::remove_file(sandbox.path(".dbelay/leases")).unwrap();
    assert_eq!(gc(&sandbox, &["--grace", "0"])["outcome"]["deleted"], 1);
    assert!(writer.contains(&id));
    let holder = LockHolder { pid: 1, host: String::new(), command: "test".into(), since: String::new() };
    let _lock = writer.lock(&holder).unwrap();
    assert!(!writer.contains(&id));
}

#[test]
fn nothing_is_freed_where_it_cannot_be_told_what_is_needed() {
    let (sandbox, first) = with_two_snapshots();
    let second = sandbox.dbelay(&["show", "HEAD", "--json"]).json()["id"].as_str().unwrap().to_owned();
    forget(&sandbox, &first);
    let file = sandbox.path(&format!(".dbelay/snapshots/{second}.json"));
    let sound = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, sound.replace("manual", "mXnual")).unwrap();
    sandbox.dbelay(&["gc", "--grace", "0"]).exits(3).says(&["nothing was freed", &second, "dbelay fsck"]);
    std::fs::write(&file, &sound).unwrap();
    // A pack that is gone takes nodes with it.
    let newest = packs(&sandbox).into_iter().max_by_key(|path| path.metadata().unwrap().modified().unwrap()).unwrap();
    let away = sandbox.path("away");
    std::fs::rename(&newest, &away).unwrap();
    let left = packs(&sandbox);
    sandbox.dbelay(&["gc", "--grace", "0"]).exits(3).says(&["nothing was freed", "is missing"]);
    assert_eq!(packs(&sandbox), left);
    std::fs::rename(&away, &newest).unwrap();
    gc(&sandbox, &["--grace", "0"]);
    is_sound(&sandbox);
}

#[test]
fn a_pack_with_a_flipped_bit_is_neither_copied_nor_condemned() {
    let sandbox = Sandbox::with("CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT)");
    sandbox.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 400) INSERT INTO t SELECT i, hex(randomblob(90)) FROM n",
    );
    let first = snapshot(&sandbox);
    let path = packs(&sandbox).into_iter().next().unwrap();
    sandbox.sql("UPDATE t SET x = hex(randomblob(90))");
    snapshot(&sandbox);
    forget(&sandbox, &first);
    // Most of the first pack are the texts that nothing needs any more; the numbers beside them are needed.
    let sound = std::fs::read(&path).unwrap();
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    std::fs::write(&path, flipped).unwrap();
    sandbox.dbelay(&["gc", "--grace", "0"]).exits(0).says(&["is damaged and was left alone"]);
    assert_eq!(packs(&sandbox).len(), 2);
    sandbox.dbelay(&["cat", "HEAD", "t"]).exits(0);
    std::fs::write(&path, sound).unwrap();
    assert_eq!(gc(&sandbox, &["--grace", "0"])["outcome"]["deleted"], 1);
    is_sound(&sandbox);
}

#[test]
fn a_dry_run_says_what_and_why_and_changes_nothing() {
    let (sandbox, first) = with_two_snapshots();
    forget(&sandbox, &first);
    let before = packs(&sandbox);
    sandbox.dbelay(&["gc", "--dry-run", "--grace", "0"]).exits(0).prints(&["written anew: too much of it is not needed", "would be freed"]);
    assert_eq!(packs(&sandbox), before);
    assert!(!sandbox.path(".dbelay/condemned.json").exists());
    let plan = gc(&sandbox, &["--dry-run"]);
    assert_eq!((&plan["dry_run"], &plan["schema_version"]), (&true.into(), &1.into()));
    assert!(plan["totals"]["freed_bytes"].as_u64() > Some(0), "{plan}");
}

#[test]
fn many_small_packs_become_one() {
    let sandbox = Sandbox::with(ROWS);
    let ids: Vec<String> = (0..20)
        .map(|n| {
            sandbox.sql(&format!("UPDATE t SET x = 'edit {n}' WHERE id = {n} * 7 + 1"));
            snapshot(&sandbox)
        })
        .collect();
    assert_eq!(packs(&sandbox).len(), 20);
    sandbox.dbelay(&["gc", "--grace", "0"]).exits(0).prints(&["1 pack written", "20 packs deleted"]);
    assert_eq!(packs(&sandbox).len(), 1);
    is_sound(&sandbox);
    sandbox.dbelay(&["restore", &ids[19], "--to", "copy.db"]).exits(0);
    oracle::assert_same(&sandbox.db(), &sandbox.path("copy.db"));
    sandbox.dbelay(&["gc", "--grace", "0"]).exits(0).prints(&["nothing to free"]);
}

#[test]
fn chunks_that_were_read_once_are_not_read_again_and_a_damaged_memory_is_none() {
    let (sandbox, first) = with_two_snapshots();
    let cache = sandbox.path(".dbelay/cache/large-values");
    forget(&sandbox, &first);
    gc(&sandbox, &["--dry-run"]);
    let remembered = std::fs::read(&cache).unwrap();
    for at in [0, 8, 40, remembered.len() - 1] {
        let mut damaged = remembered.clone();
        damaged[at] ^= 1;
        std::fs::write(&cache, damaged).unwrap();
        gc(&sandbox, &["--dry-run"]);
        assert_eq!(std::fs::read(&cache).unwrap().len(), remembered.len(), "byte {at}");
    }
    gc(&sandbox, &["--grace", "0"]);
    is_sound(&sandbox);
}

#[test]
fn a_run_that_dies_anywhere_loses_nothing_and_the_next_finishes() {
    let sandbox = Sandbox::with(ROWS);
    let mut ids = Vec::new();
    for n in 0..6 {
        sandbox.sql(&format!("UPDATE t SET x = 'edit {n}' WHERE id = {n} * 7 + 1; UPDATE t SET big = randomblob(66000) WHERE id = 9"));
        ids.push(snapshot(&sandbox));
    }
    // Some packs lose everything, some a part; one was condemned by a run before.
    sandbox.sql("CREATE TABLE gone(x); INSERT INTO gone SELECT hex(randomblob(500)) FROM t");
    forget(&sandbox, &snapshot(&sandbox));
    gc(&sandbox, &[]);
    sandbox.sql("DROP TABLE gone");
    for n in [4, 2] {
        forget(&sandbox, &ids.remove(n));
    }
    let kept = tempfile::tempdir().unwrap();
    copy_folder(&sandbox.path(".dbelay"), kept.path());
    let mut expected = ids.clone();
    expected.sort();
    let check = |sandbox: &Sandbox| {
        is_sound(sandbox);
        let log = sandbox.dbelay(&["log", "--json"]).exits(0).json();
        let mut found: Vec<String> =
            log["snapshots"].as_array().unwrap().iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect();
        found.sort();
        assert_eq!(found, expected);
    };
    let mut finished = None;
    for step in 1..STEPS_MAX {
        std::fs::remove_dir_all(sandbox.path(".dbelay")).unwrap();
        copy_folder(kept.path(), &sandbox.path(".dbelay"));
        let mut command = sandbox.command();
        command.args(["--db", "app.db", "gc", "--grace", "0"]).env("DBELAY_TEST_DIE_AT_STEP", step.to_string());
        let run = finish(&mut command);
        if run.code != -1 {
            assert!(run.code == 0 && step > 12, "{step}: {run:?}");
            finished = Some(step);
            break;
        }
        check(&sandbox);
        gc(&sandbox, &["--grace", "0"]);
        check(&sandbox);
        let plan = gc(&sandbox, &["--dry-run"]);
        assert_eq!((&plan["totals"]["repacked"], &plan["totals"]["dropped"]), (&0.into(), &0.into()), "step {step}: {plan}");
        assert!(!sandbox.path(".dbelay/condemned.json").exists());
    }
    assert!(finished.is_some(), "more than {STEPS_MAX} steps");
}

#[test]
fn stores_of_earlier_formats_lose_nothing() {
    for store in ["golden-1/store", "golden-2/store", "golden-4/store"] {
        let sandbox = Sandbox::new();
        copy_folder(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(store), &sandbox.path(".dbelay"));
        let log = sandbox.run(&["log", "--json"]).exits(0).stdout;
        sandbox.run(&["gc", "--grace", "0"]).exits(0);
        sandbox.run(&["fsck", "--read-data"]).exits(0);
        assert_eq!(sandbox.run(&["log", "--json"]).exits(0).stdout, log);
    }
}

#[test]
fn whatever_is_forgotten_the_rest_stays_and_no_more_than_the_rest() {
    let (cases, first) = (number("DBELAY_TEST_CASES", 3), number("DBELAY_TEST_SEED", 1));
    for seed in first..first + cases {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let sandbox = Sandbox::with(ROWS);
        let mut ids = vec![snapshot(&sandbox)];
        for n in 0..25 {
            match random.below(10) {
                0..5 => {
                    let (from, count) = (random.below(400), random.below(60));
                    let change = match random.below(5) {
                        0 => format!("DELETE FROM t WHERE id BETWEEN {from} AND {from} + {count}"),
                        1 => format!("UPDATE t SET big = randomblob(65000 + {count} * 50) WHERE id = {from}"),
                        2 => format!("CREATE TABLE IF NOT EXISTS s{n}(x); INSERT INTO s{n} SELECT x FROM t"),
                        _ => format!("UPDATE t SET x = hex(randomblob(90)) WHERE id BETWEEN {from} AND {from} + {count}"),
                    };
                    sandbox.sql(&change);
                    ids.push(snapshot(&sandbox));
                }
                5..7 if ids.len() > 1 => {
                    let at = usize::try_from(random.below(ids.len() as u64)).unwrap();
                    forget(&sandbox, &ids.remove(at));
                }
                _ => {
                    gc(&sandbox, &["--grace", if random.below(2) == 0 { "0" } else { "1h" }]);
                    is_sound(&sandbox);
                }
            }
        }
        for _ in 0..2 {
            gc(&sandbox, &["--grace", "0"]);
        }
        is_sound(&sandbox);
        let plan = gc(&sandbox, &["--dry-run"]);
        for pack in plan["packs"].as_array().unwrap() {
            let (live, dead) = (pack["live_bytes"].as_u64().unwrap(), pack["dead_bytes"].as_u64().unwrap());
            assert!(pack["action"] == "keep" && dead * dbelay::store::DEAD_SHARE_MAX <= live + dead, "seed {seed}: {pack}");
        }
        let last = ids.last().unwrap();
        sandbox.dbelay(&["restore", last, "--to", "copy.db"]).exits(0);
        assert!(packs(&sandbox).len() <= 17 && bytes(&sandbox) > 0);
    }
}
