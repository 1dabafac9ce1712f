//! The bus over Redis pub/sub.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::ConnectionManager;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Envelope, decode, encode};

/// The one channel that all nodes follow. Sharding it by channel is a later step.
const TOPIC: &str = "klearkarma:hub";
/// Messages that may wait for Redis; more are dropped and healed from PostgreSQL.
const QUEUE: usize = 8_192;
/// Pause before a lost subscription is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Redis can not be used as configured.
#[derive(Debug, thiserror::Error)]
#[error("redis: {0}")]
pub struct RedisFault(#[from] redis::RedisError);

/// A node's connection to the others.
#[derive(Clone)]
pub struct RedisBus {
    node: Uuid,
    outgoing: mpsc::Sender<Vec<u8>>,
    listening: Arc<AtomicBool>,
}

impl RedisBus {
    /// Refuses what is no URL of a Redis server. Nothing is connected.
    pub fn check(url: &str) -> Result<(), RedisFault> {
        Ok(redis::Client::open(url).map(|_| ())?)
    }

    /// Connects to `url` and hands every envelope of another node to `incoming`. The tasks live as
    /// long as the runtime; a lost connection is made again for ever, at a bounded rate.
    pub async fn connect(
        url: &str,
        incoming: impl Fn(Envelope) + Send + Sync + 'static,
    ) -> Result<Self, RedisFault> {
        let client = redis::Client::open(url)?;
        let manager = reach(&client).await?;
        let node = Uuid::now_v7();
        let (outgoing, queue) = mpsc::channel(QUEUE);
        tokio::spawn(send_all(manager, queue));
        let listening = Arc::new(AtomicBool::new(false));
        let heard = listening.clone();
        tokio::spawn(async move {
            loop {
                let ended = listen(&client, node, &incoming, &heard).await;
                heard.store(false, Ordering::Release);
                if let Err(e) = ended {
                    tracing::warn!("redis subscription lost: {e}");
                }
                tokio::time::sleep(RETRY).await;
            }
        });
        Ok(Self { node, outgoing, listening })
    }

    /// Whether other nodes are heard now, as far as is known.
    pub(super) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    /// Queues `envelope`; at the limit it is dropped.
    pub(super) fn publish(&self, envelope: &Envelope) {
        if let Some(bytes) = encode(self.node, envelope)
            && self.outgoing.try_send(bytes).is_err()
        {
            tracing::debug!("bus is full, an envelope is dropped");
        }
    }
}

/// The first connection. One that is not to be had is told at once: the manager tries again for
/// some seconds before it gives up.
async fn reach(client: &redis::Client) -> Result<ConnectionManager, redis::RedisError> {
    if let Err(e) = client.get_multiplexed_async_connection().await {
        tracing::warn!("REDIS_URL: redis can not be reached, trying again: {e}");
    }
    ConnectionManager::new(client.clone()).await
}

async fn send_all(mut manager: ConnectionManager, mut queue: mpsc::Receiver<Vec<u8>>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, 256).await > 0 {
        let mut pipe = redis::pipe();
        for bytes in batch.drain(..) {
            pipe.cmd("PUBLISH").arg(TOPIC).arg(bytes).ignore();
        }
        if let Err(e) = pipe.query_async::<()>(&mut manager).await {
            tracing::warn!("redis publish failed: {e}");
        }
    }
}

async fn listen(
    client: &redis::Client,
    node: Uuid,
    incoming: &(impl Fn(Envelope) + Send + Sync),
    listening: &AtomicBool,
) -> Result<(), redis::RedisError> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(TOPIC).await?;
    listening.store(true, Ordering::Release);
    let mut messages = subscription.on_message();
    while let Some(message) = messages.next().await {
        if let Some(envelope) = decode(node, message.get_payload_bytes()) {
            incoming(envelope);
        }
    }
    Ok(())
}
