//! Who is online, as others see it.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::chat::Pair;
use crate::support::{Person, Socket, TestHub};

const GRACE: Duration = Duration::from_secs(1);

async fn hub() -> TestHub {
    TestHub::start_with(|c| c.sockets.presence_grace = GRACE).await
}

fn channel(person: &Person) -> String {
    format!("presence:{}", person.id)
}

/// Follows the presence of `person`, who is in `state`.
async fn watch(socket: &mut Socket, person: &Person, state: &str) {
    let answer = socket.ok("subscribe", json!({ "channel": channel(person) })).await;
    assert_eq!(answer["snapshot"]["state"], state, "{answer}");
    assert_eq!(answer["snapshot"]["userId"], person.id);
}

/// A socket whose presence has been told: its own snapshot says so.
async fn come_online(hub: &TestHub, person: &Person) -> Socket {
    let mut socket = Socket::open(hub, person).await;
    watch(&mut socket, person, "online").await;
    socket.ok("unsubscribe", json!({ "channel": channel(person) })).await;
    socket
}

#[tokio::test]
async fn a_user_is_online_with_the_first_device_and_until_after_the_last() {
    let hub = hub().await;
    let pair = Pair::of(&hub).await;
    let mut watcher = Socket::open(&hub, &pair.b).await;
    watch(&mut watcher, &pair.a, "offline").await;
    let phone = come_online(&hub, &pair.a).await;
    let online = watcher.event("user:online").await;
    assert_eq!(
        (&online["channel"], &online["data"]["state"]),
        (&json!(channel(&pair.a)), &json!("online"))
    );
    assert!(online.get("seq").is_none() && online["data"]["lastSeen"].is_string());
    let laptop = come_online(&hub, &pair.a).await;
    phone.close().await;
    assert_eq!(watcher.event_within("user:offline", GRACE * 2).await, None);
    let gone = Instant::now();
    // Without a goodbye.
    drop(laptop);
    let offline = watcher.event("user:offline").await;
    assert!(gone.elapsed() >= GRACE - Duration::from_millis(50), "{:?}", gone.elapsed());
    assert_eq!(offline["data"]["state"], "offline");
    assert!(watcher.events.iter().all(|e| e["event"] != "user:online"), "{:?}", watcher.events);
    watch(&mut watcher, &pair.a, "offline").await;
    let back = come_online(&hub, &pair.a).await;
    watcher.event("user:online").await;
    drop(back);
}

#[tokio::test]
async fn a_reconnect_inside_the_grace_is_invisible() {
    let hub = TestHub::start_with(|c| c.sockets.presence_grace = Duration::from_secs(3)).await;
    let pair = Pair::of(&hub).await;
    let mut socket = come_online(&hub, &pair.a).await;
    let mut watcher = Socket::open(&hub, &pair.b).await;
    watch(&mut watcher, &pair.a, "online").await;
    for _ in 0..5 {
        drop(socket);
        socket = come_online(&hub, &pair.a).await;
    }
    // Longer than the grace of every one of those goodbyes.
    assert_eq!(watcher.event_within("user:offline", Duration::from_secs(4)).await, None);
    assert!(watcher.events.is_empty(), "{:?}", watcher.events);
    drop(socket);
    watcher.event("user:offline").await;
}

#[tokio::test]
async fn presence_is_for_acquaintances() {
    let hub = hub().await;
    let practice = hub.practice().await;
    let (seeker, stranger) = (hub.seeker().await, hub.seeker().await);
    let mut socket = Socket::open(&hub, &seeker).await;
    let theirs = json!({ "channel": channel(&practice.person) });
    socket.refused("subscribe", theirs.clone(), "not_found").await;
    // A hold is no acquaintance, a booking is, for both sides.
    let hold = seeker.post(&hub, "/v1/holds", practice.wish(practice.slot(1))).await.data(201);
    socket.refused("subscribe", theirs, "not_found").await;
    let body = json!({ "holdId": hold["id"] });
    seeker.post(&hub, "/v1/bookings", body).await.data(201);
    watch(&mut socket, &practice.person, "offline").await;
    let mut practitioner = come_online(&hub, &practice.person).await;
    socket.event("user:online").await;
    watch(&mut practitioner, &seeker, "online").await;
    practitioner.refused("subscribe", json!({ "channel": channel(&stranger) }), "not_found").await;
    let body = json!({ "userId": practice.person.id });
    stranger.post(&hub, "/v1/conversations", body).await.data(201);
    watch(&mut practitioner, &stranger, "offline").await;
    // Who does not follow hears nothing.
    let mut unasked = Socket::open(&hub, &seeker).await;
    drop(practitioner);
    socket.event("user:offline").await;
    unasked.ok("ping", json!({})).await;
    assert!(unasked.events.is_empty(), "{:?}", unasked.events);
}

#[tokio::test]
async fn unsubscribing_ends_it() {
    let hub = hub().await;
    let pair = Pair::of(&hub).await;
    let mut watcher = Socket::open(&hub, &pair.b).await;
    let mut witness = Socket::open(&hub, &pair.b).await;
    watch(&mut watcher, &pair.a, "offline").await;
    watch(&mut witness, &pair.a, "offline").await;
    watcher.ok("unsubscribe", json!({ "channel": channel(&pair.a) })).await;
    let _online = come_online(&hub, &pair.a).await;
    witness.event("user:online").await;
    watcher.ok("ping", json!({})).await;
    assert!(watcher.events.is_empty(), "{:?}", watcher.events);
}
