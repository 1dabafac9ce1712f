//! What nodes know together, over a real Redis: who is there, also when a node dies or Redis does.

use std::time::{Duration, Instant};

use hub::bus::{Away, Bus, Members, RedisBus};
use hub::domain::presence::{State, View};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bus::{is_connected, two_nodes};
use crate::chat::Pair;
use crate::support::postgres::migrated;
use crate::support::redis::Redis;
use crate::support::{Node, Person, Socket, TestHub};

fn channel(person: &Person) -> Value {
    json!({ "channel": format!("presence:{}", person.id) })
}

/// A socket that follows the presence of `person`, who is in `state`.
async fn watcher(hub: &TestHub, by: &Person, person: &Person, state: &str) -> Socket {
    let mut socket = Socket::open(hub, by).await;
    let opened = socket.ok("subscribe", channel(person)).await;
    assert_eq!(opened["snapshot"]["state"], state, "{opened}");
    socket
}

/// Waits until so many nodes have told Redis of `person`.
async fn is_known_at(redis: &Redis, person: &Person, nodes: usize) {
    let id = person.id.replace('-', "");
    let until = Instant::now() + Duration::from_secs(10);
    while redis.ask(&format!("HKEYS klearkarma:user:{id}")).await.matches("s:").count() != nodes {
        assert!(Instant::now() < until, "not known at {nodes} nodes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_user_on_two_nodes_is_there_until_both_are_left() {
    let Some(redis) = Redis::start().await else { return };
    let (hub, other) = two_nodes(&redis).await;
    let pair = Pair::of(&hub).await;
    let mut near = watcher(&hub, &pair.b, &pair.a, "offline").await;
    let mut far = watcher(&other, &pair.b, &pair.a, "offline").await;
    let here = Socket::open(&hub, &pair.a).await;
    let mut there = Socket::open(&other, &pair.a).await;
    is_known_at(&redis, &pair.a, 2).await;
    for socket in [&mut near, &mut far] {
        socket.event("user:online").await;
    }
    here.close().await;
    is_known_at(&redis, &pair.a, 1).await;
    there.ok("presence:set", json!({ "state": "away" })).await;
    for socket in [&mut near, &mut far] {
        let away = socket.event("user:away").await;
        assert_eq!(away["data"]["userId"], pair.a.id);
        assert_eq!(socket.events, [Value::Null; 0], "one node left and nobody heard of it");
    }
    watcher(&hub, &pair.b, &pair.a, "away").await;
    there.close().await;
    for socket in [&mut near, &mut far] {
        assert!(socket.event("user:offline").await["data"]["lastSeen"].is_string());
        assert_eq!(socket.any_event(Duration::from_secs(3)).await, None, "told once");
    }
    let mut late = watcher(&other, &pair.b, &pair.a, "offline").await;
    let opened = late.ok("subscribe", channel(&pair.a)).await;
    assert!(opened["snapshot"]["lastSeen"].is_string(), "{opened}");
}

#[tokio::test]
async fn presence_outlives_an_outage_of_redis() {
    let Some(mut redis) = Redis::start().await else { return };
    let (hub, other) = two_nodes(&redis).await;
    let pair = Pair::of(&hub).await;
    let leaves = Socket::open(&hub, &pair.a).await;
    let _stays = Socket::open(&hub, &pair.b).await;
    is_known_at(&redis, &pair.a, 1).await;
    is_known_at(&redis, &pair.b, 1).await;
    let mut near = watcher(&hub, &pair.b, &pair.a, "online").await;
    let mut far = watcher(&other, &pair.b, &pair.a, "online").await;
    redis.kill();
    leaves.close().await;
    near.event("user:offline").await;
    assert_eq!(far.any_event(Duration::from_secs(3)).await, None, "how should it know");
    // It comes back and knows nothing any more.
    redis.start_again().await;
    let offline = far.event_within("user:offline", Duration::from_secs(20)).await;
    assert_eq!(offline.expect("the other node hears of it")["data"]["userId"], pair.a.id);
    is_known_at(&redis, &pair.b, 2).await;
    watcher(&other, &pair.a, &pair.b, "online").await;
}

#[tokio::test]
async fn a_dead_node_takes_its_users_offline() {
    let Some(redis) = Redis::start().await else { return };
    let (url, redis_url) = (migrated(), redis.url());
    let variables = [("REDIS_URL", redis_url.as_str())];
    let (dies, lives) =
        tokio::join!(Node::start_with(&url, &variables), Node::start_with(&url, &variables));
    let pair = Pair::of(&lives).await;
    let both = lives.seeker().await;
    both.post(&lives, "/v1/conversations", json!({ "userId": pair.b.id })).await.data(201);
    let _one = Socket::open(&dies, &pair.a).await;
    let _two = Socket::open(&dies, &both).await;
    let _three = Socket::open(&lives, &both).await;
    is_known_at(&redis, &pair.a, 1).await;
    is_known_at(&redis, &both, 2).await;
    let mut watcher = watcher(&lives, &pair.b, &pair.a, "online").await;
    watcher.ok("subscribe", channel(&both)).await;
    // It may never have come to say that it lives: whom it told of, it told of as a node.
    assert!(redis.ask("ZCARD klearkarma:nodes").await.contains(":2"));
    let died = Instant::now();
    dies.kill().await;
    let offline = watcher.event_within("user:offline", Duration::from_secs(45)).await;
    let offline = offline.expect("the users of a dead node are offline within 45 s");
    assert_eq!(offline["data"]["userId"], pair.a.id);
    assert!(died.elapsed() > Duration::from_secs(10), "a node that is only slow keeps its users");
    assert_eq!(watcher.any_event(Duration::from_secs(5)).await, None, "who is elsewhere stays");
    is_known_at(&redis, &both, 1).await;
    for person in [&pair.a, &both] {
        let left =
            redis.ask(&format!("HKEYS klearkarma:user:{}", person.id.replace('-', ""))).await;
        assert_eq!(left.matches("c:").count(), usize::from(person.id == both.id), "{left}");
    }
    assert!(redis.ask("ZCARD klearkarma:nodes").await.contains(":1"), "nothing is left of it");
    lives.stop().await;
}

/// After a silence Redis may read an old connection after a new one: the newest report counts, and
/// who is there is taken away with the node.
#[tokio::test]
async fn the_last_report_counts_whatever_is_read_first() {
    let Some(redis) = Redis::start().await else { return };
    let (here, other) = (member(&redis).await, member(&redis).await);
    let user = Uuid::now_v7();
    let there = View { state: State::Online, last_seen: None };
    let reports = [(View::default(), 0), (there, 1), (View::default(), 0)];
    for pair in reports.windows(2) {
        let [old, new] =
            [pair[0], pair[1]].map(|(view, sockets)| here.report(user, Some(view), Some(sockets)));
        new.await.unwrap();
        old.await.unwrap();
        let (view, sockets) = pair[1];
        assert_eq!(other.elsewhere(user).await.unwrap().0.state, view.state);
        if sockets > 0 {
            let keys = redis.ask("KEYS klearkarma:node:*:present").await;
            assert!(keys.contains(":present"), "the sweep of a dead node would forget them");
        }
        assert_eq!(other.opened(user, 0).await.unwrap(), sockets);
    }
}

/// A sweep that was cut short took its users away and told nobody.
#[tokio::test]
async fn the_next_sweep_tells_what_a_sweep_that_was_cut_short_did_not() {
    let Some(redis) = Redis::start().await else { return };
    let (dead, lives) = (member(&redis).await, member(&redis).await);
    let user = Uuid::now_v7();
    let there = View { state: State::Online, last_seen: None };
    dead.report(user, Some(there), Some(1)).await.unwrap();
    let key = redis.ask("KEYS klearkarma:node:*:present").await;
    let node = key.split(':').rev().nth(1).unwrap();
    // What the first one did until it was cut short.
    let entry = format!("klearkarma:user:{}", user.simple());
    redis.ask(&format!("HSET {entry} u:{node} {}", 1_u64 << 52)).await;
    redis.ask(&format!("HDEL {entry} s:{node}")).await;
    let told = std::sync::Mutex::new(Vec::new());
    let tell =
        |user, told_of: hub::bus::Told| told.lock().unwrap().push((user, told_of.view.state));
    lives.sweep(node.parse().unwrap(), tell).await.unwrap();
    assert_eq!(*told.lock().unwrap(), [(user, State::Offline)]);
    assert!(!redis.ask("KEYS klearkarma:node:*:present").await.contains(node), "nothing is left");
}

/// A node as far as the bus goes.
async fn member(redis: &Redis) -> Members {
    let bus = Bus::Redis(RedisBus::start(&redis.url(), |_| {}).unwrap());
    let members = bus.members().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while !members.is_there() {
        assert!(Instant::now() < until, "redis is not reached");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    members
}

#[tokio::test]
async fn sockets_and_commands_of_a_user_add_up_over_nodes() {
    let Some(mut redis) = Redis::start().await else { return };
    let (one, two) = (member(&redis).await, member(&redis).await);
    let (user, other) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(one.report(user, None, Some(3)).await.unwrap().elsewhere, 0);
    let told = two.report(user, None, Some(2)).await.unwrap();
    assert_eq!((told.elsewhere, told.changed), (3, false), "sockets alone are not seen");
    assert_eq!(one.report(user, None, Some(0)).await.unwrap().elsewhere, 2);
    assert_eq!(two.report(user, None, Some(3)).await.unwrap().elsewhere, 0);
    assert_eq!(two.report(other, None, Some(1)).await.unwrap().elsewhere, 0);

    // Five a second, ten at once: what one node lets through, the other one has to do without.
    let rate = (5, 10);
    assert_eq!(one.spend(user, 8, rate).await, Ok(Duration::ZERO));
    let wait = two.spend(user, 4, rate).await.unwrap();
    assert!(wait > Duration::from_millis(100) && wait <= Duration::from_millis(600), "{wait:?}");
    assert_eq!(two.spend(other, 4, rate).await, Ok(Duration::ZERO));
    let keys = redis.ask(&format!("PTTL klearkarma:rate:{}", user.simple())).await;
    assert!(keys.starts_with(':') && !keys.starts_with(":-"), "it lives for a while: {keys}");

    redis.kill();
    let asked = Instant::now();
    assert_eq!(one.spend(user, 1, rate).await, Err(Away));
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn guesses_of_passwords_count_over_nodes() {
    let Some(redis) = Redis::start().await else { return };
    let (hub, other) = two_nodes(&redis).await;
    let owner = hub.seeker().await;
    let wrong = json!({ "email": owner.email, "password": "not the password" });
    for _ in 0..5 {
        hub.post("/v1/auth/login", wrong.clone()).await.refused(401, "invalid_credentials");
    }
    // As soon as the other node has heard of them; by itself it would take five more.
    let mut more = 0;
    while other.post("/v1/auth/login", wrong.clone()).await.status != 429 {
        more += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(more < 5, "the other node does not count them");
}

#[tokio::test]
async fn a_user_has_so_many_sockets_over_all_nodes() {
    let Some(redis) = Redis::start().await else { return };
    let with = |url: String| {
        move |c: &mut hub::config::Config| {
            c.redis_url = Some(url.into());
            c.sockets.connections_per_user = 2;
        }
    };
    let hub = TestHub::start_with(with(redis.url())).await;
    let other = TestHub::start_over(hub.database_url.clone(), with(redis.url())).await;
    is_connected(&hub).await;
    is_connected(&other).await;
    let user = hub.seeker().await;
    let one = Socket::open(&hub, &user).await;
    let _two = Socket::open(&other, &user).await;
    for hub in [&hub, &other] {
        let mut third = Socket::try_open(hub, Some(&user.token)).await.unwrap();
        assert_eq!(third.close_code().await, Some(4503));
    }
    one.close().await;
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let mut next = Socket::try_open(&other, Some(&user.token)).await.unwrap();
        if next.call_if_open("ping").await {
            break;
        }
        assert!(Instant::now() < until, "the place does not become free");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
