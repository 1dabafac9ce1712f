//! `/metrics`: what is counted, and that it adds up once nothing is under way.

use std::collections::BTreeMap;

use serde_json::json;
use uuid::Uuid;

use crate::chat::Pair;
use crate::push::register;
use crate::support::push_receiver::{Answer, PushReceiver};
use crate::support::{Node, Socket, postgres};

/// Every sample by its name and labels, as the text says it.
fn read(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

async fn scrape(node: &Node, path: &str) -> reqwest::Response {
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
