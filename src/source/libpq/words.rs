//! The words of a connection: which there are, and what the URL, the service file and the environment say for them, in this order.
//!
//! An empty value is none. Words are compared without regard to case, since tools differ in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::url::safe_word;
use super::super::{ServerUrl, SourceError};
use super::Lookup;

/// Words that are understood, and the variable that stands for each; empty where there is none.
const WORDS: [(&str, &str); 29] = [
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("dbname", "PGDATABASE"),
    ("service", "PGSERVICE"),
    ("servicefile", "PGSERVICEFILE"),
    ("passfile", "PGPASSFILE"),
    ("options", "PGOPTIONS"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslcertmode", "PGSSLCERTMODE"),
    ("gssencmode", "PGGSSENCMODE"),
    ("require_auth", "PGREQUIREAUTH"),
    ("requirepeer", "PGREQUIREPEER"),
    ("sslcrl", "PGSSLCRL"),
    ("sslcrldir", "PGSSLCRLDIR"),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    ("schema", ""),
    ("currentschema", ""),
    ("search_path", ""),
    ("schema_search_path", ""),
];

/// Words that only the URL and the service file have, and that ask for what is not here, like some of the words above: the values that ask
/// for nothing, and what to do about the others.
const REFUSED: [(&str, &[&str], &str); 13] = [
    ("replication", &["false", "off", "no", "0"], "remove it; it is for programs that receive a server's log"),
    ("gssencmode", &["disable", "prefer"], "encrypt with `sslmode=require` instead"),
    ("require_auth", &[], "remove it; `channel_binding=require` allows nothing but SCRAM"),
    ("requirepeer", &[], "remove it; who runs the server is not checked"),
    ("sslcrl", &[], "remove it; revoked certificates are not looked up"),
    ("sslcrldir", &[], "remove it; revoked certificates are not looked up"),
    ("ssl_min_protocol_version", &["TLSv1", "TLSv1.1", "TLSv1.2"], "remove it; TLS 1.2 and 1.3 are what is spoken"),
    ("ssl_max_protocol_version", &["TLSv1.3"], "remove it; TLS 1.2 and 1.3 are what is spoken"),
    ("sslpassword", &[], "write the key to a file without a passphrase, and name it with `sslkey`"),
    ("sslidentity", &[], "write certificate and key to two files, and name them with `sslcert` and `sslkey`"),
    ("scram_client_key", &[], "give the password instead"),
    ("scram_server_key", &[], "give the password instead"),
    ("oauth_issuer", &[], "give a password instead"),
];

/// Words that do not change how the server is reached.
const IDLE: [&str; 80] = [
    // libpq.
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "gssdelegation",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "sslcompression",
    "sslkeylogfile",
    "sslnegotiation",
    "sslsni",
    "tcp_user_timeout",
    "tty",
    // Prisma.
    "connection_limit",
    "max_connection_lifetime",
    "max_idle_connection_lifetime",
    "pgbouncer",
    "pool_timeout",
    "single_use_connections",
    "socket_timeout",
    "statement_cache_size",
    // sqlx, SQLAlchemy, psycopg and asyncpg.
    "async_fallback",
    "command_timeout",
    "max_cached_statement_lifetime",
    "prepare_threshold",
    "prepared_statement_cache_size",
    "statement-cache-capacity",
    // Go.
    "binary_parameters",
    "default_query_exec_mode",
    "description_cache_capacity",
    "disable_prepared_binary_result",
    "prefer_simple_protocol",
    "statement_cache_capacity",
    "statement_cache_mode",
    // Rails, Django, Ecto, node.
    "adapter",
    "advisory_locks",
    "allow_exit_on_idle",
    "charset",
    "checkout_timeout",
    "conn_health_checks",
    "conn_max_age",
    "connectiontimeoutmillis",
    "encoding",
    "fetch_types",
    "idle_timeout",
    "idletimeoutmillis",
    "keepalive",
    "max",
    "max_connections",
    "max_lifetime",
    "min",
    "min_connections",
    "min_messages",
    "pool",
    "pool_size",
    "prepare",
    "prepared_statements",
    "query_timeout",
    "reaping_frequency",
    "supa",
    "timeout",
    "uselibpqcompat",
    "workaround",
    // JDBC.
    "applicationname",
    "logintimeout",
    "preparethreshold",
    "rewritebatchedinserts",
    "sockettimeout",
    "stringtype",
    "tcpkeepalive",
    // Settings of the session, which dbelay's own session sets itself.
    "datestyle",
    "lock_timeout",
    "statement_timeout",
    "timezone",
];

/// Words that say that a URL is Prisma's, in which `sslcert` is the certificate that is trusted.
const PRISMA: [&str; 7] =
    ["schema", "connection_limit", "pool_timeout", "pgbouncer", "sslaccept", "socket_timeout", "statement_cache_size"];

/// The longest service file or password file that is read.
const LINES_MAX: usize = 10_000;

/// Folders in which a service file for all users may be.
const SYSTEM_FOLDERS: [&str; 3] = ["/etc/postgresql-common", "/etc/sysconfig/pgsql", "/usr/local/pgsql/etc"];

/// A value, and where it was written.
pub(super) struct Setting {
    /// The value.
    pub text: String,
    /// The place in words, without the value: `` `PGSSLMODE` in the environment ``.
    pub place: String,
}

/// What is said, by word.
#[derive(Default)]
pub(super) struct Settings {
    by_word: BTreeMap<&'static str, Setting>,
    /// Whether the URL says that the server's certificate is not to be checked.
    pub is_unverified: bool,
}

impl Settings {
    /// Returns what is said for a word.
    pub fn get(&self, word: &str) -> Option<&Setting> {
        self.by_word.get(word)
    }

    /// Returns the value of a word.
    pub fn text(&self, word: &str) -> Option<&str> {
        self.get(word).map(|setting| setting.text.as_str())
    }

    /// Says why the value of a word cannot be used.
    pub fn refused(&self, word: &str, why: &str, hint: &str) -> SourceError {
        let setting = self.get(word).map_or_else(|| format!("`{word}`"), |setting| setting.place.clone());
        SourceError::Setting { setting, why: why.to_owned(), hint: hint.to_owned() }
    }

    /// Adds a value where there is none yet.
    fn offer(&mut self, word: &'static str, text: &str, place: impl FnOnce() -> String) {
        if !text.is_empty() && !self.by_word.contains_key(word) {
            self.by_word.insert(word, Setting { text: text.to_owned(), place: place() });
        }
    }
}

/// Gathers what is said.
///
/// # Errors
/// Where a word is not known, asks for what is not here, or a service that is named is nowhere.
pub(super) fn gather(url: &ServerUrl, lookup: &Lookup<'_>) -> Result<Settings, SourceError> {
    let mut settings = Settings::default();
    read_url(&mut settings, url)?;
    read_service(&mut settings, lookup)?;
    for (word, variable) in WORDS {
        if !variable.is_empty()
            && let Some(text) = (lookup.environment)(variable)
        {
            settings.offer(word, &text, || format!("`{variable}` in the environment"));
        }
    }
    for (word, harmless, hint) in REFUSED {
        if let Some(text) = settings.text(word)
            && !harmless.iter().any(|value| value.eq_ignore_ascii_case(text))
        {
            return Err(settings.refused(word, "dbelay does not do this", hint));
        }
    }
    Ok(settings)
}

fn read_url(settings: &mut Settings, url: &ServerUrl) -> Result<(), SourceError> {
    let in_url = |word: &str| format!("`{}` in the URL", safe_word(word));
    // The last of two counts, as in libpq.
    for (written, value) in url.query.iter().rev() {
        let lower = written.to_ascii_lowercase();
        let place = || in_url(written);
        let word = match lower.as_str() {
            "ssl-mode" => "sslmode",
            "ssl-root-cert" | "ssl-ca" => "sslrootcert",
            "ssl-cert" => "sslcert",
            "ssl-key" => "sslkey",
            "tls" => "ssl",
            other => other,
        };
        if value.is_empty() {
            continue;
        }
        match word {
            // These are parts of the URL, below.
            "host" | "user" | "password" | "dbname" => {}
            "ssl" | "sslaccept" => {}
            "sslmode" if value == "no-verify" => {
                settings.is_unverified = true;
                settings.offer("sslmode", "require", place);
            }
            _ => {
                if let Some(word) = known(word) {
                    settings.offer(word, value, place);
                } else if !IDLE.contains(&word) && !word.starts_with("x-") && !word.starts_with("pool_") {
                    return Err(SourceError::Malformed {
                        kind: "PostgreSQL",
                        why: format!("`{}` after the `?` is not known", safe_word(written)),
                        hint: "correct its spelling, or remove it for dbelay (`--db`, or `database` in `dbelay.toml`)".to_owned(),
                    });
                }
            }
        }
    }
    let spoken = |word: &str| url.query.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(word)).map(|(_, value)| value.as_str());
    match spoken("ssl").or(spoken("tls")).map(str::to_ascii_lowercase).as_deref() {
        None | Some("") => {}
        Some("true" | "1" | "yes" | "on") => settings.offer("sslmode", "require", || in_url("ssl")),
        Some("false" | "0" | "no" | "off") => settings.offer("sslmode", "disable", || in_url("ssl")),
        Some("no-verify") => {
            settings.is_unverified = true;
            settings.offer("sslmode", "require", || in_url("ssl"));
        }
        Some(mode) => settings.offer("sslmode", mode, || in_url("ssl")),
    }
    match spoken("sslaccept") {
        None | Some("") => {}
        Some("accept_invalid_certs") => settings.is_unverified = true,
        Some("strict") if settings.text("sslmode") != Some("disable") => {
            settings.by_word.insert("sslmode", Setting { text: "verify-full".to_owned(), place: in_url("sslaccept") });
        }
        Some("strict") => {}
        Some(_) => {
            return Err(SourceError::Setting {
                setting: in_url("sslaccept"),
                why: "it is none of its words".to_owned(),
                hint: "use `strict` or `accept_invalid_certs`".to_owned(),
            });
        }
    }
    let is_prisma = url.query.iter().any(|(key, _)| PRISMA.contains(&key.as_str()));
    if is_prisma
        && !settings.by_word.contains_key("sslkey")
        && let Some(certificate) = settings.by_word.remove("sslcert")
    {
        settings.by_word.entry("sslrootcert").or_insert(certificate);
    }
    read_authority(settings, url)?;
    let parts: [(&'static str, Option<&String>); 3] =
        [("user", url.user.as_ref()), ("password", url.password.as_ref()), ("dbname", url.database.as_ref())];
    for (word, text) in parts {
        settings.offer(word, text.map_or("", String::as_str), || in_url(word));
    }
    Ok(())
}

/// Reads hosts and ports, which the URL has before its path or in its query.
fn read_authority(settings: &mut Settings, url: &ServerUrl) -> Result<(), SourceError> {
    let place = || "the host in the URL".to_owned();
    if let Some(port) = url.port {
        settings.offer("port", &port.to_string(), || "the port in the URL".to_owned());
    }
    let Some(host) = &url.host else { return Ok(()) };
    if url.query.iter().any(|(key, value)| key == "host" && !value.is_empty()) {
        settings.offer("host", host, place);
        return Ok(());
    }
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for part in host.split(',') {
        let (name, port) = match part.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((name, port)) => (name, port.strip_prefix(':').unwrap_or(port)),
            None => part.rsplit_once(':').filter(|(name, _)| !name.contains(':')).unwrap_or((part, "")),
        };
        if !port.chars().all(|c| c.is_ascii_digit()) {
            return Err(SourceError::Malformed {
                kind: "PostgreSQL",
                why: "a port in the list of hosts is no number".to_owned(),
                hint: "write `postgres://USER@HOST1:PORT1,HOST2:PORT2/DATABASE`".to_owned(),
            });
        }
        names.push(name);
        ports.push(port);
    }
    settings.offer("host", &names.join(","), place);
    if ports.iter().any(|port| !port.is_empty()) {
        settings.offer("port", &ports.join(","), || "the port in the URL".to_owned());
    }
    Ok(())
}

/// Adds what the service file says for the service that is named, if one is.
fn read_service(settings: &mut Settings, lookup: &Lookup<'_>) -> Result<(), SourceError> {
    let named = |word: &str, variable: &str| {
        let written = settings.text(word).map(str::to_owned);
        written.or_else(|| (lookup.environment)(variable).filter(|text| !text.is_empty()))
    };
    let Some(service) = named("service", "PGSERVICE") else { return Ok(()) };
    let own = named("servicefile", "PGSERVICEFILE").map(PathBuf::from);
    let is_named = own.is_some();
    let own = own.or_else(|| lookup.home.map(|home| home.join(".pg_service.conf")));
    let folders = match (lookup.environment)("PGSYSCONFDIR").filter(|text| !text.is_empty()) {
        Some(folder) => vec![PathBuf::from(folder)],
        None => SYSTEM_FOLDERS.iter().map(PathBuf::from).collect(),
    };
    if let Some(path) = &own
        && is_named
        && (lookup.read)(path).is_none()
    {
        return Err(SourceError::FileNeeded {
            path: path.clone(),
            why: "is named as the service file and cannot be read".to_owned(),
            hint: "correct its path in `PGSERVICEFILE`, or remove it".to_owned(),
        });
    }
    let files = own.iter().cloned().chain(folders.into_iter().map(|folder| folder.join("pg_service.conf")));
    for path in files {
        if let Some(file) = (lookup.read)(&path)
            && read_service_file(settings, &file.text, &service, &path)?
        {
            return Ok(());
        }
    }
    Err(SourceError::FileNeeded {
        path: own.unwrap_or_else(|| PathBuf::from("pg_service.conf")),
        why: format!("does not define the service `{}`, and no other service file does", safe_word(&service)),
        hint: format!("add a section `[{}]` to it, or name the server in the URL", safe_word(&service)),
    })
}

/// Reads one service file. Returns whether the service is in it.
fn read_service_file(settings: &mut Settings, text: &str, service: &str, path: &Path) -> Result<bool, SourceError> {
    let mut is_inside = false;
    for (at, line) in text.lines().take(LINES_MAX).enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            if is_inside {
                return Ok(true);
            }
            is_inside = rest.strip_prefix(service).is_some_and(|rest| rest.starts_with(']'));
            continue;
        }
        if !is_inside {
            continue;
        }
        let wrong = |why: &str| SourceError::FileNeeded {
            path: path.to_owned(),
            why: format!("has a line {} that cannot be read: {why}", at + 1),
            hint: "write `WORD=VALUE` with a word of libpq".to_owned(),
        };
        let (written, value) = line.split_once('=').ok_or_else(|| wrong("there is no `=`"))?;
        let written = written.trim();
        let place = || format!("`{written}` in line {} of `{}`", at + 1, path.display());
        match known(written) {
            Some("service" | "servicefile") => return Err(wrong("a service cannot name another")),
            Some("schema" | "currentschema" | "search_path" | "schema_search_path") | None if !IDLE.contains(&written) => {
                return Err(wrong(&format!("`{}` is not known", safe_word(written))));
            }
            Some(word) => settings.offer(word, value.trim(), place),
            None => {}
        }
    }
    Ok(is_inside)
}

/// Finds a word that is understood or refused, whatever its case.
fn known(word: &str) -> Option<&'static str> {
    let words = WORDS.iter().map(|(word, _)| *word).chain(REFUSED.iter().map(|(word, ..)| *word));
    words.into_iter().find(|known| known.eq_ignore_ascii_case(word))
}
