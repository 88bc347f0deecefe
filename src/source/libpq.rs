//! How to reach a PostgreSQL server: what the URL says, and where it is silent what libpq would take from the environment, the service file
//! and the password file.
//!
//! The rules are libpq's (its pages on connection strings, environment variables, the password file and the service file): the URL, then the
//! service file, then the environment, then the defaults. Where they are left, it is to be as safe or safer:
//! - `allow` is taken as `prefer`. `verify-ca` and `verify-full` without a file of trusted certificates take the system's.
//! - A word that asks for a protection which is not here (`sslcrl`, `require_auth`, `requirepeer`) is refused, not passed over.
//! - Where the password file has different passwords for the hosts of a list, none is sent.
//! - A host that is nowhere named is a socket folder in which there is a socket, else `localhost`.
//!
//! Words of other tools (Prisma, SQLAlchemy, sqlx, pgx, node-postgres, JDBC) are understood where they change how the server is reached, and
//! passed over where they do not. Nothing here reads the environment or a file by itself.

mod password;
mod words;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::words::Settings;
use super::url::encoded;
use super::{ServerKind, ServerUrl, SourceError};

/// What is read of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileText {
    /// Its text.
    pub text: String,
    /// Its Unix permissions; `0o600` where a system has none.
    pub mode: u32,
}

/// Everything that [`connection`] may look at.
pub struct Lookup<'a> {
    /// The environment.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// Reads a file; none where there is none.
    pub read: &'a dyn Fn(&Path) -> Option<FileText>,
    /// The name of the system's user.
    pub user: &'a str,
    /// The user's home folder.
    pub home: Option<&'a Path>,
    /// Says whether a socket is at a path.
    pub socket_exists: &'a dyn Fn(&Path) -> bool,
}

impl fmt::Debug for Lookup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").field("user", &self.user).field("home", &self.home).finish_non_exhaustive()
    }
}

/// Everything that a connection to a PostgreSQL database needs.
#[derive(Clone, PartialEq, Eq)]
pub struct Connection {
    /// Where the server may be, tried in this order.
    pub hosts: Vec<Host>,
    /// The user.
    pub user: String,
    /// The password. Never shown.
    pub password: Option<String>,
    /// The database.
    pub database: String,
    /// Encryption.
    pub tls: Tls,
    /// Command-line options for the server's session (`-c search_path=x`).
    pub options: Option<String>,
    /// How long to wait for one host.
    pub connect_timeout: Option<Duration>,
    /// Whether a server that only reads is passed over.
    pub needs_writable: bool,
    /// The schema whose tables are named without it.
    pub schema: String,
}

/// One place where a server may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name, or the folder of its socket.
    pub name: HostName,
    /// Its address, where the name is not to be looked up.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

/// How a host is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostName {
    /// Over the network.
    Tcp(String),
    /// By a Unix socket in this folder.
    Socket(PathBuf),
}

/// How a connection is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Whether, and what is checked.
    pub mode: TlsMode,
    /// The file of trusted certificates; none for the system's.
    pub root_certificate: Option<PathBuf>,
    /// Files of the client's certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Whether the password exchange is tied to the encryption.
    pub channel_binding: ChannelBinding,
}

/// Whether the exchange of the password is tied to the encrypted connection, so that nobody stands between: `channel_binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server has it.
    Prefer,
    /// Always; another server is refused.
    Require,
}

/// Whether a connection is encrypted, and what is checked: `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// Never.
    Disable,
    /// Where the server has it, unchecked; `allow` is taken as this too.
    Prefer,
    /// Always, unchecked.
    Require,
    /// Always; the certificate's issuer is checked. Against the system's certificates its name is checked too, since anybody has one of those.
    VerifyCa,
    /// Always; the certificate's issuer and name are checked.
    VerifyFull,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({:?}, database {:?})", self.hosts, self.database)
    }
}

/// The folders in which a server's socket is looked for.
const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];
const PORT: u16 = 5432;
const HOSTS_MAX: usize = 64;

/// Finds how a database is reached.
///
/// # Errors
/// [`SourceError::Malformed`] for a word in the URL that is not known, [`SourceError::Setting`] for a value that cannot be used wherever it
/// comes from, [`SourceError::FileNeeded`] for a service or a file that is named and is not there. No message holds a value but names of
/// files and services.
pub fn connection(url: &ServerUrl, lookup: &Lookup<'_>) -> Result<Connection, SourceError> {
    if url.kind != ServerKind::Postgres {
        return Err(SourceError::Unsupported {
            what: "a URL of another server".to_owned(),
            hint: "write `postgres://USER@HOST/DATABASE`".to_owned(),
        });
    }
    let settings = words::gather(url, lookup)?;
    let hosts = hosts(&settings, lookup)?;
    let user = settings.text("user").unwrap_or(lookup.user).to_owned();
    let database = settings.text("dbname").unwrap_or(&user).to_owned();
    let password = match settings.text("password") {
        Some(password) => Some(password.to_owned()),
        None => password::find(&settings, lookup, &hosts, &user, &database)?,
    };
    Ok(Connection {
        hosts,
        password,
        tls: tls(&settings, lookup)?,
        options: settings.text("options").map(str::to_owned),
        connect_timeout: connect_timeout(&settings)?,
        needs_writable: needs_writable(&settings)?,
        schema: schema(&settings),
        user,
        database,
    })
}

/// Returns the identity of the database that a connection reaches: `postgres://host:port/database`, and the schema where it is not `public`.
/// User and password are not part of it.
pub fn place_of(connection: &Connection) -> String {
    let hosts: Vec<String> = connection
        .hosts
        .iter()
        .map(|host| {
            let name = match &host.name {
                HostName::Tcp(name) if name.contains(':') => format!("[{}]", encoded(&name.to_ascii_lowercase(), ":")),
                HostName::Tcp(name) => encoded(&name.to_ascii_lowercase(), ""),
                HostName::Socket(folder) => encoded(&folder.to_string_lossy(), ""),
            };
            format!("{name}:{}", host.port)
        })
        .collect();
    let mut place = format!("postgres://{}/{}", hosts.join(","), encoded(&connection.database, ""));
    if connection.schema != "public" {
        place.push_str("?schema=");
        place.push_str(&encoded(&connection.schema, ""));
    }
    place
}

/// Names another database of the same server in the URL as it was written, password included, so that other tools understand it as they did
/// the first. It is for the environment of a command, and never shown.
pub fn url_of(connection: &Connection, database: &str, original: &ServerUrl) -> String {
    if original.database.is_some() && connection.database == database {
        return original.whole.clone();
    }
    original.with_database(database)
}

fn hosts(settings: &Settings, lookup: &Lookup<'_>) -> Result<Vec<Host>, SourceError> {
    let list = |word: &str| -> Vec<String> {
        settings.text(word).map(|text| text.split(',').map(|part| part.trim().to_owned()).collect()).unwrap_or_default()
    };
    let (names, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
    let count = names.len().max(addresses.len()).max(1);
    if count > HOSTS_MAX {
        return Err(settings.refused("host", &format!("it names more than {HOSTS_MAX} hosts"), "name the ones that are needed"));
    }
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        return Err(settings.refused("hostaddr", "it has not as many parts as `host`", "give one address a host, or none"));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(settings.refused("port", "it has not as many parts as there are hosts", "give one port for all hosts, or one a host"));
    }
    (0..count)
        .map(|at| {
            let port = match ports.get(at).or(ports.first()).map_or("", String::as_str) {
                "" => PORT,
                text => text
                    .parse::<u16>()
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or_else(|| settings.refused("port", "it is no number from 1 to 65535", "write the server's port"))?,
            };
            let address = match addresses.get(at).map_or("", String::as_str) {
                "" => None,
                text => Some(text.parse::<IpAddr>().map_err(|_| {
                    settings.refused("hostaddr", "it is no address in numbers", "write an address such as `192.0.2.7`, or use `host`")
                })?),
            };
            let name = match (names.get(at).map_or("", String::as_str), address) {
                (name, _) if name.starts_with('@') => {
                    return Err(settings.refused("host", "it names a socket without a file", "name the folder of the server's socket"));
                }
                (name, Some(address)) if name.is_empty() || name.starts_with('/') => HostName::Tcp(address.to_string()),
                ("", _) => default_host(port, lookup),
                (name, _) if name.starts_with('/') => HostName::Socket(PathBuf::from(name)),
                (name, _) => HostName::Tcp(name.to_owned()),
            };
            Ok(Host { name, address, port })
        })
        .collect()
}

fn default_host(port: u16, lookup: &Lookup<'_>) -> HostName {
    SOCKET_FOLDERS
        .iter()
        .map(Path::new)
        .find(|folder| (lookup.socket_exists)(&folder.join(format!(".s.PGSQL.{port}"))))
        .map_or_else(|| HostName::Tcp("localhost".to_owned()), |folder| HostName::Socket(folder.to_owned()))
}

fn tls(settings: &Settings, lookup: &Lookup<'_>) -> Result<Tls, SourceError> {
    let exists = |path: &Path| (lookup.read)(path).is_some();
    let in_home = |name: &str| lookup.home.map(|home| home.join(".postgresql").join(name));
    let mut mode = mode(settings)?;
    let verifies = |mode| matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
    let root_certificate = match settings.get("sslrootcert") {
        Some(root) if root.text == "system" => {
            if settings.get("sslmode").is_some() && mode != TlsMode::VerifyFull {
                return Err(settings.refused(
                    "sslmode",
                    "with the system's certificates (`sslrootcert=system`) a weaker check than `verify-full` checks nothing",
                    "write `sslmode=verify-full`",
                ));
            }
            mode = TlsMode::VerifyFull;
            None
        }
        Some(root) => {
            let path = PathBuf::from(&root.text);
            if !exists(&path) && verifies(mode) {
                return Err(SourceError::FileNeeded {
                    path,
                    why: format!("is named by {} and cannot be read", root.place),
                    hint: "correct its path, or use the system's certificates: `sslrootcert=system`".to_owned(),
                });
            }
            exists(&path).then_some(path)
        }
        None => in_home("root.crt").filter(|path| exists(path)),
    };
    // With a file of trusted certificates, libpq checks for `require` what it checks for `verify-ca`.
    if mode == TlsMode::Require && root_certificate.is_some() && !settings.is_unverified {
        mode = TlsMode::VerifyCa;
    }
    let channel_binding = match settings.text("channel_binding") {
        None | Some("prefer") => ChannelBinding::Prefer,
        Some("disable") => ChannelBinding::Disable,
        Some("require") => ChannelBinding::Require,
        Some(_) => return Err(settings.refused("channel_binding", "it is none of its words", "use `disable`, `prefer` or `require`")),
    };
    let client = if mode == TlsMode::Disable { None } else { client(settings, lookup, &in_home)? };
    Ok(Tls { mode, root_certificate: root_certificate.filter(|_| verifies(mode)), client, channel_binding })
}

fn mode(settings: &Settings) -> Result<TlsMode, SourceError> {
    Ok(match settings.text("sslmode") {
        None | Some("prefer" | "allow") => TlsMode::Prefer,
        Some("disable") => TlsMode::Disable,
        Some("require") => TlsMode::Require,
        Some("verify-ca") => TlsMode::VerifyCa,
        Some("verify-full") => TlsMode::VerifyFull,
        Some(_) => {
            return Err(settings.refused(
                "sslmode",
                "it is none of its words",
                "use `disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full`",
            ));
        }
    })
}

/// Finds the client's certificate and key. A certificate that is not there is none, as in libpq; one without its key is an error.
fn client(
    settings: &Settings,
    lookup: &Lookup<'_>,
    in_home: &dyn Fn(&str) -> Option<PathBuf>,
) -> Result<Option<(PathBuf, PathBuf)>, SourceError> {
    let named = |word: &str, default: &str| settings.text(word).map(PathBuf::from).or_else(|| in_home(default));
    if settings.text("sslcertmode") == Some("disable") {
        return Ok(None);
    }
    let Some(certificate) = named("sslcert", "postgresql.crt").filter(|path| (lookup.read)(path).is_some()) else { return Ok(None) };
    let Some(key) = named("sslkey", "postgresql.key") else {
        return Err(settings.refused("sslcert", "there is no key for it", "name the file of its key with `sslkey`"));
    };
    match (lookup.read)(&key) {
        None => Err(SourceError::FileNeeded {
            why: format!("is the key of the certificate `{}`, and cannot be read", certificate.display()),
            path: key,
            hint: "correct the path with `sslkey`, or write `sslcertmode=disable`".to_owned(),
        }),
        // A key of root's may be read by a group.
        Some(file) if file.mode & 0o037 != 0 => Err(SourceError::FileNeeded {
            why: "is a private key that others can read".to_owned(),
            hint: format!("run `chmod 600 {}`", key.display()),
            path: key,
        }),
        Some(_) => Ok(Some((certificate, key))),
    }
}

/// Zero and less is without end, as in libpq.
fn connect_timeout(settings: &Settings) -> Result<Option<Duration>, SourceError> {
    let Some(text) = settings.text("connect_timeout") else { return Ok(None) };
    let seconds: i32 =
        text.trim().parse().map_err(|_| settings.refused("connect_timeout", "it is no number of seconds", "write a whole number"))?;
    Ok(u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs))
}

fn needs_writable(settings: &Settings) -> Result<bool, SourceError> {
    match settings.text("target_session_attrs") {
        None | Some("any") => Ok(false),
        Some("read-write" | "primary") => Ok(true),
        Some("read-only" | "standby" | "prefer-standby") => Err(settings.refused(
            "target_session_attrs",
            "a server that only reads cannot be chosen from a list",
            "name that one server, without `target_session_attrs`",
        )),
        Some(_) => Err(settings.refused("target_session_attrs", "it is none of its words", "use `any`, `read-write` or `primary`")),
    }
}

/// Finds the schema that is meant where none is written: Prisma's word for it, else the first one of a search path.
fn schema(settings: &Settings) -> String {
    if let Some(schema) = settings.text("schema") {
        return schema.to_owned();
    }
    let path = ["currentschema", "search_path", "schema_search_path"].iter().find_map(|word| settings.text(word)).unwrap_or("");
    let first = path.split(',').map(|part| part.trim().trim_matches('"')).find(|part| !part.is_empty() && *part != "$user");
    first.unwrap_or("public").to_owned()
}

#[cfg(test)]
mod tests;
