//! What a socket must not hear.

use serde_json::json;

use crate::chat::Pair;
use crate::support::{Socket, TestHub};

/// While it is being found out that a channel is not theirs, nothing of it may leak: typing,
/// receipts and presence are handed over the moment they happen.
#[tokio::test]
async fn who_is_refused_a_channel_hears_nothing_of_it_meanwhile() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    pair.post(&hub, &pair.a, "secret").await;
    let stranger = hub.seeker().await;
    let mut witness = pair.follow(&hub, &pair.a).await;
    let mut reader = Socket::open(&hub, &pair.b).await;
    let mut spy = Socket::open(&hub, &stranger).await;
    let receipts = async {
        for _ in 0..90 {
            reader.ok("message:read", json!({ "conversationId": pair.id, "seq": 1 })).await;
        }
    };
    let attempts = async {
        for n in 0..90 {
            let channel = match n % 2 {
                0 => pair.channel(),
                _ => format!("user:{}", pair.b.id),
            };
            spy.refused("subscribe", json!({ "channel": channel }), "not_found").await;
        }
    };
    tokio::join!(receipts, attempts);
    witness.event("message:read").await;
    spy.ok("ping", json!({})).await;
    assert!(spy.events.is_empty(), "{:?}", spy.events);
}
