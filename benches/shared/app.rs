//! A database such as an application has: UUIDs as text keys, prose with line breaks, quotes and emoji, JSON, blobs, times, flags, NULLs, indexes, and
//! one table WITHOUT ROWID. About 370 MB where the factor is 1.

use std::fmt::Write as _;
use std::path::Path;

use rusqlite::{Connection, params};

use super::database::{Changes, Database, Random, make, open};

const TABLES: &str = "
CREATE TABLE users(id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT NOT NULL, created_at TEXT NOT NULL, is_active INTEGER NOT NULL,
  settings TEXT NOT NULL, avatar BLOB);
CREATE TABLE posts(id TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES users(id), title TEXT NOT NULL, body TEXT NOT NULL, metadata TEXT NOT NULL,
  score REAL NOT NULL, views INTEGER NOT NULL, published_at TEXT);
CREATE TABLE comments(id TEXT PRIMARY KEY, post_id TEXT NOT NULL REFERENCES posts(id), user_id TEXT NOT NULL REFERENCES users(id), body TEXT NOT NULL,
  votes INTEGER NOT NULL, is_hidden INTEGER NOT NULL, language TEXT, created_at TEXT NOT NULL);
CREATE TABLE options(scope TEXT, name TEXT, value TEXT, PRIMARY KEY(scope, name)) WITHOUT ROWID;
";

const INDEXES: &str = "
CREATE INDEX posts_user ON posts(user_id);
CREATE INDEX comments_post ON comments(post_id);
";

const CHANGES: Changes = Changes {
    table: "comments",
    cell: ("body", "body || ' (edited ' || length(body) || ')'"),
    column: ("votes", "votes + 1"),
    dropped: "language",
    // No generated key ends so.
    copied: ("id", "substr(id, 1, 35) || 'z'"),
};

#[rustfmt::skip]
const WORDS: &[&str] = &[
    "account", "after", "again", "always", "answer", "application", "because", "before", "between", "build", "button", "change", "clear",
    "column", "could", "customer", "database", "default", "delete", "deploy", "different", "document", "early", "empty", "error", "every",
    "example", "export", "feature", "field", "first", "follow", "format", "found", "friend", "from", "great", "group", "happen", "however",
    "import", "index", "instead", "invoice", "issue", "label", "later", "letter", "light", "list", "little", "login", "maybe", "member",
    "menu", "message", "migration", "minute", "missing", "mobile", "month", "morning", "never", "notice", "number", "often", "only", "order",
    "other", "page", "password", "payment", "people", "phone", "picture", "please", "point", "price", "problem", "project", "question",
    "quick", "reason", "receive", "release", "report", "request", "result", "right", "screen", "search", "second", "server", "setting",
    "short", "should", "since", "small", "something", "sometimes", "start", "still", "table", "team", "thank", "that", "their", "there",
    "thing", "think", "those", "through", "ticket", "title", "today", "together", "tomorrow", "under", "until", "update", "upgrade", "value",
    "version", "weekend", "when", "where", "which", "while", "window", "with", "without", "work", "would", "write", "wrong", "yesterday",
    "caf\u{e9}", "na\u{ef}ve", "\u{3b1}\u{3b2}\u{3b3}", "\u{6771}\u{4eac}", "\u{1f600}", "\u{1f680}", "\u{1f44d}\u{1f3fd}", "\"quoted\"",
    "it's", "C:\\temp", "a\tb",
];

const LANGUAGES: &[&str] = &["de", "en", "en", "en", "es", "fr", "ja"];

/// Makes the database in a folder, if it is not there.
pub fn sqlite(folder: &Path, factor: f64) -> Database {
    let path = folder.join(format!("app-{factor}.db"));
    make(&path, &mut |begun| {
        let mut connection = open(begun);
        connection.execute_batch(TABLES).unwrap();
        fill(&mut connection, factor);
        connection.execute_batch(INDEXES).unwrap();
    });
    Database { title: format!("like an application's, factor {factor}"), path, changes: CHANGES }
}

fn fill(connection: &mut Connection, factor: f64) {
    let count = |rows: f64| ((rows * factor) as usize).max(1);
    let (users, posts, comments) = (count(40_000.0), count(100_000.0), count(500_000.0));
    let mut random = Random(20_260_101);
    let transaction = connection.transaction().unwrap();
    {
        let insert =
            |sql: &str, values: &[&dyn rusqlite::ToSql]| transaction.prepare_cached(sql).unwrap().execute(values).map(drop).unwrap();
        for user in 0..users {
            let (name, settings) = (format!("{} {}", word(&mut random), word(&mut random)), json(&mut random));
            let avatar = (random.below(4) == 0).then(|| blob(&mut random));
            let values =
                params![uuid(1, user), format!("user{user}@example.org"), name, time(&mut random), random.below(20) > 0, settings, avatar];
            insert("INSERT INTO users VALUES(?, ?, ?, ?, ?, ?, ?)", values);
        }
        for post in 0..posts {
            let (title, body, metadata) = (prose(&mut random, 4, 9), prose(&mut random, 60, 170), json(&mut random));
            let published = (random.below(8) > 0).then(|| time(&mut random));
            let (score, views) = (random.below(100_000) as f64 / 128.0, random.below(50_000));
            let values = params![uuid(2, post), uuid(1, random.below(users)), title, body, metadata, score, views as i64, published];
            insert("INSERT INTO posts VALUES(?, ?, ?, ?, ?, ?, ?, ?)", values);
        }
        for comment in 0..comments {
            let body = prose(&mut random, 4, 30);
            let language = (random.below(4) > 0).then(|| LANGUAGES[random.below(LANGUAGES.len())]);
            let (post, user) = (uuid(2, random.below(posts)), uuid(1, random.below(users)));
            let (votes, is_hidden) = (random.below(200) as i64 - 20, random.below(50) == 0);
            let values = params![uuid(3, comment), post, user, body, votes, is_hidden, language, time(&mut random)];
            insert("INSERT INTO comments VALUES(?, ?, ?, ?, ?, ?, ?, ?)", values);
        }
        for option in 0..500 {
            let values = params![format!("scope{}", option % 7), format!("option{option}"), json(&mut random)];
            insert("INSERT INTO options VALUES(?, ?, ?)", values);
        }
    }
    transaction.commit().unwrap();
}

/// The UUID of the n-th row of a kind: random digits that can be told again.
fn uuid(kind: u64, row: usize) -> String {
    let mut random = Random((kind << 48) | row as u64);
    let (high, low) = (random.next(), random.next());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff
    )
}

/// Words of a language are not used evenly, and neither are these.
fn word(random: &mut Random) -> &'static str {
    WORDS[random.below(WORDS.len()).min(random.below(WORDS.len()))]
}

fn prose(random: &mut Random, least: usize, most: usize) -> String {
    let mut text = String::new();
    for at in 0..least + random.below(most - least) {
        text.push_str(match random.below(40) {
            _ if at == 0 => "",
            0 => ".\n\n",
            1 | 2 => ", ",
            3 | 4 => ". ",
            _ => " ",
        });
        text.push_str(word(random));
        if random.below(25) == 0 {
            write!(text, " {}", random.below(10_000)).unwrap();
        }
    }
    text
}

fn json(random: &mut Random) -> String {
    let tags: Vec<&str> = (0..random.below(5)).map(|_| word(random)).collect();
    let value = serde_json::json!({
        "theme": if random.below(2) == 0 { "dark" } else { "light" },
        "tags": tags,
        "visits": random.below(10_000),
        "ratio": random.below(1_000) as f64 / 1_000.0,
        "last": { "page": format!("/{}/{}", word(random), word(random)), "at": time(random), "note": prose(random, 2, 6) },
        "beta": random.below(10) == 0,
    });
    value.to_string()
}

fn blob(random: &mut Random) -> Vec<u8> {
    (0..40 + random.below(300)).flat_map(|_| random.next().to_le_bytes()).collect()
}

fn time(random: &mut Random) -> String {
    let (day, second) = (random.below(336), random.below(86_400));
    format!(
        "202{}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        random.below(6),
        day / 28 + 1,
        day % 28 + 1,
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}
