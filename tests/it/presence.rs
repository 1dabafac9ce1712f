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

/// What the watchers hear of, with the instants at which it was told.
async fn heard(socket: &mut Socket, patience: Duration) -> Vec<(String, jiff::Timestamp)> {
    let mut heard = Vec::new();
    let until = Instant::now() + patience;
    while let Some(event) = socket.any_event(until.saturating_duration_since(Instant::now())).await
    {
        let state = event["data"]["state"].as_str().unwrap().to_owned();
        heard.push((state, event["at"].as_str().unwrap().parse().unwrap()));
    }
    heard
}

#[tokio::test]
async fn a_user_is_away_when_all_devices_say_so() {
    let hub = hub().await;
    let pair = Pair::of(&hub).await;
    let mut watcher = Socket::open(&hub, &pair.b).await;
    let mut phone = come_online(&hub, &pair.a).await;
    let mut laptop = come_online(&hub, &pair.a).await;
    watch(&mut watcher, &pair.a, "online").await;
    phone.ok("presence:set", json!({ "state": "away" })).await;
    phone.ok("presence:set", json!({ "state": "away" })).await;
    assert_eq!(watcher.any_event(Duration::from_secs(3)).await, None, "the laptop is in use");
    laptop.ok("presence:set", json!({ "state": "away" })).await;
    let away = watcher.event("user:away").await;
    assert_eq!(
        (&away["data"]["state"], &away["data"]["userId"]),
        (&json!("away"), &json!(pair.a.id))
    );
    watch(&mut watcher, &pair.a, "away").await;
    phone.ok("presence:set", json!({ "state": "online" })).await;
    watcher.event("user:online").await;
    // The one in use leaves without a goodbye: away after the grace, since the other one is.
    drop(phone);
    watcher.event("user:away").await;
    laptop.close().await;
    let offline = watcher.event("user:offline").await;
    assert!(offline["data"]["lastSeen"].is_string(), "{offline}");
    for (data, field) in [
        (json!({ "state": "offline" }), "state"),
        (json!({ "state": "busy" }), "state"),
        (json!({}), "state"),
        (json!({ "state": "away", "since": 3 }), "since"),
    ] {
        let error = watcher.refused("presence:set", data, "validation_failed").await;
        assert_eq!(error["details"][0]["field"], field, "{error}");
    }
}

#[tokio::test]
async fn watchers_hear_seldom_and_always_the_last() {
    let hub = hub().await;
    let pair = Pair::of(&hub).await;
    let mut watcher = Socket::open(&hub, &pair.b).await;
    watch(&mut watcher, &pair.a, "offline").await;
    let mut phone = come_online(&hub, &pair.a).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        for state in ["away", "online", "away"] {
            phone.ok("presence:set", json!({ "state": state })).await;
        }
        // A socket has so many commands a second.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let heard = heard(&mut watcher, Duration::from_secs(4)).await;
    assert_eq!(heard.first().map(|(state, _)| state.as_str()), Some("online"), "{heard:?}");
    assert_eq!(heard.last().map(|(state, _)| state.as_str()), Some("away"), "{heard:?}");
    for pair in heard.windows(2) {
        let apart = pair[1].1.duration_since(pair[0].1).as_millis();
        assert!(apart >= 2_000 && pair[0].0 != pair[1].0, "{heard:?}");
    }
}

#[tokio::test]
async fn when_somebody_was_last_here_outlives_a_restart() {
    let hub = hub().await;
    let pair = Pair::of(&hub).await;
    let url = hub.database_url.clone();
    hub.stop().await;
    let hub = TestHub::start_over(url, |_| {}).await;
    let mut watcher = Socket::open(&hub, &pair.b).await;
    let answer = watcher.ok("subscribe", json!({ "channel": channel(&pair.a) })).await;
    assert_eq!(answer["snapshot"]["state"], "offline");
    assert!(answer["snapshot"]["lastSeen"].is_string(), "{answer}");
}
