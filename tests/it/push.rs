//! Pushes from the event to the device: sent once when nobody acknowledged, not at all otherwise.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::chat::Pair;
use crate::support::fake_google::{FakeGoogle, PROJECT};
use crate::support::push_receiver::{Answer, PushReceiver};
use crate::support::{Person, Practice, Socket, TestHub};

/// A push comes within a second after its window.
pub const SOON: Duration = Duration::from_secs(10);

/// Registers the browser behind `receiver`; returns the device's id.
pub async fn register(hub: &TestHub, person: &Person, receiver: &PushReceiver) -> String {
    let s = receiver.subscription();
    let keys = json!({ "p256dh": s.p256dh, "auth": s.auth });
    let web_push = json!({ "endpoint": s.endpoint, "expirationTime": null, "keys": keys });
    let body = json!({ "webPush": web_push, "label": "Firefox" });
    let device = person.post(hub, "/v1/notifications/devices", body).await.data(201);
    device["id"].as_str().unwrap().to_owned()
}

async fn book(hub: &TestHub, practice: &Practice, seeker: &Person, n: i64) -> Value {
    seeker.post(hub, "/v1/bookings", practice.wish(practice.slot(n))).await.data(201)
}

async fn newest_notification(hub: &TestHub, person: &Person) -> Value {
    person.get(hub, "/v1/notifications?limit=1").await.data(200)["notifications"][0].clone()
}

const DELIVERED: &str = "SELECT count(*) FROM push_deliveries WHERE state = 'delivered'";

#[tokio::test]
async fn what_nobody_acknowledged_is_pushed_once() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let (browser, tablet) =
        (PushReceiver::start().await.unwrap(), PushReceiver::start().await.unwrap());
    register(&hub, &practice.person, &browser).await;
    register(&hub, &practice.person, &tablet).await;
    let booked_at = Instant::now();
    let booking = book(&hub, &practice, &seeker, 3).await;
    let push = browser.next(SOON).await.unwrap();
    assert!(booked_at.elapsed() >= Duration::from_secs(1), "not before its window is over");
    let notification = newest_notification(&hub, &practice.person).await;
    assert_eq!(push.plaintext["id"], notification["id"]);
    assert_eq!(push.plaintext["title"], "New booking request");
    let data = &push.plaintext["data"];
    assert_eq!((&data["kind"], &data["bookingId"]), (&json!("booking_requested"), &booking["id"]));
    assert_eq!(push.urgency, "high");
    assert!(push.ttl > 3_600);

    let body = json!({ "userId": practice.person.id });
    let chat = seeker.post(&hub, "/v1/conversations", body).await.data(201);
    let path = format!("/v1/conversations/{}/messages", chat["id"].as_str().unwrap());
    let body = json!({ "clientId": Uuid::new_v4(), "content": "about my knee" });
    let message = seeker.post(&hub, &path, body).await.data(201);
    let second = browser.next(SOON).await.unwrap();
    assert_eq!(second.plaintext["id"], message["id"]);
    assert_eq!(second.plaintext["data"]["conversationId"], chat["id"]);
    assert!(!second.plaintext.to_string().contains("knee"), "pushes show on locked screens");
    assert!(push.topic.is_some() && push.topic != second.topic);
    // Each device got each push once, under the same topic.
    let topics = [tablet.next(SOON).await.unwrap().topic, tablet.next(SOON).await.unwrap().topic];
    assert_eq!(topics, [push.topic, second.topic]);
    hub.becomes(DELIVERED, 4).await;
    assert_eq!(hub.number("SELECT sum(attempts) FROM push_deliveries").await, 4);
    assert_eq!((browser.requests(), tablet.requests()), (2, 2));
    assert_eq!((browser.refused(), tablet.refused()), (vec![], vec![]));
}

/// What came before the first device is in the inbox and the conversation; it is not pushed late.
#[tokio::test]
async fn a_push_is_for_who_has_a_device_when_it_is_written() {
    let hub = TestHub::start_with(|c| c.push.window = Duration::from_secs(2)).await;
    let practice = hub.practice().await;
    let (me, seeker) = (&practice.person, hub.seeker().await);
    let chat = seeker.post(&hub, "/v1/conversations", json!({ "userId": me.id })).await.data(201);
    let id = chat["id"].as_str().unwrap().to_owned();
    let pair = Pair { id, a: seeker.clone(), b: me.clone() };
    book(&hub, &practice, &seeker, 1).await;
    pair.post(&hub, &seeker, "before").await;
    assert_eq!(hub.number("SELECT count(*) FROM outbox").await, 0);
    let browser = PushReceiver::start().await.unwrap();
    register(&hub, me, &browser).await;
    book(&hub, &practice, &seeker, 3).await;
    let message = pair.post(&hub, &seeker, "after").await;
    let pushes = [browser.next(SOON).await.unwrap(), browser.next(SOON).await.unwrap()];
    let mut ids = pushes.map(|push| push.plaintext["id"].clone());
    ids.sort_by_key(|id| *id == message["id"]);
    assert_eq!(ids, [newest_notification(&hub, me).await["id"].clone(), message["id"].clone()]);
    assert_eq!(browser.requests(), 2);
    let inbox = me.get(&hub, "/v1/notifications").await.data(200);
    assert_eq!(inbox["notifications"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_was_acknowledged_is_not_pushed() {
    let hub = TestHub::start_with(|c| c.push.window = Duration::from_secs(4)).await;
    let practice = hub.practice().await;
    let me = &practice.person;
    let seeker = hub.seeker().await;
    let receiver = PushReceiver::start().await.unwrap();
    register(&hub, me, &receiver).await;
    let body = json!({ "userId": me.id });
    let chat = seeker.post(&hub, "/v1/conversations", body).await.data(201);
    let id = chat["id"].as_str().unwrap().to_owned();
    let pair = Pair { id: id.clone(), a: seeker.clone(), b: me.clone() };
    let mut socket = Socket::open(&hub, me).await;
    let ack = |seq: i64| json!({ "conversationId": id, "seq": seq });
    let named = |n: &Value| json!({ "notificationId": n["id"] });

    pair.post(&hub, &seeker, "one").await;
    socket.ok("message:received", ack(1)).await;
    pair.post(&hub, &seeker, "two").await;
    socket.ok("message:read", ack(2)).await;
    pair.post(&hub, &seeker, "three").await;
    me.post(&hub, &format!("/v1/conversations/{id}/read"), json!({ "seq": 3 })).await.data(200);
    book(&hub, &practice, &seeker, 1).await;
    socket.ok("notification:read", named(&newest_notification(&hub, me).await)).await;
    book(&hub, &practice, &seeker, 2).await;
    socket.ok("notification:received", named(&newest_notification(&hub, me).await)).await;
    book(&hub, &practice, &seeker, 3).await;
    let which = named(&newest_notification(&hub, me).await);
    me.post(&hub, "/v1/notifications/read", which).await.data(200);
    let cancelled = "SELECT count(*) FROM outbox WHERE state = 'cancelled'";
    assert_eq!(hub.number(cancelled).await, 6);

    // Due after all the others: when it has come, they would have.
    let last = pair.post(&hub, &seeker, "four").await;
    assert_eq!(receiver.next(SOON).await.unwrap().plaintext["id"], last["id"]);
    assert_eq!(receiver.requests(), 1);
    let unread = "SELECT count(*) FROM notifications WHERE read_at IS NULL";
    assert_eq!(hub.number(unread).await, 1, "received is not read");
}

#[tokio::test]
async fn a_device_that_is_gone_is_forgotten_and_hinders_no_other() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let (gone, good) = (PushReceiver::start().await.unwrap(), PushReceiver::start().await.unwrap());
    gone.answer_with(Answer::status(410));
    register(&hub, &pair.b, &gone).await;
    let kept = register(&hub, &pair.b, &good).await;
    pair.post(&hub, &pair.a, "hello").await;
    assert!(good.next(SOON).await.is_some());
    hub.becomes("SELECT count(*) FROM devices", 1).await;
    let left = pair.b.get(&hub, "/v1/notifications/devices").await.data(200);
    assert_eq!((left.as_array().unwrap().len(), &left[0]["id"]), (1, &json!(kept)));
    assert_eq!((&left[0]["kind"], &left[0]["label"]), (&json!("web_push"), &json!("Firefox")));
    assert!(left[0].get("address").is_none() && left[0].get("endpoint").is_none());
    pair.post(&hub, &pair.a, "again").await;
    assert!(good.next(SOON).await.is_some());
    hub.becomes(DELIVERED, 2).await;
    assert_eq!(gone.requests(), 1);
}

#[tokio::test]
async fn a_service_that_fails_is_asked_again_later() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let receiver = PushReceiver::start().await.unwrap();
    register(&hub, &pair.b, &receiver).await;
    receiver.answer_with(Answer::status(500));
    let message = pair.post(&hub, &pair.a, "hello").await;
    let after = |attempts: i32, pause: i32| {
        format!(
            "SELECT count(*) FROM push_deliveries WHERE state = 'waiting' AND attempts = {attempts}
                AND last_error IS NOT NULL AND next_attempt_at BETWEEN
                    now() + interval '{pause} s' AND now() + interval '62 s'"
        )
    };
    hub.becomes(&after(1, 2), 1).await;
    receiver.answer_with(Answer::slow_down("60"));
    let at_once = "UPDATE push_deliveries SET next_attempt_at = now()";
    hub.execute(at_once).await;
    hub.becomes(&after(2, 50), 1).await;
    receiver.answer_with(Answer::status(201));
    hub.execute(at_once).await;
    assert_eq!(receiver.next(SOON).await.unwrap().plaintext["id"], message["id"]);
    hub.becomes(DELIVERED, 1).await;
    assert_eq!(receiver.requests(), 3);

    // Read on another device between two attempts: the next one is not made.
    receiver.answer_with(Answer::status(503));
    pair.post(&hub, &pair.a, "read meanwhile").await;
    hub.becomes(
        "SELECT count(*) FROM push_deliveries WHERE last_error IS NOT NULL AND state = 'waiting'",
        1,
    )
    .await;
    let path = format!("/v1/conversations/{}/read", pair.id);
    pair.b.post(&hub, &path, json!({ "seq": 2 })).await.data(200);
    let cancelled = "SELECT count(*) FROM push_deliveries WHERE state = 'cancelled'";
    assert_eq!(hub.number(cancelled).await, 1);
    receiver.answer_with(Answer::status(201));
    hub.execute("UPDATE push_deliveries SET next_attempt_at = now() WHERE state <> 'delivered'")
        .await;
    let last = pair.post(&hub, &pair.a, "the last").await;
    assert_eq!(receiver.next(SOON).await.unwrap().plaintext["id"], last["id"]);
    assert_eq!(receiver.requests(), 5);
}

#[tokio::test]
async fn a_slow_service_holds_up_nobody_else() {
    let hub = TestHub::start_with(|c| c.push.window = Duration::ZERO).await;
    let (slow_pair, pair) = (Pair::of(&hub).await, Pair::of(&hub).await);
    let (slow, quick) =
        (PushReceiver::start().await.unwrap(), PushReceiver::start().await.unwrap());
    slow.answer_with(Answer::late(Duration::from_secs(9)));
    register(&hub, &slow_pair.b, &slow).await;
    register(&hub, &pair.b, &quick).await;
    slow_pair.post(&hub, &slow_pair.a, "slow").await;
    hub.becomes("SELECT count(*) FROM push_deliveries WHERE attempts = 1", 1).await;
    let sent = Instant::now();
    pair.post(&hub, &pair.a, "quick").await;
    assert!(quick.next(SOON).await.is_some());
    assert!(sent.elapsed() < Duration::from_secs(4), "{:?}", sent.elapsed());
    assert!(slow.next(Duration::from_secs(15)).await.is_some());
}

#[tokio::test]
async fn a_browser_belongs_to_who_registered_it_last() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let receiver = PushReceiver::start().await.unwrap();
    register(&hub, &pair.a, &receiver).await;
    register(&hub, &pair.b, &receiver).await;
    assert_eq!(pair.a.get(&hub, "/v1/notifications/devices").await.data(200), json!([]));
    // Who has no device any more is not pushed to.
    pair.post(&hub, &pair.b, "for a").await;
    assert_eq!(hub.number("SELECT count(*) FROM outbox").await, 0);
    let for_b = pair.post(&hub, &pair.a, "for b").await;
    assert_eq!(receiver.next(SOON).await.unwrap().plaintext["id"], for_b["id"]);
    assert_eq!(receiver.requests(), 1);
    // Who was forgotten by its owner gets nothing either; others can not forget it.
    let device = register(&hub, &pair.b, &receiver).await;
    let path = format!("/v1/notifications/devices/{device}");
    pair.a.delete(&hub, &path).await.refused(404, "not_found");
    pair.b.delete(&hub, &path).await.data(200);
    pair.b.delete(&hub, &path).await.refused(404, "not_found");
    assert_eq!(hub.number("SELECT count(*) FROM devices").await, 0);
}

#[tokio::test]
async fn the_oldest_of_too_many_devices_makes_room() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    let receiver = PushReceiver::start().await.unwrap();
    let s = receiver.subscription();
    let mut ids = Vec::new();
    for n in 0..22 {
        let keys = json!({ "p256dh": s.p256dh, "auth": s.auth });
        let endpoint = format!("{}/push/{n}", receiver.origin());
        let body = json!({ "webPush": { "endpoint": endpoint, "keys": keys } });
        let device = person.post(&hub, "/v1/notifications/devices", body).await.data(201);
        ids.push(device["id"].clone());
    }
    let list = person.get(&hub, "/v1/notifications/devices").await.data(200);
    let kept: Vec<Value> = list.as_array().unwrap().iter().map(|d| d["id"].clone()).collect();
    ids.reverse();
    assert_eq!(kept, ids[..20]);
    let bad =
        json!({ "webPush": { "endpoint": "ftp://x", "keys": { "p256dh": "x", "auth": "y" } } });
    person.post(&hub, "/v1/notifications/devices", bad).await.refused(422, "validation_failed");
    person.post(&hub, "/v1/notifications/devices", json!({})).await.names("webPush");
}

#[tokio::test]
async fn a_phone_is_reached_over_fcm() {
    let google = FakeGoogle::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("service-account.json");
    std::fs::write(&file, google.service_account().to_string()).unwrap();
    let base_url = google.base_url().to_owned();
    let hub = TestHub::start_with(move |c| {
        c.push.fcm_credentials = Some(file);
        c.push.fcm_base_url = Some(base_url);
    })
    .await;
    let pair = Pair::of(&hub).await;
    let token = format!("{PROJECT}-token-{}", "x".repeat(120));
    let body = json!({ "fcm": { "token": token }, "label": "Pixel" });
    pair.b.post(&hub, "/v1/notifications/devices", body).await.data(201);
    let message = pair.post(&hub, &pair.a, "hello").await;
    hub.becomes(DELIVERED, 1).await;
    let accepted = google.accepted();
    assert_eq!((accepted.len(), &accepted[0]["token"]), (1, &json!(token)));
    assert_eq!(accepted[0]["data"]["id"], message["id"]);
    assert_eq!(accepted[0]["notification"]["title"], "New message");
    assert_eq!(google.refused(), Vec::<String>::new());
    assert_eq!((google.requests(), google.exchanges()), (1, 1));
}
