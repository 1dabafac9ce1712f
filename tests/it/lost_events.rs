//! Events that a node is never told of: it finds out by itself, and asks no more than it must.

use std::rc::Rc;
use std::time::{Duration, Instant};

use hub::actors::replay::Replays;
use hub::domain::channel::Channel;
use hub::models::pool::Pool;
use serde_json::json;

use crate::chat::Pair;
use crate::support::{Practice, Socket, TestHub};

/// Two hubs over one database that do not know of each other: every event is lost on its way.
async fn two() -> [TestHub; 2] {
    let one = TestHub::start().await;
    let other = TestHub::start_over(one.database_url.clone(), |_| {}).await;
    [one, other]
}

#[tokio::test]
async fn the_last_event_of_a_channel_is_noticed_within_five_seconds() {
    let [near, far] = two().await;
    let pair = Pair::of(&near).await;
    let practice: Practice = near.practice().await;
    let mut socket = pair.follow(&far, &pair.a).await;
    let calendar = format!("calendar:{}", practice.id);
    socket.ok("subscribe", serde_json::json!({ "channel": calendar })).await;
    for round in 1..=2 {
        pair.post(&near, &pair.b, "not told").await;
        let wish = practice.wish(practice.slot(round));
        pair.a.post(&near, "/v1/bookings", wish).await.data(201);
        let began = Instant::now();
        let told = socket.event("message:new").await;
        assert_eq!(told["seq"], round);
        assert_eq!(socket.event("availability:changed").await["channel"], calendar.as_str());
        socket.event("booking:created").await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_socket_misses_something_in_all_its_channels_and_stays() {
    let [near, far] = two().await;
    let person = near.seeker().await;
    let sql = format!(
        "WITH c AS (INSERT INTO conversations (id, kind)
                    SELECT gen_random_uuid(), 'group' FROM generate_series(1, 90) RETURNING id)
         INSERT INTO conversation_members (conversation_id, user_id) SELECT id, '{}' FROM c",
        person.id
    );
    assert_eq!(near.execute(&sql).await, 90);
    let list = person.get(&near, "/v1/conversations?limit=100").await.data(200);
    let ids: Vec<&str> =
        list.as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap()).collect();
    let mut socket = Socket::open(&far, &person).await;
    let channels: serde_json::Map<_, _> =
        ids.iter().map(|id| (format!("conversation:{id}"), json!(0))).collect();
    socket.ok("resume", json!({ "channels": channels })).await;
    for id in &ids {
        let body = json!({ "clientId": uuid::Uuid::new_v4(), "content": "not told" });
        person.post(&near, &format!("/v1/conversations/{id}/messages"), body).await.data(201);
    }
    let mut told = std::collections::BTreeSet::new();
    while told.len() < ids.len() {
        told.insert(socket.event("message:new").await["channel"].to_string());
    }
    socket.ok("ping", json!({})).await;
}

#[tokio::test]
async fn sockets_that_miss_the_same_share_one_read() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    for _ in 0..3 {
        pair.post(&hub, &pair.a, "missed").await;
    }
    let pool = Pool::new(&hub.database_url, 2, Duration::from_secs(5)).unwrap();
    let channel: Channel = pair.channel().parse().unwrap();
    let replays = Rc::new(Replays::default());
    let mut reads: Vec<_> = (0..1_000).map(|_| replays.page(&pool, channel, 1)).collect();
    let first = reads.remove(0).await.unwrap();
    assert_eq!(first.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [2, 3]);
    for read in reads {
        assert!(Rc::ptr_eq(&first, &read.await.unwrap()));
    }
    // A read that is over does not know what came after it.
    pair.post(&hub, &pair.a, "later").await;
    assert_eq!(replays.page(&pool, channel, 1).await.unwrap().len(), 3);
}
