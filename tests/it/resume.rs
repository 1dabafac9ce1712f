//! Nothing is lost, nothing comes twice: reconnects, restarts, backlogs, slow readers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chat::Pair;
use crate::support::{Person, Practice, Socket, TestHub};

/// A client that remembers the last seq of each channel and resumes from there.
struct Watcher {
    person: Person,
    /// What it saw, by channel.
    seen: BTreeMap<String, Vec<i64>>,
}

impl Watcher {
    fn new(person: &Person, channels: Vec<String>) -> Self {
        let seen = channels.into_iter().map(|c| (c, Vec::new())).collect();
        Self { person: person.clone(), seen }
    }

    /// Connects, resumes, looks at `events` durable events and drops the connection without a
    /// word; false when nothing more comes.
    async fn look(&mut self, hub: &TestHub, events: usize) -> bool {
        let mut socket = Socket::try_open(hub, Some(&self.person.token)).await.unwrap();
        let last = |seqs: &Vec<i64>| seqs.last().copied().unwrap_or(0);
        let since: BTreeMap<&String, i64> = self.seen.iter().map(|(c, s)| (c, last(s))).collect();
        let answer = socket.ok("resume", json!({ "channels": since })).await;
        assert_eq!(answer["channels"].as_object().unwrap().len(), self.seen.len(), "{answer}");
        // The own channel is live from the start: what came before the answer comes again.
        socket.events.clear();
        let mut taken = 0;
        while taken < events {
            let Some(event) = next_durable(&mut socket).await else { return false };
            let seen = self.seen.get_mut(event["channel"].as_str().unwrap()).unwrap();
            seen.push(event["seq"].as_i64().unwrap());
            taken += 1;
        }
        true
    }

    /// Looks until every channel is at its head; asserts that nothing is missing or twice.
    async fn finish(&mut self, hub: &TestHub) {
        while self.look(hub, 10_000).await {}
        let mut socket = Socket::open(hub, &self.person).await;
        for (channel, seen) in &self.seen {
            let head = socket.ok("subscribe", json!({ "channel": channel })).await["seq"].clone();
            let whole: Vec<i64> = (1..=head.as_i64().unwrap()).collect();
            assert!(!whole.is_empty(), "nothing happened in {channel}");
            assert_eq!(*seen, whole, "{channel}");
        }
    }
}

async fn next_durable(socket: &mut Socket) -> Option<Value> {
    loop {
        let event = socket.any_event(Duration::from_millis(1_500)).await?;
        if event.get("seq").is_some() {
            return Some(event);
        }
    }
}

/// Everything that happens: messages in two conversations, bookings, holds.
async fn write(hub: &TestHub, pairs: &[Pair], practice: &Practice, seeker: &Person, from: i64) {
    for n in from..from + 15 {
        for pair in pairs {
            pair.post(hub, &pair.a, "one").await;
            pair.post(hub, &pair.b, "two").await;
        }
        seeker.post(hub, "/v1/bookings", practice.wish(practice.slot(n))).await.data(201);
    }
}

#[tokio::test]
async fn a_client_that_reconnects_at_any_time_misses_nothing() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let me = practice.person.clone();
    let mut pairs = Vec::new();
    for _ in 0..2 {
        let other = hub.seeker().await;
        let body = json!({ "userId": me.id });
        let chat = other.post(&hub, "/v1/conversations", body).await.data(201);
        let id = chat["id"].as_str().unwrap().to_owned();
        pairs.push(Pair { id, a: other, b: me.clone() });
    }
    let mut channels: Vec<String> = pairs.iter().map(Pair::channel).collect();
    channels.push(format!("user:{}", me.id));
    channels.push(format!("calendar:{}", practice.id));
    let mut watcher = Watcher::new(&me, channels);
    let seeker = hub.seeker().await;
    let looks = async |watcher: &mut Watcher, hub: &TestHub| {
        for n in [1, 7, 0, 13, 2, 3, 1, 21, 5, 0, 8, 1, 1, 17, 4] {
            watcher.look(hub, n).await;
        }
    };
    tokio::join!(write(&hub, &pairs, &practice, &seeker, 0), looks(&mut watcher, &hub));

    let database = hub.database_url.clone();
    hub.stop().await;
    let hub = TestHub::start_over(database, |_| {}).await;
    tokio::join!(write(&hub, &pairs, &practice, &seeker, 20), looks(&mut watcher, &hub));
    watcher.finish(&hub).await;
    // The calendar has the fewest: its offer, then a booking per turn.
    assert_eq!(watcher.seen.values().map(Vec::len).min(), Some(31));
}

/// The socket opens its own channel by itself, at its head; a resume that comes at the same time
/// counts.
#[tokio::test]
async fn the_own_channel_resumes_however_early_it_is_asked_for() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    for n in 0..10 {
        seeker.post(&hub, "/v1/bookings", practice.wish(practice.slot(n))).await.data(201);
    }
    let me = &practice.person;
    let channel = format!("user:{}", me.id);
    let whole: Vec<i64> = (1..=20).collect();
    for round in 0..60 {
        let early = round % 2 == 0;
        let mut socket = Socket::try_open(&hub, early.then_some(me.token.as_str())).await.unwrap();
        if !early {
            socket.command("auth", json!({ "token": me.token })).await;
        }
        let resume = socket.command("resume", json!({ "channels": { &channel: 0 } })).await;
        if !early {
            socket.answer(1).await;
        }
        assert_eq!(socket.answer(resume).await["data"]["channels"][&channel]["seq"], 20);
        let mut seen = Vec::new();
        while seen.len() < whole.len() {
            let Some(event) = next_durable(&mut socket).await else { break };
            seen.push(event["seq"].as_i64().unwrap());
        }
        assert_eq!(seen, whole, "round {round}");
    }
}

async fn backlog(hub: &TestHub, pair: &Pair, messages: i64) {
    hub.execute(&format!(
        "INSERT INTO messages (id, conversation_id, seq, sender_id, client_id, message_type, content)
         SELECT gen_random_uuid(), '{}', n, '{}', gen_random_uuid(), 'text', repeat('x', 2048)
           FROM generate_series(1, {messages}) n",
        pair.id, pair.a.id
    ))
    .await;
    hub.execute(&format!("UPDATE conversations SET last_seq = {messages}")).await;
}

/// The seqs of the next `n` messages, in the order of their arrival.
async fn seqs(socket: &mut Socket, n: usize) -> Vec<i64> {
    let mut seqs = Vec::new();
    while seqs.len() < n {
        seqs.push(socket.event("message:new").await["seq"].as_i64().unwrap());
    }
    seqs
}

#[tokio::test]
async fn a_large_backlog_is_replayed_while_others_write() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    backlog(&hub, &pair, 3_000).await;
    let mut socket = Socket::open(&hub, &pair.b).await;
    let since = json!({ "channel": pair.channel(), "since": 0 });
    let answer = socket.ok("subscribe", since).await;
    assert_eq!(answer["seq"], 3_000);
    let writes = async {
        for n in 0..20 {
            pair.post(&hub, &pair.a, &n.to_string()).await;
        }
    };
    let (seen, ()) = tokio::join!(seqs(&mut socket, 3_020), writes);
    assert_eq!(seen, (1..=3_020).collect::<Vec<i64>>());
    socket.ok("ping", json!({})).await;
    assert!(socket.events.iter().all(|e| e["event"] != "message:new"), "nothing comes twice");
}

/// A client that changes its mind during a replay gets what it asked for last, and only that.
#[tokio::test]
async fn a_second_subscription_replaces_the_replay_of_the_first() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    backlog(&hub, &pair, 3_000).await;
    for again in [true, false] {
        let mut socket = Socket::open(&hub, &pair.b).await;
        let from = |since: i64| json!({ "channel": pair.channel(), "since": since });
        socket.ok("subscribe", from(0)).await;
        if again {
            socket.ok("unsubscribe", json!({ "channel": pair.channel() })).await;
        }
        socket.ok("subscribe", from(2_500)).await;
        socket.events.clear();
        assert_eq!(seqs(&mut socket, 500).await, (2_501..=3_000).collect::<Vec<i64>>());
        socket.ok("ping", json!({})).await;
        assert!(socket.events.iter().all(|e| e["event"] != "message:new"), "nothing comes twice");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_hurts_only_itself() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let mut asleep = pair.follow(&hub, &pair.b).await;
    let mut awake = pair.follow(&hub, &pair.b).await;
    // 32 KB each: together more than the line and the kernel's buffers hold.
    let content = "🙏".repeat(8_000);
    let mut slowest = Duration::ZERO;
    for n in 1..=420 {
        let sent = Instant::now();
        pair.post(&hub, &pair.a, &content).await;
        assert_eq!(awake.event("message:new").await["seq"], n);
        slowest = slowest.max(sent.elapsed());
        awake.events.clear();
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    // It wakes up: what is left is a beginning without gaps, and then the end.
    let (mut seen, mut code) = (0, None);
    while let Some(frame) = asleep.frame_or_close().await {
        match frame {
            Ok(event) if event["event"] == "message:new" => {
                seen += 1;
                assert_eq!(event["seq"], seen);
            }
            Ok(_) => {}
            Err(close) => code = close,
        }
    }
    assert!((1..420).contains(&seen), "{seen} of 420");
    assert!(code.is_none() || code == Some(4001), "{code:?}");
    let mut back = Socket::open(&hub, &pair.b).await;
    back.ok("subscribe", json!({ "channel": pair.channel(), "since": seen })).await;
    let rest = usize::try_from(420 - seen).unwrap();
    assert_eq!(seqs(&mut back, rest).await, (seen + 1..=420).collect::<Vec<i64>>());
}

#[tokio::test]
async fn subscriptions_begin_where_they_are_told_and_end() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    pair.post(&hub, &pair.a, "one").await;
    let mut socket = Socket::open(&hub, &pair.b).await;
    let channel = pair.channel();
    // A seq from the future begins at the head.
    let ahead = json!({ "channel": channel, "since": 99 });
    assert_eq!(socket.ok("subscribe", ahead).await["seq"], 1);
    pair.post(&hub, &pair.a, "two").await;
    assert_eq!(seqs(&mut socket, 1).await, [2]);
    // Subscribed twice, told once.
    assert_eq!(socket.ok("subscribe", json!({ "channel": channel })).await["seq"], 2);
    pair.post(&hub, &pair.a, "three").await;
    assert_eq!(seqs(&mut socket, 1).await, [3]);
    socket.ok("unsubscribe", json!({ "channel": channel })).await;
    pair.post(&hub, &pair.a, "four").await;
    // What the own channel hears of it comes after what would have come.
    while socket.event("conversation:updated").await["data"]["lastSeq"] != 4 {}
    socket.ok("ping", json!({})).await;
    assert!(socket.events.iter().all(|e| e["event"] != "message:new"), "{:?}", socket.events);
    assert_eq!(socket.ok("subscribe", json!({ "channel": channel, "since": 2 })).await["seq"], 4);
    assert_eq!(seqs(&mut socket, 2).await, [3, 4]);
    for since in [json!(-1), json!("1"), json!(1.5)] {
        let data = json!({ "channel": channel, "since": since });
        socket.refused("subscribe", data, "validation_failed").await;
    }
    let own = json!({ "channel": format!("user:{}", pair.b.id) });
    socket.refused("unsubscribe", own, "validation_failed").await;
}
