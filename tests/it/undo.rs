//! Undo and redo walk through the operations, and never lose what was there.

use crate::oracle;
use crate::sandbox::Sandbox;

#[test]
fn undo_and_redo_walk_back_and_forth() {
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES(0)");
    let value = || sandbox.number("SELECT x FROM t");
    for step in 1..=3 {
        sandbox.migrate(&[], &format!("UPDATE t SET x = {step}")).exits(0);
    }
    for expected in [2, 1, 0] {
        sandbox.dbelay(&["undo"]).exits(0);
        assert_eq!(value(), expected);
    }
    sandbox.dbelay(&["undo"]).exits(3).says(&["there is no operation to undo"]);
    for expected in [1, 2, 3] {
        sandbox.dbelay(&["redo"]).exits(0);
        assert_eq!(value(), expected);
    }
    sandbox.dbelay(&["redo"]).exits(3).says(&["there is no operation to redo"]);
    sandbox.dbelay(&["fsck", "--read-data"]).exits(0);
}

#[test]
fn a_new_operation_ends_what_can_be_redone() {
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES(0)");
    sandbox.migrate(&[], "UPDATE t SET x = 1").exits(0);
    sandbox.dbelay(&["undo"]).exits(0);
    sandbox.migrate(&[], "UPDATE t SET x = 5").exits(0);
    sandbox.dbelay(&["redo"]).exits(3);
    sandbox.dbelay(&["undo"]).exits(0);
    assert_eq!(sandbox.number("SELECT x FROM t"), 0);
}

#[test]
fn undoing_a_rolled_back_migration_brings_back_what_it_left() {
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES(1),(2)");
    sandbox.migrate(&[], "DELETE FROM t WHERE x = 2").exits(4);
    assert_eq!(sandbox.number("SELECT count(*) FROM t"), 2);
    sandbox.dbelay(&["undo"]).exits(0);
    assert_eq!(sandbox.number("SELECT count(*) FROM t"), 1);
    sandbox.dbelay(&["redo"]).exits(0);
    assert_eq!(sandbox.number("SELECT count(*) FROM t"), 2);
}

#[test]
fn changes_made_since_are_told_and_kept_in_a_snapshot() {
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES(0)");
    sandbox.migrate(&[], "UPDATE t SET x = 1").exits(0);
    sandbox.sql("INSERT INTO t VALUES(99)");
    let edited = sandbox.copy_db("edited.db");
    sandbox.dbelay(&["undo"]).exits(0).says(&["was changed since", "are kept in snapshot"]);
    assert_eq!(sandbox.number("SELECT count(*) FROM t"), 1);
    let log = sandbox.dbelay(&["log", "--json"]).exits(0).json();
    let safety = log["snapshots"].as_array().unwrap().iter().find(|snapshot| snapshot["kind"] == "safety").unwrap();
    sandbox.dbelay(&["rollback", safety["id"].as_str().unwrap()]).exits(0);
    oracle::assert_same(&edited, &sandbox.db());
}

#[test]
fn the_operation_log_tells_who_did_what_with_which_result() {
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES(0)");
    sandbox.migrate(&[], "UPDATE t SET x = 1").exits(0);
    sandbox.migrate(&[], "DELETE FROM t").exits(4);
    sandbox.dbelay(&["undo"]).exits(0);
    sandbox.dbelay(&["op", "log"]).exits(0).prints(&["undo", "migrate", "rolled back", "tester"]);
    let json = sandbox.dbelay(&["op-log", "--json", "-n", "2"]).exits(0).json();
    let list = json["operations"].as_array().unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(list[0]["entry"]["kind"], "undo");
    assert_eq!(list[1]["entry"]["result"], "rolled_back");
}

#[test]
fn after_a_rollback_the_database_is_equal_to_head() {
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES(0)");
    sandbox.migrate(&[], "DROP TABLE t").exits(4);
    sandbox.dbelay(&["status"]).exits(0).prints(&["the database is equal to it"]);
    sandbox.migrate(&[], "CREATE TABLE u(x)").exits(0);
    sandbox.dbelay(&["rollback"]).exits(0);
    sandbox.dbelay(&["status"]).exits(0).prints(&["the database is equal to it"]);
}
