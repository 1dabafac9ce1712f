//! Conversations over REST and sockets: order, receipts, repeats, who may take part.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Person, Socket, TestHub};

/// A seeker, a practitioner, and their conversation.
pub struct Pair {
    pub id: String,
    pub a: Person,
    pub b: Person,
}

impl Pair {
    pub async fn of(hub: &TestHub) -> Self {
        let (a, b) = (hub.seeker().await, hub.register("practitioner").await);
        let chat = a.post(hub, "/v1/conversations", json!({ "userId": b.id })).await.data(201);
        Self { id: chat["id"].as_str().unwrap().to_owned(), a, b }
    }

    pub fn channel(&self) -> String {
        format!("conversation:{}", self.id)
    }

    pub fn path(&self) -> String {
        format!("/v1/conversations/{}/messages", self.id)
    }

    /// The data of `message:send`.
    pub fn message(&self, content: &str) -> Value {
        json!({ "conversationId": self.id, "clientId": Uuid::new_v4(), "content": content })
    }

    /// Sends over REST.
    pub async fn post(&self, hub: &TestHub, who: &Person, content: &str) -> Value {
        let body = json!({ "clientId": Uuid::new_v4(), "content": content });
        who.post(hub, &self.path(), body).await.data(201)
    }

    /// A socket of `who` that follows the conversation.
    pub async fn follow(&self, hub: &TestHub, who: &Person) -> Socket {
        let mut socket = Socket::open(hub, who).await;
        socket.ok("subscribe", json!({ "channel": self.channel() })).await;
        socket
    }

    fn ack(&self, seq: i64) -> Value {
        json!({ "conversationId": self.id, "seq": seq })
    }
}

#[tokio::test]
async fn a_pair_has_one_conversation() {
    let hub = TestHub::start().await;
    let (a, b, c) = (hub.admin().await, hub.seeker().await, hub.admin().await);
    let with = |p: &Person| json!({ "userId": p.id });
    let first = a.post(&hub, "/v1/conversations", with(&b)).await.data(201);
    let again = a.post(&hub, "/v1/conversations", with(&b)).await.data(200);
    let theirs = b.post(&hub, "/v1/conversations", with(&a)).await.data(200);
    assert_eq!((&first["id"], &first["id"]), (&again["id"], &theirs["id"]));
    assert_eq!(first["members"].as_array().unwrap().len(), 2);

    let (wish_a, wish_c) = (with(&a), with(&c));
    let at_once = join_all((0..10).map(|i| match i % 2 {
        0 => a.post(&hub, "/v1/conversations", wish_c.clone()),
        _ => c.post(&hub, "/v1/conversations", wish_a.clone()),
    }))
    .await;
    assert_eq!(at_once.iter().filter(|r| r.status == 201).count(), 1);
    assert!(at_once.iter().all(|r| r.body["data"]["id"] == at_once[0].body["data"]["id"]));
    assert_eq!(hub.number("SELECT count(*) FROM conversations").await, 2);
    assert_eq!(hub.number("SELECT count(*) FROM conversation_members").await, 4);
    a.post(&hub, "/v1/conversations", with(&a)).await.names("userId");
    a.post(&hub, "/v1/conversations", json!({ "userId": Uuid::new_v4() })).await.names("userId");
}

#[tokio::test]
async fn messages_are_numbered_and_read_back() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let mut socket = Socket::open(&hub, &pair.b).await;
    for n in 1..=8 {
        let seq = match n % 2 {
            0 => socket.ok("message:send", pair.message(&n.to_string())).await["seq"].clone(),
            _ => pair.post(&hub, &pair.a, &n.to_string()).await["seq"].clone(),
        };
        assert_eq!(seq, n);
    }
    let seqs = |messages: &Value| -> Vec<i64> {
        messages.as_array().unwrap().iter().map(|m| m["seq"].as_i64().unwrap()).collect()
    };
    for (query, expected) in [
        ("", vec![8, 7, 6, 5, 4, 3, 2, 1]),
        ("?limit=3", vec![8, 7, 6]),
        ("?before=4&limit=2", vec![3, 2]),
        ("?after=5", vec![6, 7, 8]),
        ("?after=2&limit=2", vec![3, 4]),
        ("?after=8", vec![]),
        ("?before=1", vec![]),
    ] {
        let page = pair.b.get(&hub, &format!("{}{query}", pair.path())).await.data(200);
        assert_eq!(seqs(&page), expected, "{query}");
        let said: Vec<Value> =
            page.as_array().unwrap().iter().map(|m| m["content"].clone()).collect();
        let expected: Vec<Value> = expected.iter().map(|seq| json!(seq.to_string())).collect();
        assert_eq!(said, expected, "{query}");
    }
    let ask = json!({ "conversationId": pair.id, "after": 5, "limit": 2 });
    let page = socket.ok("message:history", ask).await["messages"].clone();
    assert_eq!(seqs(&page), [6, 7]);
    for (query, field) in [("?limit=0", "limit"), ("?limit=101", "limit")] {
        pair.a.get(&hub, &format!("{}{query}", pair.path())).await.names(field);
    }
    let both = pair.a.get(&hub, &format!("{}?before=1&after=1", pair.path())).await;
    both.names("before");
}

#[tokio::test]
async fn the_same_client_id_gives_the_same_answer_for_ever() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let mut watcher = pair.follow(&hub, &pair.b).await;
    let mut socket = Socket::open(&hub, &pair.a).await;
    let message = pair.message("once");
    let body = json!({ "clientId": message["clientId"], "content": "once" });
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(socket.command("message:send", message.clone()).await);
    }
    let path = pair.path();
    let posted = join_all((0..10).map(|_| pair.a.post(&hub, &path, body.clone()))).await;
    let mut answers: Vec<Value> = posted
        .iter()
        .map(|r| r.data(201))
        .map(|m| json!({ "messageId": m["id"], "seq": m["seq"], "createdAt": m["createdAt"] }))
        .collect();
    for id in ids {
        answers.push(socket.answer(id).await["data"].clone());
    }
    assert_eq!(answers.len(), 20);
    assert!(answers.iter().all(|a| *a == answers[0] && a["seq"] == 1), "{answers:#?}");
    assert_eq!(hub.number("SELECT count(*) FROM messages").await, 1);
    // Another text under the same id is still the first message; the other's id is their own.
    let changed = json!({ "clientId": message["clientId"], "content": "twice" });
    assert_eq!(pair.a.post(&hub, &path, changed.clone()).await.data(201)["content"], "once");
    assert_eq!(pair.b.post(&hub, &path, changed).await.data(201)["seq"], 2);
    let heard = [watcher.event("message:new").await, watcher.event("message:new").await];
    assert_eq!((&heard[0]["seq"], &heard[1]["seq"]), (&json!(1), &json!(2)));
    watcher.ok("ping", json!({})).await;
    assert!(watcher.events.iter().all(|e| e["event"] != "message:new"), "one event each");

    let database = hub.database_url.clone();
    hub.stop().await;
    let hub = TestHub::start_over(database, |_| {}).await;
    let mut socket = Socket::open(&hub, &pair.a).await;
    assert_eq!(socket.ok("message:send", message).await, answers[0]);
}

#[tokio::test]
async fn watermarks_only_move_forward() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    for n in 1..=6 {
        pair.post(&hub, if n == 4 { &pair.a } else { &pair.b }, "hello").await;
    }
    let mut socket = Socket::open(&hub, &pair.a).await;
    let marks = format!(
        "SELECT delivered_seq * 100 + read_seq FROM conversation_members WHERE user_id = '{}'",
        pair.a.id
    );
    // What a wrote itself (4) does not count as unread.
    for (op, seq, unread, stored) in [
        ("message:received", 2, 5, 200),
        ("message:read", 1, 4, 201),
        ("message:read", 3, 2, 303),
        ("message:read", 2, 2, 303),
        ("message:received", 1, 2, 303),
        ("message:received", 5, 2, 503),
        ("message:read", 5, 1, 505),
        ("message:read", 99, 0, 606),
        ("message:read", 0, 0, 606),
    ] {
        let answer = socket.ok(op, pair.ack(seq)).await;
        assert_eq!(answer["unread"], unread, "{op} {seq}");
        assert_eq!(hub.number(&marks).await, stored, "{op} {seq}");
    }
    socket.refused("message:read", pair.ack(-1), "validation_failed").await;
    let read = format!("/v1/conversations/{}/read", pair.id);
    let answer = pair.b.post(&hub, &read, json!({ "seq": 4 })).await.data(200);
    assert_eq!((&answer["readSeq"], &answer["unread"]), (&json!(4), &json!(0)));
    let view = pair.a.get(&hub, &format!("/v1/conversations/{}", pair.id)).await.data(200);
    let of_b = view["members"].as_array().unwrap().iter().find(|m| m["userId"] == pair.b.id);
    assert_eq!(of_b.unwrap()["readSeq"], 4);
}

#[tokio::test]
async fn receipts_and_echoes_reach_everybody_else() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let mut phone = pair.follow(&hub, &pair.a).await;
    let mut laptop = pair.follow(&hub, &pair.a).await;
    // This device of b follows nothing but its own channel.
    let mut inbox = Socket::open(&hub, &pair.b).await;
    let mut reader = pair.follow(&hub, &pair.b).await;
    phone.ok("message:send", pair.message("hi")).await;
    for socket in [&mut phone, &mut laptop, &mut reader] {
        let event = socket.event("message:new").await;
        assert_eq!((&event["seq"], &event["channel"]), (&json!(1), &json!(pair.channel())));
        assert_eq!(event["data"]["message"]["senderId"], pair.a.id);
    }
    let told = inbox.event("conversation:updated").await;
    let preview = told["data"]["preview"].clone();
    let expected = json!({ "conversationId": pair.id, "lastSeq": 1, "readSeq": 0, "unread": 1,
        "preview": preview });
    assert_eq!(told["data"], expected);
    assert_eq!((&preview["content"], &preview["seq"]), (&json!("hi"), &json!(1)));
    reader.ok("message:received", pair.ack(1)).await;
    reader.ok("message:read", pair.ack(1)).await;
    for socket in [&mut phone, &mut laptop] {
        for name in ["message:delivered", "message:read"] {
            let event = socket.event(name).await;
            let expected = json!({ "conversationId": pair.id, "userId": pair.b.id, "upTo": 1 });
            assert_eq!(event["data"], expected, "{name}");
        }
    }
    let told = inbox.event("conversation:updated").await;
    assert_eq!(told["data"]["unread"], 0, "the other device clears its badge");
    // What moves nothing is told to nobody.
    for (op, seq) in [("message:read", 1), ("message:received", 1), ("message:read", 0)] {
        reader.ok(op, pair.ack(seq)).await;
    }
    phone.ok("message:send", pair.message("the next")).await;
    phone.event("message:new").await;
    let told = |name: &str| phone.events.iter().any(|event| event["event"] == name);
    assert!(!told("message:read") && !told("message:delivered"), "{:?}", phone.events);
    let next = inbox.event("conversation:updated").await;
    assert_eq!(next["data"]["lastSeq"], 2, "nothing was read in between");
}

/// A message takes the news along; so they come neither with each one nor only at the end of a pause.
#[tokio::test]
async fn inboxes_of_a_busy_conversation_hear_of_it_now_and_then_and_of_the_last() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let mut writer = Socket::open(&hub, &pair.a).await;
    let mut inbox = Socket::open(&hub, &pair.b).await;
    const MESSAGES: i64 = 40;
    for n in 0..MESSAGES {
        writer.ok("message:send", pair.message(&n.to_string())).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut times = Vec::new();
    loop {
        let told = inbox.event("conversation:updated").await;
        times.push(told["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap());
        if told["data"]["lastSeq"] == MESSAGES {
            break;
        }
    }
    let gaps: Vec<_> = times.windows(2).map(|t| t[1].duration_since(t[0]).as_millis()).collect();
    assert!(gaps.iter().all(|gap| *gap >= 120), "{gaps:?}");
    assert!(gaps.iter().any(|gap| *gap < 245), "{gaps:?}");
}

#[tokio::test]
async fn typing_is_told_seldom_and_ends_by_itself() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let mut other = pair.follow(&hub, &pair.b).await;
    let mut stranger = Socket::open(&hub, &hub.seeker().await).await;
    let mut writer = Socket::open(&hub, &pair.a).await;
    let conversation = json!({ "conversationId": pair.id });
    stranger.refused("typing:start", conversation.clone(), "not_found").await;
    for _ in 0..5 {
        writer.ok("typing:start", conversation.clone()).await;
    }
    let started = other.event("typing:start").await;
    assert_eq!(started["data"]["userId"], pair.a.id);
    assert!(started.get("seq").is_none());
    let stopped = other.event_within("typing:stop", Duration::from_secs(9)).await.unwrap();
    assert_eq!(stopped["data"]["userId"], pair.a.id);
    let span = |e: &Value| e["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let lasted = span(&stopped).duration_since(span(&started)).as_millis();
    assert!((5_500..8_000).contains(&lasted), "{lasted} ms");
    assert!(other.events.iter().all(|e| e["event"] != "typing:start"), "five starts, one event");

    // Neither does switching on and off reach others more than once in three seconds.
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    for _ in 0..5 {
        writer.ok("typing:start", conversation.clone()).await;
        writer.ok("typing:stop", conversation.clone()).await;
    }
    let started = span(&other.event("typing:start").await);
    let stopped = span(&other.event("typing:stop").await);
    assert!(stopped.duration_since(started).as_millis() >= 3_000, "{started} {stopped}");
    // Who goes on to type is told of when there may be another event.
    writer.ok("typing:start", conversation.clone()).await;
    let again = span(&other.event("typing:start").await);
    assert!(again.duration_since(stopped).as_millis() >= 3_000, "{stopped} {again}");
    other.ok("ping", json!({})).await;
    assert!(other.events.is_empty(), "{:?}", other.events);
    assert_eq!(hub.number("SELECT count(*) FROM user_events").await, 0);
    assert_eq!(hub.number("SELECT count(*) FROM messages").await, 0);
}

#[tokio::test]
async fn a_message_ends_the_typing_of_its_sender() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let mut other = pair.follow(&hub, &pair.b).await;
    let mut writer = Socket::open(&hub, &pair.a).await;
    writer.ok("typing:start", json!({ "conversationId": pair.id })).await;
    writer.ok("message:send", pair.message("done")).await;
    other.event("message:new").await;
    other.event("typing:start").await;
    // Not before another typing event may be told, and long before it would end by itself.
    other.event_within("typing:stop", Duration::from_millis(4_500)).await.unwrap();
}

#[tokio::test]
async fn a_message_must_be_in_order() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let first = pair.post(&hub, &pair.a, "first").await;
    let reply = json!({ "clientId": Uuid::new_v4(), "content": "re", "replyTo": first["id"] });
    let sent = pair.b.post(&hub, &pair.path(), reply).await.data(201);
    assert_eq!(sent["replyTo"], first["id"]);
    let elsewhere = Pair::of(&hub).await;
    let foreign = elsewhere.post(&hub, &elsewhere.a, "foreign").await;
    let long = "é".repeat(8_000);
    pair.post(&hub, &pair.a, &long).await;
    let id = Uuid::new_v4();
    let too_long = "é".repeat(8_001);
    for (body, field) in [
        (json!({ "clientId": id, "content": "x", "replyTo": foreign["id"] }), "replyTo"),
        (json!({ "clientId": id, "content": "" }), "content"),
        (json!({ "clientId": id, "content": " \n " }), "content"),
        (json!({ "clientId": id, "content": too_long }), "content"),
        (json!({ "clientId": id }), "content"),
        (json!({ "content": "x" }), "clientId"),
        (json!({ "clientId": "1", "content": "x" }), "clientId"),
        (json!({ "clientId": id, "content": "x", "type": "system" }), "type"),
        (json!({ "clientId": id, "content": "x", "type": "hologram" }), "type"),
        (json!({ "clientId": id, "content": "x", "seq": 1 }), "seq"),
        (json!({ "clientId": id, "content": "x", "bookingId": id }), "bookingId"),
        (json!({ "clientId": id, "type": "booking" }), "bookingId"),
    ] {
        pair.a.post(&hub, &pair.path(), body.clone()).await.names(field);
        let mut socket = Socket::open(&hub, &pair.a).await;
        let mut data = body;
        data["conversationId"] = json!(pair.id);
        let error = socket.refused("message:send", data, "validation_failed").await;
        assert_eq!(error["details"][0]["field"], field);
    }
    let of_pair = format!("SELECT count(*) FROM messages WHERE conversation_id = '{}'", pair.id);
    assert_eq!(hub.number(&of_pair).await, 3);
}

#[tokio::test]
async fn who_is_no_member_sees_nothing_and_does_nothing() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let message = pair.post(&hub, &pair.a, "secret").await;
    let stranger = hub.seeker().await;
    let path = format!("/v1/conversations/{}", pair.id);
    let new = json!({ "clientId": Uuid::new_v4(), "content": "x" });
    let reply = json!({ "clientId": Uuid::new_v4(), "content": "x", "replyTo": message["id"] });
    stranger.get(&hub, &path).await.refused(404, "not_found");
    stranger.get(&hub, &pair.path()).await.refused(404, "not_found");
    stranger.post(&hub, &pair.path(), new.clone()).await.refused(404, "not_found");
    stranger.post(&hub, &pair.path(), reply).await.refused(404, "not_found");
    stranger
        .post(&hub, &format!("{path}/read"), json!({ "seq": 1 }))
        .await
        .refused(404, "not_found");
    hub.get(&path).await.refused(401, "unauthenticated");
    let mut socket = Socket::open(&hub, &stranger).await;
    let conversation = json!({ "conversationId": pair.id });
    for (op, data) in [
        ("message:send", pair.message("x")),
        ("message:read", pair.ack(1)),
        ("message:received", pair.ack(1)),
        ("message:history", conversation.clone()),
        ("typing:start", conversation.clone()),
        ("typing:stop", conversation),
    ] {
        socket.refused(op, data, "not_found").await;
    }
    let none = json!({ "clientId": Uuid::new_v4(), "content": "x" });
    let nowhere = format!("/v1/conversations/{}/messages", Uuid::new_v4());
    stranger.post(&hub, &nowhere, none).await.refused(404, "not_found");
    assert_eq!(hub.number("SELECT count(*) FROM messages").await, 1);
    assert_eq!(stranger.get(&hub, "/v1/conversations").await.data(200), json!([]));
}
