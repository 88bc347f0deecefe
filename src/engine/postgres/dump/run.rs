//! Running `pg_dump`.
//!
//! How to reach the server goes by the child's environment alone: a command line can be read by everybody on the machine. What the parent's environment says of
//! PostgreSQL has been read already, and does not reach the child.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::engine::EngineError;
use crate::source::libpq::{Connection, Host, HostName, TlsMode};

/// What `pg_dump`, its wrappers and libpq read from the environment.
const VARIABLES: &[&str] = &[
    "PGAPPNAME",
    "PGCHANNELBINDING",
    "PGCLIENTENCODING",
    "PGCLUSTER",
    "PGCONNECT_TIMEOUT",
    "PGDATABASE",
    "PGDATESTYLE",
    "PGGEQO",
    "PGGSSDELEGATION",
    "PGGSSENCMODE",
    "PGGSSLIB",
    "PGHOST",
    "PGHOSTADDR",
    "PGKRBSRVNAME",
    "PGLOADBALANCEHOSTS",
    "PGMAXPROTOCOLVERSION",
    "PGMINPROTOCOLVERSION",
    "PGOPTIONS",
    "PGPASSFILE",
    "PGPASSWORD",
    "PGPORT",
    "PGREALM",
    "PGREQUIREAUTH",
    "PGREQUIREPEER",
    "PGREQUIRESSL",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGSSLCERT",
    "PGSSLCERTMODE",
    "PGSSLCOMPRESSION",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLKEY",
    "PGSSLMAXPROTOCOLVERSION",
    "PGSSLMINPROTOCOLVERSION",
    "PGSSLMODE",
    "PGSSLNEGOTIATION",
    "PGSSLROOTCERT",
    "PGSSLSNI",
    "PGSYSCONFDIR",
    "PGTARGETSESSIONATTRS",
    "PGTZ",
    "PGUSER",
    "PG_COLOR",
    "PG_COLORS",
];

/// Where systems keep the certificates that they trust, for a libpq that cannot ask them.
const SYSTEM_CERTIFICATES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

/// What is being done, for errors.
const DOING: &str = "reading the schema with pg_dump";

/// Returns the text of the database's DDL, as [`super::entries`] reads it; of the state of an exported snapshot, where one is given.
///
/// # Errors
/// [`EngineError::Statement`] with the program's own words; [`EngineError::Locked`] where others held a table for longer than the wait. A retry
/// is safe.
pub fn run(program: &Path, connection: &Connection, snapshot: Option<&str>, lock_ms: u64) -> Result<String, EngineError> {
    let text = output(command(program, connection, snapshot, lock_ms, None), lock_ms)?;
    // Where the database has such strings off, the dump is written in them. The option is no default, since not every pooler lets it pass.
    if text.lines().any(|line| line == "SET standard_conforming_strings = off;") {
        return output(command(program, connection, snapshot, lock_ms, Some("-c standard_conforming_strings=on")), lock_ms);
    }
    Ok(text)
}

fn command(program: &Path, connection: &Connection, snapshot: Option<&str>, lock_ms: u64, option: Option<&str>) -> Command {
    let mut command = Command::new(program);
    command.args(["--schema-only", "--no-owner", "--no-privileges", "--no-comments", "--no-security-labels", "--verbose", "--no-password"]);
    command.arg("--encoding=UTF8").arg(format!("--lock-wait-timeout={lock_ms}"));
    if let Some(snapshot) = snapshot {
        command.arg(format!("--snapshot={snapshot}"));
    }
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command.envs(environment(connection, option)).stdin(Stdio::null());
    command
}

/// Returns the variables that stand for a connection.
fn environment(connection: &Connection, option: Option<&str>) -> Vec<(&'static str, String)> {
    let hosts = &connection.hosts;
    let list = |part: &dyn Fn(&Host) -> String| hosts.iter().map(part).collect::<Vec<_>>().join(",");
    let mut variables = vec![
        // Its words are looked at, and constants are to be written in the same way everywhere.
        ("LC_ALL", "C".to_owned()),
        ("PGTZ", "UTC".to_owned()),
        ("PGAPPNAME", "dbelay".to_owned()),
        ("PGGSSENCMODE", "disable".to_owned()),
        ("PGUSER", connection.user.clone()),
        ("PGDATABASE", connection.database.clone()),
        ("PGSSLMODE", tls_word(connection.tls.mode).to_owned()),
    ];
    if !hosts.is_empty() {
        let name = |host: &Host| match &host.name {
            HostName::Tcp(name) => name.clone(),
            HostName::Socket(folder) => folder.to_string_lossy().into_owned(),
        };
        variables.push(("PGHOST", list(&name)));
        variables.push(("PGPORT", list(&|host| host.port.to_string())));
    }
    if hosts.iter().any(|host| host.address.is_some()) {
        variables.push(("PGHOSTADDR", list(&|host| host.address.map(|address| address.to_string()).unwrap_or_default())));
    }
    variables.extend(connection.password.clone().map(|password| ("PGPASSWORD", password)));
    let options: Vec<_> = connection.options.as_deref().into_iter().chain(option).collect();
    if !options.is_empty() {
        variables.push(("PGOPTIONS", options.join(" ")));
    }
    variables.extend(root_certificate(connection).map(|path| ("PGSSLROOTCERT", path)));
    if let Some((certificate, key)) = &connection.tls.client {
        variables.push(("PGSSLCERT", certificate.to_string_lossy().into_owned()));
        variables.push(("PGSSLKEY", key.to_string_lossy().into_owned()));
    }
    // Zero would be no limit.
    variables.extend(connection.connect_timeout.map(|wait| ("PGCONNECT_TIMEOUT", wait.as_secs_f64().ceil().max(1.0).to_string())));
    if connection.needs_writable {
        variables.push(("PGTARGETSESSIONATTRS", "read-write".to_owned()));
    }
    variables
}

fn tls_word(mode: TlsMode) -> &'static str {
    match mode {
        TlsMode::Disable => "disable",
        TlsMode::Prefer => "prefer",
        TlsMode::Require => "require",
        TlsMode::VerifyCa => "verify-ca",
        TlsMode::VerifyFull => "verify-full",
    }
}

/// Returns the file of trusted certificates. Where none is named the system's are meant, and libpq knows them by itself only since version 16, and only for
/// the full check.
fn root_certificate(connection: &Connection) -> Option<String> {
    if let Some(path) = &connection.tls.root_certificate {
        return Some(path.to_string_lossy().into_owned());
    }
    let system = SYSTEM_CERTIFICATES.iter().find(|path| Path::new(path).is_file()).map(|path| (*path).to_owned());
    match connection.tls.mode {
        TlsMode::VerifyFull => system.or_else(|| Some("system".to_owned())),
        TlsMode::VerifyCa => system,
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => None,
    }
}

fn output(mut command: Command, lock_ms: u64) -> Result<String, EngineError> {
    let failed = |words: String| EngineError::Statement { doing: DOING.to_owned(), source: words.into() };
    let output = command.output().map_err(|error| EngineError::Statement { doing: DOING.to_owned(), source: error.into() })?;
    if !output.status.success() {
        let words = own_words(&String::from_utf8_lossy(&output.stderr));
        if words.contains("uery was: LOCK TABLE") && words.contains(" timeout") {
            return Err(EngineError::Locked { who: String::new(), waited_ms: lock_ms });
        }
        return Err(failed(if words.is_empty() { format!("it ended with {}", output.status) } else { words }));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| failed("the schema holds text that is not UTF-8".to_owned()))?;
    // The program writes text as Windows does, which is undone to the byte.
    Ok(if cfg!(windows) { text.replace("\r\n", "\n") } else { text })
}

/// Leaves out what the program says of its progress.
fn own_words(stderr: &str) -> String {
    let mut kept = Vec::new();
    let mut is_progress = false;
    for line in stderr.lines() {
        if let Some(rest) = line.strip_prefix("pg_dump: ") {
            is_progress = !["error: ", "fatal: ", "detail: ", "hint: ", "warning: "].iter().any(|word| rest.starts_with(word));
        }
        if !is_progress {
            kept.push(line.trim_start_matches("pg_dump: ").trim_start_matches("error: "));
        }
    }
    kept.join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::source::libpq::Tls;

    fn connection() -> Connection {
        Connection {
            hosts: vec![Host { name: HostName::Socket("/run/pg".into()), address: None, port: 5432 }],
            user: "me".into(),
            password: None,
            database: "app".into(),
            tls: Tls {
                mode: TlsMode::Prefer,
                root_certificate: None,
                client: None,
                channel_binding: crate::source::libpq::ChannelBinding::Prefer,
            },
            options: None,
            connect_timeout: None,
            needs_writable: false,
            schema: "public".into(),
        }
    }

    #[track_caller]
    fn check(connection: &Connection, expected: &[(&str, &str)]) {
        let actual = environment(connection, None);
        let usual = ["LC_ALL", "PGTZ", "PGAPPNAME", "PGGSSENCMODE"];
        let actual: Vec<_> = actual.iter().map(|(name, value)| (*name, value.as_str())).filter(|(name, _)| !usual.contains(name)).collect();
        assert_eq!(actual, expected);
    }

    #[test]
    fn a_connection_goes_by_the_environment() {
        let socket = [("PGUSER", "me"), ("PGDATABASE", "app"), ("PGSSLMODE", "prefer"), ("PGHOST", "/run/pg"), ("PGPORT", "5432")];
        check(&connection(), &socket);
        let full = Connection {
            hosts: vec![
                Host { name: HostName::Tcp("a.example".into()), address: None, port: 1 },
                Host { name: HostName::Tcp("b.example".into()), address: Some([10, 0, 0, 1].into()), port: 2 },
            ],
            password: Some("secret".into()),
            tls: Tls {
                mode: TlsMode::VerifyFull,
                root_certificate: Some("/r.crt".into()),
                client: Some((PathBuf::from("/c.crt"), PathBuf::from("/c.key"))),
                channel_binding: crate::source::libpq::ChannelBinding::Prefer,
            },
            options: Some("-c search_path=x".into()),
            connect_timeout: Some(Duration::from_millis(1500)),
            needs_writable: true,
            ..connection()
        };
        let expected = [
            ("PGUSER", "me"),
            ("PGDATABASE", "app"),
            ("PGSSLMODE", "verify-full"),
            ("PGHOST", "a.example,b.example"),
            ("PGPORT", "1,2"),
            ("PGHOSTADDR", ",10.0.0.1"),
            ("PGPASSWORD", "secret"),
            ("PGOPTIONS", "-c search_path=x"),
            ("PGSSLROOTCERT", "/r.crt"),
            ("PGSSLCERT", "/c.crt"),
            ("PGSSLKEY", "/c.key"),
            ("PGCONNECT_TIMEOUT", "2"),
            ("PGTARGETSESSIONATTRS", "read-write"),
        ];
        check(&full, &expected);
        let command = command(Path::new("pg_dump"), &full, Some("00000003-1"), 500, None);
        let line: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert!(line.iter().all(|word| word.starts_with("--") && !word.contains("secret")), "{line:?}");
        assert!(line.contains(&"--snapshot=00000003-1".to_owned()) && line.contains(&"--lock-wait-timeout=500".to_owned()), "{line:?}");
        assert!(command.get_envs().any(|(name, value)| name == "PGSERVICE" && value.is_none()), "the parent's service is not the child's");
    }

    #[test]
    fn progress_is_no_part_of_an_error() {
        let stderr = "pg_dump: last built-in OID is 16383\npg_dump: reading \"a\nb\"\npg_dump: error: query failed: ERROR:  permission denied for table t\nHINT:  x\n\
                      pg_dump: detail: Query was: LOCK TABLE public.t IN ACCESS SHARE MODE\npg_dump: dropping\n";
        let expected =
            "query failed: ERROR:  permission denied for table t\nHINT:  x\ndetail: Query was: LOCK TABLE public.t IN ACCESS SHARE MODE";
        assert_eq!(own_words(stderr), expected);
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_cannot_be_run_is_told() {
        let error = run(Path::new("/no/such/pg_dump"), &connection(), None, 1).expect_err("nothing there");
        assert_eq!(error.to_string(), "reading the schema with pg_dump failed");
        let error = run(Path::new("/bin/false"), &connection(), None, 1).expect_err("it fails");
        let EngineError::Statement { source, .. } = error else { panic!("{error:?}") };
        assert_eq!(source.to_string(), "it ended with exit status: 1");
    }
}
