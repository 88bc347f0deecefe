//! Opening a connection.

use tokio_postgres::{Client, Config, NoTls};

use crate::source::libpq::{Connection, HostName};

/// Connects to the first host that answers, and drives the connection on the current runtime's local tasks.
///
/// # Errors
/// The last host's.
pub async fn connect(connection: &Connection, application: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config = Config::new();
    for host in &connection.hosts {
        match &host.name {
            HostName::Tcp(name) => config.host(name),
            HostName::Socket(folder) => config.host_path(folder),
        };
        config.port(host.port);
    }
    config.user(&connection.user).dbname(&connection.database).application_name(application);
    if let Some(password) = &connection.password {
        config.password(password);
    }
    let (client, driver) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // Its end is seen by whoever uses the client.
        let _ = driver.await;
    });
    Ok(client)
}
