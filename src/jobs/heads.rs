//! Notices events that this node never heard of.
//!
//! A later event of the same channel shows that one is missing. The last one shows nothing: so the
//! heads of all channels that sockets follow here, and that have been quiet since the last look,
//! are compared with PostgreSQL's. After an outage of the bus every socket is level within one
//! round, and two nodes that share a database without a bus hear of each other in the same way.

use std::time::Duration;

use tokio::sync::watch;

use crate::actors::fanout::Fanout;
use crate::domain::channel::Channel;
use crate::error::Result;
use crate::models::heads;
use crate::models::pool::Pool;

/// Between two looks. A channel that something was heard of is left out once, so a lost event is noticed
/// within two of them.
const EVERY: Duration = Duration::from_secs(2);
/// Channels that are asked after at once.
const CHUNK: usize = 5_000;

/// Compares until told to stop.
pub async fn run(pool: Pool, fanout: Fanout, mut stop: watch::Receiver<bool>) {
    while super::pause(&mut stop, EVERY).await {
        if let Err(e) = compare(&pool, &fanout).await {
            tracing::warn!("heads were not compared and are again soon: {e:?}");
        }
    }
}

async fn compare(pool: &Pool, fanout: &Fanout) -> Result<()> {
    for chunk in fanout.quiet_channels().await.chunks(CHUNK) {
        let channels: Vec<Channel> = chunk.iter().map(|(channel, _)| *channel).collect();
        let mut conn = pool.get().await?;
        let mut heads = heads::newest(&mut conn, &channels).await?;
        drop(conn);
        let known: std::collections::HashMap<_, _> = chunk.iter().copied().collect();
        heads.retain(|(channel, head)| known.get(channel).is_some_and(|known| known < head));
        if !heads.is_empty() {
            tracing::debug!(channels = heads.len(), "events were missed and are caught up with");
            fanout.tell_heads(heads);
        }
    }
    Ok(())
}
