//! Spellings of databases and what they mean.

use super::*;

fn parse(text: &str, origin: &UrlOrigin, files: &[&str]) -> Result<DatabaseUrl, SourceError> {
    DatabaseUrl::parse(text, origin, Path::new("/p"), &|path| {
        files.iter().any(|file| Path::new(file) == path) || path == Path::new("/p") || path == Path::new("/")
    })
}

#[track_caller]
fn check(text: &str, files: &[&str], expected: &str) {
    match parse(text, &UrlOrigin::Flag, files) {
        Ok(url) => assert_eq!(url.sqlite_path(), Some(Path::new(expected)), "{text}"),
        Err(error) => panic!("{text}: {error}"),
    }
}

#[track_caller]
fn check_error(text: &str, files: &[&str], expected: &[&str]) {
    let error = parse(text, &UrlOrigin::Flag, files).expect_err(text).to_string();
    for part in expected {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn a_bare_path_is_taken_as_it_is() {
    for (text, expected) in [
        ("app.db", "/p/app.db"),
        ("./x.db", "/p/x.db"),
        ("../x.db", "/p/../x.db"),
        ("/abs/x.db", "/abs/x.db"),
        ("my data/the app.db", "/p/my data/the app.db"),
        ("100%41.db", "/p/100%41.db"),
        ("what?.db", "/p/what?.db"),
        ("a:b.db", "/p/a:b.db"),
        (" app.db\n", "/p/app.db"),
        ("sqlite", "/p/sqlite"),
    ] {
        check(text, &[], expected);
    }
}

#[test]
fn sqlite_urls_name_files() {
    for (text, expected) in [
        ("sqlite:app.db", "/p/app.db"),
        ("SQLite3:app.db", "/p/app.db"),
        ("sqlite:./app.db", "/p/app.db"),
        ("sqlite:/abs/app.db", "/abs/app.db"),
        ("sqlite://app.db", "/p/app.db"),
        ("sqlite://./db/app.db?mode=rwc", "/p/db/app.db"),
        ("sqlite3://app.db?_fk=1&cache=shared", "/p/app.db"),
        ("sqlite:////abs/app.db", "/abs/app.db"),
        ("sqlite:my%20app.db", "/p/my app.db"),
        ("sqlite+pysqlite:///app.db", "/p/app.db"),
        ("sqlite+aiosqlite:////abs/app.db", "/abs/app.db"),
        ("file:./dev.db", "/p/dev.db"),
        ("file:dev.db?connection_limit=1&mode=ro", "/p/dev.db"),
        ("file:/abs/dev.db", "/abs/dev.db"),
        ("file:///abs/dev.db", "/abs/dev.db"),
        ("file://localhost/abs/dev.db", "/abs/dev.db"),
    ] {
        check(text, &[], expected);
    }
    check("sqlite:50%25.db", &["/p/50%25.db"], "/p/50%25.db");
    check("sqlite:50%25.db", &["/p/50%.db"], "/p/50%.db");
}

#[test]
fn three_slashes_mean_the_file_that_exists_else_an_absolute_one_unless_something_speaks_for_relative() {
    check("sqlite:///data/app.db", &["/p/data/app.db"], "/p/data/app.db");
    check("sqlite:///data/app.db", &["/p/data/app.db", "/data"], "/p/data/app.db");
    check("sqlite:///data/app.db", &["/data/app.db"], "/data/app.db");
    check("sqlite:///data/app.db", &["/data"], "/data/app.db");
    check("sqlite:///data/app.db", &[], "/data/app.db");
    check("sqlite:///data/app.db", &["/data/app.db", "/p/data"], "/data/app.db");
    for files in [&["/p/data/app.db", "/data/app.db"][..], &["/p/data"], &["/data", "/p/data"]] {
        check_error(
            "sqlite:///data/app.db",
            files,
            &["`/data/app.db`", "`/p/data/app.db`", "`sqlite:data/app.db`", "`sqlite:////data/app.db`"],
        );
    }
    check_error("sqlite:///app.db", &[], &["`/app.db`", "`/p/app.db`"]);
}

#[test]
fn a_prisma_file_is_where_prisma_looks() {
    let check_from = |origin: &UrlOrigin, files: &[&str], expected: &str| {
        let url = parse("file:./dev.db", origin, files).expect("one file");
        assert_eq!(url.sqlite_path(), Some(Path::new(expected)), "{origin:?} {files:?}");
    };
    let dotenv = UrlOrigin::DotEnv(PathBuf::from("/p/.env"));
    let schema = "/p/prisma/schema.prisma";
    check_from(&dotenv, &["/p/dev.db"], "/p/dev.db");
    check_from(&dotenv, &[schema], "/p/prisma/dev.db");
    check_from(&dotenv, &[schema, "/p/prisma/dev.db"], "/p/prisma/dev.db");
    check_from(&dotenv, &[schema, "/p/dev.db"], "/p/dev.db");
    check_from(&UrlOrigin::Flag, &[schema], "/p/dev.db");
    check_from(&UrlOrigin::Flag, &[schema, "/p/prisma/dev.db"], "/p/prisma/dev.db");
    check_from(&UrlOrigin::Prisma { schema_dir: PathBuf::from("prisma") }, &[schema, "/p/dev.db", "/p/prisma/dev.db"], "/p/prisma/dev.db");
    check_error("file:./dev.db", &[schema, "/p/dev.db", "/p/prisma/dev.db"], &["`/p/prisma/dev.db`", "`/p/dev.db`", "both exist"]);
}

#[test]
fn what_names_no_file_says_why_and_what_to_do() {
    for text in [
        ":memory:",
        "sqlite::memory:",
        "sqlite://:memory:",
        "sqlite://",
        "sqlite:///",
        "sqlite:",
        "file::memory:?cache=shared",
        "file:x?mode=memory",
    ] {
        check_error(text, &[], &["in memory", "name a file"]);
    }
    check_error("", &[], &["is empty"]);
    check_error("  ", &[], &["is empty"]);
    for text in ["data/", ".", "..", "/", "sqlite:data/"] {
        check_error(text, &[], &["names a folder"]);
    }
    check_error("jdbc:sqlite:app.db", &[], &["JDBC", "without `jdbc:`"]);
    for text in ["libsql://db.turso.io", "https://db.example/x", "http://x"] {
        check_error(text, &[], &["remote database"]);
    }
    check_error("mongodb+srv://u:hunter2@h/d", &[], &["`mongodb+srv:`", "not supported"]);
    check_error("file://server/share.db", &[], &["host"]);
    check_error("sqlite:app.db?key=hunter2", &[], &["encrypted"]);
    check_error("sqlite:app.db?mood=ro", &[], &["`mood`", "bare path"]);
    check_error("sqlite:a%FFb.db", &[], &["UTF-8"]);
    check_error("a\0b", &[], &["line break"]);
    check_error("sqlite:a%00b", &[], &["control character"]);
    check_error("postgres:app", &[], &["no `//`"]);
    for text in ["host=h dbname=d password=hunter2", "u:hunter2@tcp(h:1)/d", "Data Source=app.db;Password=hunter2"] {
        let error = parse(text, &UrlOrigin::Flag, &[]).expect_err(text).to_string();
        assert!(error.contains("as a URL") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_server_url_is_kept_whole_and_taken_apart() {
    let text = "postgresql+psycopg://me:p%40ss@db.example:6000/app?schema=public";
    let url = parse(text, &UrlOrigin::Environment, &[]).expect("a URL");
    let server = url.server_url().expect("a server");
    assert_eq!((url.engine(), server.kind, server.whole.as_str()), ("postgres", ServerKind::Postgres, text));
    assert_eq!((server.user.as_deref(), server.password.as_deref()), (Some("me"), Some("p@ss")));
    assert_eq!((server.host.as_deref(), server.port, server.database.as_deref()), (Some("db.example"), Some(6000), Some("app")));
    let url = parse("postgres:///app?host=/run/pg&user=me", &UrlOrigin::Flag, &[]).expect("a URL");
    let server = url.server_url().expect("a server");
    assert_eq!((server.host.as_deref(), server.user.as_deref()), (Some("/run/pg"), Some("me")));
    let url = parse("mysql://[::1]:3307/app", &UrlOrigin::Flag, &[]).expect("a URL");
    let server = url.server_url().expect("a server");
    assert_eq!((server.kind, server.host.as_deref(), server.port), (ServerKind::MySql, Some("[::1]"), Some(3307)));
}

#[test]
fn no_form_of_a_url_shows_its_password() {
    for (text, shown) in [
        ("postgres://me:hunter2@h/d", "postgres://me:***@h/d"),
        ("postgres://me:hun%40ter2@h:1/d?schema=public", "postgres://me:***@h:1/d?schema=public"),
        ("postgres://me:hun@ter2@h/d", "postgres://me:***@h/d"),
        ("postgres://me:hun/ter2@h/d", "postgres://me:***@h/d"),
        ("postgres://me:hun?ter2@h/d", "postgres://me:***@h/d"),
        ("postgres://me:hun?a=ter2@h/d", "postgres://me:***@h/d"),
        ("postgres://me:hun#ter2@h/d", "postgres://me:***@h/d"),
        ("postgres://me:hun:ter2@h/d", "postgres://me:***@h/d"),
        ("postgres://me%3Ahunter2@h/d", "postgres://me:***@h/d"),
        ("postgres://:hunter2@h/d", "postgres://:***@h/d"),
        ("postgres://h/d?user=me&password=hunter2", "postgres://me:***@h/d"),
        ("mysql://me@h/d?sslpassword=hunter2&charset=utf8", "mysql://me@h/d?sslpassword=***&charset=utf8"),
        ("mysql://me@h/d", "mysql://me@h/d"),
    ] {
        let url = parse(text, &UrlOrigin::Flag, &[]).expect(text);
        assert_eq!(url.to_string(), shown, "{text}");
        for made in [format!("{url:?}"), format!("{:?}", url.server_url()), url.place(), redact(text)] {
            assert!(!made.contains("hun") && !made.contains("ter2"), "{text}: {made}");
        }
    }
    // Words that are not known are not shown either.
    let url = parse("mariadb://me@h/d?options=x&charset=utf8", &UrlOrigin::Flag, &[]).expect("a URL");
    assert_eq!(url.to_string(), "mariadb://me@h/d?options=***&charset=utf8");
    for text in ["postgres://me:x@hun?a=ter2@h/d", "postgres://me:hunter2@h h/d", "postgres://me@h:hunter2"] {
        let error = parse(text, &UrlOrigin::Flag, &[]).expect_err(text).to_string();
        assert!(!error.contains("hun") && !error.contains("ter2"), "{error}");
    }
}

#[test]
fn a_place_is_one_for_all_spellings() {
    let place = |text| parse(text, &UrlOrigin::Flag, &[]).expect(text).place();
    assert_eq!(place("postgres://a:x@DB/app"), place("postgresql://b:y@db:5432/app?sslmode=require"));
    assert_eq!(place("postgres://a:x@db/app"), "postgres://db:5432/app");
    assert_ne!(place("postgres://db/app"), place("postgres://db/app?schema=other"));
    assert_eq!(place("postgres://db/app?schema=public"), place("postgres://db/app"));
    assert_eq!(place("postgres://app@db"), place("postgres://db/app"));
    assert_eq!(place("sqlite:x/../app.db"), place("./app.db"));
    assert_eq!(place("app.db"), "/p/app.db");
}

#[cfg(unix)]
#[test]
fn a_place_follows_links() {
    let root = tempfile::tempdir().expect("a folder");
    fs_err::create_dir(root.path().join("real")).expect("a folder");
    std::os::unix::fs::symlink("real", root.path().join("link")).expect("a link");
    let place = |name: &str| DatabaseUrl::parse(name, &UrlOrigin::Flag, root.path(), &|path| path.exists()).expect(name).place();
    assert_eq!(place("link/new.db"), place("real/new.db"));
}

#[test]
fn another_file_is_named_in_the_form_in_which_the_first_was() {
    for (text, expected) in [
        ("app.db", "/s d/app.db"),
        ("/x/app.db", "/s d/app.db"),
        ("sqlite:app.db", "sqlite:/s%20d/app.db"),
        ("sqlite://app.db?mode=rwc", "sqlite:///s%20d/app.db?mode=rwc"),
        ("sqlite:////x/app.db", "sqlite:////s%20d/app.db"),
        ("sqlite+pysqlite:///app.db", "sqlite+pysqlite:////s%20d/app.db"),
        ("file:./dev.db?connection_limit=1", "file:/s%20d/app.db?connection_limit=1"),
        ("file:///x/dev.db", "file:///s%20d/app.db"),
    ] {
        let url = DatabaseUrl::parse(text, &UrlOrigin::Flag, Path::new("/p"), &|_| false).expect(text);
        let other = url.at_path(Path::new("/s d/app.db")).expect("a file");
        assert_eq!(other, expected);
        let again = DatabaseUrl::parse(&other, &UrlOrigin::Flag, Path::new("/p"), &|_| false).expect(expected);
        assert_eq!(again.sqlite_path(), Some(Path::new("/s d/app.db")), "{expected}");
    }
}
