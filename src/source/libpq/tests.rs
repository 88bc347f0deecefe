//! What is said in different places, and how the server is then reached.

use super::super::{DatabaseUrl, UrlOrigin};
use super::*;

/// What there is around a URL.
#[derive(Default, Clone, Copy)]
struct Around<'a> {
    environment: &'a [(&'a str, &'a str)],
    /// Path, permissions and text.
    files: &'a [(&'a str, u32, &'a str)],
    sockets: &'a [&'a str],
}

fn server(url: &str) -> ServerUrl {
    let parsed = DatabaseUrl::parse(url, &UrlOrigin::Flag, Path::new("/p"), &|_| false).expect(url);
    parsed.server_url().expect("a server").clone()
}

fn reach(url: &str, around: Around<'_>) -> Result<Connection, SourceError> {
    connection(
        &server(url),
        &Lookup {
            environment: &|name| around.environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
            read: &|path| {
                let file = around.files.iter().find(|(name, ..)| Path::new(name) == path);
                file.map(|(_, mode, text)| FileText { text: (*text).to_owned(), mode: *mode })
            },
            user: "os",
            home: Some(Path::new("/home/os")),
            socket_exists: &|path| around.sockets.iter().any(|socket| Path::new(socket) == path),
        },
    )
}

/// Checks `user:password@hosts/database`, as it is reached.
#[track_caller]
fn check(url: &str, around: Around<'_>, expected: &str) {
    let made = reach(url, around).unwrap_or_else(|error| panic!("{url}: {error}"));
    let hosts: Vec<String> = made
        .hosts
        .iter()
        .map(|host| {
            let name = match &host.name {
                HostName::Tcp(name) => name.clone(),
                HostName::Socket(folder) => format!("socket {}", folder.display()),
            };
            format!("{name}{} {}", host.address.map(|address| format!(" at {address}")).unwrap_or_default(), host.port)
        })
        .collect();
    let password = made.password.as_deref().map(|password| format!(":{password}")).unwrap_or_default();
    assert_eq!(format!("{}{password}@{}/{}", made.user, hosts.join(","), made.database), expected, "{url}");
}

#[track_caller]
fn check_error(url: &str, around: Around<'_>, expected: &[&str]) {
    let error = match reach(url, around) {
        Ok(made) => panic!("{url}: {made:?}"),
        Err(error) => error.to_string(),
    };
    for part in expected {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
    assert!(!error.contains("hunter2"), "{error}");
}

const NOTHING: Around<'static> = Around { environment: &[], files: &[], sockets: &[] };

#[test]
fn a_url_says_where_the_server_is() {
    for (url, expected) in [
        ("postgres://me:secret@db.example:6000/app", "me:secret@db.example 6000/app"),
        ("postgresql+psycopg://me@h/app", "me@h 5432/app"),
        ("postgres://h", "os@h 5432/os"),
        ("postgres://me@h", "me@h 5432/me"),
        ("postgres://", "os@localhost 5432/os"),
        ("postgres:///app", "os@localhost 5432/app"),
        ("postgres://:6000/app", "os@localhost 6000/app"),
        ("postgres://a:1,b:2/app", "os@a 1,b 2/app"),
        ("postgres://a,b/app?port=7", "os@a 7,b 7/app"),
        ("postgres://a:1,b/app", "os@a 1,b 5432/app"),
        ("postgres:///app?host=a,b&port=1,2", "os@a 1,b 2/app"),
        ("postgres://[::1]:6000/app", "os@::1 6000/app"),
        ("postgres://[::1]:1,[fe80::2]/app", "os@::1 1,fe80::2 5432/app"),
        ("postgres:///app?host=::1", "os@::1 5432/app"),
        ("postgres://%2Frun%2Fpg/app", "os@socket /run/pg 5432/app"),
        ("postgres://%2Frun%2Fpg:6000/app", "os@socket /run/pg 6000/app"),
        ("postgres:///app?host=/run/pg&port=6000&user=me&password=a+b", "me:a+b@socket /run/pg 6000/app"),
        ("postgres://h/app?hostaddr=192.0.2.7", "os@h at 192.0.2.7 5432/app"),
        ("postgres:///app?hostaddr=192.0.2.7", "os@192.0.2.7 at 192.0.2.7 5432/app"),
        ("postgres://h/app?dbname=other", "os@h 5432/other"),
        ("postgres://a%2540b:p%2540@h/app", "a%40b:p%40@h 5432/app"),
        ("postgres://a%2540b@h/app", "a%40b@h 5432/app"),
    ] {
        check(url, NOTHING, expected);
    }
}

#[test]
fn a_server_that_is_not_named_is_where_its_socket_is() {
    let (debian, tmp) = ("/var/run/postgresql/.s.PGSQL.5432", "/tmp/.s.PGSQL.5432");
    check("postgres:///app", Around { sockets: &[debian, tmp], ..NOTHING }, "os@socket /var/run/postgresql 5432/app");
    check("postgres:///app", Around { sockets: &[tmp], ..NOTHING }, "os@socket /tmp 5432/app");
    check("postgres://:6000/app", Around { sockets: &[debian, tmp], ..NOTHING }, "os@localhost 6000/app");
}

#[test]
fn the_environment_fills_what_the_url_leaves_open() {
    let environment: &[_] = &[
        ("PGHOST", "env.example"),
        ("PGPORT", "6001"),
        ("PGUSER", "envuser"),
        ("PGPASSWORD", "envpass"),
        ("PGDATABASE", "envdb"),
        ("PGOPTIONS", "-c a=b"),
        ("PGCONNECT_TIMEOUT", "7"),
        ("PGTARGETSESSIONATTRS", "read-write"),
    ];
    let around = Around { environment, ..NOTHING };
    check("postgres://", around, "envuser:envpass@env.example 6001/envdb");
    check("postgres://me:secret@h:1/app", around, "me:secret@h 1/app");
    check("postgres://", Around { environment: &[("PGHOST", "/run/pg,b"), ("PGPORT", "1,")], ..NOTHING }, "os@socket /run/pg 1,b 5432/os");
    check("postgres://", Around { environment: &[("PGHOST", ""), ("PGUSER", "")], ..NOTHING }, "os@localhost 5432/os");
    let made = reach("postgres://", around).expect("reached");
    assert_eq!((made.options.as_deref(), made.connect_timeout, made.needs_writable), (Some("-c a=b"), Some(Duration::from_secs(7)), true));
    let made = reach("postgres:///?connect_timeout=0&target_session_attrs=any&options=-c+x%3D1", around).expect("reached");
    assert_eq!((made.options.as_deref(), made.connect_timeout, made.needs_writable), (Some("-c x=1"), None, false));
}

#[test]
fn the_service_file_stands_between_url_and_environment() {
    let own = "# mine\n[other]\nhost=wrong\n\n  [app]\nhost=svc.example\nport=6002\n user = svcuser\nsslmode=require\napplication_name=x\n[app2]\nhost=no\n";
    let environment: &[_] = &[("PGSERVICE", "app"), ("PGHOST", "env.example"), ("PGPASSWORD", "envpass")];
    let files: &[_] = &[("/home/os/.pg_service.conf", 0o644, own)];
    check("postgres:///db", Around { environment, files, ..NOTHING }, "svcuser:envpass@svc.example 6002/db");
    check("postgres://h/db", Around { environment, files, ..NOTHING }, "svcuser:envpass@h 6002/db");
    check("postgres:///db?service=other", Around { environment, files, ..NOTHING }, "os:envpass@wrong 5432/db");
    let files: &[_] = &[("/home/os/.pg_service.conf", 0o644, "[x]\n"), ("/etc/pg/pg_service.conf", 0o644, own)];
    let environment: &[_] = &[("PGSYSCONFDIR", "/etc/pg")];
    check("postgres:///db?service=app", Around { environment, files, ..NOTHING }, "svcuser@svc.example 6002/db");
    let environment: &[_] = &[("PGSERVICEFILE", "/else")];
    let files: &[_] = &[("/else", 0o644, own)];
    check("postgres:///db?service=app", Around { environment, files, ..NOTHING }, "svcuser@svc.example 6002/db");
    check_error("postgres:///db?service=app", Around { environment, ..NOTHING }, &["`/else`", "PGSERVICEFILE"]);
    check_error("postgres:///db?service=none", Around { files, environment, ..NOTHING }, &["`/else`", "`none`", "`[none]`"]);
    check_error("postgres:///db?service=app", NOTHING, &["`/home/os/.pg_service.conf`", "`[app]`"]);
    for (text, expected) in [("[a]\nhosst=hunter2", "`hosst`"), ("[a]\nhunter2", "line 2"), ("[a]\nservice=b", "another")] {
        check_error("postgres:///db?service=a", Around { files: &[("/home/os/.pg_service.conf", 0o644, text)], ..NOTHING }, &[expected]);
    }
}

#[test]
fn the_password_file_is_asked_last() {
    let with = |url: &str, text: &str, expected: &str| {
        check(url, Around { files: &[("/home/os/.pgpass", 0o600, text)], ..NOTHING }, expected);
    };
    with("postgres://me@h/app", "h:5432:app:me:secret", "me:secret@h 5432/app");
    with("postgres://me@h/app", "# h:5432:app:me:no\nh:5432:other:me:no\n*:*:*:me:first\nh:5432:app:me:second", "me:first@h 5432/app");
    with("postgres://me@h/app", r"h:*:app:me:a\:b\\c:d", r"me:a:b\c:d@h 5432/app");
    with("postgres://a%3Fb@h/a%3Ab", r"h:5432:a\:b:a?b:secret", "a?b:secret@h 5432/a:b");
    with("postgres://me@h/app", "h:5432:app:other:no\nh:5432:app", "me@h 5432/app");
    with("postgres://me@h/app", "h:5432:app:me:\n*:*:*:*:no", "me@h 5432/app");
    with("postgres://me@h/app", r"\*:5432:app:me:no", "me@h 5432/app");
    with("postgres://me:mine@h/app", "*:*:*:*:no", "me:mine@h 5432/app");
    with("postgres://me@%2Ftmp/app", "localhost:5432:app:me:secret", "me:secret@socket /tmp 5432/app");
    with("postgres://me@%2Frun%2Fpg/app", "localhost:*:*:*:no\n/run/pg:5432:app:me:secret", "me:secret@socket /run/pg 5432/app");
    with("postgres://me@a,b/app", "a:*:*:*:secret\nb:*:*:*:secret", "me:secret@a 5432,b 5432/app");
    let files: &[_] = &[("/home/os/.pgpass", 0o640, "*:*:*:*:no"), ("/else", 0o600, "*:*:*:*:secret")];
    check("postgres://me@h/app", Around { files, ..NOTHING }, "me@h 5432/app");
    check("postgres://me@h/app", Around { files, environment: &[("PGPASSFILE", "/else")], ..NOTHING }, "me:secret@h 5432/app");
    let files: &[_] = &[("/home/os/.pgpass", 0o600, "a:*:*:*:hunter2")];
    check_error("postgres://me@a,b/app", Around { files, ..NOTHING }, &["the host in the URL", "one password"]);
}

#[test]
fn encryption_is_as_libpq_has_it() {
    let pki: &[(&str, u32, &str)] = &[("/ca.crt", 0o644, ""), ("/c.crt", 0o644, ""), ("/c.key", 0o600, "")];
    let check = |query: &str, files: &[(&str, u32, &str)], mode: TlsMode, root: Option<&str>, client: bool| {
        let made =
            reach(&format!("postgres://h/app?{query}"), Around { files, ..NOTHING }).unwrap_or_else(|error| panic!("{query}: {error}"));
        assert_eq!(
            (made.tls.mode, made.tls.root_certificate, made.tls.client.is_some()),
            (mode, root.map(PathBuf::from), client),
            "{query}"
        );
    };
    check("a=", &[], TlsMode::Prefer, None, false);
    check("sslmode=allow", &[], TlsMode::Prefer, None, false);
    check("sslmode=disable&sslcert=/c.crt", pki, TlsMode::Disable, None, false);
    check("sslmode=require", &[], TlsMode::Require, None, false);
    check("sslmode=require&sslrootcert=/ca.crt", pki, TlsMode::VerifyCa, Some("/ca.crt"), false);
    check("sslmode=require&sslrootcert=/none", pki, TlsMode::Require, None, false);
    check("sslmode=verify-ca", &[], TlsMode::VerifyCa, None, false);
    check("sslmode=verify-full&sslrootcert=/ca.crt", pki, TlsMode::VerifyFull, Some("/ca.crt"), false);
    check("ssl-mode=verify-full&ssl-ca=/ca.crt", pki, TlsMode::VerifyFull, Some("/ca.crt"), false);
    check("sslrootcert=system", &[], TlsMode::VerifyFull, None, false);
    check("sslmode=require&sslcert=/c.crt&sslkey=/c.key", pki, TlsMode::Require, None, true);
    check("sslmode=require&sslcert=/none", pki, TlsMode::Require, None, false);
    let home: &[_] = &[
        ("/home/os/.postgresql/root.crt", 0o644, ""),
        ("/home/os/.postgresql/postgresql.crt", 0o644, ""),
        ("/home/os/.postgresql/postgresql.key", 0o600, ""),
    ];
    check("sslmode=verify-full", home, TlsMode::VerifyFull, Some("/home/os/.postgresql/root.crt"), true);
    check("sslmode=require&sslcertmode=disable", home, TlsMode::VerifyCa, Some("/home/os/.postgresql/root.crt"), false);
    // Words of others.
    check("ssl=true", &[], TlsMode::Require, None, false);
    check("ssl=false", &[], TlsMode::Disable, None, false);
    check("ssl=verify-full", &[], TlsMode::VerifyFull, None, false);
    check("sslmode=no-verify&sslrootcert=/ca.crt", pki, TlsMode::Require, None, false);
    check("sslmode=require&sslaccept=strict", &[], TlsMode::VerifyFull, None, false);
    check("sslmode=require&sslaccept=accept_invalid_certs&sslcert=/ca.crt", pki, TlsMode::Require, None, false);
    check("sslaccept=strict&sslcert=/ca.crt", pki, TlsMode::VerifyFull, Some("/ca.crt"), false);
    check("sslmode=require&schema=x&sslcert=/ca.crt", pki, TlsMode::VerifyCa, Some("/ca.crt"), false);
    let binding = |query: &str| reach(&format!("postgres://h/app?{query}"), NOTHING).expect(query).tls.channel_binding;
    assert_eq!((binding("a="), binding("channel_binding=require")), (ChannelBinding::Prefer, ChannelBinding::Require));
}

#[test]
fn encryption_that_cannot_be_had_is_an_error() {
    let files: &[_] = &[("/c.crt", 0o644, ""), ("/open.key", 0o644, "")];
    for (query, expected) in [
        ("sslmode=hunter2", &["`sslmode` in the URL", "verify-full"][..]),
        ("sslmode=verify-full&sslrootcert=/none", &["`/none`", "sslrootcert=system"]),
        ("sslmode=require&sslrootcert=system", &["`sslmode` in the URL", "verify-full"]),
        ("sslcert=/c.crt", &["`/home/os/.postgresql/postgresql.key`", "`/c.crt`", "sslkey"]),
        ("sslcert=/c.crt&sslkey=/open.key", &["`/open.key`", "chmod 600"]),
        ("channel_binding=always", &["`channel_binding` in the URL"]),
        ("sslaccept=hunter2", &["`sslaccept` in the URL"]),
    ] {
        check_error(&format!("postgres://h/app?{query}"), Around { files, ..NOTHING }, expected);
    }
    check_error("postgres://h/app", Around { environment: &[("PGSSLMODE", "hunter2")], ..NOTHING }, &["`PGSSLMODE` in the environment"]);
}

#[test]
fn words_of_other_tools_are_passed_over_and_unknown_ones_named() {
    for query in [
        "connection_limit=5&pool_timeout=2&pgbouncer=true&socket_timeout=3&statement_cache_size=0",
        "binary_parameters=yes&timezone=UTC&fallback_application_name=x&x-migrations-table=m&pool_max_conns=4",
        "keepalives=1&keepalives_idle=3&gssencmode=prefer&client_encoding=utf8&replication=false&application_name=a",
        "uselibpqcompat=true&pool=5&prepared_statements=false&ApplicationName=x&reWriteBatchedInserts=true",
    ] {
        check(&format!("postgres://h/app?{query}"), NOTHING, "os@h 5432/app");
    }
    for (query, word) in [
        ("sslmod=hunter2", "`sslmod`"),
        ("replication=database", "`replication` in the URL"),
        ("gssencmode=require", "`gssencmode` in the URL"),
        ("require_auth=hunter2", "`require_auth` in the URL"),
        ("sslpassword=hunter2", "`sslpassword` in the URL"),
        ("sslidentity=hunter2", "`sslidentity` in the URL"),
        ("port=hunter2", "port"),
        ("hostaddr=hunter2", "`hostaddr` in the URL"),
        ("connect_timeout=hunter2", "`connect_timeout` in the URL"),
        ("target_session_attrs=standby", "`target_session_attrs` in the URL"),
    ] {
        check_error(&format!("postgres://h/app?{query}"), NOTHING, &[word]);
    }
    check_error("postgres://a,b/app?port=1,2,3", NOTHING, &["port"]);
    check_error("postgres://a,b/app?hostaddr=192.0.2.1", NOTHING, &["`hostaddr`"]);
    check_error("postgres://a:x,b:2/app", NOTHING, &["port"]);
    check_error("postgres://h/app", Around { environment: &[("PGPORT", "0")], ..NOTHING }, &["`PGPORT` in the environment"]);
}

#[test]
fn the_schema_is_the_one_that_the_url_says() {
    for (query, expected) in [
        ("", "public"),
        ("?schema=app", "app"),
        ("?currentSchema=app", "app"),
        ("?search_path=%22$user%22,app,public", "app"),
        ("?search_path=other&schema=app", "app"),
    ] {
        assert_eq!(reach(&format!("postgres://h/d{query}"), NOTHING).expect(query).schema, expected);
    }
}

#[test]
fn a_place_is_where_the_connection_leads() {
    let check = |url: &str, expected: &str| assert_eq!(place_of(&reach(url, NOTHING).expect(url)), expected, "{url}");
    check("postgres://me:secret@DB/app?schema=public", "postgres://db:5432/app");
    check("postgres://a:1,b:2/app?schema=x%20y", "postgres://a:1,b:2/app?schema=x%20y");
    check("postgres:///app?host=/run/pg", "postgres://%2Frun%2Fpg:5432/app");
    check("postgres://[::1]/app", "postgres://[::1]:5432/app");
    check("postgres://me@", "postgres://localhost:5432/me");
    let around = Around { environment: &[("PGHOST", "env"), ("PGDATABASE", "db")], ..NOTHING };
    assert_eq!(place_of(&reach("postgres://", around).expect("reached")), "postgres://env:5432/db");
}

#[test]
fn another_database_is_named_in_the_form_of_the_first() {
    for (url, expected) in [
        ("postgres://me:p%40ss@h:1/app?schema=x&sslmode=require", "postgres://me:p%40ss@h:1/a%20b?schema=x&sslmode=require"),
        ("postgresql+psycopg://me@h/app", "postgresql+psycopg://me@h/a%20b"),
        ("postgres://h", "postgres://h/a%20b"),
        ("postgres://", "postgres:///a%20b"),
        ("postgres:///app?host=/run/pg", "postgres:///a%20b?host=/run/pg"),
        ("postgres://%2Frun%2Fpg/app", "postgres://%2Frun%2Fpg/a%20b"),
        ("postgres://a:1,b:2/app?user=me&dbname=x", "postgres://a:1,b:2/a%20b?user=me&dbname=a%20b"),
        ("postgres://me:a/b@h/app", "postgres://me:a/b@h/a%20b"),
    ] {
        let original = server(url);
        let made = reach(url, NOTHING).expect(url);
        let other = url_of(&made, "a b", &original);
        assert_eq!(other, expected);
        let again = reach(&other, NOTHING).expect(expected);
        assert_eq!((again.database.as_str(), &again.hosts, &again.password), ("a b", &made.hosts, &made.password), "{expected}");
        if original.database.is_some() {
            assert_eq!(url_of(&made, &made.database, &original), url);
        }
    }
}
