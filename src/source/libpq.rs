//! How to reach a PostgreSQL server: what the URL says, and where it is silent what libpq would take from the environment, the service file
//! and the password file.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

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
    /// Always; the certificate's issuer is checked.
    VerifyCa,
    /// Always; the certificate's issuer and name are checked.
    VerifyFull,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({:?}, database {:?})", self.hosts, self.database)
    }
}
