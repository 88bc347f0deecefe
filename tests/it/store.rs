//! The store as its users see it: ids that anybody can check, small second snapshots, tags, a log that was not edited.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::sandbox::Sandbox;

fn sha256sum(bytes: &[u8]) -> String {
    let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn ids_are_what_sha256sum_says_of_the_json() {
    let sandbox = Sandbox::with("CREATE TABLE t(id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES(1,'ä'),(2,NULL)");
    sandbox.dbelay(&["snapshot"]).exits(0);
    let show = sandbox.dbelay(&["show", "HEAD", "--json"]).json();
    let snapshot = show["id"].as_str().unwrap();
    let file = std::fs::read(sandbox.path(&format!(".dbelay/snapshots/{snapshot}.json"))).unwrap();
    assert_eq!(sha256sum(&file), snapshot);
    let cat = |id: &str| sandbox.dbelay(&["cat", "--object", id]).exits(0).stdout;
    let manifest = show["tables"][0]["manifest"].as_str().unwrap();
    let json = cat(manifest);
    assert_eq!(sha256sum(json.as_bytes()), manifest);
    let manifest: serde_json::Value = serde_json::from_str(&json).unwrap();
    let node: serde_json::Value = serde_json::from_str(&cat(manifest["root"].as_str().unwrap())).unwrap();
    let chunk = node["groups"][0]["columns"][1].as_str().unwrap();
    assert_eq!(cat(chunk), "[\"ä\",null]");
    assert_eq!(sha256sum("[\"ä\",null]".as_bytes()), chunk);
}

#[test]
fn a_second_snapshot_costs_what_changed() {
    let sandbox = Sandbox::with("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, note TEXT)");
    sandbox.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<60000)
         INSERT INTO t SELECT i, hex(randomblob(8)), hex(randomblob(20)) FROM n",
    );
    let first = sandbox.dbelay(&["snapshot", "--json"]).json();
    sandbox.sql("UPDATE t SET name = 'x' WHERE id IN (7, 30000)");
    let second = sandbox.dbelay(&["snapshot", "--json"]).json();
    let stored = |json: &serde_json::Value| json["stats"]["stored_bytes"].as_u64().unwrap();
    assert!(stored(&first) > 1_000_000, "{first}");
    assert!(stored(&second) < 20_000, "{second}");
    sandbox.sql("ALTER TABLE t ADD COLUMN extra TEXT DEFAULT 'd'");
    let third = sandbox.dbelay(&["snapshot", "--json"]).json();
    assert!(third["stats"]["objects_new"].as_u64().unwrap() < 6, "an added column leaves every group as it was: {third}");
}

#[test]
fn the_same_state_has_the_same_ids_whatever_its_history() {
    let sandbox = Sandbox::with("CREATE TABLE t(id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES(1,'a'),(2,'b')");
    sandbox.dbelay(&["snapshot", "--tag", "a"]).exits(0);
    sandbox.sql("UPDATE t SET x='z'; DELETE FROM t WHERE id=1");
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.sql("DELETE FROM t; INSERT INTO t VALUES(2,'b'),(1,'a')");
    sandbox.dbelay(&["snapshot", "--tag", "b"]).exits(0);
    let manifests = |tag: &str| sandbox.dbelay(&["show", tag, "--json"]).json()["tables"].clone();
    assert_eq!(manifests("a"), manifests("b"));
}

#[test]
fn tags_are_set_moved_listed_and_deleted() {
    let sandbox = Sandbox::with("CREATE TABLE t(x)");
    sandbox.dbelay(&["snapshot", "--tag", "one"]).exits(0);
    sandbox.sql("INSERT INTO t VALUES(1)");
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.dbelay(&["tag", "two", "HEAD~1"]).exits(0);
    sandbox.dbelay(&["tag", "one"]).exits(2).says(&["there is a tag `one` already", "--force"]);
    sandbox.dbelay(&["tag", "--force", "one"]).exits(0);
    let tags = sandbox.dbelay(&["tag", "--json"]).json();
    assert_eq!(tags["tags"]["two"], sandbox.dbelay(&["show", "HEAD~1", "--json"]).json()["id"]);
    sandbox.dbelay(&["tag", "--delete", "two"]).exits(0);
    sandbox.dbelay(&["tag", "--delete", "two"]).exits(2);
    sandbox.dbelay(&["snapshot", "--tag", "one"]).exits(2).says(&["there is a tag `one` already"]);
}

#[test]
fn an_edited_operation_log_is_noticed_and_costs_only_itself() {
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.migrate(&[], "INSERT INTO t VALUES(2)").exits(0);
    let path = sandbox.path(".dbelay/ops.jsonl");
    let edited = std::fs::read_to_string(&path).unwrap().replacen("tester", "nobody", 1);
    std::fs::write(&path, edited).unwrap();
    sandbox.dbelay(&["fsck"]).exits(1).prints(&["damage in ops.jsonl: line 1"]);
    sandbox.dbelay(&["op", "log"]).exits(3).says(&["line 1 of"]);
    sandbox.dbelay(&["diff", "good"]).exits(0).says(&["warning"]);
    sandbox.dbelay(&["restore", "good", "--to", "copy.db"]).exits(3);
}

#[test]
fn a_database_that_nobody_wrote_is_not_read_again_and_one_that_was_is() {
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    // What changed just now cannot be told apart from what changes now: let it be older.
    let old = std::process::Command::new("touch").args(["-d", "2020-01-01"]).arg(sandbox.db()).status().unwrap();
    assert!(old.success());
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.sql("INSERT INTO t VALUES(2)");
    sandbox.dbelay(&["status"]).exits(0).prints(&["t  2 rows, had 1"]);
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.dbelay(&["diff", "HEAD~1", "HEAD"]).exits(0).prints(&["+ "]);
}
