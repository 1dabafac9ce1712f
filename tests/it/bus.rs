//! Two nodes over a real Redis: what happens on one reaches the sockets of the other, and what
//! Redis loses is read from PostgreSQL.

use std::time::Duration;

use serde_json::json;

use crate::chat::Pair;
use crate::support::redis::Redis;
use crate::support::{Socket, TestHub};

/// Two hubs over one database and one bus, both listening.
pub async fn two_nodes(redis: &Redis) -> (TestHub, TestHub) {
    let with = |url: String| {
        move |c: &mut hub::config::Config| {
            c.redis_url = Some(url.into());
            c.sockets.presence_grace = Duration::from_millis(300);
        }
    };
    let a = TestHub::start_with(with(redis.url())).await;
    let b = TestHub::start_over(a.database_url.clone(), with(redis.url())).await;
    redis.is_followed_by(2).await;
    is_connected(&a).await;
    is_connected(&b).await;
    (a, b)
}

/// Waits until `hub` hears other nodes.
pub async fn is_connected(hub: &TestHub) {
    for _ in 0..400 {
        if hub.get("/readyz").await.data(200)["bus"] == "connected" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the bus is not connected");
}

#[tokio::test]
async fn what_happens_on_one_node_reaches_the_other() {
    let Some(redis) = Redis::start().await else { return };
    let (hub, other) = two_nodes(&redis).await;
    let pair = Pair::of(&hub).await;
    let mut there = pair.follow(&other, &pair.b).await;
    let mut here = pair.follow(&hub, &pair.a).await;
    here.ok("message:send", pair.message("over the bus")).await;
    let event = there.event("message:new").await;
    assert_eq!(
        (&event["seq"], &event["data"]["message"]["content"]),
        (&json!(1), &json!("over the bus"))
    );
    assert_eq!(there.event("conversation:updated").await["data"]["lastSeq"], 1);
    assert_eq!(here.event("message:new").await, event, "the same on both nodes");
    here.ok("typing:start", json!({ "conversationId": pair.id })).await;
    assert_eq!(there.event("typing:start").await["data"]["userId"], pair.a.id);
    there.ok("message:read", json!({ "conversationId": pair.id, "seq": 1 })).await;
    assert_eq!(here.event("message:read").await["data"]["userId"], pair.b.id);
    // The nodes take turns, and nothing is heard twice.
    for n in 1..=10 {
        let (at, who) = if n % 2 == 0 { (&hub, &pair.a) } else { (&other, &pair.b) };
        pair.post(at, who, "next").await;
        for socket in [&mut here, &mut there] {
            assert_eq!(socket.event("message:new").await["seq"], n + 1);
        }
    }
    let channel = format!("presence:{}", pair.b.id);
    assert!(here.ok("subscribe", json!({ "channel": channel })).await["snapshot"].is_object());
    drop(there);
    assert_eq!(here.event("user:offline").await["data"]["userId"], pair.b.id);
}

#[tokio::test]
async fn calendars_agree_on_both_nodes() {
    let Some(redis) = Redis::start().await else { return };
    let (hub, other) = two_nodes(&redis).await;
    let practice = hub.practice().await;
    let (near, far) = (hub.seeker().await, hub.seeker().await);
    let mut watcher = Socket::open(&other, &far).await;
    let channel = json!({ "channel": format!("calendar:{}", practice.id) });
    let opened = watcher.ok("subscribe", channel).await;
    let version = opened["seq"].as_i64().unwrap();
    // The other node knows the calendar as it was.
    far.post(&other, "/v1/holds", practice.wish(practice.slot(9))).await.data(201);
    assert_eq!(watcher.event("availability:changed").await["seq"], version + 1);
    let wish = practice.wish(practice.slot(4));
    near.post(&hub, "/v1/holds", wish.clone()).await.data(201);
    let delta = watcher.event("availability:changed").await;
    assert_eq!(
        (&delta["seq"], &delta["data"]["version"]),
        (&json!(version + 2), &json!(version + 2))
    );
    assert_eq!(delta["data"]["changes"][0]["start"], practice.slot(4).to_string());
    far.post(&other, "/v1/holds", wish).await.refused(409, "slot_taken");
}

#[tokio::test]
async fn a_logout_on_one_node_closes_sockets_on_the_other() {
    let Some(redis) = Redis::start().await else { return };
    let (hub, other) = two_nodes(&redis).await;
    let phone = hub.seeker().await;
    let laptop = hub.login(&phone).await;
    let mut there = Socket::open(&other, &phone).await;
    let mut stays = Socket::open(&other, &laptop).await;
    phone.post(&hub, "/v1/auth/logout", json!({})).await.data(200);
    assert_eq!(there.close_code().await, Some(4501));
    stays.ok("ping", json!({})).await;
}

#[tokio::test]
async fn an_outage_of_redis_costs_time_and_nothing_else() {
    let Some(mut redis) = Redis::start().await else { return };
    let (hub, other) = two_nodes(&redis).await;
    let pair = Pair::of(&hub).await;
    let mut there = pair.follow(&other, &pair.b).await;
    let mut here = pair.follow(&hub, &pair.a).await;
    pair.post(&hub, &pair.a, "before").await;
    assert_eq!(here.event("message:new").await["seq"], 1);
    assert_eq!(there.event("message:new").await["seq"], 1);
    redis.kill();
    for n in 2..=6 {
        pair.post(&hub, &pair.a, "during").await;
        assert_eq!(here.event("message:new").await["seq"], n, "the same node needs no Redis");
    }
    // A client that comes now is served on the other node, too.
    let mut fresh = Socket::open(&other, &pair.b).await;
    fresh.ok("subscribe", json!({ "channel": pair.channel(), "since": 0 })).await;
    for n in 1..=6 {
        assert_eq!(fresh.event("message:new").await["seq"], n);
    }
    redis.start_again().await;
    redis.is_followed_by(2).await;
    // The publisher reconnects when it has something to say; what it says first may be lost.
    let mut last = 6;
    let first = loop {
        pair.post(&hub, &pair.a, "after").await;
        last += 1;
        if let Some(event) = there.event_within("message:new", Duration::from_millis(500)).await {
            break event;
        }
        assert!(last < 40, "the bus does not come back");
    };
    assert_eq!(first["seq"], 2, "what the outage hid comes first");
    for n in 3..=last {
        assert_eq!(there.event("message:new").await["seq"], n);
    }
}
