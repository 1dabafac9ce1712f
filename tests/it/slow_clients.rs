//! Clients that do not read: they are ended in time, nobody else feels it, and they miss nothing.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::chat::Pair;
use crate::support::raw_socket::{RawSocket, TEXT};
use crate::support::{Socket, TestHub};

/// More than a socket's outbox and the kernel's buffers hold.
const MESSAGES: usize = 160;
/// Sent at once, so that they are committed together.
const AT_ONCE: usize = 10;
const LENGTH: usize = 8_000;

async fn deaf(hub: &TestHub, pair: &Pair) -> RawSocket {
    let mut socket = RawSocket::open_as(hub, &pair.b.token).await;
    let subscribe = json!({ "id": 1, "op": "subscribe", "data": { "channel": pair.channel() } });
    socket.send_frame(TEXT, subscribe.to_string().as_bytes()).await;
    assert_eq!(socket.json().await.unwrap()["ok"], true);
    socket
}

/// The seq and the length of a message's text.
fn seen(event: &Value) -> (i64, usize) {
    let text = event["data"]["message"]["content"].as_str().unwrap();
    (event["seq"].as_i64().unwrap(), text.len())
}

#[tokio::test]
async fn who_never_reads_is_ended_and_misses_nothing_when_he_comes_again() {
    let hub = TestHub::start_with(|c| {
        c.sockets.presence_grace = Duration::from_millis(100);
        c.sockets.connections_per_user = 100;
    })
    .await;
    let pair = Pair::of(&hub).await;
    let mut all_deaf = Vec::new();
    for _ in 0..50 {
        all_deaf.push(deaf(&hub, &pair).await);
    }
    let mut reader = pair.follow(&hub, &pair.a).await;
    let presence = format!("presence:{}", pair.b.id);
    let told = reader.ok("subscribe", json!({ "channel": presence })).await;
    assert_eq!(told["snapshot"]["state"], "online");
    let text = "x".repeat(LENGTH);
    for batch in 0..MESSAGES / AT_ONCE {
        join_all((0..AT_ONCE).map(|_| pair.post(&hub, &pair.a, &text))).await;
        for n in 1..=AT_ONCE {
            let seq = i64::try_from(batch * AT_ONCE + n).unwrap();
            assert_eq!(seen(&reader.event("message:new").await), (seq, LENGTH));
        }
    }
    // Presence is that of the last socket: all fifty are gone, though none of them has said or read
    // anything.
    let offline = reader.event_within("user:offline", Duration::from_secs(15)).await;
    assert!(offline.is_some(), "not all are gone 15 s after the last message");
    // What did arrive is whole frames in their order.
    let mut heard = 0;
    while let Some(frame) = all_deaf[0].json().await {
        if frame["event"] == "message:new" {
            heard += 1;
            assert_eq!(seen(&frame), (heard, LENGTH));
        }
    }
    assert!(heard < i64::try_from(MESSAGES).unwrap());
    let mut again = Socket::open(&hub, &pair.b).await;
    again.ok("resume", json!({ "channels": { pair.channel(): heard } })).await;
    for n in heard + 1..=i64::try_from(MESSAGES).unwrap() {
        assert_eq!(seen(&again.event("message:new").await), (n, LENGTH));
    }
}

#[tokio::test]
async fn who_reads_again_in_time_is_not_ended() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let mut slow = deaf(&hub, &pair).await;
    // Fewer than the outbox holds, more than the kernel does at once.
    let sent = 25;
    for _ in 0..sent {
        pair.post(&hub, &pair.a, &"x".repeat(LENGTH)).await;
    }
    for n in 1..=sent {
        let message = loop {
            let frame = slow.json().await.expect("the socket stays");
            if frame["event"] == "message:new" {
                break frame;
            }
        };
        assert_eq!(seen(&message), (n, LENGTH));
    }
    slow.send_frame(TEXT, br#"{"id":2,"op":"ping"}"#).await;
    let pong = loop {
        let frame = slow.json().await.expect("the socket stays");
        if frame["id"] == 2 {
            break frame;
        }
    };
    assert_eq!(pong["data"]["heads"][pair.channel()], sent);
}

#[tokio::test]
async fn who_stalls_with_little_waiting_is_ended_by_the_kernel() {
    let hub = TestHub::start_with(|c| c.sockets.presence_grace = Duration::from_millis(100)).await;
    let pair = Pair::of(&hub).await;
    let stalled = deaf(&hub, &pair).await;
    let mut reader = pair.follow(&hub, &pair.a).await;
    let presence = format!("presence:{}", pair.b.id);
    reader.ok("subscribe", json!({ "channel": presence })).await;
    // More than the kernel hands over, less than closes the socket.
    for _ in 0..28 {
        pair.post(&hub, &pair.a, &"x".repeat(LENGTH)).await;
    }
    let offline = reader.event_within("user:offline", Duration::from_secs(25)).await;
    assert!(offline.is_some(), "it is still there");
    drop(stalled);
}
