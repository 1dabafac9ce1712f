//! Durable chat messages per second over sockets, beside single rows per second by pgbench into the
//! same table of the same PostgreSQL, in turns; and how long an acknowledgement takes at a steady
//! rate.

use std::cell::Cell;
use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;
use serde_json::json;
use uuid::Uuid;

use super::load::{Outcome, Pace, Until};
use super::pgbench::{Load, rows_per_second};
use super::socket::Socket;
use super::world::{World, id};
use super::{Setup, median, ms};

#[derive(Args)]
pub struct Options {
    /// Sockets, two of each conversation, each with one message under way. A socket may send 50
    /// commands a second.
    #[arg(long, default_value_t = 512)]
    sockets: usize,
    /// Seconds of each turn.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Turns of each side, after one that does not count.
    #[arg(long, default_value_t = 4)]
    turns: usize,
    /// Messages per second of the last part.
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Clients of pgbench.
    #[arg(long, default_value_t = 16)]
    clients: usize,
}

/// The first field of the ids of conversations that the hub is asked about, and of pgbench's.
const CONVERSATION: u32 = 0xd000_0000;
const STRANGER: u32 = 0xe000_0000;
const GOAL: f64 = 1.5;
const GOAL_ACK: Duration = Duration::from_millis(25);

/// Runs it; whether both goals were reached.
pub async fn run(options: &Options, setup: &Setup) -> bool {
    let conversations = options.sockets / 2;
    let world = World::start(1, conversations * 2, setup).await;
    for kind in [CONVERSATION, STRANGER] {
        world.converse(kind, conversations).await;
    }
    world.sql.batch_execute("CREATE SEQUENCE bench_seq CACHE 1000").await.unwrap();
    world.sql.batch_execute("VACUUM ANALYZE").await.unwrap();
    let mut chat = Chat::open(&world, conversations).await;
    let (mut sent, mut stored, mut over_hub, mut ratios) = (0, Vec::new(), Vec::new(), Vec::new());
    let pgbench = Load {
        script: "message.sql",
        rows: "SELECT count(*) FROM messages WHERE conversation_id >= 'e0000000-0000-4000-8000-000000000000'",
        variables: &[("conversations", conversations.to_string())],
        clients: options.clients,
        seconds: options.seconds,
    };
    for turn in 0..=options.turns {
        world.sql.batch_execute("CHECKPOINT").await.unwrap();
        // As autovacuum does within a minute: plans made for an empty table do not count.
        world.sql.batch_execute("ANALYZE messages, conversation_members").await.unwrap();
        let before = world.processor();
        let hub = chat.talk(Duration::from_secs(options.seconds), None).await;
        let for_hub = world.processor().since(before, hub.requests());
        sent += hub.requests();
        world.sql.batch_execute("CHECKPOINT").await.unwrap();
        let rows = rows_per_second(&world, &pgbench).await;
        let rate = hub.rate(hub.of(200));
        println!("turn {turn}: hub {}", hub.summary());
        println!("        {for_hub}");
        println!("        pgbench {rows:.0} rows/s; ratio {:.2}", rate / rows);
        if turn > 0 {
            over_hub.push(rate);
            stored.push(rows);
            ratios.push(rate / rows);
        }
    }
    let steady = chat.talk(Duration::from_secs(options.seconds), Some(options.rate)).await;
    sent += steady.requests();
    println!("at {:.0}/s: hub {}", options.rate, steady.summary());
    chat.has_heard(2 * sent).await;
    let rows = world
        .number("SELECT count(*) FROM messages WHERE conversation_id < 'e0000000-0000-4000-8000-000000000000'")
        .await;
    assert_eq!(usize::try_from(rows).unwrap(), sent, "an acknowledgement without a row");
    println!("{sent} acknowledgements, {rows} rows, {} deliveries", chat.heard.get());
    let (ratio, ack) = (median(ratios), steady.quantile(0.99));
    println!(
        "median: hub {:.0} messages/s, pgbench {:.0} rows/s, ratio hub/pgbench {ratio:.2} (goal {GOAL:.2}); \
         acknowledgement at {:.0}/s p99 {} (goal {})",
        median(over_hub),
        median(stored),
        options.rate,
        ms(ack),
        ms(GOAL_ACK),
    );
    world.stop(setup.keep).await;
    ratio >= GOAL && ack <= GOAL_ACK
}

/// Sockets that talk to each other, two of each conversation; both hear what either says.
struct Chat {
    sockets: Vec<(Socket, Uuid)>,
    /// Deliveries of messages.
    heard: Cell<usize>,
}

impl Chat {
    async fn open(world: &World, conversations: usize) -> Self {
        let opened = (0..conversations * 2).map(async |n| {
            let conversation = id(CONVERSATION, n / 2 + 1);
            let mut socket = Socket::open(world.address, &world.tokens[n]).await;
            let channel = format!("conversation:{conversation}");
            let subscribe = json!({ "id": 0, "op": "subscribe", "data": { "channel": channel } });
            socket.send(&subscribe.to_string()).await;
            let heard = Cell::new(0);
            answer(&mut socket, &heard).await;
            assert_eq!(heard.get(), 0);
            (socket, conversation)
        });
        Self { sockets: join_all(opened).await, heard: Cell::new(0) }
    }

    /// Everybody sends a message as soon as the last one is acknowledged; or, with a `rate`, all of
    /// them together at the times when a steady rate has messages due, from which latency counts.
    async fn talk(&mut self, time: Duration, rate: Option<f64>) -> Outcome {
        let (heard, pace) = (&self.heard, Pace::new(Until::Time(time), rate));
        join_all(self.sockets.iter_mut().map(async |(socket, conversation)| {
            while let Some(n) = pace.next() {
                let due = pace.due(n).await;
                let send = format!(
                    r#"{{"id":1,"op":"message:send","data":{{"conversationId":"{conversation}","clientId":"{}","content":"A message of some fifty characters, as people write."}}}}"#,
                    Uuid::now_v7()
                );
                socket.send(&send).await;
                answer(socket, heard).await;
                pace.done(due, 200);
            }
        }))
        .await;
        pace.outcome()
    }

    /// Reads on until so many deliveries were heard in all.
    async fn has_heard(&mut self, all: usize) {
        let heard = &self.heard;
        let reading = self.sockets.iter_mut().map(async |(socket, _)| {
            while heard.get() < all {
                count(socket.next().await, heard);
            }
        });
        let reading = join_all(reading);
        let enough = async {
            while heard.get() < all {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            _ = reading => {}
            () = enough => {}
            () = tokio::time::sleep(Duration::from_secs(30)) => {}
        }
        assert_eq!(heard.get(), all, "deliveries were lost or repeated");
    }
}

/// Waits for the answer to a command, which must be a success; counts the messages that come before.
async fn answer(socket: &mut Socket, heard: &Cell<usize>) {
    loop {
        let text = socket.next().await;
        if text.ends_with(br#""ok":true}"#) {
            return;
        }
        count(text, heard);
    }
}

fn count(text: &[u8], heard: &Cell<usize>) {
    assert!(!text.starts_with(br#"{"error""#), "{}", String::from_utf8_lossy(text));
    let name = br#""event":"message:new""#;
    if text.windows(name.len()).any(|window| window == name) {
        heard.set(heard.get() + 1);
    }
}
