//! Opening a connection.
//!
//! The hosts are tried in order. One that cannot be reached, or is not ready yet, leads to the next; one that answers with a refusal ends it,
//! as in libpq. A Unix socket is never encrypted. With `prefer`, a server that has no encryption, or with which it fails, or that refuses
//! encrypted connections, is reached without.

use std::error::Error as _;
use std::time::Duration;

use tokio_postgres::config::{self, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{CancelToken, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tls;
use crate::engine::EngineError;
use crate::source::libpq::{ChannelBinding, Connection, Host, HostName, TlsMode, place_of};

/// An open connection.
pub struct Session {
    /// Sends statements. The connection ends when it is dropped.
    pub client: Client,
    /// Stops the statement that runs.
    pub cancel: Canceller,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// Stops what a connection's server does, over a connection of its own with the same encryption.
#[derive(Clone)]
pub struct Canceller {
    token: CancelToken,
    tls: MakeRustlsConnect,
    timeout: Option<Duration>,
}

/// How long a request to stop may take where no time is set.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

impl Canceller {
    /// Asks the server to stop the statement that runs, which then fails with `57014`. Where there is none, or the server cannot be reached,
    /// nothing happens.
    pub async fn cancel(&self) {
        let request = self.token.cancel_query(self.tls.clone());
        // The server says neither way whether it stopped anything.
        let _ = tokio::time::timeout(self.timeout.unwrap_or(CANCEL_TIMEOUT), request).await;
    }
}

impl std::fmt::Debug for Canceller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canceller").finish_non_exhaustive()
    }
}

/// Connects to the first host that answers, and drives the connection on the current runtime, which must have I/O and time. What the server
/// notes is dropped. A retry is safe.
///
/// # Errors
/// [`EngineError::Missing`] where the server has no such database, else [`EngineError::Unreadable`] with the words of the server or the
/// system. Neither holds a password.
pub async fn connect(connection: &Connection, application: &str) -> Result<Session, EngineError> {
    let place = place_of(connection);
    let mut reasons = Vec::new();
    for host in &connection.hosts {
        match connect_host(connection, host, application).await {
            Ok(session) => return Ok(session),
            Err(Failure::NoDatabase) => return Err(EngineError::Missing(place)),
            Err(Failure::Refused(reason)) => {
                reasons.push(named(connection, host, reason));
                break;
            }
            Err(Failure::Unreached(reason)) => reasons.push(named(connection, host, reason)),
        }
    }
    let reason = if reasons.is_empty() { "it has no host".to_owned() } else { reasons.join("; ") };
    Err(EngineError::Unreadable { place, reason })
}

/// Says which of several hosts a reason is about.
fn named(connection: &Connection, host: &Host, reason: String) -> String {
    if connection.hosts.len() == 1 {
        return reason;
    }
    match &host.name {
        HostName::Tcp(name) => format!("{name}, port {}: {reason}", host.port),
        HostName::Socket(folder) => format!("{}, port {}: {reason}", folder.display(), host.port),
    }
}

/// Why a host gave no connection.
#[derive(Debug)]
enum Failure {
    /// Another host may do.
    Unreached(String),
    /// The server answered, and no other is asked.
    Refused(String),
    /// The server has no such database.
    NoDatabase,
}

async fn connect_host(connection: &Connection, host: &Host, application: &str) -> Result<Session, Failure> {
    let attempt = try_modes(connection, host, application);
    match connection.connect_timeout {
        None => attempt.await,
        Some(timeout) => tokio::time::timeout(timeout, attempt)
            .await
            .unwrap_or_else(|_| Err(Failure::Unreached(format!("no connection within {} s", timeout.as_secs())))),
    }
}

async fn try_modes(connection: &Connection, host: &Host, application: &str) -> Result<Session, Failure> {
    let wanted = match (&host.name, connection.tls.mode) {
        (HostName::Socket(_), _) | (_, TlsMode::Disable) => SslMode::Disable,
        (_, TlsMode::Prefer) => SslMode::Prefer,
        (_, TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull) => SslMode::Require,
    };
    // What the encryption lacks concerns every host.
    let connector = if wanted == SslMode::Disable { tls::unchecked() } else { tls::connector(&connection.tls) };
    let connector = connector.map_err(Failure::Refused)?;
    let mut config = config(connection, host, application).map_err(Failure::Unreached)?;
    config.ssl_mode(wanted);
    let first = match open(&config, &connector, connection.connect_timeout).await {
        Ok(session) => return Ok(session),
        Err(error) => error,
    };
    let may_be_plain = wanted == SslMode::Prefer && connection.tls.channel_binding != ChannelBinding::Require;
    if may_be_plain && (is_tls(&first) || first.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)) {
        config.ssl_mode(SslMode::Disable);
        if let Ok(session) = open(&config, &connector, connection.connect_timeout).await {
            return Ok(session);
        }
    }
    Err(failure(&first, connection))
}

async fn open(config: &Config, tls: &MakeRustlsConnect, timeout: Option<Duration>) -> Result<Session, tokio_postgres::Error> {
    let (client, driver) = config.connect(tls.clone()).await?;
    tokio::spawn(async move {
        // Its end is seen by whoever uses the client.
        let _ = driver.await;
    });
    let cancel = Canceller { token: client.cancel_token(), tls: tls.clone(), timeout };
    Ok(Session { client, cancel })
}

fn config(connection: &Connection, host: &Host, application: &str) -> Result<Config, String> {
    let mut config = Config::new();
    match &host.name {
        HostName::Tcp(name) => {
            config.host(name);
            if let Some(address) = host.address {
                config.hostaddr(address);
            }
        }
        #[cfg(unix)]
        HostName::Socket(folder) => {
            config.host_path(folder);
        }
        #[cfg(not(unix))]
        HostName::Socket(folder) => return Err(format!("this system has no socket in `{}`", folder.display())),
    }
    config.port(host.port).user(&connection.user).dbname(&connection.database).application_name(application);
    if let Some(password) = &connection.password {
        config.password(password);
    }
    if let Some(options) = &connection.options {
        config.options(options);
    }
    if connection.needs_writable {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    config.channel_binding(match connection.tls.channel_binding {
        ChannelBinding::Disable => config::ChannelBinding::Disable,
        ChannelBinding::Prefer => config::ChannelBinding::Prefer,
        ChannelBinding::Require => config::ChannelBinding::Require,
    });
    Ok(config)
}

fn failure(error: &tokio_postgres::Error, connection: &Connection) -> Failure {
    let Some(answer) = error.as_db_error() else {
        let reason = reason(error);
        return if reason.contains("password missing") {
            let hint = "the server asks for a password; write it into the URL, `PGPASSWORD` or the password file (mode 0600)";
            Failure::Refused(hint.to_owned())
        } else if is_tls(error) {
            Failure::Unreached(format!("no encrypted connection: {reason}"))
        } else {
            Failure::Unreached(reason)
        };
    };
    let code = answer.code();
    if *code == SqlState::INVALID_CATALOG_NAME {
        return Failure::NoDatabase;
    }
    let mut words = answer.message().to_owned();
    for more in [answer.detail(), answer.hint()].into_iter().flatten() {
        words.push_str("; ");
        words.push_str(more);
    }
    // No server repeats a password, but what stands between might.
    if let Some(password) = connection.password.as_deref().filter(|password| password.len() > 3) {
        words = words.replace(password, "***");
    }
    if *code == SqlState::CANNOT_CONNECT_NOW { Failure::Unreached(words) } else { Failure::Refused(words) }
}

/// Returns the innermost words, which say what happened; the outer ones only when.
fn reason(error: &tokio_postgres::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    // A chain of causes is short.
    for _ in 0..16 {
        let Some(inner) = source else { break };
        let wrapped = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(tls) = wrapped.and_then(|wrapped| wrapped.downcast_ref::<rustls::Error>()) {
            return tls::words(tls);
        }
        words = inner.to_string();
        source = inner.source();
    }
    words
}

/// Tells whether encryption failed, and not the server or the way to it.
fn is_tls(error: &tokio_postgres::Error) -> bool {
    // The kind of an error is private to the driver, its words are not.
    error.to_string().starts_with("error performing TLS handshake")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::libpq::Tls;

    fn try_hosts(hosts: Vec<Host>, connect_timeout: Option<Duration>) -> String {
        let connection = Connection {
            hosts,
            user: "me".to_owned(),
            password: Some("hunter2".to_owned()),
            database: "app".to_owned(),
            tls: Tls { mode: TlsMode::Prefer, root_certificate: None, client: None, channel_binding: ChannelBinding::Prefer },
            options: None,
            connect_timeout,
            needs_writable: false,
            schema: "public".to_owned(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        match runtime.block_on(connect(&connection, "dbelay")) {
            Ok(_) => panic!("there is no server"),
            Err(error) => error.to_string(),
        }
    }

    fn host(name: &str, port: u16) -> Host {
        let name = if name.starts_with('/') { HostName::Socket(name.into()) } else { HostName::Tcp(name.to_owned()) };
        Host { name, address: None, port }
    }

    #[test]
    fn each_host_that_cannot_be_reached_is_named_with_its_reason() {
        let error = try_hosts(vec![host("/nowhere", 5432), host("127.0.0.1", 1)], None);
        assert!(error.starts_with("`postgres://%2Fnowhere:5432,127.0.0.1:1/app` cannot be opened: /nowhere, port 5432: "), "{error}");
        assert!(error.contains("; 127.0.0.1, port 1: ") && error.contains("refused"), "{error}");
    }

    #[test]
    fn a_server_that_does_not_answer_is_given_up_in_time() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = silent.local_addr().expect("an address").port();
        let error = try_hosts(vec![host("127.0.0.1", port)], Some(Duration::from_millis(20)));
        assert!(error.contains("no connection within"), "{error}");
    }
}
