//! A private PostgreSQL server for tests, and databases in it.
//!
//! A shell starts the server and waits at a pipe that only this process holds. However this process ends, the pipe ends with it, and the shell
//! stops the server and removes its folder. `DBELAY_TEST_POSTGRES_URL` names a server to use instead, in which databases and roles may be made.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Starts the server whose programs are in `$1`, in the folder `$2` with the settings `$3`, and ends it with the pipe.
const KEEPER: &str = r#"
cd "$2"
if "$1/initdb" -D data -U postgres -A trust -E UTF8 --no-locale --no-sync >log 2>&1 &&
  printf '%s\n' "$3" >>data/postgresql.conf &&
  "$1/pg_ctl" -D data -l log -s -w -t 60 start </dev/null >>log 2>&1
then
  trap '' PIPE
  echo started
  read -r _
  "$1/pg_ctl" -D data -s -m immediate stop
else
  trap '' PIPE
  cat log
fi
cd / && rm -rf "$2"
"#;

/// What makes a server quick whose data nobody needs.
pub const THROWAWAY: &[(&str, &str)] = &[
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    ("max_connections", "100"),
    ("max_prepared_transactions", "4"),
    ("wal_level", "logical"),
];

/// The password of every role that a test makes, for servers that ask.
pub const PASSWORD: &str = "not-to-be-seen";

/// Numbers databases, so that each has a name of its own.
static DATABASES: AtomicUsize = AtomicUsize::new(0);

/// A server.
pub struct Cluster {
    /// The URL of the database `postgres` in it.
    url: String,
    /// The folder of the programs that fit it; none for those in PATH.
    programs: Option<PathBuf>,
    /// The shell that keeps it; none for a server that was there before.
    keeper: Option<Child>,
}

impl Cluster {
    /// Returns the server of this process, started when it is first asked for. None where there is no PostgreSQL, which is said and counted,
    /// and a failure where `CI` is set.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
        static SKIPPED: AtomicUsize = AtomicUsize::new(0);
        let shared = SHARED.get_or_init(|| match std::env::var("DBELAY_TEST_POSTGRES_URL") {
            Ok(url) => Some(Self { url, programs: None, keeper: None }),
            Err(_) => Self::start(THROWAWAY),
        });
        if shared.is_none() {
            let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
            assert!(std::env::var_os("CI").is_none(), "there is no PostgreSQL server in PATH or /usr/lib/postgresql");
            println!("skipped: there is no PostgreSQL server ({count} tests so far)");
        }
        shared.as_ref()
    }

    /// Starts a server with these settings besides the usual ones; none where there are no programs for it.
    pub fn start(settings: &[(&str, &str)]) -> Option<Self> {
        let programs = programs()?;
        let folder = tempfile::Builder::new().prefix("dbelay-pg-").tempdir().unwrap().keep();
        let mut configuration = format!("listen_addresses = ''\nunix_socket_directories = '{}'\n", folder.display());
        for (name, value) in settings {
            configuration.push_str(&format!("{name} = '{value}'\n"));
        }
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "sh"]).arg(&programs).arg(&folder).arg(configuration);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        // The server refuses to run as root.
        if id(&["-u"]) == Some(0) {
            let user =
                ["postgres", "nobody"].into_iter().find(|user| id(&["-u", user]).is_some()).expect("there is a user that is not root");
            let (uid, gid) = (id(&["-u", user]).unwrap(), id(&["-g", user]).unwrap());
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).unwrap();
            command.uid(uid).gid(gid);
        }
        let mut keeper = command.spawn().unwrap();
        let mut output = BufReader::new(keeper.stdout.take().unwrap());
        let mut said = String::new();
        output.read_line(&mut said).unwrap();
        if said != "started\n" {
            output.read_to_string(&mut said).unwrap();
            panic!("the PostgreSQL server cannot be started:\n{said}");
        }
        let url = format!("postgres:///postgres?host={}&user=postgres", encoded(&folder.display().to_string()));
        Some(Self { url, programs: Some(programs), keeper: Some(keeper) })
    }

    /// Makes an empty database with a name of its own.
    #[track_caller]
    pub fn database(&self) -> TestDatabase<'_> {
        self.database_with("")
    }

    /// Makes an empty database, with these words after its name.
    #[track_caller]
    pub fn database_with(&self, words: &str) -> TestDatabase<'_> {
        let name = next_name();
        psql(self, &self.url, &["-c", &format!("CREATE DATABASE {name} {words}")]);
        TestDatabase { cluster: self, name }
    }

    /// Takes a name for a database that is not there yet.
    pub fn database_to_be(&self) -> TestDatabase<'_> {
        TestDatabase { cluster: self, name: next_name() }
    }

    /// Makes sure that the roles with these names are there, which may log in and no more. Roles are the server's, and stay.
    #[track_caller]
    pub fn roles(&self, names: &[&str]) {
        static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for name in names {
            if psql(self, &self.url, &["-c", &format!("SELECT 1 FROM pg_roles WHERE rolname = '{name}'")]).is_empty() {
                psql(self, &self.url, &["-c", &format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{PASSWORD}'")]);
            }
        }
    }

    /// Returns the server's major version.
    pub fn version(&self) -> u32 {
        psql(self, &self.url, &["-c", "SELECT current_setting('server_version_num')::int / 10000"]).trim().parse().unwrap()
    }

    /// A program that fits the server: `pg_dump`.
    pub fn program(&self, name: &str) -> Command {
        let own = self.programs.as_ref().map(|folder| folder.join(name)).filter(|program| program.is_file());
        let mut command = Command::new(own.unwrap_or_else(|| PathBuf::from(name)));
        command.stdin(Stdio::null()).env("PGCLIENTENCODING", "UTF8");
        command
    }

    /// Returns what PATH is to be, so that commands find the programs that fit the server.
    pub fn path(&self) -> std::ffi::OsString {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::join_paths(self.programs.iter().cloned().chain(std::env::split_paths(&path))).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            // This ends the pipe too.
            drop(keeper.wait());
        }
    }
}

/// A database, dropped when the test ends.
pub struct TestDatabase<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl TestDatabase<'_> {
    /// Returns the database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the database's URL.
    pub fn url(&self) -> String {
        let (server, parameters) = self.cluster.url.split_once('?').unwrap_or((&self.cluster.url, ""));
        let (scheme, rest) = server.split_once("://").unwrap();
        let authority = rest.split('/').next().unwrap();
        let url = format!("{scheme}://{authority}/{}?{parameters}", self.name);
        url.trim_end_matches('?').to_owned()
    }

    /// Makes the database, empty, unless it is there.
    #[track_caller]
    pub fn make(&self) {
        if psql(self.cluster, &self.cluster.url, &["-c", &format!("SELECT 1 FROM pg_database WHERE datname = '{}'", self.name)]).is_empty()
        {
            psql(self.cluster, &self.cluster.url, &["-c", &format!("CREATE DATABASE {}", self.name)]);
        }
    }

    /// Returns the URL of another database of the same server, from which this one can be dropped.
    pub fn url_of_server(&self) -> &str {
        &self.cluster.url
    }

    /// Returns the database's URL for another role.
    pub fn url_as(&self, role: &str) -> String {
        let url = self.url();
        let (scheme, rest) = url.split_once("://").unwrap();
        let at = rest.find('/').unwrap();
        let (authority, rest) = rest.split_at(at);
        let host = authority.rsplit('@').next().unwrap();
        let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let is_other = |parameter: &&str| !parameter.starts_with("user=") && !parameter.starts_with("password=");
        let own = [format!("user={role}"), format!("password={PASSWORD}")];
        let parameters: Vec<&str> = parameters
            .split('&')
            .filter(|parameter| !parameter.is_empty())
            .filter(is_other)
            .chain(own.iter().map(String::as_str))
            .collect();
        format!("{scheme}://{host}{path}?{}", parameters.join("&"))
    }

    /// Runs statements; returns the rows that they give, a line each.
    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        psql(self.cluster, &self.url(), &["-c", sql])
    }

    /// Runs statements as another role.
    #[track_caller]
    pub fn psql_as(&self, role: &str, sql: &str) -> String {
        psql(self.cluster, &self.url_as(role), &["-c", sql])
    }

    /// Runs a file of statements, each in a transaction of its own.
    #[track_caller]
    pub fn file(&self, path: &Path) -> String {
        psql(self.cluster, &self.url(), &["-f", path.to_str().unwrap()])
    }

    /// A `psql` on this database, to be run beside others.
    pub fn session(&self) -> Command {
        let mut command = self.cluster.program("psql");
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-At", "-d", &self.url()]);
        command
    }

    /// Returns everything that the database declares, as `pg_dump` writes it.
    #[track_caller]
    pub fn dump(&self) -> String {
        let output = self.cluster.program("pg_dump").args(["--schema-only", "--dbname", &self.url()]).output().unwrap();
        let text = words(output, "pg_dump");
        let is_kept = |line: &&str| !line.is_empty() && !line.starts_with(r"\restrict ") && !line.starts_with(r"\unrestrict ");
        text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect()
    }

    /// Returns a line for each table with the number and digest of its rows, for each sequence and large object, and for what `pg_dump`
    /// leaves out of the schema.
    #[track_caller]
    pub fn checksums(&self) -> String {
        let mut command = self.session();
        command.env("PGOPTIONS", "-c client_min_messages=warning -c search_path= -c statement_timeout=0").arg("-f").arg("-");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), FACTS.as_bytes()).unwrap();
        words(child.wait_with_output().unwrap(), "psql")
    }

    /// Returns [`Self::dump`] and [`Self::checksums`] together.
    #[track_caller]
    pub fn state(&self) -> String {
        self.dump() + &self.checksums()
    }
}

impl Drop for TestDatabase<'_> {
    fn drop(&mut self) {
        let mut command = self.cluster.program("psql");
        command.args(["-X", "-q", "-d", &self.cluster.url, "-c", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)]);
        drop(command.output());
    }
}

/// Asserts that a database's state is what it was.
#[track_caller]
pub fn assert_same(expected: &str, actual: &str, case: &str) {
    if expected != actual {
        let difference = similar::TextDiff::from_lines(expected, actual);
        panic!("{case}: the state is not what it was\n{}", difference.unified_diff().context_radius(2));
    }
}

/// What [`TestDatabase::checksums`] asks. Each query writes the queries that are then asked.
const FACTS: &str = r#"
SELECT format('SELECT %L, count(*), md5(string_agg(digest, '''' ORDER BY digest COLLATE "C")) FROM (SELECT md5("this row"::text) AS digest FROM ONLY %I.%I AS "this row") AS rows',
  'rows ' || nspname || '.' || relname, nspname, relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
  WHERE (relkind = 'r' OR relkind = 'm' AND relispopulated) AND nspname !~ '^pg_' AND nspname <> 'information_schema'
  ORDER BY nspname COLLATE "C", relname COLLATE "C" \gexec
SELECT format('SELECT %L, last_value, is_called FROM %I.%I', 'sequence ' || nspname || '.' || relname, nspname, relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
  WHERE relkind = 'S' AND nspname !~ '^pg_' ORDER BY nspname COLLATE "C", relname COLLATE "C" \gexec
SELECT 'large object', oid, md5(lo_get(oid)) FROM pg_catalog.pg_largeobject_metadata ORDER BY oid;
SELECT 'extension', extname, extversion FROM pg_catalog.pg_extension ORDER BY extname;
SELECT 'index', indexrelid::regclass, indisvalid, indisready FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace WHERE nspname !~ '^pg_' ORDER BY indexrelid::regclass::text COLLATE "C";
SELECT 'trigger', tgrelid::regclass, tgfoid::regproc, tgenabled, count(*) FROM pg_catalog.pg_trigger WHERE tgisinternal
  GROUP BY tgrelid, tgfoid, tgenabled ORDER BY tgrelid::regclass::text COLLATE "C", tgfoid, tgenabled;
SELECT 'setting', setrole::regrole, unnest(setconfig) FROM pg_catalog.pg_db_role_setting s
  JOIN pg_catalog.pg_database d ON d.oid = setdatabase WHERE datname = current_database() ORDER BY 2, 3;
SELECT 'database', pg_encoding_to_char(encoding), datacl, shobj_description(oid, 'pg_database')
  FROM pg_catalog.pg_database WHERE datname = current_database();
"#;

/// Takes a name for a database.
fn next_name() -> String {
    format!("dbelay_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed))
}

/// Finds the folder of the server's programs: in PATH, then the newest where Debian and its like have them.
fn programs() -> Option<PathBuf> {
    let is_whole = |folder: &PathBuf| ["initdb", "pg_ctl", "postgres"].iter().all(|name| folder.join(name).is_file());
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(folder) = std::env::split_paths(&path).find(is_whole) {
        // In PATH there may be links to some of them.
        let real = folder.join("initdb").canonicalize().unwrap().parent().map(Path::to_owned).filter(is_whole);
        return Some(real.unwrap_or(folder));
    }
    let version = |folder: &PathBuf| folder.file_name()?.to_str()?.parse::<u32>().ok();
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .map(|entry| entry.unwrap().path())
        .filter(|folder| version(folder).is_some())
        .collect();
    versions.sort_by_key(version);
    versions.into_iter().rev().map(|folder| folder.join("bin")).find(is_whole)
}

/// Asks `id` for a number.
fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

#[track_caller]
fn psql(cluster: &Cluster, url: &str, arguments: &[&str]) -> String {
    let mut command = cluster.program("psql");
    command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-At", "-d", url]).args(arguments);
    words(command.output().unwrap(), &format!("psql {}", arguments.join(" ")))
}

#[track_caller]
fn words(output: Output, what: &str) -> String {
    assert!(output.status.success(), "{what} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("output is UTF-8")
}

/// Writes text so that it can stand in a URL.
fn encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.bytes().map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
