//! A conversation as a whole: searching, handing out, emptying what is old.

use std::time::Duration;

use uuid::Uuid;

use super::auth::Caller;
use crate::domain::refusal::{Problems, Refusal};
use crate::error::Result;
use crate::models::conversations::{self, Loaded};
use crate::models::message_archive::{self as rows, Hit};
use crate::models::messages::{self, Range, Told};
use crate::models::pool::Pool;

/// What is looked for, in characters.
const SHORTEST: usize = 2;
const LONGEST: usize = 200;
/// Messages that an export reads at once.
const EXPORTED: i64 = 200;
/// Messages that are emptied in one transaction.
const EMPTIED: i64 = 500;

/// Conversations as a whole.
pub struct Archive {
    pool: Pool,
    /// None: messages are kept for ever.
    kept: Option<Duration>,
}

impl Archive {
    /// The messages in the database of `pool`, kept for so long.
    pub fn new(pool: Pool, kept: Option<Duration>) -> Self {
        Self { pool, kept }
    }

    /// Messages with `words` in conversations that the caller is in, the newest first: all of the
    /// words, a phrase in quotes, either side of `or`, not what follows `-`. Words are compared as
    /// they are written, but for upper and lower case.
    pub async fn search(
        &self,
        caller: &Caller,
        words: &str,
        before: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<Hit>> {
        let mut problems = Problems::default();
        problems.length("q", words, SHORTEST, LONGEST);
        problems.into_result()?;
        let mut conn = self.pool.get().await?;
        if !rows::can_be_searched(&mut conn, words).await? {
            return Err(Refusal::field("q", "must have a word to look for").into());
        }
        Ok(rows::search(&mut conn, caller.user_id, words, before, limit).await?)
    }

    /// A conversation of the caller, to be handed out.
    pub async fn begin_export(&self, caller: &Caller, id: Uuid) -> Result<Loaded> {
        let mut conn = self.pool.get().await?;
        let found = conversations::load(&mut conn, id).await?;
        let found = found.filter(|loaded| loaded.member(caller.user_id).is_some());
        Ok(found.ok_or(Refusal::NotFound("conversation"))?)
    }

    /// The next messages of an export, oldest first; none at its end. Who is taken out of the
    /// conversation meanwhile gets no more.
    pub async fn export(&self, caller: &Caller, id: Uuid, after: i64) -> Result<Vec<Told>> {
        let mut conn = self.pool.get().await?;
        if !conversations::is_member(&mut conn, id, caller.user_id).await? {
            return Err(Refusal::NotFound("conversation").into());
        }
        let page = messages::page(&mut conn, id, Range::After(after), EXPORTED).await?;
        Ok(messages::tell(&mut conn, page).await?)
    }

    /// Empties some of what is older than messages are kept, beyond the message `after`; returns
    /// where it came to, `None` when there is no more for now.
    pub async fn empty_old(&self, after: Uuid) -> Result<Option<Uuid>> {
        let Some(kept) = self.kept else { return Ok(None) };
        let mut conn = self.pool.get().await?;
        Ok(rows::empty_old(&mut conn, kept.as_secs_f64(), after, EMPTIED).await?)
    }
}
