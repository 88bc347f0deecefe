//! TPC-H on a server: what is measured, and against what.

use std::fmt::Display;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::available_parallelism;

use super::cluster::{Cluster, TestDatabase};
use super::shared::environment::{folder_bytes, judge, read};
use super::shared::process::succeed;
use super::shared::results::Results;
use super::shared::table::{Bar, print_bars, print_results, size};
use super::shared::tpch::{self, Loader};

const TABLES: &str = "
CREATE TABLE region(r_regionkey integer NOT NULL, r_name char(25) NOT NULL, r_comment varchar(152));
CREATE TABLE nation(n_nationkey integer NOT NULL, n_name char(25) NOT NULL, n_regionkey integer NOT NULL, n_comment varchar(152));
CREATE TABLE part(p_partkey integer NOT NULL, p_name varchar(55) NOT NULL, p_mfgr char(25) NOT NULL, p_brand char(10) NOT NULL,
  p_type varchar(25) NOT NULL, p_size integer NOT NULL, p_container char(10) NOT NULL, p_retailprice numeric(15,2) NOT NULL, p_comment varchar(23) NOT NULL);
CREATE TABLE supplier(s_suppkey integer NOT NULL, s_name char(25) NOT NULL, s_address varchar(40) NOT NULL, s_nationkey integer NOT NULL,
  s_phone char(15) NOT NULL, s_acctbal numeric(15,2) NOT NULL, s_comment varchar(101) NOT NULL);
CREATE TABLE partsupp(ps_partkey integer NOT NULL, ps_suppkey integer NOT NULL, ps_availqty integer NOT NULL, ps_supplycost numeric(15,2) NOT NULL,
  ps_comment varchar(199) NOT NULL);
CREATE TABLE customer(c_custkey integer NOT NULL, c_name varchar(25) NOT NULL, c_address varchar(40) NOT NULL, c_nationkey integer NOT NULL,
  c_phone char(15) NOT NULL, c_acctbal numeric(15,2) NOT NULL, c_mktsegment char(10) NOT NULL, c_comment varchar(117) NOT NULL);
CREATE TABLE orders(o_orderkey bigint NOT NULL, o_custkey integer NOT NULL, o_orderstatus char(1) NOT NULL, o_totalprice numeric(15,2) NOT NULL,
  o_orderdate date NOT NULL, o_orderpriority char(15) NOT NULL, o_clerk char(15) NOT NULL, o_shippriority integer NOT NULL, o_comment varchar(79) NOT NULL);
CREATE TABLE lineitem(l_orderkey bigint NOT NULL, l_partkey integer NOT NULL, l_suppkey integer NOT NULL, l_linenumber integer NOT NULL,
  l_quantity numeric(15,2) NOT NULL, l_extendedprice numeric(15,2) NOT NULL, l_discount numeric(15,2) NOT NULL, l_tax numeric(15,2) NOT NULL,
  l_returnflag char(1) NOT NULL, l_linestatus char(1) NOT NULL, l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL,
  l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL, l_comment varchar(44) NOT NULL);
";

const KEYS: &str = "
ALTER TABLE region ADD PRIMARY KEY (r_regionkey);
ALTER TABLE nation ADD PRIMARY KEY (n_nationkey), ADD FOREIGN KEY (n_regionkey) REFERENCES region;
ALTER TABLE part ADD PRIMARY KEY (p_partkey);
ALTER TABLE supplier ADD PRIMARY KEY (s_suppkey), ADD FOREIGN KEY (s_nationkey) REFERENCES nation;
ALTER TABLE partsupp ADD PRIMARY KEY (ps_partkey, ps_suppkey), ADD FOREIGN KEY (ps_partkey) REFERENCES part, ADD FOREIGN KEY (ps_suppkey) REFERENCES supplier;
ALTER TABLE customer ADD PRIMARY KEY (c_custkey), ADD FOREIGN KEY (c_nationkey) REFERENCES nation;
ALTER TABLE orders ADD PRIMARY KEY (o_orderkey), ADD FOREIGN KEY (o_custkey) REFERENCES customer;
ALTER TABLE lineitem ADD PRIMARY KEY (l_orderkey, l_linenumber), ADD FOREIGN KEY (l_orderkey) REFERENCES orders,
  ADD FOREIGN KEY (l_partkey, l_suppkey) REFERENCES partsupp;
";

/// All tables, read once and thrown away.
const COPY: &str = "COPY to /dev/null";
const FIRST: &str = "first snapshot";
const UNCHANGED: &str = "snapshot, nothing changed";
const ROLLBACK: &str = "rollback of the 1,000 rows, with its proof";
const DUMP: &str = "pg_dump -Fc";
const RESTORE_ONE: &str = "pg_restore -j1";
const RESTORE_TWO: &str = "pg_restore -j2";

struct Bench<'a> {
    cluster: &'a Cluster,
    database: TestDatabase<'a>,
    dir: tempfile::TempDir,
    results: Results,
}

pub fn run() {
    let (scale, rounds) = (read("DBELAY_BENCH_SCALE", 1.0), read("DBELAY_BENCH_ROUNDS", 3_usize));
    let Some(cluster) = Cluster::start(&[("shared_buffers", "512MB")]) else {
        println!("skipped: there is no PostgreSQL server");
        return;
    };
    let dir = tempfile::Builder::new().prefix("dbelay-bench-").tempdir().unwrap();
    let mut bench = Bench { cluster: &cluster, database: cluster.database(), dir, results: Results::default() };
    bench.load(scale);
    let bytes: f64 = bench.database.psql("SELECT pg_database_size(current_database())").trim().parse().unwrap();
    println!("## TPC-H, scale factor {scale}: {} in PostgreSQL {}, {rounds} rounds\n", size(bytes), cluster.version());
    for round in 0..rounds {
        bench.results.round = round;
        bench.round();
        if round == 0 {
            bench.peers();
        }
    }
    let results = &bench.results;
    let smaller = results.stored(FIRST).zip(results.stored(DUMP)).map(|(store, dump)| store / dump);
    let ratio = |name: &str, other: &str| results.ratio(name, other);
    let missed = print_bars(&[
        Bar::at_most("first snapshot, against COPY of all tables to /dev/null", 1.2, Some(1.0), ratio(FIRST, COPY), ""),
        Bar { is_least: true, ..Bar::at_most("how many times faster than `pg_dump -Fc`", 4.0, None, ratio(DUMP, FIRST), " times") },
        Bar::at_most("its size, against `pg_dump -Fc`", 1.0, None, smaller, ""),
        Bar::at_most("nothing changed, against the first", 0.1, None, ratio(UNCHANGED, FIRST), ""),
        Bar::at_most("rollback of 1,000 rows, against `pg_restore -j1`", 0.05, None, ratio(ROLLBACK, RESTORE_ONE), ""),
        Bar::at_most("and against `pg_restore -j2`", 0.05, None, ratio(ROLLBACK, RESTORE_TWO), ""),
    ]);
    print_results(results, COPY);
    judge(missed);
}

impl Bench<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn dbelay(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dbelay"));
        command.current_dir(self.dir.path()).env("PATH", self.cluster.path());
        command.args(["-q", "--db", &self.database.url(), "--store", "store"]).args(arguments);
        command
    }

    fn measure(&mut self, name: &str, arguments: &[&str]) {
        self.results.measure(name, &self.dbelay(arguments));
    }

    fn measure_growth(&mut self, name: &str, arguments: &[&str]) {
        let before = folder_bytes(&self.path("store"));
        self.measure(name, arguments);
        self.results.add_stored(name, folder_bytes(&self.path("store")).saturating_sub(before));
    }

    fn round(&mut self) {
        self.results.measure(COPY, &self.reading());
        drop(std::fs::remove_dir_all(self.path("store")));
        self.measure_growth(FIRST, &["snapshot"]);
        self.measure_growth(UNCHANGED, &["snapshot"]);
        succeed(&mut self.dbelay(&["tag", "base"]));
        self.update();
        self.measure_growth("snapshot, 1,000 scattered updates", &["snapshot"]);
        self.measure("diff --stat of the 1,000 rows", &["diff", "HEAD~1", "HEAD", "--stat"]);
        self.measure("diff of the 1,000 rows", &["diff", "HEAD~1", "HEAD"]);
        self.measure(ROLLBACK, &["rollback", "base", "--yes"]);
        succeed(&mut self.dbelay(&["diff", "base", "live", "--exit-code"]));
        self.measure("migrate around nothing", &["migrate", "--", "true"]);
    }

    /// Returns a command that reads all tables and throws them away, over as many connections as dbelay reads with: each reads its share of the
    /// pages of each table.
    fn reading(&self) -> Command {
        let connections = available_parallelism().map_or(2, usize::from).clamp(2, 8);
        let pages = self.database.psql(
            "SELECT relname, pg_relation_size(oid) / current_setting('block_size')::int FROM pg_class
               WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
        );
        let tables: Vec<(&str, u64)> =
            pages.lines().filter_map(|line| line.split_once('|')).map(|(name, n)| (name, n.parse().unwrap())).collect();
        let mut script = String::new();
        for at in 0..connections as u64 {
            let share = |pages: u64| (pages * at / connections as u64, pages * (at + 1) / connections as u64);
            let copies = tables.iter().map(|(table, pages)| {
                let (from, to) = share(*pages);
                format!("-c \"COPY (SELECT * FROM {table} WHERE ctid >= '({from},0)' AND ctid < '({to},0)') TO STDOUT\" ")
            });
            script.push_str(&format!("\"$@\" {}& ", copies.collect::<String>()));
            script.push_str("processes=\"$processes $!\"; ");
        }
        script.push_str("for process in $processes; do wait $process || exit 1; done");
        let session = self.database.session();
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(session.get_program()).args(session.get_args());
        command.env("PGCLIENTENCODING", "UTF8");
        command
    }

    fn peers(&mut self) {
        let url = self.database.url();
        let dump = |arguments: &[&str], output: &PathBuf| {
            let mut command = self.cluster.program("pg_dump");
            command.args(arguments).args(["--dbname", &url, "--file"]).arg(output);
            command
        };
        let (file, folder) = (self.path("dump"), self.path("dump.d"));
        let commands = [(DUMP, dump(&["-Fc"], &file), &file), ("pg_dump -Fd -j2", dump(&["-Fd", "-j2"], &folder), &folder)];
        for (name, command, output) in commands {
            self.results.measure(name, &command);
            self.results.add_stored(name, folder_bytes(output));
        }
        let copied = self.cluster.database_to_be();
        let mut copying = self.cluster.program("createdb");
        copying.args(["-T", self.database.name(), "--maintenance-db", self.database.url_of_server(), copied.name()]);
        self.results.measure("createdb -T", &copying);
        drop(copied);
        for (name, jobs) in [(RESTORE_ONE, "-j1"), (RESTORE_TWO, "-j2")] {
            let fresh = self.cluster.database();
            let mut command = self.cluster.program("pg_restore");
            command.args([jobs, "--dbname", &fresh.url()]).arg(&file);
            self.results.measure(name, &command);
        }
    }

    /// Changes 1,000 rows of the largest table, spread over it.
    fn update(&self) {
        self.database.psql(
            "UPDATE lineitem SET l_comment = left(md5(random()::text), 20) WHERE l_linenumber = 1 AND l_orderkey IN (
               SELECT o_orderkey FROM (SELECT o_orderkey, row_number() OVER (ORDER BY o_orderkey) AS n, count(*) OVER () AS orders FROM orders) AS numbered
               WHERE n % greatest(orders / 1000, 1) = 0 LIMIT 1000)",
        );
    }

    fn load(&self, scale: f64) {
        self.database.psql(TABLES);
        tpch::load(scale, &mut Server(&self.database));
        self.database.psql(KEYS);
        self.database.psql("VACUUM ANALYZE");
        self.database.psql("CHECKPOINT");
    }
}

struct Server<'a>(&'a TestDatabase<'a>);

impl Loader for Server<'_> {
    fn table(&mut self, name: &str, rows: impl Iterator<Item = impl Display>) {
        let mut session = self.0.session();
        let mut child = session
            .args(["-c", &format!("COPY {name} FROM STDIN (FORMAT csv)")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = BufWriter::with_capacity(1 << 20, child.stdin.take().unwrap());
        for row in rows {
            writeln!(input, "{row}").unwrap();
        }
        drop(input);
        assert!(child.wait().unwrap().success(), "`{name}` cannot be filled");
    }
}
