//! Reminds both sides of sessions to come. Any number of nodes may run this: due rows are taken with
//! `SKIP LOCKED` and settled in the transaction that tells of them, so that nobody is reminded
//! twice and a node that dies forgets nobody.

use std::time::Duration;

use tokio::sync::watch;

use crate::actors::fanout::Fanout;
use crate::error::Result;
use crate::models::pool::Pool;
use crate::models::reminders;

/// Reminders settled in one transaction.
const BATCH: i64 = 100;
/// Pause when nothing more is due.
const IDLE: Duration = Duration::from_secs(1);

/// What the worker needs.
pub struct Reminder {
    pub pool: Pool,
    pub fanout: Fanout,
    /// How long a push waits for an acknowledgement of a live device.
    pub push_window: Duration,
}

/// Works until told to stop.
pub async fn run(worker: Reminder, mut stop: watch::Receiver<bool>) {
    loop {
        let wait = match worker.round().await {
            Ok(true) => Duration::ZERO,
            Ok(false) => IDLE,
            Err(e) => {
                tracing::error!("reminders are not sent and tried again: {e:?}");
                IDLE * 4
            }
        };
        if !super::pause(&mut stop, wait).await {
            break;
        }
    }
}

impl Reminder {
    /// Settles what is due; whether there may be more.
    async fn round(&self) -> Result<bool> {
        let mut conn = self.pool.get().await?;
        let done = reminders::send_due(&mut conn, BATCH, self.push_window).await?;
        drop(conn);
        self.fanout.publish_stored(&done.events);
        Ok(i64::try_from(done.settled).is_ok_and(|settled| settled == BATCH))
    }
}
