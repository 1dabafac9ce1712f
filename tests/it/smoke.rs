//! The shortest way through the whole hub.

use serde_json::json;

use crate::support::{Socket, TestHub};

#[tokio::test]
async fn a_session_is_held_booked_watched_and_talked_about() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let mut watcher = Socket::open(&hub, &hub.seeker().await).await;
    let calendar = format!("calendar:{}", practice.id);
    let opened = watcher.ok("subscribe", json!({ "channel": calendar })).await;
    assert_eq!(opened["snapshot"]["busy"], json!([]));

    let start = practice.slot(10);
    let hold = seeker.post(&hub, "/v1/holds", practice.wish(start)).await.data(201);
    let delta = watcher.event("availability:changed").await;
    assert_eq!(delta["seq"].as_i64().unwrap(), opened["seq"].as_i64().unwrap() + 1);
    assert_eq!(delta["data"]["changes"][0]["start"], start.to_string());

    let body = json!({ "holdId": hold["id"] });
    let booking = seeker.post(&hub, "/v1/bookings", body).await.data(201);
    assert_eq!(booking["status"], "pending");

    let mut practitioner = Socket::open(&hub, &practice.person).await;
    let open = json!({ "userId": practice.person.id });
    let chat = seeker.post(&hub, "/v1/conversations", open).await.data(201);
    let channel = format!("conversation:{}", chat["id"].as_str().unwrap());
    practitioner.ok("subscribe", json!({ "channel": channel })).await;
    let mut writer = Socket::open(&hub, &seeker).await;
    let message = json!({
        "conversationId": chat["id"], "clientId": uuid::Uuid::new_v4(), "type": "text",
        "content": "Namaste!",
    });
    let sent = writer.ok("message:send", message.clone()).await;
    assert_eq!(writer.ok("message:send", message).await, sent);
    let heard = practitioner.event("message:new").await;
    assert_eq!(
        (&heard["seq"], &heard["data"]["message"]["content"]),
        (&json!(1), &json!("Namaste!"))
    );
    hub.stop().await;
}
