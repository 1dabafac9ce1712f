//! `/metrics`: what is counted, and that it adds up once nothing is under way.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::chat::Pair;
use crate::push::register;
use crate::support::push_receiver::{Answer, PushReceiver};
use crate::support::{Node, Socket, postgres, rows};

/// Every sample by its name and labels, as the text says it.
pub fn read(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// What the node serves beside its API.
pub async fn scrape(node: &Node, path: &str) -> reqwest::Response {
    reqwest::get(format!("http://{}{path}", node.metrics())).await.unwrap()
}

#[tokio::test]
async fn what_is_counted_adds_up_at_rest() {
    let env = [
        ("METRICS_ADDR", "127.0.0.1:0"),
        ("PUSH_WINDOW_SECONDS", "1"),
        ("PUSH_ALLOW_PRIVATE_ENDPOINTS", "true"),
    ];
    let node = Node::start_with(&postgres::migrated(), &env).await;
    // One each: a browser that another account signs in with is that account's device.
    let read = PushReceiver::start().await.unwrap();
    let (good, bad) = (PushReceiver::start().await.unwrap(), PushReceiver::start().await.unwrap());
    bad.answer_with(Answer::status(400));
    let (reads, sleeps, broken) =
        (Pair::of(&node).await, Pair::of(&node).await, Pair::of(&node).await);
    for (pair, receiver) in [(&reads, &read), (&sleeps, &good), (&broken, &bad)] {
        register(&node, &pair.b, receiver).await;
    }
    let mut socket = reads.follow(&node, &reads.b).await;
    for n in 1..=7 {
        reads.post(&node, &reads.a, "acknowledged").await;
        socket.event("message:new").await;
        let seen = json!({ "conversationId": reads.id, "seq": n });
        socket.ok("message:received", seen).await;
    }
    for _ in 0..5 {
        sleeps.post(&node, &sleeps.a, "pushed").await;
    }
    for _ in 0..3 {
        broken.post(&node, &broken.a, "taken by nobody").await;
    }
    let mut writer = Socket::open(&node, &sleeps.a).await;
    let again = sleeps.message("twice");
    for _ in 0..3 {
        writer.ok("message:send", again.clone()).await;
    }
    let stranger = json!({ "clientId": Uuid::new_v4(), "content": "not mine" });
    reads.a.post(&node, &sleeps.path(), stranger).await.refused(404, "not_found");
    writer.close().await;
    node.becomes("SELECT count(*) FROM outbox WHERE state = 'waiting'", 0).await;
    node.becomes("SELECT count(*) FROM push_deliveries WHERE state = 'waiting'", 0).await;
    adds_up(&node).await;
    let text = scrape(&node, "/metrics").await.text().await.unwrap();
    assert!(!text.contains(&reads.id), "an id is a label");
    node.stop().await;
}

/// What is served after the test above.
async fn adds_up(node: &Node) {
    let answer = scrape(node, "/metrics").await;
    assert_eq!(answer.status(), 200);
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    let text = answer.text().await.unwrap();
    let samples = read(&text);
    let of = |name: &str| *samples.get(name).unwrap_or_else(|| panic!("no {name}: {text}"));
    let messages = |stage: &str| of(&format!("hub_messages_total{{stage=\"{stage}\"}}"));
    let pushes = |state: &str| of(&format!("hub_message_pushes{{state=\"{state}\"}}"));
    assert_eq!(
        (messages("stored"), messages("repeated"), messages("refused")),
        (16.0, 2.0, 1.0),
        "{text}"
    );
    assert_eq!(messages("accepted"), 19.0, "= stored + repeated + refused");
    let states = ["waiting", "acknowledged", "pushed", "unwanted", "expired"];
    assert_eq!(states.map(pushes), [0.0, 7.0, 6.0, 0.0, 3.0], "{text}");
    let all: f64 = states.map(pushes).iter().sum();
    assert_eq!(all, messages("stored"), "each had one recipient");
    assert_eq!(of("hub_sockets"), 1.0);
    assert!(of("hub_deliveries_total{kind=\"durable\"}") >= 7.0);
    assert!(of("hub_commit_seconds_count") >= 16.0 && of("hub_commit_jobs_sum") >= 16.0);
    assert!(of("hub_database_connections") >= 1.0);
    let route = "route=\"/v1/conversations/{id}/messages\"";
    assert_eq!(
        of(&format!("hub_http_requests_total{{method=\"POST\",{route},status=\"404\"}}")),
        1.0
    );
}

#[tokio::test]
async fn metrics_are_not_part_of_the_api_nor_the_other_way_round() {
    let node = Node::start_with(&postgres::migrated(), &[("METRICS_ADDR", "127.0.0.1:0")]).await;
    node.get("/metrics").await.refused(404, "no_such_route");
    assert_eq!(scrape(&node, "/v1/services").await.status(), 404);
    assert_eq!(scrape(&node, "/").await.status(), 404);
    // Clients that make up methods and paths make no new samples.
    for n in 0..50 {
        let method = format!("MADE{n}").parse().unwrap();
        node.request(method, &format!("/made/up/{n}")).send().await.unwrap();
    }
    let text = scrape(&node, "/metrics").await.text().await.unwrap();
    let made_up: Vec<&str> = text.lines().filter(|l| l.contains("\"other\"")).collect();
    assert_eq!(made_up.len(), 1, "{made_up:#?}");
    assert!(!text.contains("MADE") && !text.contains("/made"), "{text}");
    node.stop().await;
}

/// Two nodes that both serve everybody; what both count, taken together, and what is in the database.
struct Books {
    nodes: [Node; 2],
    url: String,
}

impl Books {
    async fn open() -> Self {
        let env = [
            ("METRICS_ADDR", "127.0.0.1:0"),
            // Time enough to hear from another node without a bus.
            ("PUSH_WINDOW_SECONDS", "8"),
            ("PUSH_ALLOW_PRIVATE_ENDPOINTS", "true"),
        ];
        let url = postgres::migrated();
        let nodes = [Node::start_with(&url, &env).await, Node::start_with(&url, &env).await];
        Self { nodes, url }
    }

    /// The same sample of both nodes.
    async fn both(&self, name: &str) -> [f64; 2] {
        let mut both = [0.0; 2];
        for (node, sample) in self.nodes.iter().zip(&mut both) {
            let text = scrape(node, "/metrics").await.text().await.unwrap();
            *sample = *read(&text).get(name).unwrap_or_else(|| panic!("no {name}: {text}"));
        }
        both
    }

    async fn messages(&self, stage: &str) -> [f64; 2] {
        self.both(&format!("hub_messages_total{{stage=\"{stage}\"}}")).await
    }

    async fn sent(&self) -> f64 {
        let durable = self.both("hub_deliveries_total{kind=\"durable\"}").await;
        let replayed = self.both("hub_deliveries_total{kind=\"replayed\"}").await;
        durable.iter().chain(&replayed).sum()
    }
}

/// Durable events that came to the socket, up to and including `last` of the channel.
async fn hears(socket: &mut Socket, last: i64) -> usize {
    let mut heard = 0;
    loop {
        let event = socket.any_event(Duration::from_secs(20)).await.expect("an event");
        heard += usize::from(event["seq"].is_i64());
        if event["seq"] == last {
            return heard;
        }
    }
}

#[tokio::test]
async fn over_two_nodes_the_books_balance_at_rest() {
    let books = Books::open().await;
    let [one, two] = &books.nodes;
    let (reads, sleeps, broken) = (Pair::of(one).await, Pair::of(two).await, Pair::of(one).await);
    let mut receivers = Vec::new();
    for pair in [&reads, &sleeps, &broken] {
        let receiver = PushReceiver::start().await.unwrap();
        register(two, &pair.b, &receiver).await;
        receivers.push(receiver);
    }
    receivers[2].answer_with(Answer::status(400));
    // Who reads hears at both nodes, at one of them only of what was said before.
    let mut heard = 0;
    let mut phone = reads.follow(two, &reads.b).await;
    for n in 1..=20 {
        let (node, again) = if n % 2 == 0 { (one, two) } else { (two, one) };
        let body = json!({ "clientId": Uuid::new_v4(), "content": "read" });
        reads.a.post(node, &reads.path(), body.clone()).await.data(201);
        if n % 4 == 0 {
            reads.a.post(again, &reads.path(), body).await;
        }
    }
    heard += hears(&mut phone, 20).await;
    let mut tablet = Socket::open(one, &reads.b).await;
    let from = json!({ "channel": reads.channel(), "since": 5 });
    tablet.ok("subscribe", from).await;
    heard += hears(&mut tablet, 20).await;
    assert_eq!(heard, 20 + 15);
    tablet.ok("message:read", json!({ "conversationId": reads.id, "seq": 20 })).await;
    for (pair, messages) in [(&sleeps, 10), (&broken, 4)] {
        for n in 0..messages {
            pair.post(&books.nodes[n % 2], &pair.a, "not read").await;
        }
    }
    for node in &books.nodes {
        let stranger = json!({ "clientId": Uuid::new_v4(), "content": "not mine" });
        reads.a.post(node, &sleeps.path(), stranger).await.refused(404, "not_found");
    }
    one.becomes("SELECT count(*) FROM outbox WHERE state = 'waiting'", 0).await;
    one.becomes("SELECT count(*) FROM push_deliveries WHERE state = 'waiting'", 0).await;

    let stored: f64 = books.messages("stored").await.iter().sum();
    assert_eq!((stored, rows::count(&books.url, "messages").await), (34.0, 34));
    assert_eq!(books.messages("repeated").await.iter().sum::<f64>(), 5.0);
    assert_eq!(books.messages("refused").await, [1.0, 1.0]);
    assert_eq!(books.messages("accepted").await.iter().sum::<f64>(), 34.0 + 5.0 + 2.0);
    assert!(books.messages("stored").await.iter().all(|node| *node > 0.0));
    // Both nodes tell the same of what they share.
    let states = ["waiting", "acknowledged", "pushed", "unwanted", "expired"];
    for (state, expected) in states.into_iter().zip([0.0, 20.0, 10.0, 0.0, 4.0]) {
        let pushes = books.both(&format!("hub_message_pushes{{state=\"{state}\"}}")).await;
        assert_eq!(pushes, [expected; 2], "{state}");
    }
    assert_eq!(books.sent().await, 35.0, "what was put into queues is what came out of them");
    for node in books.nodes {
        node.stop().await;
    }
}
