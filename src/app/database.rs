//! The hub's database: the configured one, or a private PostgreSQL.

use diesel_async::{AsyncConnection, AsyncPgConnection};
use secrecy::{ExposeSecret, SecretString};

use super::{StartError, settings};
use crate::config::Config;
use crate::models::migrations::{self, Direction};
use crate::postgres::{self, PrivatePostgres};

/// The name of the hub's database in its private PostgreSQL.
const DATABASE: &str = "hub";

/// The database that the hub uses.
pub struct Database {
    /// Where it is.
    pub url: SecretString,
    private: Option<PrivatePostgres>,
}

impl Database {
    /// The configured database, or a private one, started if need be.
    pub async fn open(config: &Config) -> Result<Self, StartError> {
        if let Some(url) = &config.database.url {
            settings::probe(url).await?;
            return Ok(Self { url: url.clone(), private: None });
        }
        let mut options = postgres::Options::new(config.database.data_dir.clone());
        options.bin_dir = config.database.pg_bin.clone();
        // The pool, and some for migrations, psql and backups.
        let needed = u16::try_from(config.database.pool_size + 20).unwrap_or(u16::MAX);
        options.max_connections = options.max_connections.max(needed);
        let server = postgres::start(options).await?;
        server.create_database_if_missing(DATABASE).await?;
        Ok(Self { url: server.url(DATABASE).into(), private: Some(server) })
    }

    /// Walks the migrations; returns the names of those that were run.
    pub async fn migrate(&self, direction: Direction) -> Result<Vec<String>, StartError> {
        let conn = AsyncPgConnection::establish(self.url.expose_secret()).await?;
        Ok(migrations::run(conn, direction).await?)
    }

    /// Watches a private server and starts it again when it has ended by itself; returns when it
    /// gives up, and why. Never returns for a configured database: that one is its operator's.
    pub async fn keep(&self) -> StartError {
        match &self.private {
            Some(server) => server.keep().await.into(),
            None => std::future::pending().await,
        }
    }

    /// Stops the private server, if it is one.
    pub async fn close(self) {
        if let Some(server) = self.private
            && let Err(e) = server.stop().await
        {
            tracing::error!("{e}");
        }
    }
}
