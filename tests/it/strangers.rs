//! Presence ends with what allowed it: on every node, also for nodes that only share a database.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chat::Pair;
use crate::support::{Person, Socket, TestHub};

async fn two_nodes() -> (TestHub, TestHub) {
    let hub = TestHub::start_with(|c| c.sockets.presence_grace = Duration::from_secs(1)).await;
    let other = TestHub::start_over(hub.database_url.clone(), |c| {
        c.sockets.presence_grace = Duration::from_secs(1);
    });
    let other = other.await;
    (hub, other)
}

fn channel(person: &Person) -> Value {
    json!(format!("presence:{}", person.id))
}

/// A socket of `by` that follows the presence of `person`.
async fn watcher(hub: &TestHub, by: &Person, person: &Person) -> Socket {
    let mut socket = Socket::open(hub, by).await;
    socket.ok("subscribe", json!({ "channel": channel(person) })).await;
    socket
}

/// The subscription to the presence of `person` ends, soon after `since`.
async fn ends(socket: &mut Socket, person: &Person, since: Instant) {
    let event = socket.event("subscription:ended").await;
    assert_eq!(
        (&event["channel"], &event["data"]["reason"]),
        (&channel(person), &json!("not_allowed"))
    );
    // Promised are two; this machine may have much else to do.
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
}

/// The subscription of `socket` is still there: it tells of a change of `person`, whose only device on
/// the node is `device`.
async fn goes_on(socket: &mut Socket, person: &Person, device: &mut Socket) {
    device.ok("presence:set", json!({ "state": "away" })).await;
    assert_eq!(socket.event("user:away").await["data"]["userId"], person.id);
    assert!(
        socket.events.iter().all(|e| e["event"] != "subscription:ended"),
        "{:?}",
        socket.events
    );
}

#[tokio::test]
async fn who_leaves_the_only_thing_in_common_is_followed_no_more() {
    let (hub, other) = two_nodes().await;
    let owner = hub.register("practitioner").await;
    let (stays, goes) = (hub.seeker().await, hub.seeker().await);
    for seeker in [&stays, &goes] {
        seeker.post(&hub, "/v1/conversations", json!({ "userId": owner.id })).await.data(201);
    }
    let body = json!({ "kind": "group", "title": "Monday yoga", "memberIds": [stays.id, goes.id] });
    let group = owner.post(&hub, "/v1/conversations", body).await.data(201);
    let mut sockets = [
        (watcher(&hub, &stays, &goes).await, &goes),
        (watcher(&other, &stays, &goes).await, &goes),
        (watcher(&hub, &goes, &stays).await, &stays),
        (watcher(&other, &goes, &stays).await, &stays),
    ];
    // These two have a conversation of their own.
    let mut known = watcher(&other, &owner, &goes).await;
    let path = format!("/v1/conversations/{}/members/{}", group["id"].as_str().unwrap(), goes.id);
    let since = Instant::now();
    goes.delete(&hub, &path).await.data(200);
    for (socket, person) in &mut sockets {
        ends(socket, person, since).await;
    }
    goes_on(&mut known, &goes, &mut sockets[3].0).await;
    for (mut socket, person) in sockets {
        let subscribe = json!({ "channel": channel(person) });
        socket.refused("subscribe", subscribe, "not_found").await;
    }
}

#[tokio::test]
async fn a_conversation_that_goes_takes_presence_along() {
    let (hub, other) = two_nodes().await;
    let pair = Pair::of(&hub).await;
    let mut sockets =
        [watcher(&other, &pair.a, &pair.b).await, watcher(&hub, &pair.b, &pair.a).await];
    let since = Instant::now();
    hub.execute(&format!("DELETE FROM conversations WHERE id = '{}'", pair.id)).await;
    ends(&mut sockets[0], &pair.b, since).await;
    ends(&mut sockets[1], &pair.a, since).await;
}

#[tokio::test]
async fn a_block_ends_presence_on_nodes_that_nobody_tells() {
    let (hub, other) = two_nodes().await;
    let pair = Pair::of(&hub).await;
    let third = hub.seeker().await;
    third.post(&hub, "/v1/conversations", json!({ "userId": pair.b.id })).await.data(201);
    let mut sockets =
        [watcher(&other, &pair.a, &pair.b).await, watcher(&other, &pair.b, &pair.a).await];
    let mut known = watcher(&other, &third, &pair.b).await;
    let since = Instant::now();
    pair.a.post(&hub, &format!("/v1/users/{}/block", pair.b.id), json!({})).await.data(200);
    ends(&mut sockets[0], &pair.b, since).await;
    ends(&mut sockets[1], &pair.a, since).await;
    goes_on(&mut known, &pair.b, &mut sockets[1]).await;
}
