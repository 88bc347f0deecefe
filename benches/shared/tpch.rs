//! TPC-H, of any scale factor: as rows for whoever loads them, and as a SQLite database.

use std::fmt::{Display, Write as _};
use std::path::Path;

use rusqlite::{Connection, params_from_iter};
use tpchgen::csv::{CustomerCsv, LineItemCsv, NationCsv, OrderCsv, PartCsv, PartSuppCsv, RegionCsv, SupplierCsv};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator, RegionGenerator,
    SupplierGenerator,
};

use super::database::{Changes, Database, make, open};

/// Rows of CSV that are inserted at once.
const LINES: usize = 10_000;

const TABLES: &str = "
CREATE TABLE region(r_regionkey INTEGER PRIMARY KEY, r_name TEXT, r_comment TEXT);
CREATE TABLE nation(n_nationkey INTEGER PRIMARY KEY, n_name TEXT, n_regionkey INTEGER, n_comment TEXT);
CREATE TABLE part(p_partkey INTEGER PRIMARY KEY, p_name TEXT, p_mfgr TEXT, p_brand TEXT, p_type TEXT, p_size INTEGER, p_container TEXT,
  p_retailprice REAL, p_comment TEXT);
CREATE TABLE supplier(s_suppkey INTEGER PRIMARY KEY, s_name TEXT, s_address TEXT, s_nationkey INTEGER, s_phone TEXT, s_acctbal REAL, s_comment TEXT);
CREATE TABLE partsupp(ps_partkey INTEGER, ps_suppkey INTEGER, ps_availqty INTEGER, ps_supplycost REAL, ps_comment TEXT,
  PRIMARY KEY(ps_partkey, ps_suppkey));
CREATE TABLE customer(c_custkey INTEGER PRIMARY KEY, c_name TEXT, c_address TEXT, c_nationkey INTEGER, c_phone TEXT, c_acctbal REAL,
  c_mktsegment TEXT, c_comment TEXT);
CREATE TABLE orders(o_orderkey INTEGER PRIMARY KEY, o_custkey INTEGER, o_orderstatus TEXT, o_totalprice REAL, o_orderdate TEXT,
  o_orderpriority TEXT, o_clerk TEXT, o_shippriority INTEGER, o_comment TEXT);
CREATE TABLE lineitem(l_orderkey INTEGER, l_partkey INTEGER, l_suppkey INTEGER, l_linenumber INTEGER, l_quantity REAL, l_extendedprice REAL,
  l_discount REAL, l_tax REAL, l_returnflag TEXT, l_linestatus TEXT, l_shipdate TEXT, l_commitdate TEXT, l_receiptdate TEXT,
  l_shipinstruct TEXT, l_shipmode TEXT, l_comment TEXT, PRIMARY KEY(l_orderkey, l_linenumber));
";

const CHANGES: Changes = Changes {
    table: "lineitem",
    cell: ("l_quantity", "l_quantity + 1"),
    column: ("l_tax", "l_tax + 0.01"),
    dropped: "l_shipinstruct",
    // Above all keys that a scale factor below 100 has.
    copied: ("l_orderkey", "l_orderkey + 1000000000"),
};

/// Takes the rows of a table, each as a line of CSV.
pub trait Loader {
    /// Takes all rows of one table.
    fn table(&mut self, name: &str, rows: impl Iterator<Item = impl Display>);
}

/// Hands over all tables, each after those that it refers to.
pub fn load(scale: f64, loader: &mut impl Loader) {
    loader.table("region", RegionGenerator::new(scale, 1, 1).iter().map(RegionCsv::new));
    loader.table("nation", NationGenerator::new(scale, 1, 1).iter().map(NationCsv::new));
    loader.table("part", PartGenerator::new(scale, 1, 1).iter().map(PartCsv::new));
    loader.table("supplier", SupplierGenerator::new(scale, 1, 1).iter().map(SupplierCsv::new));
    loader.table("partsupp", PartSuppGenerator::new(scale, 1, 1).iter().map(PartSuppCsv::new));
    loader.table("customer", CustomerGenerator::new(scale, 1, 1).iter().map(CustomerCsv::new));
    loader.table("orders", OrderGenerator::new(scale, 1, 1).iter().map(OrderCsv::new));
    loader.table("lineitem", LineItemGenerator::new(scale, 1, 1).iter().map(LineItemCsv::new));
}

/// Makes the SQLite database in a folder, if it is not there: pages of 4,096 bytes, decimals as REAL, dates as TEXT.
pub fn sqlite(folder: &Path, scale: f64) -> Database {
    let path = folder.join(format!("tpch-{scale}.db"));
    make(&path, &mut |begun| {
        let connection = open(begun);
        connection.execute_batch("PRAGMA page_size = 4096").unwrap();
        connection.execute_batch(TABLES).unwrap();
        load(scale, &mut Sqlite(connection));
    });
    Database { title: format!("TPC-H, scale factor {scale}"), path, changes: CHANGES }
}

struct Sqlite(Connection);

impl Loader for Sqlite {
    fn table(&mut self, name: &str, mut rows: impl Iterator<Item = impl Display>) {
        let transaction = self.0.transaction().unwrap();
        let mut lines = String::new();
        loop {
            lines.clear();
            rows.by_ref().take(LINES).for_each(|row| writeln!(lines, "{row}").unwrap());
            if lines.is_empty() {
                break;
            }
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(lines.as_bytes());
            for record in reader.records() {
                let record = record.unwrap();
                let places = vec!["?"; record.len()].join(", ");
                // The columns' types make numbers of the texts.
                transaction
                    .prepare_cached(&format!("INSERT INTO {name} VALUES({places})"))
                    .unwrap()
                    .execute(params_from_iter(&record))
                    .unwrap();
            }
        }
        transaction.commit().unwrap();
    }
}
