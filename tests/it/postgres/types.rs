//! A value of every type comes back exactly: each type has a table of its own, and everything is done to all of them.

use super::Project;

/// Where a type is not to be had.
enum Needs {
    /// A server of this version or later.
    Version(u32),
    /// A server that was built with XML.
    Xml,
}

/// Types that other types are made of.
const DECLARED: &str = "
CREATE TYPE colour AS ENUM ('red', 'gr''een', 'Blue sky', '');
CREATE DOMAIN short AS varchar(5) CHECK (VALUE <> 'no');
CREATE DOMAIN shorts AS short[];
CREATE TYPE pair AS (a integer, \"B b\" text);
CREATE TYPE nested AS (p pair, ps pair[], c colour, s short);
CREATE TYPE floats AS RANGE (subtype = float8);
";

const TYPES: &[(&str, &[&str])] = &[
    ("boolean", &["t", "f"]),
    ("smallint", &["-32768", "32767", "0"]),
    ("integer", &["-2147483648", "2147483647"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807", "9007199254740993"]),
    ("oid", &["4294967295", "0"]),
    ("real", &["0.1", "NaN", "Infinity", "-Infinity", "-0", "1e-45", "3.4028235e38", "16777216"]),
    ("double precision", &["0.1", "NaN", "Infinity", "-Infinity", "-0", "5e-324", "1.7976931348623157e308", "0.30000000000000004", "1e22"]),
    (
        "numeric",
        &[
            "0",
            "1.0",
            "1.00",
            "-0.000",
            "NaN",
            "12345678901234567890123456789012345678901234567890.12345678901234567890",
            "1e-1000",
            "1e1000",
            "0.1",
        ],
    ),
    ("numeric(20,5)", &["123456789012345.67890", "NaN", "-0.00001"]),
    ("money", &["-92233720368547758.08", "12.34"]),
    (
        "text",
        &[
            "",
            " ",
            "\t\r\n",
            "\\N",
            "\\.",
            "\\",
            "NULL",
            "null",
            "it's \"quoted\"",
            "\u{1f418} e\u{301} \u{e9}",
            "\u{1}\u{7f}\u{feff}",
            "{\"a\":1}",
            "007",
            "1e3",
        ],
    ),
    ("varchar(10)", &["", "ten chars!", "trailing  "]),
    ("char(5)", &["ab", "     ", "abcde"]),
    ("name", &["a name", ""]),
    ("\"char\"", &["x", ""]),
    ("bytea", &["", "\\x00", "\\x5c4e", "\\xff00fe0a0d09", "\\xdeadbeef"]),
    ("date", &["2024-02-29", "infinity", "-infinity", "0044-03-15 BC", "4713-01-01 BC", "5874897-12-31", "0001-01-01"]),
    ("timestamp", &["2024-02-29 23:59:59.999999", "infinity", "-infinity", "0044-03-15 12:00:00 BC", "294276-12-31 23:59:59.999999"]),
    ("timestamp(0)", &["2024-02-29 23:59:59"]),
    ("timestamptz", &["2024-03-31 02:30:00+01", "infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "1883-11-18 12:03:57-04:56:02"]),
    ("time", &["24:00:00", "00:00:00.000001"]),
    ("timetz", &["24:00:00+15:59", "12:00:00-08", "12:00:00+00", "20:00:00+08", "00:00:00.000001+05:30"]),
    ("interval", &["0", "1 mon", "30 days", "720:00:00", "-1 year -2 mons +3 days -04:05:06.789", "178000000 years", "1 year 1 day"]),
    ("interval day to second(3)", &["3 days 04:05:06.789"]),
    ("inet", &["10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::ff00:42:8329/64", "::ffff:1.2.3.4"]),
    ("cidr", &["10.0.0.0/8", "2001:db8::/32"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", &["08:00:2b:01:02:03:04:05"]),
    ("bit(3)", &["101", "000"]),
    ("bit varying", &["", "1", "0000000000000000000000000000000000000000000000000000000000000000000000001"]),
    ("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"]),
    ("uuid[]", &["{}", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,NULL,00000000-0000-0000-0000-000000000000}"]),
    ("json", &["null", " {\"b\" : 1.00,\n \"a\":  [1e5, \"\\u00e9\"], \"b\": 2}", "\"x\"", "12345678901234567890.10"]),
    ("jsonb", &["null", "{\"b\": 1.00, \"a\": [1e5, \"\\u00e9\\\\\"]}", "\"x\"", "12345678901234567890.10", "{}", "{\"\": {\"\": null}}"]),
    ("jsonpath", &["$.a[*] ? (@ > 1)", "strict $"]),
    ("tsvector", &["", "'a':1A,2 'it''s':3B 'z\\\\'", "fat cat"]),
    ("tsquery", &["'fat' & !'rat' <2> 'c':*A", ""]),
    ("point", &["(0.1,-0)", "(NaN,Infinity)", "(1e300,5e-324)"]),
    ("line", &["{1,-1,0.1}"]),
    ("lseg", &["[(0,0),(0.1,1)]"]),
    ("box", &["(2,2),(0.1,0)"]),
    ("path", &["((0,0),(1,1),(2,0))", "[(0,0),(0.1,1)]"]),
    ("polygon", &["((0,0),(1,1),(2,0))"]),
    ("circle", &["<(0.1,0),3>"]),
    ("int4range", &["empty", "(,)", "[1,5)", "[1,)", "(,5)"]),
    ("int8range", &["[9007199254740993,9007199254740994)"]),
    ("numrange", &["[1.10,2.0]", "(1,NaN]", "empty"]),
    ("daterange", &["[-infinity,infinity]", "(,2024-01-01)", "[2024-01-01,)"]),
    ("tsrange", &["(\"2024-01-01 00:00:00\",\"2024-01-02 00:00:00\"]"]),
    ("tstzrange", &["[\"2024-01-01 00:00:00+00\",infinity]"]),
    ("floats", &["[0.1,0.30000000000000004)", "[-Infinity,NaN]"]),
    ("int4range[]", &["{empty,\"[1,5)\",NULL}"]),
    ("colour", &["red", "gr'een", "Blue sky", ""]),
    ("colour[]", &["{red,\"Blue sky\",\"\",NULL}", "{}"]),
    ("short", &["yes", ""]),
    ("shorts", &["{yes,NULL}", "{}"]),
    ("pair", &["(1,\"a, \"\"b\"\" (c) \\\\\")", "(,)", "(,\"\")"]),
    ("pair[]", &["{\"(1,a)\",NULL,\"(,\\\"\\\")\"}"]),
    ("nested", &["(\"(1,\"\"x y\"\")\",\"{\"\"(2,z)\"\",NULL}\",\"Blue sky\",abc)", "(,,,)"]),
    (
        "text[]",
        &[
            "{}",
            "{NULL,\"NULL\",\"\",\"a,b\",\"{}\",\"\\\"\",\"\\\\\",\" \",x}",
            "[2:3]={a,b}",
            "{{a,b},{NULL,d}}",
            "[-1:0][5:5]={{a},{b}}",
        ],
    ),
    ("integer[]", &["{1,NULL,-3}", "{{{1}}}"]),
    ("numeric[]", &["{1.00,NaN,NULL}"]),
    ("bytea[]", &["{\"\\\\x00ff\",NULL,\"\\\\x\"}"]),
    ("timestamptz[]", &["{infinity,\"0044-03-15 12:00:00+00 BC\",NULL}"]),
    ("jsonb[]", &["{\"{\\\"a\\\": [1, \\\"x\\\"]}\",NULL,\"null\"}"]),
    ("boolean[]", &["{t,f,NULL}"]),
    ("regclass", &["pg_class", "-"]),
    ("regtype", &["integer", "timestamp with time zone"]),
    ("pg_lsn", &["16/B374D848", "0/0"]),
    ("xid", &["4294967295"]),
    ("txid_snapshot", &["10:20:10,14,15"]),
    ("tid", &["(4294967295,65535)"]),
    ("oidvector", &["1 2 3", ""]),
];

const LATER: &[(Needs, &str, &[&str])] = &[
    (Needs::Version(14), "numeric", &["Infinity", "-Infinity"]),
    (Needs::Version(14), "numeric[]", &["{1.10,-Infinity}"]),
    (Needs::Version(14), "int4multirange", &["{}", "{[1,3),[5,)}"]),
    (Needs::Version(14), "datemultirange[]", &["{\"{[2024-01-01,2024-02-01)}\",NULL}"]),
    (Needs::Version(15), "numeric(2,-3)", &["12000"]),
    (Needs::Version(17), "interval", &["infinity", "-infinity"]),
    (Needs::Xml, "xml", &["<?xml version=\"1.0\"?><a b='c'>&amp;<!-- x --></a>", "", "text <b/> text", " <a>\n</a> "]),
];

/// Makes a table for each type, with each value twice and a NULL.
fn tables(version: u32, has_xml: bool) -> Vec<String> {
    let is_there = |needs: &Needs| match needs {
        Needs::Version(first) => version >= *first,
        Needs::Xml => has_xml,
    };
    let later = LATER.iter().filter(|(needs, ..)| is_there(needs)).map(|(_, name, values)| (*name, *values));
    let table = |(at, (name, values)): (usize, (&str, &[&str]))| {
        let mut sql = format!("CREATE TABLE types.t{at}(id integer PRIMARY KEY, v {name}, n integer DEFAULT 0);\n");
        let rows = values.iter().map(|value| format!("'{}'", value.replace('\'', "''"))).chain(["NULL".to_owned()]);
        for (row, value) in rows.enumerate() {
            for id in [2 * row, 2 * row + 1] {
                sql.push_str(&format!("INSERT INTO types.t{at} VALUES({id}, {value});\n"));
            }
        }
        sql.push_str(&format!("CREATE TABLE types.keyless{at} AS SELECT v FROM types.t{at};\n"));
        sql
    };
    let here = TYPES.iter().copied();
    here.chain(later).enumerate().map(table).collect()
}

#[test]
fn a_value_of_every_type_comes_back_exactly() {
    let Some(project) = Project::with(DECLARED) else { return };
    let has_xml = project.number("SELECT count(*) FROM pg_proc WHERE proname = 'xmlparse' OR proname = 'xml_in'") > 0
        && project.database.psql("DO $$ BEGIN PERFORM '<a/>'::xml; EXCEPTION WHEN feature_not_supported THEN CREATE TABLE no_xml(); END $$; SELECT to_regclass('no_xml') IS NULL").trim() == "t";
    if !has_xml {
        println!("skipped: the server was built without XML");
    }
    let tables = tables(project.cluster.version(), has_xml);
    project.sql(&format!("CREATE SCHEMA types;\n{}", tables.concat()));
    let each = |sql: &str| {
        (0..tables.len())
            .map(|at| sql.replace("{t}", &format!("t{at}")).replace("{k}", &format!("keyless{at}")))
            .collect::<Vec<_>>()
            .join(";\n")
    };
    project.comes_back_from(&[
        ("nothing left of any", &each("UPDATE types.{t} SET v = NULL; UPDATE types.{k} SET v = NULL")),
        ("another column of the row", &each("UPDATE types.{t} SET n = 1 WHERE id % 3 = 0")),
        (
            "delete some",
            &each("DELETE FROM types.{t} WHERE id % 3 = 1; DELETE FROM types.{k} WHERE ctid = (SELECT min(ctid) FROM types.{k})"),
        ),
        ("delete all", &each("DELETE FROM types.{t}; TRUNCATE types.{k}")),
        ("drop the column", &each("ALTER TABLE types.{t} DROP COLUMN v")),
        ("another type", &each("ALTER TABLE types.{t} ALTER COLUMN v TYPE text USING v::text")),
        ("drop the tables", &each("DROP TABLE types.{t}; DROP TABLE types.{k}")),
    ]);
    // Whatever a value is, the document is one.
    for at in 0..tables.len() {
        let rows = project.rows("HEAD", &format!("types.t{at}"));
        assert!(rows.len() > 3 && rows.last().is_some_and(|row| row["v"].is_null()), "{rows:?}");
    }
}

#[test]
fn numbers_of_a_server_beyond_what_json_has_are_exact_in_json() {
    let Some(project) = Project::with(
        "CREATE TABLE t(id integer PRIMARY KEY, i bigint, n numeric, f double precision, j json);
         INSERT INTO t VALUES(1, 9007199254740993, 12345678901234567890.10, 0.1, '12345678901234567890.10'), (2, -1, 'NaN', 'Infinity', '1.00')",
    ) else {
        return;
    };
    project.dbelay(&["snapshot"]).exits(0);
    let run = project.dbelay(&["cat", "HEAD", "t", "--format", "jsonl"]).exits(0);
    run.prints(&["9007199254740993", "12345678901234567890.10", "NaN", r#"{"real":"inf"}"#, "1.00"]);
    project.dbelay(&["cat", "HEAD", "t", "--format", "csv"]).exits(0).prints(&["12345678901234567890.10", "NaN"]);
}
