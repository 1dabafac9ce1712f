//! The migrations, compiled into the binary.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::Conn;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

diesel::table! {
    /// Diesel's own record of what was applied.
    #[sql_name = "__diesel_schema_migrations"]
    applied (version) {
        version -> Text,
    }
}

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

/// How many of this hub's migrations the database lacks: some other has taken them away. Those of a
/// newer hub do not count.
pub async fn missing(conn: &mut Conn) -> QueryResult<usize> {
    static OWN: OnceLock<BTreeSet<String>> = OnceLock::new();
    let own = OWN.get_or_init(own_versions);
    let there: Vec<String> = match applied::table.select(applied::version).load(conn).await {
        // The table is gone with the rest.
        Err(Error::DatabaseError(DatabaseErrorKind::Unknown, info))
            if info.message().contains("does not exist") =>
        {
            Vec::new()
        }
        there => there?,
    };
    Ok(own.iter().filter(|version| !there.contains(version)).count())
}

fn own_versions() -> BTreeSet<String> {
    let own = MigrationSource::<Pg>::migrations(&MIGRATIONS).unwrap_or_default();
    own.iter().map(|migration| migration.name().version().to_string()).collect()
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
