//! The migrations, compiled into the binary.

use diesel_async::{AsyncMigrationHarness, AsyncPgConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// A migration failed, or could not be read.
#[derive(Debug, thiserror::Error)]
#[error("migration failed: {0}")]
pub struct MigrationFault(String);

impl From<Box<dyn std::error::Error + Send + Sync>> for MigrationFault {
    fn from(e: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self(e.to_string())
    }
}

/// Which way to walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Everything that is pending.
    Up,
    /// Everything that was applied, newest first.
    Down,
}

/// Walks the migrations and returns the names of those that were run, in order.
///
/// Two hubs that start at once are serialised by a session-level advisory lock, so that the
/// second finds nothing pending. Must run on a multi-threaded runtime (Diesel's harness blocks).
pub async fn run(
    mut conn: AsyncPgConnection,
    direction: Direction,
) -> Result<Vec<String>, MigrationFault> {
    use diesel_async::RunQueryDsl;
    diesel::sql_query("SELECT pg_advisory_lock(7306931472011)")
        .execute(&mut conn)
        .await
        .map_err(|e| MigrationFault(e.to_string()))?;
    tokio::task::spawn_blocking(move || {
        // The lock goes with the connection, which ends with this closure.
        let mut harness = AsyncMigrationHarness::new(conn);
        let versions = match direction {
            Direction::Up => harness.run_pending_migrations(MIGRATIONS)?,
            Direction::Down => harness.revert_all_migrations(MIGRATIONS)?,
        };
        Ok(versions.iter().map(ToString::to_string).collect())
    })
    .await
    .map_err(|e| MigrationFault(e.to_string()))?
}

/// How many migrations the database still lacks.
pub async fn pending(conn: AsyncPgConnection) -> Result<usize, MigrationFault> {
    tokio::task::spawn_blocking(move || {
        let mut harness = AsyncMigrationHarness::new(conn);
        Ok(harness.pending_migrations(MIGRATIONS)?.len())
    })
    .await
    .map_err(|e| MigrationFault(e.to_string()))?
}
