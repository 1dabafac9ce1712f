//! The pool of database connections.

use std::fmt;
use std::time::Duration;

use deadpool::managed::TimeoutType;
use diesel::ConnectionError;
use diesel_async::pooled_connection::deadpool::{self as pooled, Object};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use futures_util::FutureExt;
use tokio::runtime::Handle;

use super::Conn;

/// A connection that goes back to the pool when dropped.
pub type Pooled = Object<Conn>;

/// No connection could be had.
#[derive(Debug, thiserror::Error)]
pub enum PoolFault {
    /// All connections stayed in use for the whole wait: the hub is overloaded.
    #[error("no database connection became free in time")]
    Exhausted,
    /// PostgreSQL can not be reached.
    #[error("no database connection could be made: {0}")]
    Unreachable(String),
}

/// Whether `error` says that the connection is gone, rather than that PostgreSQL refused something.
/// What was under way may have been committed or not.
pub fn is_lost(error: &diesel::result::Error) -> bool {
    use diesel::result::{DatabaseErrorKind, Error};
    match error {
        Error::DatabaseError(
            DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand,
            _,
        )
        | Error::BrokenTransactionManager => true,
        // A server that shuts down or crashes says so first (SQLSTATE 57P01, 57P02), which Diesel
        // does not pass on. Where the database speaks another language, this is not seen.
        Error::DatabaseError(DatabaseErrorKind::Unknown, info) => {
            info.message().starts_with("terminating connection")
        }
        _ => false,
    }
}

/// Opens a connection on which nothing lasts for ever: a statement that hangs would keep its place
/// in the pool, and a transaction that was left open its locks.
async fn establish(url: &str) -> Result<Conn, ConnectionError> {
    let mut conn = AsyncPgConnection::establish(url).await?;
    conn.batch_execute(
        "SET statement_timeout = '15s'; SET idle_in_transaction_session_timeout = '15s'",
    )
    .await
    .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(conn)
}

/// A bounded set of connections, shared by clones.
#[derive(Clone)]
pub struct Pool(pooled::Pool<Conn>);

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("status", &self.0.status()).finish()
    }
}

impl Pool {
    /// Makes a pool of at most `size` connections to `url`; none is opened yet.
    ///
    /// Connections are driven by the runtime that this is called on, so that one opened by a
    /// thread of the HTTP server outlives that thread.
    pub fn new(url: &str, size: usize, wait: Duration) -> Result<Self, PoolFault> {
        let driver = Handle::current();
        let mut config = ManagerConfig::default();
        // No ping before each use; a closed connection, or one whose transaction was cut off when
        // its request went away, is thrown away all the same.
        config.recycling_method = RecyclingMethod::Fast;
        config.custom_setup = Box::new(move |url| {
            let url = url.to_owned();
            let driver = driver.clone();
            async move {
                driver
                    .spawn(async move { establish(&url).await })
                    .await
                    .map_err(|e| ConnectionError::BadConnection(e.to_string()))?
            }
            .boxed()
        });
        let manager = AsyncDieselConnectionManager::new_with_config(url, config);
        pooled::Pool::builder(manager)
            .max_size(size)
            .wait_timeout(Some(wait))
            .create_timeout(Some(wait))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map(Self)
            .map_err(|e| PoolFault::Unreachable(e.to_string()))
    }

    /// Waits for a connection, as long as the pool was told to.
    pub async fn get(&self) -> Result<Pooled, PoolFault> {
        self.0.get().await.map_err(|e| match e {
            pooled::PoolError::Timeout(TimeoutType::Wait) => PoolFault::Exhausted,
            other => PoolFault::Unreachable(other.to_string()),
        })
    }

    /// How many connections there are, and how many wait for one.
    pub fn usage(&self) -> (usize, usize) {
        let status = self.0.status();
        (status.size, status.waiting)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), PoolFault> {
        let mut conn = self.get().await?;
        let answer = diesel::sql_query("SELECT 1").execute(&mut conn).await;
        answer.map(|_| ()).map_err(|e| PoolFault::Unreachable(e.to_string()))
    }

    /// Closes every connection that is not in use, and the others when they come back.
    pub fn close(&self) {
        self.0.close();
    }
}
