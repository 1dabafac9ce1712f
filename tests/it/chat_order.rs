//! The order of messages: in the list, on one socket, and over two hubs under load.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::chat::Pair;
use crate::support::{Person, Socket, TestHub};

#[tokio::test]
async fn the_list_shows_the_one_written_to_last_first() {
    let hub = TestHub::start().await;
    let me = hub.seeker().await;
    let mut chats = Vec::new();
    for _ in 0..3 {
        let other = hub.register("practitioner").await;
        let body = json!({ "userId": other.id });
        let chat = me.post(&hub, "/v1/conversations", body).await.data(201);
        let id = chat["id"].as_str().unwrap().to_owned();
        chats.push(Pair { id, a: me.clone(), b: other });
    }
    for n in [0, 1, 0, 2, 1, 0] {
        chats[n].post(&hub, &chats[n].b, "hello").await;
    }
    chats[1].post(&hub, &me, "my own").await;
    let list = me.get(&hub, "/v1/conversations").await;
    let rows = list.data(200);
    let shown: Vec<(&str, i64, i64)> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            let number = |key: &str| c[key].as_i64().unwrap();
            (c["id"].as_str().unwrap(), number("lastSeq"), number("unread"))
        })
        .collect();
    let id = |n: usize| chats[n].id.as_str();
    assert_eq!(shown, [(id(1), 3, 2), (id(0), 3, 3), (id(2), 1, 1)]);
    assert_eq!(list.body["meta"]["pagination"]["total"], 3);
    let second = me.get(&hub, "/v1/conversations?limit=1&page=2").await.data(200);
    assert_eq!(second[0]["id"], id(0));
    assert_eq!(chats[2].b.get(&hub, "/v1/conversations").await.data(200)[0]["unread"], 0);
}

#[tokio::test]
async fn messages_of_one_socket_arrive_in_their_order() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let mut reader = pair.follow(&hub, &pair.b).await;
    let mut writer = Socket::open(&hub, &pair.a).await;
    let mut ids = Vec::new();
    for n in 0..50 {
        ids.push(writer.command("message:send", pair.message(&n.to_string())).await);
    }
    for (n, id) in (1..).zip(ids) {
        let answer = writer.answer(id).await;
        assert_eq!(answer["data"]["seq"], n, "{answer}");
    }
    for n in 0..50 {
        let event = reader.event("message:new").await;
        assert_eq!(event["data"]["message"]["content"], n.to_string());
        assert_eq!(event["seq"], n + 1);
    }
}

const SENDERS: usize = 20;
const EACH: usize = 50;

#[tokio::test]
async fn many_senders_on_two_hubs_make_one_order() {
    let hub = TestHub::start().await;
    let second = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    let pair = Pair::of(&hub).await;
    let mut people = vec![pair.a.clone(), pair.b.clone()];
    while people.len() < SENDERS {
        let person = hub.seeker().await;
        // Past the routes: a 1:1 conversation takes nobody in.
        hub.execute(&format!(
            "INSERT INTO conversation_members (conversation_id, user_id) VALUES ('{}', '{}')",
            pair.id, person.id
        ))
        .await;
        people.push(person);
    }
    let hubs = [&hub, &second];
    let live = join_all(
        people.iter().enumerate().map(|(n, person)| take_part(hubs[n % 2], &pair, person)),
    )
    .await;
    let everything: Vec<i64> = (1..=i64::try_from(SENDERS * EACH).unwrap()).collect();
    let mut given: Vec<i64> = live.iter().flat_map(|(answered, _)| answered.clone()).collect();
    given.sort_unstable();
    assert_eq!(given, everything, "every answer has its own seq, and none is missing");
    let dense = "SELECT count(DISTINCT seq) * 10000 + max(seq) FROM messages";
    assert_eq!(hub.number(dense).await, 10_001_000);
    let head = "SELECT last_seq FROM conversations";
    assert_eq!(hub.number(head).await, 1_000);

    // What each saw live, and then after a reconnect to the other hub, is the whole stream once.
    let whole = join_all(people.iter().zip(live).enumerate().map(|(n, (person, (_, seen)))| {
        let pair = &pair;
        async move { seen_in_all(hubs[(n + 1) % 2], pair, person, seen).await }
    }))
    .await;
    for seen in whole {
        assert_eq!(seen, everything);
    }
}

/// Sends without waiting for answers; returns the seqs answered and those seen meanwhile.
async fn take_part(hub: &TestHub, pair: &Pair, person: &Person) -> (Vec<i64>, Vec<i64>) {
    let mut socket = Socket::open(hub, person).await;
    socket.ok("subscribe", json!({ "channel": pair.channel(), "since": 0 })).await;
    let mut ids = Vec::new();
    for n in 0..EACH {
        ids.push(socket.command("message:send", pair.message(&n.to_string())).await);
    }
    let mut answered = Vec::new();
    for id in ids {
        let answer = socket.answer(id).await;
        answered.push(answer["data"]["seq"].as_i64().unwrap_or_else(|| panic!("{answer}")));
    }
    assert!(answered.is_sorted(), "a sender's own messages keep their order");
    let seen = socket.events.iter().filter_map(seq_of).collect();
    (answered, seen)
}

async fn seen_in_all(hub: &TestHub, pair: &Pair, person: &Person, mut seen: Vec<i64>) -> Vec<i64> {
    let mut socket = Socket::open(hub, person).await;
    let since = seen.last().copied().unwrap_or(0);
    let answer = socket.ok("subscribe", json!({ "channel": pair.channel(), "since": since })).await;
    assert_eq!(answer["seq"], 1_000);
    while seen.last() != Some(&1_000) {
        seen.extend(seq_of(&socket.event("message:new").await));
    }
    seen
}

fn seq_of(event: &Value) -> Option<i64> {
    (event["event"] == "message:new").then(|| event["seq"].as_i64().unwrap())
}
