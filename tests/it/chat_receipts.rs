//! Watermarks and receipts: how often they are told, to whom, and that unread counts are exact.
//!
//! `CHAT_OPS` says how many random operations are recounted; 300 unless it is given.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::chat::Pair;
use crate::support::{Person, Socket, TestHub};

#[tokio::test]
async fn receipts_are_told_in_moderation_and_the_last_one_always() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    for _ in 0..30 {
        pair.post(&hub, &pair.a, "hello").await;
    }
    let mut watcher = pair.follow(&hub, &pair.a).await;
    let mut reader = Socket::open(&hub, &pair.b).await;
    for seq in 1..=30 {
        let op = if seq % 2 == 0 { "message:read" } else { "message:received" };
        reader.ok(op, json!({ "conversationId": pair.id, "seq": seq })).await;
    }
    let mut told = Vec::new();
    while told.last().is_none_or(|e: &Value| e["data"]["upTo"] != 30) {
        let event = watcher.any_event(Duration::from_secs(10)).await.expect("a receipt");
        if event["channel"] == pair.channel() {
            told.push(event);
        }
    }
    assert_eq!(told.last().unwrap()["event"], "message:read");
    let at = |e: &Value| e["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    for two in told.windows(2) {
        let pause = at(&two[1]).duration_since(at(&two[0])).as_millis();
        assert!(pause >= 240, "{pause} ms between {told:#?}");
        assert!(two[0]["data"]["upTo"].as_i64() <= two[1]["data"]["upTo"].as_i64());
    }
    let silent = watcher.event_within("message:read", Duration::from_millis(600)).await;
    assert!(silent.is_none(), "{silent:?}");
}

/// What `viewer` sees of `person` in the conversation.
async fn seen(hub: &TestHub, pair: &Pair, viewer: &Person, person: &Person) -> Value {
    let path = format!("/v1/conversations/{}", pair.id);
    let view = viewer.get(hub, &path).await.data(200);
    let members = viewer.get(hub, &format!("{path}/members")).await.data(200);
    assert_eq!(view["members"], members);
    let found = members.as_array().unwrap().iter().find(|m| m["userId"] == person.id);
    found.unwrap().clone()
}

#[tokio::test]
async fn who_reads_in_private_is_seen_to_receive_only() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let path = "/v1/users/chat-settings";
    assert_eq!(pair.b.get(&hub, path).await.data(200), json!({ "readReceipts": true }));
    let mut reader = Socket::open(&hub, &pair.b).await;
    let mut tablet = Socket::open(&hub, &pair.b).await;
    let mut watcher = pair.follow(&hub, &pair.a).await;
    let ack = |seq: i64| json!({ "conversationId": pair.id, "seq": seq });
    for n in 1..=6 {
        pair.post(&hub, &pair.a, &n.to_string()).await;
    }
    reader.ok("message:read", ack(1)).await;
    assert_eq!(watcher.event("message:read").await["data"]["upTo"], 1);
    let private = json!({ "readReceipts": false });
    assert_eq!(pair.b.put(&hub, path, private.clone()).await.data(200), private);
    pair.b.put(&hub, path, json!({ "readReceipts": 1 })).await.names("readReceipts");
    let marks = |v: &Value| (v["deliveredSeq"].clone(), v.get("readSeq").cloned());
    assert_eq!(marks(&seen(&hub, &pair, &pair.a, &pair.b).await), (json!(1), None));

    // Reading moves nothing that others see, and one's own devices all the same.
    let answer = reader.ok("message:read", ack(4)).await;
    assert_eq!(answer["unread"], 2);
    while tablet.event("conversation:updated").await["data"]["readSeq"] != 4 {}
    assert_eq!(marks(&seen(&hub, &pair, &pair.a, &pair.b).await), (json!(1), None));
    let own = seen(&hub, &pair, &pair.b, &pair.b).await;
    assert_eq!(marks(&own), (json!(4), Some(json!(4))));
    // What reached a device is told, and writing tells no more.
    reader.ok("message:received", ack(3)).await;
    assert_eq!(watcher.event("message:delivered").await["data"]["upTo"], 3);
    reader.ok("message:read", ack(6)).await;
    pair.post(&hub, &pair.b, "an answer").await;
    watcher.event("message:new").await;
    assert_eq!(marks(&seen(&hub, &pair, &pair.a, &pair.b).await), (json!(3), None));
    let leak = watcher.event_within("message:read", Duration::from_millis(600)).await;
    assert!(leak.is_none(), "{leak:?}");
    assert!(watcher.events.iter().all(|e| e["event"] != "message:delivered"));
    // The others' reading is told as before, and so is theirs once they want it again.
    pair.b.put(&hub, path, json!({ "readReceipts": true })).await.data(200);
    assert_eq!(marks(&seen(&hub, &pair, &pair.a, &pair.b).await), (json!(7), Some(json!(7))));
}

/// A group of three, and what it ought to be.
struct Model {
    hub: TestHub,
    id: String,
    people: [Person; 3],
    sockets: Vec<Socket>,
    random: StdRng,
    head: i64,
    /// Seq, sender, id, and whether it is still there.
    messages: Vec<(i64, usize, String, bool)>,
    read: [i64; 3],
}

impl Model {
    async fn build(seed: u64) -> Self {
        let hub = TestHub::start().await;
        let people = [hub.admin().await, hub.seeker().await, hub.seeker().await];
        let ids = json!([people[1].id, people[2].id]);
        let body = json!({ "kind": "group", "title": "Three", "memberIds": ids });
        let group = people[0].post(&hub, "/v1/conversations", body).await.data(201);
        let mut sockets = Vec::new();
        for person in &people {
            sockets.push(Socket::open(&hub, person).await);
        }
        let (id, random) = (group["id"].as_str().unwrap().to_owned(), StdRng::seed_from_u64(seed));
        Self { hub, id, people, sockets, random, head: 0, messages: Vec::new(), read: [0; 3] }
    }

    fn unread(&self, who: usize) -> i64 {
        let counts = |m: &&(i64, usize, String, bool)| m.0 > self.read[who] && m.1 != who && m.3;
        i64::try_from(self.messages.iter().filter(counts).count()).unwrap()
    }

    async fn send(&mut self, who: usize) {
        let message = json!({ "conversationId": self.id, "clientId": Uuid::new_v4(),
            "content": "hello" });
        let sent = self.sockets[who].ok("message:send", message).await;
        self.head += 1;
        assert_eq!(sent["seq"], self.head);
        if self.read[who] == self.head - 1 {
            self.read[who] = self.head;
        }
        let id = sent["messageId"].as_str().unwrap().to_owned();
        self.messages.push((self.head, who, id, true));
    }

    async fn acknowledge(&mut self, who: usize) {
        let seq = self.random.random_range(0..self.head + 2);
        let reads = self.random.random();
        let op = if reads { "message:read" } else { "message:received" };
        let ack = json!({ "conversationId": self.id, "seq": seq });
        let answer = self.sockets[who].ok(op, ack).await;
        if reads {
            self.read[who] = self.read[who].max(seq.min(self.head));
        }
        assert_eq!(answer["unread"], self.unread(who), "{op} {seq} by {who}");
    }

    /// Takes away one's own message, or edits it; reacts to one of another.
    async fn change(&mut self, who: usize) {
        if self.messages.is_empty() {
            return;
        }
        let any = self.random.random_range(0..self.messages.len());
        let (_, sender, id, there) = self.messages[any].clone();
        if !there {
            return;
        }
        let mut data = json!({ "conversationId": self.id, "messageId": id });
        let op = match (sender == who, self.random.random_range(0..2)) {
            (true, 0) => {
                self.messages[any].3 = false;
                "message:delete"
            }
            (true, _) => {
                data["content"] = json!(Uuid::new_v4());
                "message:edit"
            }
            (false, _) => {
                data["emoji"] = json!("👍");
                "message:react"
            }
        };
        self.sockets[who].ok(op, data).await;
        // Who reacts again changes nothing.
        let head = self.hub.number("SELECT last_seq FROM conversations").await;
        let least = self.head + i64::from(op != "message:react");
        assert!((least..=self.head + 1).contains(&head), "{op}: {head}");
        self.head = head;
    }

    async fn agrees_with_the_lists(&self) {
        for (who, person) in self.people.iter().enumerate() {
            let list = person.get(&self.hub, "/v1/conversations").await.data(200);
            let line = &list[0];
            let told = (&line["unread"], &line["lastSeq"], &line["readSeq"]);
            let expected = (json!(self.unread(who)), json!(self.head), json!(self.read[who]));
            assert_eq!(told, (&expected.0, &expected.1, &expected.2));
        }
    }

    async fn agrees_with_the_inboxes(&mut self) {
        for who in 0..3 {
            let told = loop {
                let told = self.sockets[who].event("conversation:updated").await["data"].clone();
                if told["lastSeq"] == self.head {
                    break told;
                }
            };
            assert_eq!(
                (&told["unread"], &told["readSeq"]),
                (&json!(self.unread(who)), &json!(self.read[who]),)
            );
        }
    }
}

#[tokio::test]
async fn unread_counts_are_exact_whatever_happens() {
    let ops = std::env::var("CHAT_OPS").map_or(300, |n| n.parse().expect("CHAT_OPS is a number"));
    let seed = rand::random();
    println!("seed {seed}");
    let mut model = Model::build(seed).await;
    for n in 0..ops {
        let who = model.random.random_range(0..3);
        match model.random.random_range(0..10) {
            0..=3 => model.send(who).await,
            4..=6 => model.acknowledge(who).await,
            _ => model.change(who).await,
        }
        // Three people who stay below the rate of commands of a socket.
        tokio::time::sleep(std::time::Duration::from_millis(7)).await;
        if n % 25 == 0 || n + 1 == ops {
            model.agrees_with_the_lists().await;
        }
    }
    model.send(0).await;
    model.agrees_with_the_inboxes().await;
}
