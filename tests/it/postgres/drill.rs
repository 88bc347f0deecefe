//! The proof that a snapshot restores, on a server.

use super::{EVERYTHING, Project};

#[test]
fn a_drill_restores_everything_beside_the_real_database_and_leaves_nothing() {
    let Some(project) = Project::with(EVERYTHING).map(Project::by_own_superuser) else { return };
    project.dbelay(&["snapshot"]).exits(0);
    project.dbelay(&["verify"]).exits(0).prints(&["sound: 1 snapshot"]);
    let json = project.dbelay(&["verify", "--drill", "--json"]).exits(0).json();
    let drill = &json["drills"][0];
    assert_eq!(drill["proven"], true, "{json:#}");
    let written = |json: &serde_json::Value| json["written"].as_u64().unwrap();
    assert!(written(drill) * 10 >= drill["trials"].as_array().unwrap().len() as u64 * 7, "{json:#}");
    assert_eq!(project.own_databases(), "0\n");
    project.dbelay(&["status"]).prints(&["last proven restorable: just now"]);
}

#[test]
fn a_sequence_that_hands_out_a_key_that_is_there_is_found() {
    let Some(project) = Project::with(
        "CREATE TABLE fine(id serial PRIMARY KEY, up int REFERENCES fine, n varchar(5) UNIQUE NOT NULL); INSERT INTO fine(n) VALUES('a'),('b');
         CREATE TABLE sub(id int PRIMARY KEY REFERENCES fine, k text NOT NULL CHECK (k ~ '^[A-Z]{3}$')); INSERT INTO sub VALUES(1,'ABC');
         CREATE TABLE lonely(k text PRIMARY KEY CHECK (k ~ '^[A-Z]{3}$'));",
    ) else {
        return;
    };
    project.dbelay(&["snapshot"]).exits(0);
    project.dbelay(&["verify", "--drill"]).exits(0).prints(&["a row written into 2 of 3 tables", "not written: `lonely`"]);
    // As it is after rows were copied in with their keys.
    project.sql("SELECT setval('fine_id_seq', 1, false)");
    project.dbelay(&["snapshot"]).exits(0);
    project.dbelay(&["verify", "--drill"]).exits(1).prints(&["not proven", "the key that its sequence hands out is there already"]);
}
