//! What keeps people apart: blocks, muted conversations, reports.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::attachments::{Room, jpeg};
use crate::support::{Person, Practice, Socket, TestHub, rows};

/// A seeker and a practice that know each other: a conversation and a booking.
struct Pair {
    hub: TestHub,
    seeker: Person,
    practice: Practice,
    conversation: String,
    booking: String,
    /// A message of each.
    of_seeker: String,
    of_owner: String,
}

fn id_of(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

impl Pair {
    async fn build() -> Self {
        let hub = TestHub::start().await;
        let (seeker, practice) = (hub.seeker().await, hub.practice().await);
        let open = json!({ "userId": practice.person.id });
        let conversation = id_of(&seeker.post(&hub, "/v1/conversations", open).await.data(201));
        let wish = practice.wish(practice.slot(10));
        let booking = id_of(&seeker.post(&hub, "/v1/bookings", wish).await.data(201));
        let path = format!("/v1/conversations/{conversation}/messages");
        let body = || json!({ "clientId": Uuid::new_v4(), "content": "hello" });
        let of_seeker = id_of(&seeker.post(&hub, &path, body()).await.data(201));
        let of_owner = id_of(&practice.person.post(&hub, &path, body()).await.data(201));
        Self { hub, seeker, practice, conversation, booking, of_seeker, of_owner }
    }

    fn message(&self) -> (String, Value) {
        let path = format!("/v1/conversations/{}/messages", self.conversation);
        (path, json!({ "clientId": Uuid::new_v4(), "content": "hello" }))
    }

    /// Everything that a block forbids, whoever blocked whom.
    async fn is_apart(&self) {
        let (hub, owner) = (&self.hub, &self.practice.person);
        for who in [&self.seeker, owner] {
            let (path, body) = self.message();
            who.post(hub, &path, body.clone()).await.refused(403, "blocked");
            let mut socket = Socket::open(hub, who).await;
            let mut send = body;
            send["conversationId"] = json!(self.conversation);
            send["type"] = json!("text");
            socket.refused("message:send", send, "blocked").await;
            let typing = json!({ "conversationId": self.conversation });
            socket.refused("typing:start", typing, "blocked").await;
            let other = if who.id == owner.id { &self.seeker.id } else { &owner.id };
            let mine = if who.id == owner.id { &self.of_owner } else { &self.of_seeker };
            let path = format!("{path}/{mine}");
            who.put(hub, &path, json!({ "content": "but" })).await.refused(403, "blocked");
            let thumb = format!("{path}/reactions/%F0%9F%91%8D");
            who.put(hub, &thumb, json!({})).await.refused(403, "blocked");
            let presence = json!({ "channel": format!("presence:{other}") });
            socket.refused("subscribe", presence, "not_found").await;
            socket.close().await;
        }
        let wish = self.practice.wish(self.practice.slot(14));
        for path in ["/v1/holds", "/v1/bookings"] {
            self.seeker.post(hub, path, wish.clone()).await.refused(403, "blocked");
        }
        let mut series = wish.clone();
        (series["count"], series["everyWeeks"]) = (json!(2), json!(1));
        self.seeker.post(hub, "/v1/bookings/series", series).await.refused(403, "blocked");
        let wait = json!({
            "practitionerId": self.practice.id, "serviceId": self.practice.service_id,
            "from": self.practice.slot(10), "to": self.practice.slot(11),
        });
        self.seeker.post(hub, "/v1/waitlist", wait).await.refused(403, "blocked");
    }

    /// None of that is forbidden, and what is told is right.
    async fn is_together(&self) {
        let hub = &self.hub;
        for who in [&self.seeker, &self.practice.person] {
            let (path, body) = self.message();
            who.post(hub, &path, body).await.data(201);
        }
        let wish = self.practice.wish(self.practice.slot(16));
        let hold = id_of(&self.seeker.post(hub, "/v1/holds", wish).await.data(201));
        self.seeker.delete(hub, &format!("/v1/holds/{hold}")).await.data(200);
    }
}

#[tokio::test]
async fn a_block_holds_both_ways_and_everywhere() {
    let pair = Pair::build().await;
    let (hub, owner) = (&pair.hub, &pair.practice.person);
    let wish = pair.practice.wish(pair.practice.slot(12));
    let hold = id_of(&pair.seeker.post(hub, "/v1/holds", wish).await.data(201));
    pair.is_together().await;
    for (blocker, blocked) in [(&pair.seeker, owner), (owner, &pair.seeker)] {
        let path = format!("/v1/users/{}/block", blocked.id);
        for _ in 0..2 {
            blocker.post(hub, &path, json!({})).await.data(200);
        }
        let list = blocker.get(hub, "/v1/blocks").await.data(200);
        assert_eq!((&list[0]["userId"], list.as_array().unwrap().len()), (&json!(blocked.id), 1));
        // The other one sees nothing of it.
        assert_eq!(blocked.get(hub, "/v1/blocks").await.data(200), json!([]));
        pair.is_apart().await;
        // What is there stays: the booking, its hold's time, the conversation's words.
        pair.seeker.get(hub, &format!("/v1/bookings/{}", pair.booking)).await.data(200);
        let book = json!({ "holdId": hold });
        pair.seeker.post(hub, "/v1/bookings", book).await.refused(403, "blocked");
        let (path_of_messages, _) = pair.message();
        for who in [blocker, blocked] {
            assert!(who.get(hub, &path_of_messages).await.data(200)[0]["content"].is_string());
        }
        blocker.delete(hub, &path).await.data(200);
        pair.is_together().await;
    }
    pair.hub.stop().await;
}

#[tokio::test]
async fn a_block_of_each_ends_with_the_second() {
    let pair = Pair::build().await;
    let (hub, owner) = (&pair.hub, &pair.practice.person);
    let (of_owner, of_seeker) =
        (format!("/v1/users/{}/block", owner.id), format!("/v1/users/{}/block", pair.seeker.id));
    pair.seeker.post(hub, &of_owner, json!({})).await.data(200);
    owner.post(hub, &of_seeker, json!({})).await.data(200);
    pair.seeker.delete(hub, &of_owner).await.data(200);
    pair.is_apart().await;
    owner.delete(hub, &of_seeker).await.data(200);
    pair.is_together().await;
    owner.post(hub, &format!("/v1/users/{}/block", owner.id), json!({})).await.names("id");
    let nobody = format!("/v1/users/{}/block", Uuid::now_v7());
    owner.post(hub, &nobody, json!({})).await.refused(404, "not_found");
    pair.hub.stop().await;
}

#[tokio::test]
async fn who_is_blocked_opens_no_conversation_and_gets_the_same_answer_for_an_old_message() {
    let hub = TestHub::start().await;
    let (seeker, practice) = (hub.seeker().await, hub.practice().await);
    let path = format!("/v1/users/{}/block", seeker.id);
    practice.person.post(&hub, &path, json!({})).await.data(200);
    let open = json!({ "userId": practice.person.id });
    seeker.post(&hub, "/v1/conversations", open.clone()).await.refused(403, "blocked");
    assert_eq!(rows::count(&hub.database_url, "conversations").await, 0);
    practice.person.delete(&hub, &path).await.data(200);
    let conversation = id_of(&seeker.post(&hub, "/v1/conversations", open).await.data(201));
    let messages = format!("/v1/conversations/{conversation}/messages");
    let body = json!({ "clientId": Uuid::new_v4(), "content": "hello" });
    let first = seeker.post(&hub, &messages, body.clone()).await.data(201);
    practice.person.post(&hub, &path, json!({})).await.data(200);
    assert_eq!(seeker.post(&hub, &messages, body).await.data(201)["seq"], first["seq"]);
    hub.stop().await;
}

#[tokio::test]
async fn who_waits_for_a_slot_of_somebody_blocked_waits_no_more() {
    let pair = Pair::build().await;
    let hub = &pair.hub;
    let other = hub.seeker().await;
    let wait = json!({
        "practitionerId": pair.practice.id, "serviceId": pair.practice.service_id,
        "from": pair.practice.slot(10), "to": pair.practice.slot(11),
    });
    other.post(hub, "/v1/waitlist", wait).await.data(201);
    let path = format!("/v1/users/{}/block", other.id);
    pair.practice.person.post(hub, &path, json!({})).await.data(200);
    pair.seeker.delete(hub, &format!("/v1/bookings/{}", pair.booking)).await.data(200);
    let list = other.get(hub, "/v1/waitlist").await.data(200);
    assert_eq!(list[0]["status"], "left");
    assert_eq!(other.get(hub, "/v1/holds").await.data(200), json!([]));
    pair.hub.stop().await;
}

#[tokio::test]
async fn a_muted_conversation_sends_no_push_and_counts_on() {
    let hub = TestHub::start_with(|c| c.push.window = Duration::from_millis(100)).await;
    let room = Room::open(hub).await;
    let path = format!("/v1/conversations/{}/mute", room.id);
    let fcm = json!({ "fcm": { "token": "t".repeat(100) } });
    room.b.post(&room.hub, "/v1/notifications/devices", fcm).await.data(201);
    assert_eq!(room.b.get(&room.hub, &path).await.data(200), json!({ "mutedUntil": null }));
    let muted = room.b.put(&room.hub, &path, json!({})).await.data(200);
    assert_eq!(muted["mutedUntil"], "2999-12-31T23:59:59Z");
    room.stranger.put(&room.hub, &path, json!({})).await.refused(404, "not_found");
    let past = json!({ "until": "2020-01-01T00:00:00Z" });
    room.b.put(&room.hub, &path, past).await.names("until");

    let mut socket = Socket::open(&room.hub, &room.b).await;
    room.send(&room.a, json!({ "content": "psst" })).await.data(201);
    let news = socket.event("conversation:updated").await;
    assert_eq!(news["data"]["unread"], 1);
    settled(&room, "cancelled", 1).await;
    room.b.delete(&room.hub, &path).await.data(200);
    room.send(&room.a, json!({ "content": "hello" })).await.data(201);
    settled(&room, "sent", 1).await;
    room.hub.stop().await;
}

/// Waits until so many pushes of messages are in this state.
async fn settled(room: &Room, state: &str, count: usize) {
    let from = format!("outbox WHERE topic LIKE 'conversation:%' AND state = '{state}'");
    for _ in 0..200 {
        if rows::count(&room.hub.database_url, &from).await == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not {count} {state}");
}

#[tokio::test]
async fn a_report_keeps_what_it_is_about() {
    let room = Room::open(TestHub::start().await).await;
    let hub = &room.hub;
    for n in 0..3 {
        room.send(&room.b, json!({ "content": format!("before {n}") })).await.data(201);
    }
    let file = room.upload(&room.a, "image/jpeg", jpeg(20, 20)).await.data(201);
    let bad = json!({ "type": "image", "content": "pay me outside", "attachments": [file["id"]] });
    let bad = room.send(&room.a, bad).await.data(201);
    room.send(&room.b, json!({ "content": "after" })).await.data(201);
    let body = json!({ "messageId": bad["id"], "reason": "fraud", "details": "asks for money" });
    room.stranger.post(hub, "/v1/reports", body.clone()).await.refused(404, "not_found");
    room.a.post(hub, "/v1/reports", body.clone()).await.names("messageId");
    let report = room.b.post(hub, "/v1/reports", body.clone()).await.data(201);
    assert_eq!(report["status"], "open");
    room.b.post(hub, "/v1/reports", body).await.refused(409, "already_exists");

    // The message goes, the evidence stays, and so does its file, for administrators.
    let gone = "UPDATE messages SET content = '', attachments = '[]', deleted_at = now()
                 WHERE content = 'pay me outside'";
    assert_eq!(rows::run(&hub.database_url, gone).await, 1);
    for who in [&room.a, &room.b] {
        assert_eq!(room.download(who, &file["id"], "").await.0, 404);
    }
    let admin = hub.admin().await;
    assert_eq!(room.download(&admin, &file["id"], "").await.0, 200);
    let path = format!("/v1/reports/{}", report["id"].as_str().unwrap());
    let full = admin.get(hub, &path).await.data(200);
    let evidence = &full["evidence"];
    assert_eq!(evidence["message"]["content"], "pay me outside");
    assert_eq!(evidence["message"]["attachments"][0]["id"], file["id"]);
    let said: Vec<_> =
        evidence["context"].as_array().unwrap().iter().map(|m| m["content"].clone()).collect();
    assert_eq!(said, ["before 0", "before 1", "before 2", "after"]);
    assert_eq!((&full["userId"], &full["reporterId"]), (&json!(room.a.id), &json!(room.b.id)));

    let resolve = format!("{path}/resolve");
    admin.post(hub, &resolve, json!({ "outcome": "open" })).await.names("outcome");
    let done = json!({ "outcome": "upheld", "note": "warned" });
    let resolved = admin.post(hub, &resolve, done.clone()).await.data(200);
    assert_eq!(
        (&resolved["status"], &resolved["resolvedBy"]),
        (&json!("upheld"), &json!(admin.id))
    );
    admin.post(hub, &resolve, done).await.refused(409, "already_exists");
    let trail =
        "SELECT event_type FROM audit_log WHERE event_type LIKE 'report%' ORDER BY created_at, id";
    let trail = rows::column(&hub.database_url, trail).await;
    assert_eq!(trail, ["report_created", "report_viewed", "report_resolved"]);
    room.hub.stop().await;
}

#[tokio::test]
async fn reports_are_for_administrators_and_have_a_bound() {
    let room = Room::open(TestHub::start().await).await;
    let hub = &room.hub;
    let body = json!({ "userId": room.a.id, "reason": "spam" });
    for _ in 0..20 {
        room.b.post(hub, "/v1/reports", body.clone()).await.data(201);
    }
    let refused = room.b.post(hub, "/v1/reports", body.clone()).await;
    refused.refused(429, "rate_limited");
    for who in [&room.a, &room.b] {
        who.get(hub, "/v1/reports").await.refused(403, "forbidden");
        let path = format!("/v1/reports/{}", Uuid::now_v7());
        who.get(hub, &path).await.refused(403, "forbidden");
        let resolve = format!("{path}/resolve");
        let done = json!({ "outcome": "upheld" });
        who.post(hub, &resolve, done).await.refused(403, "forbidden");
    }
    let admin = hub.admin().await;
    let open = admin.get(hub, "/v1/reports?status=open&limit=5").await;
    assert_eq!(open.data(200).as_array().unwrap().len(), 5);
    assert_eq!(open.body["meta"]["pagination"]["total"], 20);
    assert_eq!(admin.get(hub, "/v1/reports?status=upheld").await.data(200), json!([]));
    admin.get(hub, "/v1/reports?status=x").await.names("status");
    for (wrong, field) in [
        (json!({ "reason": "spam" }), "messageId"),
        (json!({ "reason": "spam", "userId": room.a.id, "messageId": room.a.id }), "userId"),
        (json!({ "reason": "boring", "userId": room.a.id }), "reason"),
        (json!({ "reason": "other", "userId": room.a.id }), "details"),
    ] {
        room.a.post(hub, "/v1/reports", wrong).await.names(field);
    }
    room.hub.stop().await;
}

#[tokio::test]
async fn a_block_ends_what_is_followed_and_keeps_groups_apart() {
    let pair = Pair::build().await;
    let (hub, owner) = (&pair.hub, &pair.practice.person);
    let other = hub.seeker().await;
    other.post(hub, "/v1/conversations", json!({ "userId": owner.id })).await.data(201);
    let presence = json!({ "channel": format!("presence:{}", owner.id) });
    let mut follower = Socket::open(hub, &pair.seeker).await;
    follower.ok("subscribe", presence.clone()).await;
    let mut control = Socket::open(hub, &other).await;
    control.ok("subscribe", presence).await;
    owner.post(hub, &format!("/v1/users/{}/block", pair.seeker.id), json!({})).await.data(200);
    let _online = Socket::open(hub, owner).await;
    control.event("user:online").await;
    let heard = follower.event_within("user:online", Duration::from_millis(500)).await;
    assert!(heard.is_none(), "{heard:?}");
    let group = json!({ "kind": "group", "title": "all", "memberIds": [owner.id] });
    pair.seeker.post(hub, "/v1/conversations", group).await.names("memberIds[0]");
    pair.hub.stop().await;
}
