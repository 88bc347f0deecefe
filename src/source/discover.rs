//! Databases that a project seems to use, for `dbelay init` to offer. Nothing found here is ever used without being asked for.
//!
//! Configuration files of other tools are read by hand and in part: what is not understood is passed over, and a wrong guess costs
//! a line in a list. Bounded throughout: folders to a depth, entries, bytes read of a file. No file is followed into folders of
//! dependencies or build results, and nothing but regular files is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::url::{encoded, real_path};
use super::{DatabaseUrl, SourceError, UrlOrigin, read_dotenv, redact};

/// The most bytes read of a file.
const READ_BYTES_MAX: u64 = 256 * 1024;
/// The most folder entries looked at.
const ENTRIES_MAX: usize = 50_000;
/// How deep settings files lie at most; database files and `.env` lie less deep.
const DEPTH_MAX: usize = 5;
const DATABASE_DEPTH_MAX: usize = 3;
const DOTENV_DEPTH_MAX: usize = 2;
/// The most candidates offered.
const CANDIDATES_MAX: usize = 100;
/// Folders that hold other people's files, or none.
const SKIPPED: [&str; 16] = [
    "node_modules",
    "target",
    ".git",
    "venv",
    ".venv",
    "env",
    "__pycache__",
    "site-packages",
    "vendor",
    "dist",
    "build",
    ".dbelay",
    ".next",
    ".tox",
    ".hg",
    ".svn",
];

/// A database that may be the project's.
#[derive(Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What to write for it: a path from the root, or a server's URL with its password.
    pub url: String,
    /// The file that names it, or the database file itself, from the root.
    pub found_in: String,
    /// The line, from 1.
    pub line: Option<u32>,
    /// What is known about it.
    pub note: String,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", shown(&self.url), self.found_in)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ", {})", self.note)
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Candidate({self})")
    }
}

fn shown(url: &str) -> String {
    DatabaseUrl::parse(url, &UrlOrigin::Flag, Path::new(""), &|_| true).map_or_else(|_| redact(url), |url| url.to_string())
}

/// Lists the databases that the files of a project name, those of its own configuration first, each place once.
pub fn discover(root: &Path) -> Vec<Candidate> {
    let mut finder = Finder { root: root.to_owned(), variables: BTreeMap::new(), found: Vec::new(), places: BTreeSet::new() };
    let files = files(root);
    let dotenv: Vec<&PathBuf> = files.iter().filter(|file| is_dotenv(file)).collect();
    for file in &dotenv {
        finder.read_variables(file);
    }
    for file in &dotenv {
        finder.dotenv(file);
    }
    for file in &files {
        finder.configuration(file);
    }
    for file in &files {
        finder.database_file(file);
    }
    finder.found
}

/// Lists the regular files of a project from its root, those nearest to it first.
fn files(root: &Path) -> Vec<PathBuf> {
    let wanted = |entry: &walkdir::DirEntry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() == 0 || !(entry.file_type().is_dir() && SKIPPED.contains(&name.as_ref()))
    };
    let walk = walkdir::WalkDir::new(root).max_depth(DEPTH_MAX).follow_links(false).sort_by_file_name().into_iter();
    let mut files: Vec<(usize, PathBuf)> = walk
        .filter_entry(wanted)
        .take(ENTRIES_MAX)
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_file())
        .filter_map(|entry| Some((entry.depth(), entry.path().strip_prefix(root).ok()?.to_owned())))
        .collect();
    files.sort();
    files.into_iter().map(|(_, file)| file).collect()
}

fn depth(file: &Path) -> usize {
    file.components().count()
}

fn name_of(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_dotenv(file: &Path) -> bool {
    let name = name_of(file);
    let sample = ["example", "sample", "template", "dist", "defaults", "schema", "vault", "bak"].iter().any(|end| name.ends_with(end));
    depth(file) <= DOTENV_DEPTH_MAX && (name == ".env" || name.starts_with(".env.")) && !sample
}

struct Finder {
    root: PathBuf,
    /// The first value of each variable in the `.env` files, with its file and line.
    variables: BTreeMap<String, (String, PathBuf, u32)>,
    found: Vec<Candidate>,
    places: BTreeSet<String>,
}

/// How a tool reads relative paths.
enum Reading<'a> {
    /// By the URL's own rules, as if written in this file.
    Url(UrlOrigin),
    /// As SQLAlchemy does, from this folder.
    SqlAlchemy(&'a Path),
    /// As a path from this folder, if it is no URL.
    Folder(&'a Path),
}

impl Finder {
    fn read(&self, file: &Path) -> Option<String> {
        let mut bytes = Vec::new();
        fs_err::File::open(self.root.join(file)).ok()?.take(READ_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Adds what `text` names, unless it names nothing that dbelay could open, or a place that was offered before.
    fn offer(&mut self, text: &str, reading: &Reading<'_>, file: &Path, line: Option<u32>, note: &str) {
        let (text, origin) = match reading {
            Reading::Url(origin) => (text.to_owned(), origin.clone()),
            Reading::SqlAlchemy(folder) => {
                let text = text.strip_prefix("sqlite:").map_or_else(|| text.to_owned(), |rest| format!("sqlite+sqlalchemy:{rest}"));
                (text, UrlOrigin::Config(folder.join("-")))
            }
            Reading::Folder(folder) => (text.to_owned(), UrlOrigin::Config(folder.join("-"))),
        };
        match DatabaseUrl::parse(&text, &origin, &self.root, &|path| path.exists()) {
            Ok(url) => self.add(&url, file, line, note),
            Err(SourceError::Ambiguous { candidates, .. }) => {
                for path in [&candidates.0, &candidates.1].into_iter().filter(|path| path.is_file()) {
                    let path = path.to_string_lossy();
                    if let Ok(url) = DatabaseUrl::parse(&path, &UrlOrigin::Flag, &self.root, &|_| true) {
                        self.add(&url, file, line, &format!("{note}, which can be read in two ways"));
                    }
                }
            }
            Err(_) => {}
        }
    }

    fn add(&mut self, url: &DatabaseUrl, file: &Path, line: Option<u32>, note: &str) {
        if self.found.len() >= CANDIDATES_MAX || !self.places.insert(url.place()) {
            return;
        }
        let (text, state) = match (url.sqlite_path(), url.server_url()) {
            (Some(path), _) => {
                let state = match fs_err::metadata(path) {
                    Ok(metadata) => format!("SQLite, {} bytes", metadata.len()),
                    Err(_) => "SQLite, not there yet".to_owned(),
                };
                (self.bare(path), state)
            }
            (None, Some(server)) => (server.whole.clone(), url.engine().to_owned()),
            (None, None) => return,
        };
        let note = if note.is_empty() { state } else { format!("{note}; {state}") };
        self.found.push(Candidate { url: text, found_in: slashes(file), line, note });
    }

    /// Writes a path so that it means the same again: from the root if it is below it.
    fn bare(&self, path: &Path) -> String {
        let text = match real_path(path).strip_prefix(real_path(&self.root)) {
            Ok(below) => slashes(below),
            Err(_) => path.to_string_lossy().into_owned(),
        };
        if text.contains(':') && !text.starts_with('/') { format!("./{text}") } else { text }
    }

    fn read_variables(&mut self, file: &Path) {
        let Some(text) = self.read(file) else { return };
        for name in super::dotenv::names(&text).into_iter().take(1000) {
            if let Ok(Some(found)) = read_dotenv(file, &text, name) {
                self.variables.entry(name.to_owned()).or_insert((found.value, file.to_owned(), found.line));
            }
        }
    }

    /// Offers the database URLs of a `.env` file, and what Laravel's `DB_*` say.
    fn dotenv(&mut self, file: &Path) {
        let Some(text) = self.read(file) else { return };
        let value = |name: &str| read_dotenv(file, &text, name).ok().flatten().filter(|found| !found.value.is_empty());
        let folder = file.parent().unwrap_or(Path::new(""));
        for name in super::dotenv::names(&text).into_iter().take(1000) {
            if (name == "DATABASE_URL" || name.ends_with("_DATABASE_URL"))
                && let Some(found) = value(name)
            {
                // Prisma reads `prisma/.env` too, where a path starts at the schema beside it.
                let schema = self.root.join(folder).join("schema.prisma");
                let origin = match schema.exists() {
                    true => UrlOrigin::Prisma { schema_dir: folder.to_owned() },
                    false => UrlOrigin::DotEnv(file.to_owned()),
                };
                self.offer(&found.value, &Reading::Url(origin), file, Some(found.line), name);
            }
        }
        let Some(connection) = value("DB_CONNECTION") else { return };
        let database = value("DB_DATABASE");
        let line = Some(database.as_ref().map_or(connection.line, |found| found.line));
        let part = |name: &str| value(name).map(|found| found.value);
        if connection.value == "sqlite" {
            let path = database.map_or_else(|| "database/database.sqlite".to_owned(), |found| found.value);
            self.offer(&path, &Reading::Folder(folder), file, line, "Laravel");
        } else if let Some(url) = server_url(&connection.value, |key| match key {
            "database" => part("DB_DATABASE"),
            "host" => part("DB_HOST"),
            "port" => part("DB_PORT"),
            "user" => part("DB_USERNAME"),
            _ => part("DB_PASSWORD"),
        }) {
            self.offer(&url, &Reading::Folder(folder), file, line, "Laravel");
        }
    }

    fn configuration(&mut self, file: &Path) {
        let name = name_of(file);
        let folder = file.parent().unwrap_or(Path::new(""));
        let in_folder = |name: &str| folder.file_name().is_some_and(|folder| folder == name);
        let read: fn(&mut Self, &Path, &Path, &str) = match name.as_str() {
            "schema.prisma" => Self::prisma_schema,
            "prisma.config.ts" | "prisma.config.js" | "prisma.config.mjs" => Self::prisma_config,
            "database.yml" if in_folder("config") => Self::rails,
            "alembic.ini" => Self::alembic,
            "config.json" if in_folder("config") => Self::sequelize,
            "settings.py" => Self::django,
            _ if name.ends_with(".py") && in_folder("settings") => Self::django,
            _ => match name.rsplit_once('.') {
                Some(("knexfile", "js" | "ts" | "cjs" | "mjs")) => Self::knex,
                Some(("drizzle.config", "js" | "ts" | "cjs" | "mjs" | "mts")) => Self::drizzle,
                _ => return,
            },
        };
        if let Some(text) = self.read(file) {
            read(self, file, folder, &text);
        }
    }

    fn offer_variable(&mut self, name: &str, reading: &Reading<'_>, file: &Path, line: u32, note: &str) {
        if let Some((value, _, _)) = self.variables.get(name).cloned() {
            self.offer(&value, reading, file, Some(line), &format!("{note}, through {name}"));
        }
    }

    fn prisma_schema(&mut self, file: &Path, folder: &Path, text: &str) {
        let reading = Reading::Url(UrlOrigin::Prisma { schema_dir: folder.to_owned() });
        let mut inside = false;
        for (number, line) in numbered(text) {
            let line = line.trim();
            if line.starts_with("datasource ") {
                inside = true;
            } else if line.starts_with('}') {
                inside = false;
            }
            let Some(("url", value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())).filter(|_| inside) else {
                continue;
            };
            match (value.strip_prefix("env("), quoted(value).first()) {
                (Some(_), Some(name)) => self.offer_variable(name, &reading, file, number, "Prisma"),
                (None, Some(url)) => self.offer(url, &reading, file, Some(number), "Prisma"),
                _ => {}
            }
        }
    }

    /// Since Prisma 7 the URL stands in the configuration, and its path starts there.
    fn prisma_config(&mut self, file: &Path, folder: &Path, text: &str) {
        self.script(file, folder, text, &["url"], "Prisma");
    }

    fn knex(&mut self, file: &Path, folder: &Path, text: &str) {
        self.script(file, folder, text, &["filename", "connection", "connectionString"], "Knex");
    }

    fn drizzle(&mut self, file: &Path, folder: &Path, text: &str) {
        self.script(file, folder, text, &["url"], "Drizzle");
    }

    /// Reads `key: "literal"`, `key: process.env.NAME` and `key: path.join(__dirname, "literal")` in a script.
    fn script(&mut self, file: &Path, folder: &Path, text: &str, keys: &[&str], note: &str) {
        for (number, line) in numbered(text) {
            let code = line.trim_start();
            if code.starts_with("//") || code.starts_with('*') || code.starts_with("/*") {
                continue;
            }
            for value in keys.iter().filter_map(|key| script_value(line, key)) {
                // `file:` with nothing of Prisma's about it starts at the project.
                let reading = Reading::Folder(folder);
                let mut value = value;
                if let Some(name) = script_variable(value) {
                    if self.variables.contains_key(&name) {
                        self.offer_variable(&name, &reading, file, number, note);
                        continue;
                    }
                    let Some((_, default)) = value.split_once("||").or_else(|| value.split_once("??")) else { continue };
                    value = default.trim_start();
                }
                let parts = quoted(value);
                let path = match parts.as_slice() {
                    _ if value.contains("${") => continue,
                    parts if value.contains("__dirname") => parts.join("/"),
                    [only, ..] if value.starts_with(['"', '\'', '`']) => only.clone(),
                    _ => continue,
                };
                self.offer(
                    path.strip_prefix("file:").filter(|rest| !rest.starts_with("//")).unwrap_or(&path),
                    &reading,
                    file,
                    Some(number),
                    note,
                );
            }
        }
    }

    /// Reads `DATABASES` for SQLite: the `NAME` that follows its `ENGINE`, or stands up to a few lines before.
    fn django(&mut self, file: &Path, folder: &Path, text: &str) {
        let lines: Vec<&str> = text.lines().collect();
        let code = |line: &str| !line.trim_start().starts_with('#');
        let base_dir = lines.iter().find(|line| line.trim_start().starts_with("BASE_DIR")).map(|line| {
            let ups = line.matches(".parent").count().max(line.matches("dirname(").count());
            folder_above(file, ups).to_owned()
        });
        let project =
            folder.ancestors().find(|folder| self.root.join(folder).join("manage.py").exists()).unwrap_or(Path::new("")).to_owned();
        for (number, line) in numbered(text) {
            if !code(line) || !line.contains("sqlite3") || !line.contains("ENGINE") {
                continue;
            }
            let at = usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
            let around = (at..at.saturating_add(12)).chain(at.saturating_sub(4)..at);
            let name = around.filter_map(|at| Some((at, django_name(lines.get(at)?)?))).next();
            let Some((at, value)) = name else { continue };
            let mut parts = quoted(value);
            if value.contains("environ") || value.contains("getenv") || value.contains("config(") {
                // The first text is the variable, the second its default.
                parts.drain(..parts.len().min(1));
            }
            if parts.is_empty() {
                continue;
            }
            let from = if value.contains("BASE_DIR") { base_dir.as_deref().unwrap_or(&project) } else { &project };
            let line = u32::try_from(at + 1).ok();
            self.offer(&parts.join("/"), &Reading::Folder(from), file, line, "Django");
        }
    }

    /// Reads the `development` section; `default` fills in what it leaves out.
    fn rails(&mut self, file: &Path, folder: &Path, text: &str) {
        let project = folder.parent().unwrap_or(Path::new(""));
        let mut section = String::new();
        let mut entries: Vec<(String, u32, String, String)> = Vec::new();
        for (number, line) in numbered(text) {
            let Some((key, value)) = line.split_once(':').filter(|_| !line.trim_start().starts_with('#')) else { continue };
            if !line.starts_with([' ', '\t']) {
                section = key.trim().to_owned();
            } else {
                entries.push((section.clone(), number, key.trim().to_owned(), yaml_scalar(value)));
            }
        }
        let look = |section: &str, key: &str| {
            entries
                .iter()
                .find(|(of, _, name, value)| of == section && name == key && !value.is_empty())
                .map(|(_, _, _, value)| value.clone())
        };
        let setting = |key: &str| look("development", key).or_else(|| look("default", key)).filter(|value| !value.contains("<%"));
        let adapter = setting("adapter").unwrap_or_default();
        for (_, number, key, value) in entries.iter().filter(|(of, _, _, _)| of == "development") {
            let reading = Reading::Folder(project);
            let (text, variable) = erb(value);
            if let Some(name) = variable
                && self.variables.contains_key(&name)
            {
                self.offer_variable(&name, &reading, file, *number, "Rails");
                continue;
            }
            let Some(text) = text else { continue };
            if key == "url" || (key == "database" && adapter == "sqlite3") {
                self.offer(&text, &reading, file, Some(*number), "Rails");
            } else if key == "database"
                && let Some(url) = server_url(&adapter, |part| match part {
                    "database" => Some(text.clone()),
                    "user" => setting("username"),
                    other => setting(other),
                })
            {
                self.offer(&url, &reading, file, Some(*number), "Rails");
            }
        }
    }

    fn alembic(&mut self, file: &Path, folder: &Path, text: &str) {
        for (number, line) in numbered(text) {
            let Some((key, value)) = line.split_once('=') else { continue };
            if key.trim() == "sqlalchemy.url" {
                let here = self.root.join(folder).to_string_lossy().into_owned();
                let value = value.trim().replace("%(here)s", &here).replace("%%", "%");
                self.offer(&value, &Reading::SqlAlchemy(folder), file, Some(number), "Alembic");
            }
        }
    }

    fn sequelize(&mut self, file: &Path, folder: &Path, text: &str) {
        let Ok(json) = serde_json::from_str::<serde_json::Value>(text) else { return };
        let Some(section) = json.get("development") else { return };
        let part = |key: &str| {
            section.get(key).and_then(|value| value.as_str().map(str::to_owned).or_else(|| value.as_u64().map(|n| n.to_string())))
        };
        let project = folder.parent().unwrap_or(Path::new(""));
        let reading = Reading::Folder(project);
        let line = |key: &str| {
            let mut lines = numbered(text).skip_while(|(_, line)| !line.contains("\"development\""));
            lines.find(|(_, line)| line.contains(&format!("\"{key}\""))).map(|(number, _)| number)
        };
        if let Some(name) = part("use_env_variable") {
            self.offer_variable(&name, &reading, file, line("use_env_variable").unwrap_or(1), "Sequelize");
        } else if let Some(url) = part("url") {
            self.offer(&url, &reading, file, line("url"), "Sequelize");
        } else if part("dialect").as_deref() == Some("sqlite") {
            let Some(path) = part("storage") else { return };
            self.offer(&path, &reading, file, line("storage"), "Sequelize");
        } else if let Some(url) = server_url(&part("dialect").unwrap_or_default(), |key| part(if key == "user" { "username" } else { key }))
        {
            self.offer(&url, &reading, file, line("database"), "Sequelize");
        }
    }

    fn database_file(&mut self, file: &Path) {
        let named =
            file.extension().is_some_and(|end| ["db", "sqlite", "sqlite3", "db3"].iter().any(|known| end.eq_ignore_ascii_case(known)));
        if !named || depth(file) > DATABASE_DEPTH_MAX {
            return;
        }
        let mut magic = [0; 16];
        let path = self.root.join(file);
        let read = fs_err::File::open(&path).and_then(|mut open| open.read_exact(&mut magic));
        if read.is_ok() && &magic == b"SQLite format 3\0" {
            self.offer(&format!("./{}", slashes(file)), &Reading::Folder(Path::new("")), file, None, "");
        }
    }
}

/// Builds a server's URL from parts, or returns `None` for another adapter or without a database. Asks for `database`, `host`, `port`,
/// `user`, `password`.
fn server_url(adapter: &str, part: impl Fn(&str) -> Option<String>) -> Option<String> {
    let scheme = match adapter {
        "pgsql" | "postgresql" | "postgres" | "postgis" => "postgres",
        "mysql" | "mysql2" | "trilogy" => "mysql",
        "mariadb" => "mariadb",
        _ => return None,
    };
    let part = |key: &str| part(key).filter(|value| !value.is_empty());
    let database = part("database")?;
    let password = part("password").map_or_else(String::new, |password| format!(":{}", encoded(&password, "")));
    let user = part("user").map_or_else(String::new, |user| format!("{}{password}@", encoded(&user, "")));
    let host = part("host").unwrap_or_else(|| "localhost".to_owned());
    let port = part("port").map_or_else(String::new, |port| format!(":{port}"));
    Some(format!("{scheme}://{user}{}{port}/{}", encoded(&host, ":[]"), encoded(&database, "")))
}

fn numbered(text: &str) -> impl Iterator<Item = (u32, &str)> {
    (1_u32..).zip(text.lines())
}

fn slashes(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "/")
}

/// Goes up from a file, to the root at most.
fn folder_above(file: &Path, ups: usize) -> &Path {
    file.ancestors().nth(ups).unwrap_or(Path::new(""))
}

/// Returns the texts between quotes in a piece of code; a quote ends where the same quote comes again.
fn quoted(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find(['"', '\'', '`']) {
        let Some(quote) = rest.get(at..).and_then(|from| from.chars().next()) else { break };
        let inner = rest.get(at + 1..).unwrap_or("");
        let Some(end) = inner.find(quote) else { break };
        found.push(inner.get(..end).unwrap_or("").to_owned());
        rest = inner.get(end + 1..).unwrap_or("");
    }
    found
}

/// Returns what follows `key:` in a line of a script.
fn script_value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.match_indices(key).find_map(|(at, _)| {
        let before = line.get(..at)?.chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '.')) {
            return None;
        }
        let after = line.get(at + key.len()..)?.trim_start_matches(['"', '\'']).trim_start();
        after.strip_prefix(':').map(expression)
    })
}

/// Returns the variable of `process.env.NAME`, `process.env["NAME"]`, `Deno.env.get("NAME")`, `env("NAME")`, if the value starts with it.
fn script_variable(value: &str) -> Option<String> {
    if let Some(name) = value.strip_prefix("process.env.") {
        let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(name.len());
        return name.get(..end).map(str::to_owned);
    }
    let call = ["process.env[", "env(", "Deno.env.get("].iter().any(|call| value.starts_with(call));
    if call { quoted(value).into_iter().next() } else { None }
}

/// Returns what follows `'NAME':` in a line of Python.
fn django_name(line: &str) -> Option<&str> {
    ["'NAME'", "\"NAME\""].iter().find_map(|key| line.split_once(key)?.1.trim_start().strip_prefix(':')).map(expression)
}

/// Cuts code off where an expression ends: at a comma or a closing bracket that is not its own.
fn expression(code: &str) -> &str {
    let mut quote = None;
    let mut depth = 0_u32;
    for (at, c) in code.char_indices() {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '(' | '[' | '{') => depth = depth.saturating_add(1),
            (None, ')' | ']' | '}' | ',') if depth == 0 => return code.get(..at).unwrap_or(code).trim(),
            (None, ')' | ']' | '}') => depth -= 1,
            _ => {}
        }
    }
    code.trim()
}

/// Takes quotes and a comment off a YAML value.
fn yaml_scalar(value: &str) -> String {
    let value = value.trim();
    if value.starts_with(['"', '\''])
        && let Some(first) = quoted(value).into_iter().next()
    {
        return first;
    }
    value.split(" #").next().unwrap_or("").trim().to_owned()
}

/// Splits `<%= ENV.fetch("NAME") { "default" } %>` into what it gives without the variable, and the variable.
fn erb(value: &str) -> (Option<String>, Option<String>) {
    if !value.contains("<%") {
        return (Some(value.to_owned()).filter(|value| !value.is_empty()), None);
    }
    let whole = value.starts_with("<%=") && value.ends_with("%>");
    let parts = quoted(value);
    match parts.as_slice() {
        [name] if whole && value.contains("ENV") => (None, Some(name.clone())),
        [name, default] if whole && value.contains("ENV") => (Some(default.clone()), Some(name.clone())),
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: &str = "SQLite format 3\0 and more";

    /// Lists what is found in a project of these files, as `url (file:line, note)`.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let root = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = root.path().join(name);
            fs_err::create_dir_all(path.parent().expect("a folder")).expect("folders");
            fs_err::write(path, text).expect("a file");
        }
        discover(root.path()).iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn check(files: &[(&str, &str)], expected: &[&str]) {
        assert_eq!(found(files), expected);
    }

    #[test]
    fn dotenv_names_databases() {
        let text = "A=1\nDATABASE_URL=\"sqlite:data/app.db\"\nTEST_DATABASE_URL=postgres://u:hunter2@h/d\nDATABASE_URL_OLD=x.db\n";
        check(
            &[(".env", text), (".env.example", "DATABASE_URL=other.db")],
            &["data/app.db (.env:2, DATABASE_URL; SQLite, not there yet)", "postgres://u:***@h/d (.env:3, TEST_DATABASE_URL; postgres)"],
        );
        check(&[(".env", "DATABASE_URL=:memory:\nX_DATABASE_URL=libsql://x\nY_DATABASE_URL=\n")], &[]);
    }

    #[test]
    fn laravel_names_its_database_in_parts() {
        check(&[("api/.env", "DB_CONNECTION=sqlite\n")], &["api/database/database.sqlite (api/.env:1, Laravel; SQLite, not there yet)"]);
        check(
            &[(".env", "DB_CONNECTION=pgsql\nDB_HOST=db\nDB_PORT=5433\nDB_DATABASE=shop\nDB_USERNAME=me\nDB_PASSWORD='p@ss/w?'\n")],
            &["postgres://me:***@db:5433/shop (.env:4, Laravel; postgres)"],
        );
    }

    #[test]
    fn prisma_paths_start_at_the_schema() {
        let schema =
            "generator client {\n  url = \"file:./no.db\"\n}\ndatasource db {\n  provider = \"sqlite\"\n  url = \"file:./dev.db\"\n}\n";
        check(&[("prisma/schema.prisma", schema)], &["prisma/dev.db (prisma/schema.prisma:6, Prisma; SQLite, not there yet)"]);
        let schema = "datasource db {\n  url = env(\"DB\")\n}\n";
        check(
            &[("prisma/schema.prisma", schema), (".env", "DB=file:dev.db\n")],
            &["prisma/dev.db (prisma/schema.prisma:2, Prisma, through DB; SQLite, not there yet)"],
        );
        let config = "export default defineConfig({\n  datasource: { url: env('DB') },\n})\n";
        check(
            &[("prisma.config.ts", config), (".env", "DB=file:./dev.db\n")],
            &["dev.db (prisma.config.ts:2, Prisma, through DB; SQLite, not there yet)"],
        );
    }

    #[test]
    fn django_paths_start_at_base_dir() {
        let engine = "DATABASES = {\n 'default': {\n  'ENGINE': 'django.db.backends.sqlite3',\n";
        for (base_dir, name) in [
            ("BASE_DIR = Path(__file__).resolve().parent.parent", "BASE_DIR / 'db.sqlite3'"),
            ("BASE_DIR = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))", "os.path.join(BASE_DIR, 'db.sqlite3')"),
            ("", "'db.sqlite3'"),
        ] {
            let text = format!("{base_dir}\n{engine}  'NAME': {name},\n }}\n}}\n");
            check(
                &[("web/manage.py", ""), ("web/site/settings.py", &text)],
                &["web/db.sqlite3 (web/site/settings.py:5, Django; SQLite, not there yet)"],
            );
        }
    }

    #[test]
    fn a_default_counts_where_the_variable_is_not_set() {
        let text = "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': os.environ.get('DB', 'db.sqlite3'), 'ATOMIC': True}}\n";
        check(&[("settings.py", text)], &["db.sqlite3 (settings.py:1, Django; SQLite, not there yet)"]);
        let text = "module.exports = { connection: { filename: process.env.DB || './app.db' }, migrations: { directory: './m' } };\n";
        check(&[("knexfile.js", text)], &["app.db (knexfile.js:1, Knex; SQLite, not there yet)"]);
        check(&[("knexfile.js", text), (".env", "DB=other.db\n")], &["other.db (knexfile.js:1, Knex, through DB; SQLite, not there yet)"]);
    }

    #[test]
    fn rails_names_its_development_database() {
        let text = "default: &default\n  adapter: sqlite3\n  pool: 5\n\ndevelopment:\n  <<: *default\n  database: storage/development.sqlite3 # ours\n\nproduction:\n  database: prod.sqlite3\n";
        check(&[("config/database.yml", text)], &["storage/development.sqlite3 (config/database.yml:7, Rails; SQLite, not there yet)"]);
        let text = "default:\n  adapter: postgresql\n  username: me\n  password: \"s3cr3t\"\ndevelopment:\n  primary:\n    database: <%= ENV.fetch(\"DB_NAME\") { \"app_dev\" } %>\n";
        check(&[("config/database.yml", text)], &["postgres://me:***@localhost/app_dev (config/database.yml:7, Rails; postgres)"]);
    }

    #[test]
    fn scripts_name_databases() {
        let knex = "module.exports = {\n  // filename: 'old.db'\n  development: { connection: { filename: './dev.sqlite3' } },\n  test: { connection: { filename: path.join(__dirname, 'db', 'test.db') } },\n  production: { connection: process.env.DATABASE_URL },\n};\n";
        check(
            &[("server/knexfile.js", knex)],
            &[
                "server/dev.sqlite3 (server/knexfile.js:3, Knex; SQLite, not there yet)",
                "server/db/test.db (server/knexfile.js:4, Knex; SQLite, not there yet)",
            ],
        );
        let drizzle = "export default defineConfig({\n  dbCredentials: {\n    url: process.env.DB_FILE_NAME!,\n  },\n});\n";
        check(
            &[("drizzle.config.ts", drizzle), (".env", "DB_FILE_NAME=file:local.db\n")],
            &["local.db (drizzle.config.ts:3, Drizzle, through DB_FILE_NAME; SQLite, not there yet)"],
        );
    }

    #[test]
    fn alembic_and_sequelize_name_databases() {
        check(
            &[("alembic.ini", "[alembic]\nsqlalchemy.url = sqlite:///app.db\n")],
            &["app.db (alembic.ini:2, Alembic; SQLite, not there yet)"],
        );
        check(
            &[("alembic.ini", "sqlalchemy.url = sqlite:///%(here)s/app.db\n")],
            &["app.db (alembic.ini:1, Alembic; SQLite, not there yet)"],
        );
        check(&[("alembic.ini", "sqlalchemy.url = driver://user:pass@localhost/dbname\n")], &[]);
        let json = "{\n \"development\": {\n  \"dialect\": \"sqlite\",\n  \"storage\": \"./dev.sqlite\"\n }\n}\n";
        check(&[("config/config.json", json)], &["dev.sqlite (config/config.json:4, Sequelize; SQLite, not there yet)"]);
        let json = "{\"development\": {\"username\": \"me\", \"password\": \"hunter2\", \"database\": \"d\", \"host\": \"h\", \"dialect\": \"mysql\"}}";
        check(&[("config/config.json", json)], &["mysql://me:***@h/d (config/config.json:1, Sequelize; mysql)"]);
    }

    #[test]
    fn database_files_are_told_by_their_header_and_offered_once() {
        check(
            &[
                (".env", "DATABASE_URL=./app.db\n"),
                ("app.db", MAGIC),
                ("data/more.sqlite3", MAGIC),
                ("thumbs.db", "something else"),
                ("node_modules/x/y.db", MAGIC),
                ("a/b/c/deep.db", MAGIC),
            ],
            &["app.db (.env:1, DATABASE_URL; SQLite, 25 bytes)", "data/more.sqlite3 (data/more.sqlite3, SQLite, 25 bytes)"],
        );
    }

    #[test]
    fn a_url_with_two_meanings_offers_what_exists() {
        check(&[(".env", "DATABASE_URL=sqlite:///app.db\n"), ("app.db", MAGIC)], &["app.db (.env:1, DATABASE_URL; SQLite, 25 bytes)"]);
    }

    #[test]
    fn what_is_offered_keeps_its_password_and_can_be_read_again() {
        let root = tempfile::tempdir().expect("a folder");
        fs_err::write(root.path().join(".env"), "DB_CONNECTION=mysql\nDB_DATABASE=d\nDB_USERNAME=me\nDB_PASSWORD='a@b:c/d?'\n")
            .expect("a file");
        let candidates = discover(root.path());
        let url = &candidates.first().expect("one").url;
        let parsed = DatabaseUrl::parse(url, &UrlOrigin::Flag, root.path(), &|_| true).expect("a URL");
        assert_eq!(parsed.server_url().and_then(|server| server.password.as_deref()), Some("a@b:c/d?"));
        assert!(!format!("{candidates:?}").contains("a@b"));
    }

    #[test]
    fn files_of_nonsense_are_passed_over() {
        for text in [
            "",
            "\0\u{fffd}\n",
            "'\"`",
            "url: \"",
            "datasource x {\nurl = \"",
            "development:\n  database:",
            "{\"development\": []}",
            "'NAME':\n'ENGINE': 'sqlite3'",
        ] {
            for name in [
                ".env",
                "schema.prisma",
                "config/database.yml",
                "knexfile.js",
                "drizzle.config.ts",
                "alembic.ini",
                "config/config.json",
                "settings.py",
                "x.db",
            ] {
                check(&[(name, text)], &[]);
            }
        }
        check(&[], &[]);
    }
}
