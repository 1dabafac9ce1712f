//! Writes the platform's lines about bookings into the conversations of the two. A trigger notes in
//! the booking's transaction that there is something to say; the line's client id follows from
//! the change, so that any number of nodes may say it and it is said once.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use uuid::Uuid;

use crate::actors::conversation::{Conversations, Send};
use crate::domain::chat::{MessageType, booking_line};
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};
use crate::models::booking_lines::{self, BookingLine};
use crate::models::pool::Pool;

/// Lines written in one round.
const BATCH: i64 = 100;
/// Pause when there is nothing more to say.
const IDLE: Duration = Duration::from_millis(500);
/// Pause after a round that failed.
const AFTER_FAULT: Duration = Duration::from_secs(4);
/// How long a conversation that can not be written to waits for its next time: its lines come in
/// their order or not at all, those of others go on.
const REST: Duration = Duration::from_secs(10);
/// So many that fail end a round: then it is the database. There are at most so many times `REST` by
/// `IDLE` conversations that rest.
const STUCK: usize = 5;

/// What the worker needs.
pub struct Announcer {
    pool: Pool,
    conversations: Conversations,
    /// Conversations that could not be written to, and until when they wait.
    resting: HashMap<Uuid, Instant>,
}

/// Works until told to stop.
pub async fn run(mut worker: Announcer, mut stop: watch::Receiver<bool>) {
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
    /// Who writes the lines that wait in the database of `pool`.
    pub fn new(pool: Pool, conversations: Conversations) -> Self {
        Self { pool, conversations, resting: HashMap::new() }
    }

    /// Says what there is to say, each conversation's in its order; whether there may be more.
    async fn round(&mut self) -> Result<bool> {
        let now = Instant::now();
        self.resting.retain(|_, until| *until > now);
        let resting: Vec<Uuid> = self.resting.keys().copied().collect();
        let mut conn = self.pool.get().await?;
        let lines = booking_lines::due(&mut conn, &resting, BATCH).await?;
        drop(conn);
        let mut stuck = 0;
        for line in &lines {
            if self.resting.contains_key(&line.conversation_id) {
                continue;
            }
            if let Err(e) = self.tell(line).await {
                self.resting.insert(line.conversation_id, now + REST);
                stuck += 1;
                if stuck == STUCK {
                    return Err(e);
                }
                let id = line.conversation_id;
                tracing::warn!(%id, "a line about a booking is not written and tried again: {e:?}");
            }
        }
        Ok(stuck == 0 && i64::try_from(lines.len()).is_ok_and(|n| n == BATCH))
    }

    async fn tell(&self, line: &BookingLine) -> Result<()> {
        self.say(line).await?;
        let mut conn = self.pool.get().await?;
        Ok(booking_lines::settle(&mut conn, line.booking_id, line.version).await?)
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
