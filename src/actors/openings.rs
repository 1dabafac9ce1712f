//! Opening channels for sockets that come, so that a storm of them asks the database little.
//!
//! What many sockets want at once is read by one query; what comes meanwhile makes up the next one.
//! So a client that reconnects costs a share of a query, and a node has at most [`READERS`] of them
//! under way, however many clients there are. The queue is bounded: who finds it full is sent away
//! with a time to come back.

use tokio::sync::{Mutex, mpsc, oneshot};
use uuid::Uuid;

use crate::domain::channel::Channel;
use crate::error::{Error, Result};
use crate::models::openings::{self, Head};
use crate::models::pool::Pool;

/// Wishes that may wait; more are refused as `overloaded`.
const QUEUE: usize = 4_096;
/// Wishes in one query. Each is for at most as many channels as a socket may follow.
const BATCH: usize = 128;
/// Queries at a time, of as many connections of the pool.
const READERS: usize = 2;

/// What one socket wants to follow.
struct Wish {
    user_id: Uuid,
    channels: Vec<Channel>,
    reply: oneshot::Sender<Result<Vec<Option<Head>>>>,
}

/// Where sockets ask. Clones share the queue.
#[derive(Clone)]
pub struct Openings(mpsc::Sender<Wish>);

impl Openings {
    /// Starts the tasks that read; they end when the last handle is dropped.
    pub fn start(pool: &Pool) -> Self {
        let (queue, wishes) = mpsc::channel(QUEUE);
        let wishes = std::sync::Arc::new(Mutex::new(wishes));
        for _ in 0..READERS {
            tokio::spawn(read(pool.clone(), wishes.clone()));
        }
        Self(queue)
    }

    /// Whether there is room for a socket more; a socket that comes when there is none is better
    /// off elsewhere.
    pub fn has_room(&self) -> bool {
        self.0.capacity() > QUEUE / 8
    }

    /// The heads of those of `channels` that `user_id` may follow, in their order; none for the
    /// others, and for those that are not there. Reads what is committed by now.
    pub async fn heads(&self, user_id: Uuid, channels: Vec<Channel>) -> Result<Vec<Option<Head>>> {
        if channels.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        let wish = Wish { user_id, channels, reply };
        self.0.try_send(wish).map_err(|_| Error::overloaded())?;
        answer.await.map_err(|_| Error::Fault("nobody reads heads".to_owned()))?
    }
}

async fn read(pool: Pool, wishes: std::sync::Arc<Mutex<mpsc::Receiver<Wish>>>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        // One reader waits for wishes, the others for their turn to.
        let taken = wishes.lock().await.recv_many(&mut batch, BATCH).await;
        if taken == 0 {
            return;
        }
        // Who went away meanwhile wants nothing any more.
        batch.retain(|wish| !wish.reply.is_closed());
        let asked: Vec<(Uuid, Channel)> =
            batch.iter().flat_map(|w| w.channels.iter().map(|c| (w.user_id, *c))).collect();
        let heads = heads(&pool, &asked).await;
        let mut all = heads.as_ref().map(|heads| heads.iter().copied());
        for wish in batch.drain(..) {
            let own = match &mut all {
                Ok(heads) => Ok(heads.by_ref().take(wish.channels.len()).collect()),
                Err(e) => Err((*e).clone()),
            };
            // A socket that hung up needs no answer.
            let _ = wish.reply.send(own);
        }
    }
}

async fn heads(pool: &Pool, asked: &[(Uuid, Channel)]) -> Result<Vec<Option<Head>>> {
    let mut conn = pool.get().await?;
    Ok(openings::heads(&mut conn, asked).await?)
}
