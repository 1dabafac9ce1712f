//! A Redis that stands still: nobody on the same node notices, bookings go on everywhere, and what
//! the other node missed is there soon after Redis goes on. `FROZEN_SECONDS` says for how long.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chat::Pair;
use crate::support::postgres::migrated;
use crate::support::redis::Redis;
use crate::support::{Node, Socket, rows};

/// What a request may take longer than before, on a machine that builds something else as well: the
/// middle one, and each. One that waits until Redis is back takes as long as that.
const PROMPT: Duration = Duration::from_millis(300);
const AT_MOST: Duration = Duration::from_secs(5);
/// How soon after Redis other nodes have everything.
const HEALED: Duration = Duration::from_secs(5);

fn frozen() -> Duration {
    let seconds = std::env::var("FROZEN_SECONDS").map_or(8, |n| n.parse().expect("a number"));
    Duration::from_secs(seconds)
}

async fn bus_of(node: &Node) -> Value {
    node.get("/readyz").await.data(200)["bus"].clone()
}

async fn bus_becomes(nodes: [&Node; 2], state: &str) {
    let until = Instant::now() + Duration::from_secs(15);
    for node in nodes {
        while bus_of(node).await != state {
            assert!(Instant::now() < until, "the bus does not become {state}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The seqs of the next `message:new` events, until `last` has come or it is too late.
async fn seqs(socket: &mut Socket, last: i64, patience: Duration) -> Vec<i64> {
    let until = Instant::now() + patience;
    let mut seqs: Vec<i64> = Vec::new();
    while seqs.last() != Some(&last) {
        let left = until.saturating_duration_since(Instant::now());
        let Some(event) = socket.event_within("message:new", left).await else { break };
        seqs.push(event["seq"].as_i64().unwrap());
    }
    seqs
}

/// People who chat and book.
struct World<'a> {
    nodes: [&'a Node; 2],
    pair: &'a Pair,
    /// A socket at the first node, of the pair's first.
    here: &'a mut Socket,
    /// A socket at the second node, of the pair's second.
    there: &'a mut Socket,
    sent: i64,
    booked: i64,
}

impl World<'_> {
    /// Goes on for so long; returns what each thing took.
    async fn live_for(&mut self, time: Duration, book: &impl AsyncFn(&Node, i64)) -> Vec<Duration> {
        let (began, mut took) = (Instant::now(), Vec::new());
        while began.elapsed() < time {
            let asked = Instant::now();
            self.here.ok("message:send", self.pair.message("x")).await;
            self.sent += 1;
            let seq = self.here.event("message:new").await["seq"].clone();
            assert_eq!(seq, self.sent, "the same node needs no Redis");
            took.push(asked.elapsed());
            if self.sent % 4 == 0 {
                let node = self.nodes[usize::from(self.booked % 2 == 1)];
                let asked = Instant::now();
                book(node, self.booked).await;
                self.booked += 1;
                took.push(asked.elapsed());
                // Somebody comes and looks around, also on the node that hears nothing.
                let asked = Instant::now();
                let mut visitor = Socket::open(node, &self.pair.b).await;
                let who = json!({ "channel": format!("presence:{}", self.pair.a.id) });
                visitor.ok("subscribe", who).await;
                took.push(asked.elapsed());
            }
            // A socket that nobody reads is ended by its heartbeat, and rightly: what comes is kept
            // for later.
            let nothing =
                self.there.event_within("none by this name", Duration::from_millis(50)).await;
            assert_eq!(nothing, None);
        }
        took
    }
}

fn middle(took: &[Duration]) -> Duration {
    let mut sorted = took.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2]
}

#[tokio::test]
async fn a_frozen_redis_delays_nobody_but_other_nodes() {
    let Some(redis) = Redis::start().await else { return };
    let (url, redis_url) = (migrated(), redis.url());
    let variables = [("REDIS_URL", redis_url.as_str())];
    let (a, b) =
        tokio::join!(Node::start_with(&url, &variables), Node::start_with(&url, &variables));
    bus_becomes([&a, &b], "connected").await;
    let pair = Pair::of(&a).await;
    let (practice, seeker) = (a.practice().await, a.seeker().await);
    let mut here = pair.follow(&a, &pair.a).await;
    let mut there = pair.follow(&b, &pair.b).await;
    let mut world = World {
        nodes: [&a, &b],
        pair: &pair,
        here: &mut here,
        there: &mut there,
        sent: 0,
        booked: 0,
    };
    let book = async |node: &Node, n| {
        let wish = practice.wish(practice.slot(n));
        seeker.post(node, "/v1/bookings", wish).await.data(201);
    };
    let before = world.live_for(Duration::from_secs(2), &book).await;
    redis.freeze();
    let during = world.live_for(frozen(), &book).await;
    let (sent, booked) = (world.sent, world.booked);
    assert!(middle(&during) < middle(&before) * 3 + PROMPT, "{before:?} {during:?}");
    let slowest = *during.iter().max().unwrap();
    assert!(slowest < AT_MOST, "somebody waited {slowest:?} for Redis");
    assert_eq!((bus_of(&a).await, bus_of(&b).await), (json!("lost"), json!("lost")));

    redis.thaw();
    let back = Instant::now();
    let seen = seqs(&mut there, sent, HEALED).await;
    assert_eq!(seen, (1..=sent).collect::<Vec<_>>(), "after {:?}", back.elapsed());
    bus_becomes([&a, &b], "connected").await;
    // Nothing comes twice, and the nodes hear each other again.
    here.ok("message:send", pair.message("after")).await;
    assert_eq!(seqs(&mut there, sent + 1, HEALED).await, [sent + 1]);
    assert_eq!(seqs(&mut here, sent + 1, HEALED).await, [sent + 1]);
    assert_eq!(there.event_within("message:new", Duration::from_secs(1)).await, None);
    let stored = rows::count(&url, "bookings").await;
    assert_eq!(stored, usize::try_from(booked).unwrap());
    println!("frozen for {:?}: {sent} messages, {booked} bookings, slowest {slowest:?}", frozen());
    for node in [a, b] {
        node.stop().await;
    }
}
