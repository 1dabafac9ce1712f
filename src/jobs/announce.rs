//! Writes the platform's lines about bookings into the conversations of the two. A trigger notes in
//! the booking's transaction that there is something to say; the line's client id follows from
//! the change, so that any number of nodes may say it and it is said once.

use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use uuid::Uuid;

use crate::actors::conversation::{Conversations, Send};
use crate::actors::error::{Error, Result};
use crate::domain::chat::{MessageType, booking_line};
use crate::domain::refusal::Refusal;
use crate::models::booking_lines::{self, BookingLine};
use crate::models::pool::Pool;

/// Lines written in one round.
const BATCH: i64 = 100;
/// Pause when there is nothing more to say.
const IDLE: Duration = Duration::from_millis(500);
/// Pause after a round that failed.
const AFTER_FAULT: Duration = Duration::from_secs(4);

/// What the worker needs.
pub struct Announcer {
    pub pool: Pool,
    pub conversations: Conversations,
}

/// Works until told to stop.
pub async fn run(worker: Announcer, mut stop: watch::Receiver<bool>) {
    loop {
        let wait = match worker.round().await {
            Ok(true) => Duration::ZERO,
            Ok(false) => IDLE,
            Err(e) => {
                tracing::warn!("lines about bookings are not written and tried again: {e:?}");
                AFTER_FAULT
            }
        };
        if !super::pause(&mut stop, wait).await {
            break;
        }
    }
}

impl Announcer {
    /// Says what there is to say, in its order; whether there may be more.
    async fn round(&self) -> Result<bool> {
        let mut conn = self.pool.get().await?;
        let lines = booking_lines::due(&mut conn, BATCH).await?;
        drop(conn);
        for line in &lines {
            self.say(line).await?;
            let mut conn = self.pool.get().await?;
            booking_lines::settle(&mut conn, line.booking_id, line.version).await?;
        }
        Ok(i64::try_from(lines.len()).is_ok_and(|n| n == BATCH))
    }

    async fn say(&self, line: &BookingLine) -> Result<()> {
        let starts_at = line.scheduled_at;
        let Some((event, content)) =
            booking_line(&line.action, &line.to_status, &line.service_name, starts_at)
        else {
            return Ok(());
        };
        let send = Send {
            sender_id: None,
            client_id: client_id(line),
            kind: MessageType::System,
            content,
            attachments: json!([]),
            files: Vec::new(),
            reply_to: None,
            booking_id: Some(line.booking_id),
            system_event: Some(event),
        };
        let said = self.conversations.ask(line.conversation_id, send).await;
        match said {
            // Gone with its conversation.
            Ok(_) | Err(Error::Refused(Refusal::NotFound(_))) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

/// The same for the same change, for ever: a UUIDv8 (RFC 9562, section 5.8) of its hash.
fn client_id(line: &BookingLine) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(b"booking line");
    hash.update(line.booking_id);
    hash.update(line.version.to_be_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    let (bytes, _) = hash.split_first_chunk().unwrap_or((&[0; 16], &[]));
    uuid::Builder::from_custom_bytes(*bytes).into_uuid()
}
