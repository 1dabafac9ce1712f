//! The list of notifications, and pushes that outlive the hub that decided on them.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::chat::Pair;
use crate::push::{SOON, register};
use crate::support::push_receiver::PushReceiver;
use crate::support::{Socket, TestHub};

#[tokio::test]
async fn notifications_are_listed_and_read() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (me, seeker) = (&practice.person, hub.seeker().await);
    for n in 1..=5 {
        seeker.post(&hub, "/v1/bookings", practice.wish(practice.slot(n))).await.data(201);
    }
    let page = async |query: String| me.get(&hub, &format!("/v1/notifications{query}")).await;
    let all = page(String::new()).await.data(200);
    assert_eq!(all["unread"], 5);
    let ids: Vec<String> = all["notifications"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n["id"].as_str().unwrap().to_owned())
        .collect();
    let mut paged = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let rows = page(query).await.data(200)["notifications"].clone();
        let Some(last) = rows.as_array().unwrap().last() else { break };
        query = format!("?limit=2&before={}", last["id"].as_str().unwrap());
        paged.extend(rows.as_array().unwrap().iter().map(|n| n["id"].as_str().unwrap().to_owned()));
    }
    assert_eq!((paged.len(), &paged), (5, &ids));
    page("?limit=0".to_owned()).await.names("limit");

    let mut other_device = Socket::open(&hub, me).await;
    let which = |key: &str, id: &str| json!({ key: id });
    let read = async |body: Value| me.post(&hub, "/v1/notifications/read", body).await;
    assert_eq!(read(which("notificationId", &ids[1])).await.data(200)["unread"], 4);
    let told = other_device.event("notification:read").await;
    assert_eq!(told["data"], json!({ "notificationIds": [ids[1]], "unread": 4 }));
    assert_eq!(read(which("notificationId", &ids[1])).await.data(200)["unread"], 4);
    assert_eq!(read(which("upTo", &ids[2])).await.data(200)["unread"], 1);
    read(which("notificationId", &Uuid::new_v4().to_string())).await.refused(404, "not_found");
    read(json!({})).await.names("notificationId");
    let foreign = seeker.post(&hub, "/v1/notifications/read", which("notificationId", &ids[0]));
    foreign.await.refused(404, "not_found");
    let left = page(String::new()).await.data(200);
    assert_eq!(left["unread"], 1);
    assert!(left["notifications"][0]["readAt"].is_null());
    assert!(left["notifications"][4]["readAt"].is_string());
}

#[tokio::test]
async fn a_notification_reaches_the_own_channel_and_stays_there() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let mut socket = Socket::open(&hub, &practice.person).await;
    let wish = practice.wish(practice.slot(1));
    let booking = seeker.post(&hub, "/v1/bookings", wish).await.data(201);
    let live = [socket.event("booking:created").await, socket.event("notification:new").await];
    assert_eq!(live[0]["data"]["booking"]["id"], booking["id"], "{:#}", live[0]);
    let mut later = Socket::try_open(&hub, Some(&practice.person.token)).await.unwrap();
    let channel = format!("user:{}", practice.person.id);
    later.ok("subscribe", json!({ "channel": channel, "since": 0 })).await;
    let replayed = [later.event("booking:created").await, later.event("notification:new").await];
    assert_eq!(live, replayed);
}

#[tokio::test]
async fn a_push_outlives_the_hub_that_decided_on_it() {
    let hub = TestHub::start_with(|c| c.push.window = Duration::from_secs(300)).await;
    let pair = Pair::of(&hub).await;
    let receiver = PushReceiver::start().await.unwrap();
    register(&hub, &pair.b, &receiver).await;
    let message = pair.post(&hub, &pair.a, "before the stop").await;
    let database = hub.database_url.clone();
    hub.stop().await;
    assert_eq!(receiver.requests(), 0);
    let hub = TestHub::start_over(database.clone(), |_| {}).await;
    hub.execute("UPDATE outbox SET not_before = now()").await;
    let push = receiver.next(SOON).await.unwrap();
    assert_eq!(push.plaintext["id"], message["id"]);

    // Two hubs at once, and one that died with the push in hand: its lease runs out.
    let second = TestHub::start_over(database, |_| {}).await;
    hub.execute(
        "UPDATE push_deliveries SET state = 'waiting', next_attempt_at = now(), attempts = 1",
    )
    .await;
    let again = receiver.next(SOON).await.unwrap();
    assert_eq!((&again.plaintext, &again.topic), (&push.plaintext, &push.topic));
    second.becomes("SELECT count(*) FROM push_deliveries WHERE state = 'delivered'", 1).await;
    assert_eq!(receiver.requests(), 2);
}
