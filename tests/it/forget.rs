//! Forgetting snapshots through the binary: by policy, by name, pins, what must stay, what the other commands say of what is gone.

use std::collections::BTreeSet;

use dbelay::id::ObjectId;
use serde_json::Value;

use crate::oracle;
use crate::sandbox::{Sandbox, copy_folder, finish};

const BASE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT); INSERT INTO t VALUES(1,'a'),(2,'b')";

/// Puts a copy of HEAD into the store, as if it had been taken at this time, for this reason; returns its id.
fn place(sandbox: &Sandbox, time: &str, kind: &str) -> String {
    let head = sandbox.dbelay(&["show", "--json"]).exits(0).json()["id"].as_str().unwrap().to_owned();
    let text = std::fs::read_to_string(sandbox.path(&format!(".dbelay/snapshots/{head}.json"))).unwrap();
    let mut snapshot: Value = serde_json::from_str(&text).unwrap();
    snapshot["time"] = time.into();
    snapshot["kind"] = kind.into();
    let json = serde_json::to_vec(&snapshot).unwrap();
    let id = ObjectId::of(&json).to_string();
    std::fs::write(sandbox.path(&format!(".dbelay/snapshots/{id}.json")), json).unwrap();
    id
}

/// Places manual snapshots on these days at eleven.
fn days(sandbox: &Sandbox, days: &[&str]) -> Vec<String> {
    days.iter().map(|day| place(sandbox, &format!("{day}T11:00:00.000Z"), "manual")).collect()
}

fn ids(sandbox: &Sandbox) -> BTreeSet<String> {
    let names = std::fs::read_dir(sandbox.path(".dbelay/snapshots")).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap().trim_end_matches(".json").to_owned()).collect()
}

/// Lists what a forgetting kept (with its reasons) or forgot, as day and reasons, newest first.
fn listed(json: &Value, what: &str) -> Vec<String> {
    let groups = json["groups"].as_array().unwrap().iter().flat_map(|group| group[what].as_array().unwrap());
    groups
        .map(|item| {
            let reasons = item["reasons"].as_array().into_iter().flatten().map(|reason| reason.as_str().unwrap());
            format!("{} {}", &item["time"].as_str().unwrap()[..10], reasons.collect::<Vec<_>>().join(", ")).trim_end().to_owned()
        })
        .collect()
}

const SUNDAYS: [&str; 12] = [
    "2019-09-01",
    "2019-09-08",
    "2019-09-15",
    "2019-09-22",
    "2019-09-29",
    "2019-10-06",
    "2019-10-13",
    "2019-10-20",
    "2019-10-27",
    "2019-11-03",
    "2019-11-10",
    "2019-11-17",
];

#[test]
fn of_twelve_sundays_four_days_are_kept_as_restics_documentation_has_it() {
    let sandbox = Sandbox::with(BASE);
    sandbox.dbelay(&["snapshot"]).exits(0);
    let head = sandbox.dbelay(&["show", "--json"]).json()["id"].as_str().unwrap().to_owned();
    let all = days(&sandbox, &SUNDAYS);
    sandbox.dbelay(&["forget", &head]).exits(0);
    let before = ids(&sandbox);
    let arguments = ["forget", "--keep-daily", "4", "--json"];
    let json = sandbox.dbelay(&[&arguments[..], &["--dry-run"]].concat()).exits(0).json();
    let kept = ["2019-11-17 daily snapshot, HEAD", "2019-11-10 daily snapshot", "2019-11-03 daily snapshot", "2019-10-27 daily snapshot"];
    assert_eq!(listed(&json, "keep"), kept);
    let forgotten: Vec<&str> = SUNDAYS[..8].iter().rev().copied().collect();
    assert_eq!(listed(&json, "forget"), forgotten);
    assert_eq!((&json["dry_run"], &json["kept"], &json["forgotten"]), (&true.into(), &4.into(), &8.into()));
    assert_eq!(json["policy"]["keep_daily"], 4);
    assert_eq!(ids(&sandbox), before, "a dry run changes nothing");

    let done = sandbox.dbelay(&arguments).exits(0).json();
    assert_eq!((&done["groups"], &done["dry_run"]), (&json["groups"], &false.into()));
    assert_eq!(ids(&sandbox), all[8..].iter().cloned().collect());
    sandbox.dbelay(&["fsck", "--read-data"]).exits(0);
    let log = sandbox.dbelay(&["op", "log", "--json", "-n", "1"]).json();
    let entry = &log["operations"][0]["entry"];
    assert_eq!((&entry["kind"], &entry["result"], &entry["note"]), (&"forget".into(), &"done".into(), &"keep 4 daily snapshots".into()));
    let logged: Vec<&str> = entry["forgotten"].as_array().unwrap().iter().map(|gone| gone["id"].as_str().unwrap()).collect();
    assert_eq!(logged, all[..8].iter().rev().collect::<Vec<_>>());
    sandbox.dbelay(&["op", "log"]).exits(0).prints(&["forget", "8 snapshots", "keep 4 daily snapshots"]);
    // Once more there is nothing to do, and the log stays as it was.
    sandbox.dbelay(&arguments).exits(0);
    assert_eq!(sandbox.dbelay(&["op", "log", "--json", "-n", "1"]).json(), log);
}

#[test]
fn people_are_shown_a_table_with_reasons_and_the_tags_that_go() {
    let sandbox = Sandbox::with(BASE);
    sandbox.dbelay(&["snapshot"]).exits(0);
    let all = days(&sandbox, &["2019-09-01", "2019-09-08"]);
    sandbox.dbelay(&["tag", "first", &all[0]]).exits(0);
    sandbox.dbelay(&["tag", "second", &all[1]]).exits(0);
    let run = sandbox.dbelay(&["forget", "--keep-last", "1", "--keep-tag", "second", "--dry-run"]).exits(0);
    run.prints(&[
        "policy: keep 1 latest snapshots and all snapshots with tags [second]",
        "kind manual\nkeep 2 snapshots:\n  id ",
        "2019-09-08 11:00:00  manual  second  has tags [second]",
        "last snapshot, HEAD",
        "would forget 1 snapshot:\n",
        "2019-09-01 11:00:00  manual  first\n",
        "2 kept, 1 would be forgotten",
        "these tags would go with them: `first`",
    ]);
    let run = sandbox.dbelay(&["forget", "--keep-last", "1", "--keep-tag", "second"]).exits(0);
    run.prints(&["2 kept, 1 forgotten", "these tags went with them: `first`"]).says(&["frees its space"]);
    assert_eq!(sandbox.dbelay(&["tag", "--json"]).json()["tags"], serde_json::json!({ "second": all[1] }));
    sandbox.dbelay(&["fsck"]).exits(0);
}

#[test]
fn each_kind_is_kept_by_itself_and_together_where_that_is_wanted() {
    let sandbox = Sandbox::with(BASE);
    sandbox.dbelay(&["snapshot"]).exits(0);
    for (day, kind) in [("01", "manual"), ("02", "pre"), ("03", "post"), ("04", "pre"), ("05", "post")] {
        place(&sandbox, &format!("2019-09-{day}T11:00:00.000Z"), kind);
    }
    let forgotten = |by: &[&str]| {
        let json = sandbox.dbelay(&[&["forget", "--keep-last", "1", "--dry-run", "--json"], by].concat()).exits(0).json();
        (json["groups"].as_array().unwrap().len(), listed(&json, "forget"))
    };
    let days = |days: &[&str]| days.iter().map(|day| format!("2019-09-{day}")).collect::<Vec<_>>();
    assert_eq!(forgotten(&[]), (3, days(&["01", "02", "03"])));
    assert_eq!(forgotten(&["--group-by", "source"]), (1, days(&["05", "04", "03", "02", "01"])));
    assert_eq!(forgotten(&["--group-by", "none"]), (1, days(&["05", "04", "03", "02", "01"])));
    sandbox.dbelay(&["forget", "--keep-last", "1", "--group-by", "host"]).exits(2).says(&["`source,kind`"]);
}

#[test]
fn databases_are_kept_apart_and_one_that_is_named_is_meant_alone() {
    let sandbox = Sandbox::with(BASE);
    sandbox.copy_db("other.db");
    for database in ["app.db", "other.db"] {
        for _ in 0..2 {
            sandbox.run(&["--db", database, "snapshot"]).exits(0);
        }
    }
    let count = |arguments: &[&str]| {
        let json = sandbox.run(&[arguments, &["forget", "--keep-last", "1", "--dry-run", "--json"]].concat()).exits(0).json();
        (json["groups"].as_array().unwrap().len(), json["forgotten"].as_u64().unwrap())
    };
    assert_eq!(count(&["--db", "other.db"]), (1, 1));
    assert_eq!(count(&[]), (2, 2));
    sandbox.run(&["forget", "--keep-last", "1"]).exits(0).prints(&["app.db`", "other.db`"]);
    assert_eq!(ids(&sandbox).len(), 2);
    for database in ["app.db", "other.db"] {
        sandbox.run(&["--db", database, "status"]).exits(0).prints(&["equal to it"]);
    }
}

#[test]
fn without_options_the_policy_of_the_configuration_counts_and_without_one_nothing_is_done() {
    let sandbox = Sandbox::with(BASE);
    sandbox.dbelay(&["snapshot"]).exits(0);
    days(&sandbox, &SUNDAYS);
    sandbox.dbelay(&["forget"]).exits(2).says(&["nothing was forgotten", "--keep-last 5", "[retention]"]);
    sandbox.dbelay(&["forget", "--keep-last", "0"]).exits(2).says(&["a policy that keeps nothing"]);
    sandbox.dbelay(&["forget", "HEAD", "--keep-last", "1"]).exits(2).says(&["cannot be used with"]);
    sandbox.dbelay(&["forget", "--keep-within", "2w"]).exits(2).says(&["7 days", "`2y5m7d3h`"]);
    sandbox.dbelay(&["forget", "--keep-daily", "-3"]).exits(2).says(&["`unlimited`"]);
    let configure =
        |text: &str| std::fs::write(sandbox.path("dbelay.toml"), format!("database = \"app.db\"\n[retention]\n{text}")).unwrap();
    configure("keep-lats = 1\n");
    sandbox.run(&["forget", "--dry-run"]).exits(2).says(&["line 3", "keep-lats"]);
    configure("keep-last = 2\nkeep-within = \"30d\"\nkeep-tags = [\"x\"]\n");
    let json = sandbox.run(&["forget", "--dry-run", "--json"]).exits(0).json();
    assert_eq!(json["policy"], serde_json::json!({ "keep_last": 2, "keep_within": "30d", "keep_tags": [["x"]] }));
    assert_eq!(json["kept"], 2);
    // What is said counts in its place.
    let json = sandbox.run(&["forget", "--dry-run", "--json", "--keep-yearly", "-1"]).exits(0).json();
    assert_eq!(listed(&json, "keep")[1..], ["2019-11-17 yearly snapshot", "2019-09-01 oldest yearly snapshot"]);
    assert_eq!(ids(&sandbox).len(), 13);
}

#[test]
fn a_group_is_never_emptied_because_it_lacks_a_tag() {
    let sandbox = Sandbox::with(BASE);
    sandbox.dbelay(&["snapshot", "--tag", "x"]).exits(0);
    place(&sandbox, "2019-09-01T11:00:00.000Z", "post");
    let run = sandbox.dbelay(&["forget", "--keep-tag", "x"]).exits(3);
    run.says(&["nothing was forgotten", "kind post", "--keep-last 1"]);
    assert_eq!(ids(&sandbox).len(), 2);
    sandbox.dbelay(&["forget", "--keep-tag", "x", "--group-by", "source"]).exits(0);
    assert_eq!(ids(&sandbox).len(), 1);
}

#[test]
fn pinned_snapshots_stay_until_they_are_unpinned() {
    let sandbox = Sandbox::with(BASE);
    sandbox.dbelay(&["snapshot"]).exits(0);
    let all = days(&sandbox, &["2019-09-01", "2019-09-08"]);
    sandbox.dbelay(&["pin", "--list"]).exits(0).says(&["nothing is pinned"]);
    assert_eq!(sandbox.dbelay(&["pin", &all[0], "--json"]).exits(0).json()["pinned"], *all[0]);
    sandbox.dbelay(&["pin", &all[0][..8]]).exits(0).says(&["is pinned already"]);
    assert_eq!(sandbox.dbelay(&["pin", "--list", "--json"]).exits(0).json()["pins"][0]["id"], *all[0]);
    sandbox.dbelay(&["pin", "--list"]).exits(0).prints(&[&all[0][..8], "2019-09-01 11:00:00 manual"]);
    sandbox.dbelay(&["log"]).exits(0).prints(&["manual [pinned]  2019-09-01"]);
    sandbox.dbelay(&["log", "--oneline"]).exits(0).prints(&["[pinned]"]);
    let log = sandbox.dbelay(&["log", "--json"]).json();
    let pinned = log["snapshots"].as_array().unwrap().iter().map(|snapshot| snapshot["pinned"].as_bool().unwrap());
    assert_eq!(pinned.collect::<Vec<_>>(), [false, false, true]);
    sandbox.dbelay(&["show", &all[0]]).exits(0).prints(&["pinned   yes"]);
    assert_eq!(sandbox.dbelay(&["show", &all[0], "--json"]).json()["pinned"], true);

    let json = sandbox.dbelay(&["forget", "--keep-last", "1", "--json"]).exits(0).json();
    assert_eq!(listed(&json, "keep")[1..], ["2019-09-01 pinned"]);
    assert_eq!(listed(&json, "forget"), ["2019-09-08"]);
    sandbox.dbelay(&["forget", &all[0]]).exits(3).says(&["nothing was forgotten", "(pinned)", "unpin"]);
    sandbox.dbelay(&["fsck"]).exits(0);
    sandbox.dbelay(&["unpin", "HEAD"]).exits(2).says(&["is not pinned"]);
    sandbox.dbelay(&["unpin", &all[0]]).exits(0);
    sandbox.dbelay(&["op", "log"]).exits(0).prints(&["pin removed", "pinned"]);
    sandbox.dbelay(&["forget", &all[0]]).exits(0);
    assert_eq!(ids(&sandbox).len(), 1);
    // Without a name, the newest.
    sandbox.dbelay(&["pin"]).exits(0);
    let head = ids(&sandbox).pop_first().unwrap();
    // A pin whose snapshot is lost is found, and can be removed.
    std::fs::remove_file(sandbox.path(&format!(".dbelay/snapshots/{head}.json"))).unwrap();
    sandbox.dbelay(&["fsck"]).exits(1).prints(&["damage in pins/", "which is not there"]);
    sandbox.dbelay(&["pin", "--remove", &head]).exits(0);
    sandbox.dbelay(&["fsck"]).exits(0);
}

#[test]
fn named_snapshots_go_but_not_the_last_good_one_nor_the_state_before_the_latest_migration() {
    let sandbox = Sandbox::with(BASE);
    sandbox.migrate(&[], "UPDATE t SET x = 'c'").exits(0);
    let refused = sandbox.dbelay(&["forget", "pre", "--json"]).exits(3);
    assert_eq!(refused.json()["error"]["kind"], "failed");
    assert_eq!(refused.json()["refused"][0]["why"], "pre of the latest migration");
    refused.says(&["nothing was forgotten", "pre of the latest migration"]);
    sandbox.dbelay(&["forget", "pre", "post"]).exits(3);
    sandbox.dbelay(&["forget", "HEAD", "--dry-run"]).exits(0).prints(&["would forget 1 snapshot", "1 would be forgotten"]);
    assert_eq!(ids(&sandbox).len(), 2);
    sandbox.dbelay(&["forget", "HEAD"]).exits(0).prints(&["1 forgotten"]);
    sandbox.dbelay(&["status"]).exits(0).prints(&["HEAD is", "(pre,"]);

    let alone = Sandbox::with(BASE);
    alone.dbelay(&["snapshot"]).exits(0);
    alone.dbelay(&["snapshot"]).exits(0);
    alone.dbelay(&["forget", "HEAD", "HEAD~1"]).exits(3).says(&["the last good snapshot of its database"]);
    assert_eq!(ids(&alone).len(), 2);
    alone.dbelay(&["forget", "HEAD~1", "HEAD~1"]).exits(0);
    alone.dbelay(&["forget", "HEAD"]).exits(3).says(&["the last good snapshot of its database"]);
    alone.dbelay(&["forget", "--keep-within", "1h", "nonesuch"]).exits(2);
    alone.dbelay(&["forget", "nonesuch"]).exits(2).says(&["names no snapshot"]);
}

#[cfg(unix)]
#[test]
fn what_an_interrupted_migration_needs_is_kept_and_still_leads_back() {
    let sandbox = Sandbox::with(BASE);
    sandbox.dbelay(&["snapshot"]).exits(0);
    let before = sandbox.copy_db("before.db");
    std::fs::write(sandbox.path("up.sql"), "DELETE FROM t").unwrap();
    let script = "\"$0\" --db app.db demo-apply up.sql; kill -9 $PPID";
    sandbox.dbelay(&["migrate", "--", "sh", "-c", script, env!("CARGO_BIN_EXE_dbelay")]).exits(-1);
    let json = sandbox.dbelay(&["forget", "--keep-last", "1", "--group-by", "none", "--json"]).exits(0).json();
    assert_eq!(json["kept"], 1);
    let kept = json["groups"][0]["keep"][0].clone();
    let reasons: Vec<&str> = kept["reasons"].as_array().unwrap().iter().map(|reason| reason.as_str().unwrap()).collect();
    assert_eq!(kept["kind"], "pre");
    assert_eq!(reasons, ["last snapshot", "needed by an unfinished migrate", "pre of the latest migration", "HEAD"]);
    // Later snapshots do not push it out.
    place(&sandbox, "2099-01-01T00:00:00.000Z", "manual");
    let json = sandbox.dbelay(&["forget", "--keep-last", "1", "--group-by", "none", "--json"]).exits(0).json();
    assert_eq!((&json["kept"], &json["forgotten"]), (&2.into(), &0.into()));
    sandbox.dbelay(&["forget", kept["id"].as_str().unwrap()]).exits(3).says(&["needed by an unfinished migrate"]);
    // It still is what the next command says it is.
    sandbox.dbelay(&["migrate", "--", "true"]).exits(3).says(&["was interrupted", "dbelay rollback pre"]);
    sandbox.dbelay(&["rollback", "pre"]).exits(0);
    oracle::assert_same(&before, &sandbox.db());
}

#[test]
fn damaged_snapshots_use_nothing_up_are_told_and_the_only_good_one_stays() {
    let sandbox = Sandbox::with(BASE);
    sandbox.dbelay(&["snapshot"]).exits(0);
    let good = days(&sandbox, &["2019-09-01", "2019-09-08"]);
    let first = ids(&sandbox).into_iter().find(|id| !good.contains(id)).unwrap();
    // A newer one whose objects are lost, and one whose file is.
    sandbox.sql("CREATE TABLE u(y); INSERT INTO u VALUES(1)");
    let packs = || walkdir::WalkDir::new(sandbox.path(".dbelay/packs")).into_iter().flatten().filter(|e| e.file_type().is_file());
    let known: Vec<_> = packs().map(walkdir::DirEntry::into_path).collect();
    let lost = sandbox.dbelay(&["snapshot", "--json"]).json()["id"].as_str().unwrap().to_owned();
    let new: Vec<_> = packs().map(walkdir::DirEntry::into_path).filter(|path| !known.contains(path)).collect();
    assert_eq!(new.len(), 1);
    std::fs::remove_file(&new[0]).unwrap();
    let torn = sandbox.path(&format!(".dbelay/snapshots/{}.json", good[1]));
    let text = std::fs::read(&torn).unwrap();
    std::fs::write(&torn, &text[..text.len() / 2]).unwrap();

    let json = sandbox.dbelay(&["forget", "--keep-last", "1", "--json"]).exits(1).json();
    assert_eq!(json["forgotten"], 1, "{json}");
    assert_eq!(json["groups"][0]["keep"][0]["id"], *first);
    assert_eq!(json["groups"][0]["keep"][0]["reasons"], serde_json::json!(["last snapshot", "newest good snapshot"]));
    let damaged: Vec<&str> = json["damaged"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
    assert_eq!(damaged, [&lost, &good[1]]);
    assert!(json["damaged"][0]["damage"].as_str().unwrap().contains("is missing"), "{json}");
    assert_eq!(ids(&sandbox), BTreeSet::from([first.clone(), lost.clone(), good[1].clone()]));
    sandbox.dbelay(&["forget", "--keep-last", "1"]).exits(1).prints(&[
        "damaged, neither counted nor forgotten",
        &good[1][..8],
        "1 kept, 0 forgotten",
    ]);
    // By name they go, and the good one does not.
    sandbox.dbelay(&["forget", &good[1][..12], &lost]).exits(0).prints(&["2 forgotten", "damaged: "]);
    sandbox.dbelay(&["forget", &first]).exits(3).says(&["the last good snapshot"]);
    sandbox.dbelay(&["fsck", "--read-data"]).exits(0);
    sandbox.dbelay(&["restore", &first, "--to", "copy.db"]).exits(0);
}

#[test]
fn after_a_clock_was_set_back_the_last_state_is_kept_beside_the_one_of_the_future() {
    let sandbox = Sandbox::with(BASE);
    sandbox.dbelay(&["snapshot"]).exits(0);
    let future = place(&sandbox, "2099-01-01T00:00:00.000Z", "manual");
    let taken = sandbox.dbelay(&["snapshot", "--json"]).exits(0).json()["id"].as_str().unwrap().to_owned();
    let json = sandbox.dbelay(&["forget", "--keep-last", "1", "--json"]).exits(0).json();
    assert_eq!(ids(&sandbox), BTreeSet::from([future, taken]));
    assert_eq!(json["groups"][0]["keep"][1]["reasons"], serde_json::json!(["last state of the database"]));
}

#[test]
fn every_command_says_of_a_forgotten_snapshot_that_and_when_it_was_forgotten() {
    let sandbox = Sandbox::with(BASE);
    sandbox.migrate(&[], "UPDATE t SET x = 'c'").exits(0);
    let first = sandbox.dbelay(&["show", "pre", "--json"]).json()["id"].as_str().unwrap().to_owned();
    sandbox.dbelay(&["tag", "start", "pre"]).exits(0);
    sandbox.migrate(&[], "UPDATE t SET x = 'd'").exits(0);
    let post = sandbox.dbelay(&["show", "post", "--json"]).json()["id"].as_str().unwrap().to_owned();
    sandbox.dbelay(&["forget", &first, &post]).exits(0).prints(&["these tags went with them: `start`"]);
    let when = "was forgotten at 20";
    for command in [
        vec!["show", &first],
        vec!["show", &first[..8]],
        vec!["show", "start"],
        vec!["show", "start~1"],
        vec!["show", "post"],
        vec!["diff", "pre", "post"],
        vec!["rollback", "post"],
        vec!["rollback", &first],
        vec!["restore", &first, "--to", "copy.db"],
        vec!["tag", "again", "post"],
        vec!["pin", "post"],
        vec!["cat", "post", "t"],
        vec!["forget", &first],
    ] {
        let run = sandbox.dbelay(&command).exits(2).says(&[when, "by tester", "op log"]);
        assert!(run.stderr.contains(&first[..8]) || run.stderr.contains(&post[..8]), "{command:?}: {}", run.stderr);
    }
    let json = sandbox.dbelay(&["rollback", "post", "--json"]).exits(2).json();
    assert_eq!(json["error"]["kind"], "not_found");
    assert!(json["error"]["message"].as_str().unwrap().contains(when), "{json}");
    assert!(!sandbox.path("copy.db").exists());
    // What never was there is not said to have been.
    let run = sandbox.dbelay(&["show", "0123456789"]).exits(2);
    assert!(!run.stderr.contains("forgotten"), "{}", run.stderr);
    // The others are as they were.
    sandbox.dbelay(&["status"]).exits(0);
    sandbox.dbelay(&["log"]).exits(0);
    sandbox.dbelay(&["op", "log"]).exits(0);
    sandbox.dbelay(&["show", "pre"]).exits(0);
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.dbelay(&["fsck", "--read-data"]).exits(0);
}

#[test]
fn undo_goes_back_past_a_forgotten_end_and_stops_at_a_forgotten_beginning() {
    let sandbox = Sandbox::with(BASE);
    sandbox.migrate(&[], "UPDATE t SET x = 'first'").exits(0);
    let first_pre = sandbox.dbelay(&["show", "pre", "--json"]).json()["id"].as_str().unwrap().to_owned();
    sandbox.migrate(&[], "UPDATE t SET x = 'second'").exits(0);
    sandbox.dbelay(&["forget", "post", &first_pre]).exits(0);
    let value = || sandbox.connect().query_row("SELECT x FROM t", [], |row| row.get::<_, String>(0)).unwrap();
    sandbox.dbelay(&["undo"]).exits(0).says(&["is forgotten, so whether it was changed since is not known", "kept in snapshot"]);
    assert_eq!(value(), "first");
    let kept = sandbox.copy_db("kept.db");
    sandbox.dbelay(&["undo"]).exits(2).says(&[&first_pre[..8], "was forgotten at 20"]);
    oracle::assert_same(&kept, &sandbox.db());
    // The way forward leads to what is forgotten, too.
    sandbox.dbelay(&["redo"]).exits(2).says(&["was forgotten at 20"]);
    oracle::assert_same(&kept, &sandbox.db());
    sandbox.dbelay(&["status"]).exits(0);
}

#[test]
fn a_parent_that_is_gone_is_stepped_over_and_said_so() {
    let sandbox = Sandbox::with(BASE);
    for n in 0..3 {
        sandbox.sql(&format!("INSERT INTO t(x) VALUES('{n}')"));
        sandbox.dbelay(&["snapshot"]).exits(0);
    }
    let oldest = sandbox.dbelay(&["show", "HEAD~2", "--json"]).json()["id"].clone();
    sandbox.dbelay(&["forget", "HEAD~1"]).exits(0);
    sandbox.dbelay(&["show", "HEAD"]).exits(0).prints(&["which is no longer there"]);
    assert_eq!(sandbox.dbelay(&["show", "HEAD~1", "--json"]).json()["id"], oldest);
    sandbox.dbelay(&["diff", "HEAD~1", "HEAD"]).exits(0).prints(&["+ "]);
    sandbox.dbelay(&["log", "t"]).exits(0);
}

#[test]
fn a_forgetting_that_dies_leaves_the_rest_and_a_sound_store() {
    let sandbox = Sandbox::with(BASE);
    sandbox.dbelay(&["snapshot"]).exits(0);
    let all = days(&sandbox, &SUNDAYS[..3]);
    sandbox.dbelay(&["tag", "one", &all[0]]).exits(0);
    sandbox.dbelay(&["tag", "two", &all[0]]).exits(0);
    sandbox.dbelay(&["tag", "three", &all[2]]).exits(0);
    sandbox.dbelay(&["pin", &all[1]]).exits(0);
    let arguments = ["--db", "app.db", "forget", "--keep-last", "1"];
    let kept = tempfile::tempdir().unwrap();
    copy_folder(&sandbox.path(".dbelay"), kept.path());
    let whole = ids(&sandbox);
    let mut seen = BTreeSet::new();
    for step in 1.. {
        std::fs::remove_dir_all(sandbox.path(".dbelay")).unwrap();
        copy_folder(kept.path(), &sandbox.path(".dbelay"));
        let run = finish(sandbox.command().args(arguments).env("DBELAY_TEST_DIE_AT_STEP", step.to_string()));
        let there = ids(&sandbox);
        seen.insert(there.len());
        if run.code != -1 {
            assert_eq!((run.code, there.len()), (0, 2), "{}", run.stderr);
            assert!(step > 8, "it took {step} durable steps");
            break;
        }
        sandbox.dbelay(&["fsck", "--read-data"]).exits(0);
        // Only what was to go may be gone, and what is gone is in the log.
        assert!(there.is_subset(&whole) && there.contains(&all[1]), "step {step}");
        for id in whole.difference(&there) {
            sandbox.dbelay(&["show", id]).exits(2).says(&["was forgotten at 20"]);
        }
        // It is in nobody's way: the database was not touched.
        sandbox.dbelay(&["status"]).exits(0).prints(&["the database is equal to it"]);
        sandbox.dbelay(&["rollback", "HEAD"]).exits(0);
        finish(sandbox.command().args(["--db", "app.db", "forget", "--keep-last", "1", "--group-by", "source"])).exits(0);
        assert!(sandbox.dbelay(&["tag", "--json"]).json()["tags"].as_object().unwrap().is_empty(), "step {step}");
        let log = sandbox.dbelay(&["op", "log", "--json"]).json();
        assert!(log["operations"].as_array().unwrap().iter().all(|operation| operation["open"] == false), "step {step}: {log}");
        sandbox.dbelay(&["fsck", "--read-data"]).exits(0);
    }
    assert_eq!(seen, BTreeSet::from([2, 3, 4]), "it died before, between and after");
}

#[cfg(unix)]
#[test]
fn nothing_is_forgotten_while_another_command_works_on_the_project() {
    let sandbox = Sandbox::with(BASE);
    sandbox.dbelay(&["snapshot"]).exits(0);
    days(&sandbox, &SUNDAYS[..2]);
    let script = "\"$0\" --db app.db forget --keep-last 1; code=$?; \"$0\" --db app.db forget --keep-last 1 --dry-run; echo codes $code $?";
    let run = sandbox.dbelay(&["migrate", "--", "sh", "-c", script, env!("CARGO_BIN_EXE_dbelay")]).exits(0);
    run.prints(&["codes 11 0"]).says(&["the store is locked by `dbelay migrate`"]);
    assert_eq!(ids(&sandbox).len(), 4);
}

#[test]
fn a_store_of_before_is_pinned_and_forgotten_from() {
    let sandbox = Sandbox::with(BASE);
    sandbox.dbelay(&["snapshot"]).exits(0);
    assert!(!sandbox.path(".dbelay/pins").exists(), "a new store is as one of before");
    sandbox.dbelay(&["fsck"]).exits(0);
    sandbox.dbelay(&["forget", "--keep-last", "1"]).exits(0);
    sandbox.dbelay(&["pin"]).exits(0);
    sandbox.dbelay(&["fsck"]).exits(0);
}
