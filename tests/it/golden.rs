//! Stores that earlier versions wrote open for ever: sound, restorable, with the ids that the same states have today.

use std::path::{Path, PathBuf};

use crate::oracle;
use crate::sandbox::{Sandbox, copy_database, copy_folder};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

#[test]
fn a_store_with_snapshots_of_format_1_is_sound_and_restores() {
    check_store("golden-1/store", 1);
}

#[test]
fn a_store_with_snapshots_of_format_2_is_sound_and_restores() {
    check_store("golden-2/store", 2);
}

#[test]
fn a_store_of_typed_arrays_is_sound_and_restores() {
    let config = std::fs::read_to_string(fixture("golden-4/store/config.json")).unwrap();
    assert!(config.starts_with("{\"format\":3,"), "{config}");
    check_store("golden-4/store", 2);
}

fn check_store(folder: &str, format: u32) {
    let sandbox = Sandbox::new();
    copy_folder(&fixture(folder), &sandbox.path(".dbelay"));
    for entry in std::fs::read_dir(sandbox.path(".dbelay/snapshots")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(text.starts_with(&format!("{{\"format\":{format},")), "{text}");
    }
    sandbox.run(&["fsck", "--read-data"]).exits(0);
    assert_eq!(sandbox.run(&["log", "--json"]).exits(0).json()["snapshots"].as_array().unwrap().len(), 6);
    sandbox.run(&["op", "log"]).exits(0).prints(&["rollback", "undo", "golden"]);
    for (tag, expected) in [("before", "databases/shop.db"), ("after", "golden-1/after.db")] {
        let to = format!("{tag}.db");
        sandbox.run(&["restore", tag, "--to", &to]).exits(0);
        oracle::assert_same(&fixture(expected), &sandbox.path(&to));
    }
    sandbox.run(&["diff", "before", "after", "--stat"]).exits(0).prints(&[
        "- trigger `orders_logged` on `orders`",
        "+ column `customers.phone`: TEXT DEFAULT 'none'",
        "customers  7 changed   (phone)",
        "orders     30 removed",
        "log        2 changed   (at)",
    ]);
    // A database that goes back to it is proven against what the snapshot knows.
    copy_database(&fixture("golden-1/after.db"), &sandbox.db());
    sandbox.sql("UPDATE orders SET total=total+1 WHERE id%9=0; DELETE FROM orders WHERE id=1200; INSERT INTO search VALUES('new','words')");
    sandbox.dbelay(&["rollback", "before", "--force-identity"]).exits(0);
    oracle::assert_same(&fixture("databases/shop.db"), &sandbox.db());
    // What the same state is today differs from it in nothing.
    sandbox.dbelay(&["diff", "HEAD", "live", "--exit-code"]).exits(0);
    sandbox.dbelay(&["snapshot", "--tag", "today"]).exits(0);
    sandbox.dbelay(&["diff", "HEAD~1", "today", "--exit-code"]).exits(0);
    sandbox.dbelay(&["diff", "today", "HEAD~1", "--exit-code"]).exits(0);
    sandbox.dbelay(&["rollback", "after", "--force-identity"]).exits(0);
    oracle::assert_same(&fixture("golden-1/after.db"), &sandbox.db());
}

#[test]
fn an_encrypted_store_opens_with_its_key_and_restores() {
    let sandbox = Sandbox::new();
    copy_folder(&fixture("golden-3/store"), &sandbox.path(".dbelay"));
    let key = fixture("golden-3/golden.key");
    let run = |arguments: &[&str]| sandbox.run(&[arguments, &["--key-file", key.to_str().unwrap()]].concat());
    sandbox.run(&["log"]).exits(12);
    run(&["fsck", "--read-data"]).exits(0);
    assert_eq!(run(&["log", "--json"]).exits(0).json()["snapshots"].as_array().unwrap().len(), 6);
    run(&["op", "log"]).exits(0).prints(&["rollback", "undo", "golden", "encrypted"]);
    for (tag, expected) in [("before", "databases/shop.db"), ("after", "golden-1/after.db")] {
        let to = format!("{tag}.db");
        run(&["restore", tag, "--to", &to]).exits(0);
        oracle::assert_same(&fixture(expected), &sandbox.path(&to));
    }
}

#[test]
fn the_same_state_has_the_ids_of_format_2_today() {
    let golden = Sandbox::new();
    copy_folder(&fixture("golden-2/store"), &golden.path(".dbelay"));
    let sandbox = Sandbox::new();
    copy_database(&fixture("databases/shop.db"), &sandbox.db());
    sandbox.dbelay(&["snapshot"]).exits(0);
    let ids = |json: serde_json::Value| (json["schema"]["id"].clone(), json["tables"].clone(), json["settings"].clone());
    let today = ids(sandbox.dbelay(&["show", "HEAD", "--json"]).exits(0).json());
    assert!(ids(golden.run(&["show", "before", "--json"]).exits(0).json()) == today, "other ids: {today:#?}");
}
