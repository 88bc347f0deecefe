//! `verify` on snapshots whose bytes are sound and whose words contradict each other: nothing that a disk does, and all that a wrong program may do.

use dbelay::id::ObjectId;
use dbelay::ops::fsck;
use dbelay::ops::inspect::Look;
use dbelay::progress::Silent;
use dbelay::store::{BatchMode, Store};
use serde_json::{Value, json};

use crate::sandbox::Sandbox;

fn put(store: &Store, value: &Value) -> Value {
    let batch = store.begin(BatchMode::Durable).unwrap();
    let id = batch.put(&serde_json::to_vec(value).unwrap(), None).unwrap();
    batch.finish().unwrap();
    json!(id)
}

fn read(store: &Store, id: &Value) -> Value {
    serde_json::from_slice(&store.get(&id.as_str().unwrap().parse().unwrap()).unwrap()).unwrap()
}

/// A snapshot, taken apart, of one table `t`.
struct Parts {
    snapshot: Value,
    schema: Value,
    manifest: Value,
    node: Value,
}

/// Writes a changed snapshot; returns what verify says of it.
fn losses(store: &Store, parts: &mut Parts, change: &dyn Fn(&Store, &mut Parts)) -> Vec<String> {
    change(store, parts);
    parts.manifest["root"] = put(store, &parts.node);
    parts.snapshot["tables"][0]["manifest"] = put(store, &parts.manifest);
    parts.snapshot["schema"] = put(store, &parts.schema);
    let id = store.put_snapshot(&serde_json::to_vec(&parts.snapshot).unwrap()).unwrap();
    verify(store, id)
}

fn verify(store: &Store, id: ObjectId) -> Vec<String> {
    let fates = fsck::fates(store, &[id], Look::Everything, &Silent).unwrap();
    assert_eq!(fates.whole.len() + fates.broken.len(), 1);
    fates.broken.iter().flat_map(|(broken, _)| &broken.losses).map(ToString::to_string).collect()
}

#[test]
fn every_contradiction_in_a_snapshot_is_named() {
    let sandbox = Sandbox::with("CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT DEFAULT 'd'); INSERT INTO t VALUES(1,'a'),(2,'b')");
    sandbox.dbelay(&["snapshot"]).exits(0);
    let id = sandbox.dbelay(&["show", "--json"]).json()["id"].as_str().unwrap().parse::<ObjectId>().unwrap();
    let check = |expected: &str, change: &dyn Fn(&Store, &mut Parts)| {
        let store = Store::open(&sandbox.path(".dbelay")).unwrap();
        let snapshot: Value = serde_json::from_slice(&store.snapshot(&id).unwrap()).unwrap();
        let manifest = read(&store, &snapshot["tables"][0]["manifest"]);
        let mut parts = Parts { schema: read(&store, &snapshot["schema"]), node: read(&store, &manifest["root"]), snapshot, manifest };
        let losses = losses(&store, &mut parts, change);
        assert_eq!(losses.is_empty(), expected.is_empty(), "{expected}: {losses:?}");
        assert!(losses.iter().any(|loss| loss.contains(expected)) || expected.is_empty(), "{expected}: {losses:?}");
    };
    check("", &|_, _| {});
    check(" says 3", &|_, parts| parts.manifest["rows"] = json!(3));
    check("the snapshot 3", &|_, parts| parts.snapshot["tables"][0]["rows"] = json!(3));
    check("is of table `other`", &|_, parts| parts.manifest["name"] = json!("other"));
    check("its digest is not that of its chunks", &|_, parts| {
        parts.manifest["columns"][1]["digest"] = parts.manifest["columns"][0]["digest"].clone();
    });
    check("bytes, its chunks have", &|_, parts| parts.manifest["bytes"] = json!(1));
    check("has no root for its depth", &|_, parts| parts.manifest["depth"] = json!(0));
    check("does not stand at the depth", &|_, parts| parts.manifest["depth"] = json!(2));
    check("its columns and keys do not fit", &|_, parts| parts.manifest["identity"] = json!([7]));
    check("was cut by no rule", &|_, parts| parts.manifest["cut"]["rows_target"] = json!(0));
    check("its default `nonsense` is no value", &|_, parts| parts.manifest["columns"][1]["default"] = json!("nonsense"));
    check("does not begin with the key", &|_, parts| parts.node["groups"][0]["first"] = json!("2"));
    check("has 2 cells, its group 3 rows", &|_, parts| {
        parts.node["groups"][0]["rows"] = json!(3);
        parts.manifest["rows"] = json!(3);
    });
    check("ends in a slot that it must leave out", &|_, parts| parts.node["groups"][0]["columns"][1] = Value::Null);
    check("are not in the order of their keys", &|_, parts| {
        let group = parts.node["groups"][0].clone();
        parts.node["groups"].as_array_mut().unwrap().push(group);
    });
    check("chunk", &|store, parts| parts.node["groups"][0]["columns"][1] = put(store, &json!({ "no": "array" })));
    check("is missing", &|_, parts| parts.node["groups"][0]["columns"][1] = json!(ObjectId([7; 32])));
    check("a value of 70000 bytes stands in it", &|store, parts| {
        parts.node["groups"][0]["columns"][1] = put(store, &json!(["x".repeat(70_000), "b"]));
    });
    check("a value of 9 bytes has 70000", &|store, parts| {
        let large = put(store, &json!("x".repeat(70_000)));
        parts.node["groups"][0]["columns"][1] = put(store, &json!([{ "ref": large, "bytes": 9 }, "b"]));
    });
    check("the schema has no such table", &|_, parts| parts.schema["tables"][0]["name"] = json!("other"));
    check("the schema has no such column", &|_, parts| parts.schema["tables"][0]["columns"][1]["name"] = json!("other"));
    check("the manifest lacks this column", &|_, parts| {
        let column = json!({ "name": "more", "type": "TEXT" });
        parts.schema["tables"][0]["columns"].as_array_mut().unwrap().push(column);
    });
    check("the snapshot lists it twice", &|_, parts| {
        let table = parts.snapshot["tables"][0].clone();
        parts.snapshot["tables"].as_array_mut().unwrap().push(table);
    });
    check("setting `page_size` is `1000`", &|_, parts| parts.snapshot["settings"]["page_size"]["value"] = json!("1000"));
    check("setting `colour` is none of SQLite's", &|_, parts| {
        parts.snapshot["settings"]["colour"] = json!({ "value": "red", "scope": "exact" });
    });
}
