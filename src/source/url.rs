//! What a user writes for a database, read by the rules of the tool that would read it.
//!
//! SQLite, where the ecosystem disagrees:
//! - A bare path is a path, whatever is in it. `sqlite:`, `sqlite3:`, `file:` are URLs: percent-decoded, with a query.
//! - `sqlite:///app.db` is `app.db` to SQLAlchemy and `/app.db` to Rails, dbmate and sqlx. The file that exists is meant; where
//!   neither does, it is taken as absolute only if nothing speaks for the relative reading, which a folder does. Four slashes are absolute for
//!   everyone. `sqlite+pysqlite:///app.db` names SQLAlchemy's driver, so it is relative.
//! - `file:dev.db` starts at the folder of `schema.prisma` for Prisma before 7, at the project for the rest. In a folder with
//!   `prisma/schema.prisma` the one that exists is meant; two different ones are an error; if there is none yet, Prisma's.
//!
//! Servers: the URL is kept whole for the driver. Everything shown is built anew from parts that are known not to be secret; no
//! text is shown after deleting the password from it. A parser that took the password's end wrongly would otherwise show the rest.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use super::{SourceError, UrlOrigin};

/// The longest text that is taken for a URL.
const URL_BYTES_MAX: usize = 16 * 1024;

/// A database that a user named.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    /// `form` is what was written before and after the path.
    Sqlite {
        path: PathBuf,
        shown: String,
        form: (String, String),
    },
    Server(ServerUrl),
}

/// Which server a URL is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerKind {
    /// PostgreSQL.
    Postgres,
    /// MySQL or MariaDB.
    MySql,
}

/// The URL of a database server, taken apart. Parts are percent-decoded; what the query says about a part counts.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl {
    /// Which server.
    pub kind: ServerKind,
    /// The URL as written, password included, for the driver alone. Never shown.
    pub whole: String,
    /// The scheme as written (`postgresql+psycopg`).
    pub scheme: String,
    /// The user.
    pub user: Option<String>,
    /// The password. Never shown.
    pub password: Option<String>,
    /// The host, a list of hosts, or the folder of a socket.
    pub host: Option<String>,
    /// The port, if it is written.
    pub port: Option<u16>,
    /// The database.
    pub database: Option<String>,
    /// The query, in the order written.
    pub query: Vec<(String, String)>,
}

impl DatabaseUrl {
    /// Reads what a user wrote. A relative path becomes absolute under `cwd` or under what `origin` says.
    ///
    /// # Errors
    /// Every [`SourceError`] but those about where to look.
    pub fn parse(text: &str, origin: &UrlOrigin, cwd: &Path, exists: &dyn Fn(&Path) -> bool) -> Result<Self, SourceError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SourceError::Empty { place: String::new() });
        }
        if text.len() > URL_BYTES_MAX || text.contains(['\0', '\n', '\r']) {
            return Err(malformed("database", "it is too long or holds a line break", "write a path or URL on one line"));
        }
        if text == ":memory:" {
            return Err(in_memory(text));
        }
        let reader = SqliteReader { text, origin, base: origin.base(cwd), exists };
        let Some((scheme, rest)) = split_scheme(text) else { return reader.bare() };
        let lower = scheme.to_ascii_lowercase();
        let (name, driver) = lower.split_once('+').map_or((lower.as_str(), None), |(name, driver)| (name, Some(driver)));
        match name {
            "sqlite" | "sqlite3" => reader.sqlite(rest, driver.is_some()),
            "file" if driver.is_none() => reader.file(rest),
            "postgres" | "postgresql" => ServerUrl::parse(ServerKind::Postgres, text, scheme, rest).map(Self::server),
            "mysql" | "mariadb" => ServerUrl::parse(ServerKind::MySql, text, scheme, rest).map(Self::server),
            "jdbc" => {
                let plain = rest.split(':').next().unwrap_or("");
                Err(unsupported(
                    &format!("a JDBC URL (`jdbc:{}`)", safe_word(plain)),
                    "write it without `jdbc:`, for example `sqlite:app.db`",
                ))
            }
            "libsql" | "http" | "https" | "ws" | "wss" => {
                Err(unsupported(&format!("a remote database (`{lower}:`)"), "name the local file, for example `sqlite:replica.db`"))
            }
            _ if rest.starts_with("//") || KNOWN_ELSEWHERE.contains(&name) => Err(unsupported(
                &format!("a database URL with `{}:`", safe_word(&lower)),
                "use a path, `sqlite:`, `postgres://` or `mysql://`",
            )),
            _ => reader.bare(),
        }
    }

    fn server(url: ServerUrl) -> Self {
        Self(Kind::Server(url))
    }

    /// Returns the engine's name: `sqlite`, `postgres`, `mysql`.
    pub fn engine(&self) -> &'static str {
        match &self.0 {
            Kind::Sqlite { .. } => "sqlite",
            Kind::Server(ServerUrl { kind: ServerKind::Postgres, .. }) => "postgres",
            Kind::Server(ServerUrl { kind: ServerKind::MySql, .. }) => "mysql",
        }
    }

    /// Returns the path of a SQLite file; absolute if the folder given to [`DatabaseUrl::parse`] was.
    pub fn sqlite_path(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Sqlite { path, .. } => Some(path),
            Kind::Server(_) => None,
        }
    }

    /// Names another SQLite file, by its absolute path, in the form in which this one was written: with the same scheme and query. None for a
    /// server.
    pub fn at_path(&self, path: &Path) -> Option<String> {
        let Kind::Sqlite { form: (before, after), .. } = &self.0 else { return None };
        let path = path.to_string_lossy();
        Some(if before.is_empty() { path.into_owned() } else { format!("{before}{}{after}", encoded_path(&path)) })
    }

    /// Returns the parts of a server's URL.
    pub fn server_url(&self) -> Option<&ServerUrl> {
        match &self.0 {
            Kind::Sqlite { .. } => None,
            Kind::Server(url) => Some(url),
        }
    }

    /// Returns the identity of the database, equal for all its spellings: the absolute path with links followed as far as it
    /// exists, or a URL of kind, host, port, database and schema. User and password are not part of it.
    pub fn place(&self) -> String {
        match &self.0 {
            Kind::Sqlite { path, .. } => real_path(path).to_string_lossy().into_owned(),
            Kind::Server(url) => url.place(),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Sqlite { shown, .. } => f.pad(shown),
            Kind::Server(url) => fmt::Display::fmt(url, f),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

/// Schemes of other databases that are written without `//` too.
const KNOWN_ELSEWHERE: [&str; 6] = ["oracle", "sqlserver", "mssql", "mongodb", "duckdb", "redis"];

/// Words in the query of a SQLite URL that do not change which database is meant.
const SQLITE_WORDS: [&str; 26] = [
    "mode",
    "cache",
    "immutable",
    "nolock",
    "psow",
    "vfs",
    "uri",
    "connection_limit",
    "pool_timeout",
    "socket_timeout",
    "timeout",
    "busy_timeout",
    "connect_timeout",
    "schema",
    "foreign_keys",
    "journal_mode",
    "synchronous",
    "check_same_thread",
    "isolation_level",
    "detect_types",
    "pool",
    "max_connections",
    "pgbouncer",
    "encoding",
    "loc",
    "migrations",
];

/// Words in the query that mean an encrypted file.
const CIPHER_WORDS: [&str; 7] = ["key", "hexkey", "textkey", "cipher", "encryption_key", "password", "_pragma_key"];

struct SqliteReader<'a> {
    text: &'a str,
    origin: &'a UrlOrigin,
    base: PathBuf,
    exists: &'a dyn Fn(&Path) -> bool,
}

impl SqliteReader<'_> {
    fn bare(&self) -> Result<DatabaseUrl, SourceError> {
        let lower = self.text.to_ascii_lowercase();
        let foreign = ["password=", "pwd=", "dbname=", "data source=", "@tcp(", "@unix("].iter().any(|word| lower.contains(word));
        if foreign && !(self.exists)(&self.base.join(self.text)) {
            return Err(unsupported(
                "a connection string of keys and values",
                "write it as a URL: `postgres://USER@HOST/DATABASE`, or name the file alone",
            ));
        }
        self.at(self.base.join(self.text), self.text.to_owned())
    }

    /// Reads what follows `sqlite:`.
    fn sqlite(&self, rest: &str, sqlalchemy: bool) -> Result<DatabaseUrl, SourceError> {
        let rest = self.without_query(rest)?;
        let Some(after) = rest.strip_prefix("//") else {
            let name = self.decoded(rest)?;
            return self.at(self.base.join(&name), name);
        };
        let name = self.decoded(after)?;
        let Some(relative) = name.strip_prefix('/') else {
            return self.at(self.base.join(&name), name);
        };
        if relative.is_empty() || relative == ":memory:" {
            return Err(in_memory(self.text));
        }
        if let Some(absolute) = relative.strip_prefix('/') {
            let absolute = format!("/{}", absolute.trim_start_matches('/'));
            return self.at(PathBuf::from(&absolute), absolute);
        }
        if relative.as_bytes().get(1) == Some(&b':') && relative.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return self.at(self.base.join(relative), relative.to_owned());
        }
        let (absolute, relative_path) = (PathBuf::from(&name), self.base.join(relative));
        if sqlalchemy {
            return self.at(relative_path, relative.to_owned());
        }
        let (for_absolute, for_relative) = (self.evidence(&absolute), self.evidence(&relative_path));
        if absolute == relative_path || for_absolute > for_relative || (for_absolute, for_relative) == (0, 0) {
            return self.at(absolute, name);
        }
        if (for_absolute, for_relative) < (2, 2) && for_relative == 2 {
            return self.at(relative_path, relative.to_owned());
        }
        Err(SourceError::Ambiguous {
            written: self.text.to_owned(),
            candidates: Box::new((absolute, plain(&relative_path))),
            why: ": SQLAlchemy reads three slashes as a relative path, other tools as an absolute one".to_owned(),
            hint: format!("write `sqlite:{relative}` or `sqlite:///{name}` instead"),
        })
    }

    /// Weighs a reading: 2 if the file exists, 1 if its folder does.
    fn evidence(&self, path: &Path) -> u8 {
        if (self.exists)(path) {
            return 2;
        }
        u8::from(path.parent().is_some_and(|folder| folder.as_os_str().is_empty() || folder == self.base || (self.exists)(folder)))
    }

    /// Reads what follows `file:`.
    fn file(&self, rest: &str) -> Result<DatabaseUrl, SourceError> {
        let rest = self.without_query(rest)?;
        let rest = match rest.strip_prefix("//") {
            None => rest,
            Some(after) => {
                let path = after.strip_prefix("localhost").unwrap_or(after);
                if !path.starts_with('/') {
                    return Err(malformed(
                        "file",
                        "after `file://` comes a host, and a database file is never on another host",
                        "write `file:./dev.db` or `file:///absolute/path.db`",
                    ));
                }
                path
            }
        };
        let name = self.decoded(rest)?;
        let here = self.base.join(&name);
        let schema_dir = self.base.join("prisma");
        let by_schema = !Path::new(&name).is_absolute()
            && !matches!(self.origin, UrlOrigin::Prisma { .. })
            && (self.exists)(&schema_dir.join("schema.prisma"));
        if !by_schema {
            return self.at(here, name);
        }
        let prisma = schema_dir.join(&name);
        match ((self.exists)(&prisma), (self.exists)(&here)) {
            (true, true) if real_path(&prisma) != real_path(&here) => {
                let hint =
                    format!("write `sqlite:{name}` or `sqlite:{}` for dbelay (`--db`, or `database` in `dbelay.toml`)", joined(&name));
                Err(SourceError::Ambiguous {
                    written: self.text.to_owned(),
                    candidates: Box::new((plain(&prisma), plain(&here))),
                    why: ": both exist, and Prisma before 7 starts at the folder of `schema.prisma`, other tools at the project".to_owned(),
                    hint,
                })
            }
            (false, true) => self.at(here, name),
            // On the command line a new file is where the shell would put it.
            (false, false) if matches!(self.origin, UrlOrigin::Flag | UrlOrigin::Config(_)) => self.at(here, name),
            _ => self.at(prisma, joined(&name)),
        }
    }

    /// Ends every way of reading a SQLite URL. `shown` is the path as the user would write it bare.
    fn at(&self, path: PathBuf, shown: String) -> Result<DatabaseUrl, SourceError> {
        if shown.is_empty() || shown.contains(":memory:") {
            return Err(in_memory(self.text));
        }
        if matches!(shown.rsplit(['/', '\\']).next(), None | Some("" | "." | "..")) {
            return Err(malformed("SQLite", "it names a folder", "name the file in it, for example `app.db`"));
        }
        if shown.contains(|c: char| c.is_control()) {
            return Err(malformed("SQLite", "its path holds a control character", "check what follows the `%` signs"));
        }
        Ok(DatabaseUrl(Kind::Sqlite { path: plain(&path), shown, form: form(self.text) }))
    }

    /// Cuts the query off and refuses what would make it another database.
    fn without_query<'t>(&self, rest: &'t str) -> Result<&'t str, SourceError> {
        let Some((path, query)) = rest.split_once('?') else { return Ok(rest) };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (word, value) = pair.split_once('=').unwrap_or((pair, ""));
            let lower = word.to_ascii_lowercase();
            if lower == "mode" && value.eq_ignore_ascii_case("memory") {
                return Err(in_memory(&format!("{path}?mode=memory")));
            }
            if CIPHER_WORDS.contains(&lower.as_str()) || lower.starts_with("cipher") {
                return Err(unsupported(
                    &format!("an encrypted SQLite file (`{}` in the URL)", safe_word(&lower)),
                    "decrypt a copy with the program that wrote it, and name that",
                ));
            }
            // go-sqlite3 and modernc write their words with an underscore first.
            if !SQLITE_WORDS.contains(&lower.as_str()) && !lower.starts_with('_') {
                return Err(malformed(
                    "SQLite",
                    &format!("`{}` after the `?` is not known", safe_word(word)),
                    "remove it, or name the file by its bare path if the `?` belongs to it",
                ));
            }
        }
        Ok(path)
    }

    /// Decodes `%20` and the like, unless only the file with the undecoded name exists.
    fn decoded(&self, text: &str) -> Result<String, SourceError> {
        if !text.contains('%') {
            return Ok(text.to_owned());
        }
        let decoded = String::from_utf8(percent_decoded(text)).map_err(|_| {
            malformed("SQLite", "its `%` signs do not spell UTF-8", "write `%25` for a `%`, or name the file by its bare path")
        })?;
        let exists = |name: &str| (self.exists)(&self.base.join(name));
        Ok(if decoded != text && exists(text) && !exists(&decoded) { text.to_owned() } else { decoded })
    }
}

/// Returns what stands before an absolute path, and after it, in a URL of the same form. A path with three slashes is relative to some, so
/// it becomes one with four.
fn form(text: &str) -> (String, String) {
    let Some((scheme, rest)) = split_scheme(text) else { return Default::default() };
    let query = rest.split_once('?').map_or_else(String::new, |(_, query)| format!("?{query}"));
    let slashes = match (rest.starts_with("///"), rest.starts_with("//")) {
        (true, _) if !scheme.eq_ignore_ascii_case("file") => "///",
        (_, true) => "//",
        _ => "",
    };
    (format!("{scheme}:{slashes}"), query)
}

/// Writes a path as URLs have it. Only what would end it, or be decoded, is encoded, since not every tool decodes.
fn encoded_path(path: &str) -> String {
    path.chars()
        .map(|letter| if matches!(letter, '%' | '?' | '#' | ' ') { encoded(&letter.to_string(), "") } else { letter.to_string() })
        .collect()
}

/// Leaves out `.` and doubled slashes, and keeps `..`, whose meaning depends on links.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Returns `prisma/dev.db` for `./dev.db`.
fn joined(name: &str) -> String {
    format!("prisma/{}", name.trim_start_matches("./"))
}

impl ServerUrl {
    fn parse(kind: ServerKind, whole: &str, scheme: &str, rest: &str) -> Result<Self, SourceError> {
        let kind_name = match kind {
            ServerKind::Postgres => "PostgreSQL",
            ServerKind::MySql => "MySQL",
        };
        let encode = "write special characters of user and password as `%40` for `@`, `%2F` for `/`, `%3F` for `?`";
        let broken = |why: &str| malformed(kind_name, why, encode);
        let rest = rest
            .strip_prefix("//")
            .ok_or_else(|| malformed(kind_name, "there is no `//` after the scheme", "write `postgres://USER@HOST/DATABASE`"))?;
        let (head, query) = split_query(rest);
        let (userinfo, after) = head.rsplit_once('@').map_or((None, head), |(userinfo, after)| (Some(userinfo), after));
        let (hosts, database) = after.split_once('/').map_or((after, None), |(hosts, database)| (hosts, Some(database)));
        let query: Vec<(String, String)> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| {
                let key = text_of(key);
                // Only some tools write a blank as `+`; in a password or a path it is itself.
                let has_blanks = !is_secret(&key) && !matches!(key.as_str(), "host" | "user" | "dbname") && !key.starts_with("ssl");
                let value = if has_blanks { text_of(&value.replace('+', " ")) } else { text_of(value) };
                (key, value)
            })
            .collect();
        if query.iter().any(|(key, value)| value.contains('@') && value.contains('/') && !is_secret(key)) {
            return Err(broken("an `@` and a `/` come after a `?`, so that the password's end is unclear"));
        }
        // A colon that is encoded separates too, so that what may be a password is never shown.
        let (mut user, mut password) = match userinfo.map(|info| (info.split_once(':'), text_of(info))) {
            None => (None, None),
            Some((Some((user, password)), _)) => (Some(text_of(user)), Some(text_of(password))),
            Some((None, info)) => match info.split_once(':') {
                Some((user, password)) => (Some(user.to_owned()), Some(password.to_owned())),
                None => (Some(info), None),
            },
        };
        let (mut host, mut port) = split_port(hosts).ok_or_else(|| broken("host and port cannot be told"))?;
        let mut database = database.map(text_of);
        for (key, value) in &query {
            match key.as_str() {
                "host" => host = Some(value.clone()),
                "port" => port = value.parse().ok().or(port),
                "user" => user = Some(value.clone()),
                "password" => password = Some(value.clone()),
                "dbname" => database = Some(value.clone()),
                _ => {}
            }
        }
        let present = |text: &String| !text.is_empty();
        Ok(Self {
            kind,
            whole: whole.to_owned(),
            scheme: scheme.to_owned(),
            user: user.filter(present),
            password: password.filter(present),
            host: host.filter(present),
            port,
            database: database.filter(present),
            query,
        })
    }

    fn place(&self) -> String {
        let (scheme, default_port) = match self.kind {
            ServerKind::Postgres => ("postgres", 5432),
            ServerKind::MySql => ("mysql", 3306),
        };
        let host = self.host.as_deref().unwrap_or("localhost").to_ascii_lowercase();
        let port = if host.contains(',') { String::new() } else { format!(":{}", self.port.unwrap_or(default_port)) };
        // PostgreSQL opens the database named like the user if none is named.
        let database = match self.kind {
            ServerKind::Postgres => self.database.as_ref().or(self.user.as_ref()),
            ServerKind::MySql => self.database.as_ref(),
        };
        let mut place = format!("{scheme}://{}{port}/{}", encoded(&host, ":[],/"), encoded(database.map_or("", String::as_str), ""));
        let is_default = |schema: &str| schema.is_empty() || (self.kind == ServerKind::Postgres && schema == "public");
        if let Some((_, schema)) = self.query.iter().find(|(key, value)| key == "schema" && !is_default(value)) {
            place.push_str("?schema=");
            place.push_str(&encoded(schema, ""));
        }
        place
    }

    /// Writes the URL with another database, all else as it was written, password included. Never shown.
    pub(super) fn with_database(&self, database: &str) -> String {
        let database = encoded(database, "");
        let rest = self.whole.get(self.scheme.len()..).and_then(|rest| rest.strip_prefix("://")).unwrap_or("");
        let (head, query) = split_query(rest);
        let hosts = head.rfind('@').map_or(0, |at| at + 1);
        let end = head.get(hosts..).and_then(|hosts| hosts.find('/')).map_or(head.len(), |at| hosts + at);
        let mut url = format!("{}://{}/{database}", self.scheme, head.get(..end).unwrap_or(""));
        for (at, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            url.push(if at == 0 { '?' } else { '&' });
            match pair.split_once('=') {
                Some((key, _)) if text_of(key) == "dbname" => url.push_str(&format!("{key}={database}")),
                _ => url.push_str(pair),
            }
        }
        url
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        if self.user.is_some() || self.password.is_some() {
            f.write_str(&encoded(self.user.as_deref().unwrap_or(""), ""))?;
            f.write_str(if self.password.is_some() { ":***@" } else { "@" })?;
        }
        f.write_str(&encoded(self.host.as_deref().unwrap_or(""), ":[],/"))?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if let Some(database) = &self.database {
            write!(f, "/{}", encoded(database, ""))?;
        }
        let mut separator = '?';
        for (key, value) in &self.query {
            if matches!(key.as_str(), "host" | "port" | "user" | "password" | "dbname") {
                continue;
            }
            let value = if SHOWN_WORDS.contains(&key.as_str()) { encoded(value, "/,") } else { "***".to_owned() };
            write!(f, "{separator}{}={value}", encoded(key, ""))?;
            separator = '&';
        }
        Ok(())
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerUrl({self})")
    }
}

/// The words of a server's query whose values may be shown.
const SHOWN_WORDS: [&str; 14] = [
    "schema",
    "sslmode",
    "ssl-mode",
    "sslaccept",
    "charset",
    "connection_limit",
    "pool_timeout",
    "connect_timeout",
    "pgbouncer",
    "socket",
    "application_name",
    "sslrootcert",
    "channel_binding",
    "target_session_attrs",
];

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["pass", "pwd", "secret", "token", "key"].iter().any(|word| key.contains(word))
}

/// Splits at the first `?` that a query can follow. A password may hold one, so an `@` before it must be there if there is any.
fn split_query(rest: &str) -> (&str, &str) {
    for (at, _) in rest.match_indices('?').take(64) {
        let (head, tail) = (rest.get(..at).unwrap_or(""), rest.get(at + 1..).unwrap_or(""));
        let is_query = tail.split('&').all(|pair| {
            pair.is_empty()
                || pair.split_once('=').is_some_and(|(key, _)| {
                    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
                })
        });
        let inside_password = !head.contains('@') && tail.contains('@') && head.contains(':') && !head.contains('/');
        if is_query && !inside_password {
            return (head, tail);
        }
    }
    // `?` with nothing readable behind it, and no user before it, belongs to nothing that is shown.
    (rest, "")
}

/// Splits `host:port`; a list of hosts stays whole. Returns `None` for what no host is.
fn split_port(hosts: &str) -> Option<(Option<String>, Option<u16>)> {
    let host = text_of(hosts);
    let fine = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']' | ',' | '/' | '%' | '~');
    if !host.chars().all(fine) {
        return None;
    }
    if host.contains(',') {
        return Some((Some(host), None));
    }
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') && (!name.contains(':') || name.ends_with(']')) => {
            let port = if port.is_empty() { None } else { Some(port.parse().ok()?) };
            Some((Some(name.to_owned()), port))
        }
        _ => Some((Some(host), None)),
    }
}

/// Splits off a scheme. One letter is a Windows drive.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let fine = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_'));
    fine.then_some((scheme, rest))
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high << 4 | low);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

fn text_of(text: &str) -> String {
    String::from_utf8_lossy(&percent_decoded(text)).into_owned()
}

/// Percent-encodes all but unreserved characters and those given.
pub(super) fn encoded(text: &str, also: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | '~') || also.contains(c) {
            encoded.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    encoded
}

/// Follows links as far as the path exists, and takes `..` and `.` out of the rest.
pub(super) fn real_path(path: &Path) -> PathBuf {
    for existing in path.ancestors().take(64) {
        if let Ok(real) = fs_err::canonicalize(existing)
            && let Ok(rest) = path.strip_prefix(existing)
        {
            return lexical(&real.join(rest));
        }
    }
    lexical(path)
}

fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(plain.components().next_back(), Some(Component::Normal(_))) => {
                plain.pop();
            }
            Component::ParentDir if plain.has_root() => {}
            other => plain.push(other),
        }
    }
    plain
}

/// Hides passwords in a text that may hold URLs or connection strings, such as another library's message. Hides too much rather
/// than too little.
pub fn redact(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        // A password may hold quotes and blanks, so only the line's end is sure to end it.
        let (url, tail) = after.split_at(after.find('\n').unwrap_or(after.len()));
        let colon = [":", "%3A", "%3a"].iter().filter_map(|colon| url.find(colon)).min();
        match (colon, url.rfind('@')) {
            (Some(colon), Some(sign)) if colon < sign => {
                shown.push_str(url.get(..colon).unwrap_or(""));
                shown.push_str(":***");
                rest = after.get(sign..).unwrap_or("");
            }
            _ => {
                shown.push_str(url);
                rest = tail;
            }
        }
    }
    shown.push_str(rest);
    hide_after(&hide_after(&shown, "password="), "pwd=")
}

fn hide_after(text: &str, word: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    while let Some(found) = lower.get(from..).and_then(|rest| rest.find(word)) {
        let start = from + found + word.len();
        let rest = text.get(start..).unwrap_or("");
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let length = match quote {
            Some(quote) => rest.get(1..).and_then(|inner| inner.find(quote)).map_or(rest.len(), |at| at + 2),
            None => rest.find(|c: char| c.is_whitespace() || matches!(c, '&' | ';' | '"' | '`' | '\'')).unwrap_or(rest.len()),
        };
        shown.push_str(text.get(from..start).unwrap_or(""));
        shown.push_str("***");
        from = start + length;
    }
    shown.push_str(text.get(from..).unwrap_or(""));
    shown
}

/// Shows a word that a user wrote, as far as it can be one.
pub(super) fn safe_word(word: &str) -> String {
    word.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '.')).take(24).collect()
}

fn in_memory(written: &str) -> SourceError {
    SourceError::InMemory { written: written.to_owned() }
}

fn unsupported(what: &str, hint: &str) -> SourceError {
    SourceError::Unsupported { what: what.to_owned(), hint: hint.to_owned() }
}

fn malformed(kind: &'static str, why: &str, hint: &str) -> SourceError {
    SourceError::Malformed { kind, why: why.to_owned(), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests;
