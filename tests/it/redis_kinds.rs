//! The bus over other kinds of Redis: a cluster, and one that knows no sharded pub/sub.

use std::time::Duration;

use serde_json::json;

use crate::bus::is_connected;
use crate::chat::Pair;
use crate::support::TestHub;
use crate::support::redis::{Redis, RedisCluster};

async fn two_nodes(url: &str) -> (TestHub, TestHub) {
    let with = |url: String| {
        move |c: &mut hub::config::Config| {
            c.redis_url = Some(url.into());
            c.sockets.presence_grace = Duration::from_millis(300);
        }
    };
    let a = TestHub::start_with(with(url.to_owned())).await;
    let b = TestHub::start_over(a.database_url.clone(), with(url.to_owned())).await;
    is_connected(&a).await;
    is_connected(&b).await;
    (a, b)
}

/// What is not kept crosses from node to node in many topics: nothing heals it, so the bus must
/// have brought it.
async fn topics_cross(hub: &TestHub, other: &TestHub, pairs: u32) {
    for _ in 0..pairs {
        let pair = Pair::of(hub).await;
        let mut there = pair.follow(other, &pair.b).await;
        let mut here = pair.follow(hub, &pair.a).await;
        here.ok("typing:start", json!({ "conversationId": pair.id })).await;
        assert_eq!(there.event("typing:start").await["data"]["userId"], pair.a.id);
        let presence = json!({ "channel": format!("presence:{}", pair.a.id) });
        there.ok("subscribe", presence).await;
        here.ok("presence:set", json!({ "state": "away" })).await;
        there.event("user:away").await;
    }
}

#[tokio::test]
async fn a_cluster_of_three_masters_carries_the_bus() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let (hub, other) = two_nodes(&cluster.urls()).await;
    topics_cross(&hub, &other, 5).await;
    let used = cluster.masters_with_topics().await;
    assert_eq!(used, 3, "the topics are spread over the masters");
    // One of its nodes leads to the others.
    let seed = cluster.urls().split(',').next().unwrap().replace("redis://", "redis+cluster://");
    let third = TestHub::start_over(hub.database_url.clone(), move |c| {
        c.redis_url = Some(seed.into());
    })
    .await;
    is_connected(&third).await;
    topics_cross(&third, &hub, 1).await;
}

#[tokio::test]
async fn before_redis_7_plain_pub_sub_serves() {
    let old = ["--rename-command", "SSUBSCRIBE", "", "--rename-command", "SPUBLISH", ""];
    let Some(redis) = Redis::start_with(&old).await else { return };
    let (hub, other) = two_nodes(&redis.url()).await;
    topics_cross(&hub, &other, 5).await;
    let plain = redis.ask("PUBSUB NUMSUB klearkarma:0").await;
    assert!(plain.contains(":2"), "{plain}");
}
