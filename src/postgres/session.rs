//! Connections of the port's own: to see whether the server is ready, and to create databases.

use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use super::{PORT, ROLE};

/// A server answers a connection attempt within milliseconds; this is for a stopped or hung one.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a connection attempt met.
pub(super) enum Answer {
    Ready,
    /// It is starting or recovering from a crash.
    Busy,
    /// It is shutting down.
    Leaving,
    Silent,
}

pub(super) async fn probe(sockets: &Path) -> Answer {
    match timeout(PROBE_TIMEOUT, connect(sockets, "postgres")).await {
        Ok(Ok(_)) => Answer::Ready,
        Ok(Err(error)) => match error.as_db_error() {
            // One code for both; the text is English, by the server's lc_messages.
            Some(refusal) if *refusal.code() == SqlState::CANNOT_CONNECT_NOW => {
                let leaving = refusal.message().contains("shutting down");
                if leaving { Answer::Leaving } else { Answer::Busy }
            }
            // Any other refusal, as of one connection too many, comes from a server at work.
            Some(_) => Answer::Ready,
            None => Answer::Silent,
        },
        Err(_) => Answer::Silent,
    }
}

async fn connect(sockets: &Path, database: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host_path(sockets).port(PORT).user(ROLE).dbname(database);
    let (client, connection) = config.connect(NoTls).await?;
    // Ends when the client is dropped; what goes wrong before, the client's own calls return.
    tokio::spawn(connection);
    Ok(client)
}

pub(super) async fn create_database(
    sockets: &Path,
    name: &str,
) -> Result<bool, tokio_postgres::Error> {
    let client = connect(sockets, "postgres").await?;
    let known = "SELECT 1 FROM pg_database WHERE datname = $1";
    if client.query_opt(known, &[&name]).await?.is_some() {
        return Ok(false);
    }
    let quoted = name.replace('"', "\"\"");
    match client.batch_execute(&format!("CREATE DATABASE \"{quoted}\"")).await {
        Ok(()) => Ok(true),
        // Two at once: the loser sees either the finished database or the half-made catalog row.
        Err(error)
            if [Some(&SqlState::DUPLICATE_DATABASE), Some(&SqlState::UNIQUE_VIOLATION)]
                .contains(&error.code()) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
