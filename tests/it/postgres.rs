//! PostgreSQL through the built binary.

use crate::cluster::Cluster;

#[test]
fn the_server_of_the_tests_keeps_what_it_is_given() {
    let Some(cluster) = Cluster::shared() else { return };
    let database = cluster.database();
    database.psql("CREATE TABLE t(id serial PRIMARY KEY, \"T x\" text); INSERT INTO t(\"T x\") VALUES('a'), (NULL)");
    let (before, dump) = (database.checksums(), database.dump());
    assert!(before.contains("rows public.t|2|") && before.contains("sequence public.t_id_seq|2|t"), "{before}");
    assert!(dump.contains("CREATE TABLE public.t"), "{dump}");
    cluster.roles(&["dbelay_reader"]);
    assert_eq!(database.psql_as("dbelay_reader", "SELECT current_user").trim(), "dbelay_reader");
    database.psql("UPDATE t SET \"T x\" = '' WHERE id = 2");
    assert_ne!(before, database.checksums());
    assert_eq!(dump, database.dump());
}
