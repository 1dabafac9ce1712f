//! Messages from many at once over two nodes in processes of their own, one of which is killed.
//!
//! `CHAT_EACH` says how many messages each of 50 senders sends, such as 200; unless it is given, 12
//! senders send 25 each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::chat::Pair;
use crate::support::{Node, Person, postgres, rows};

#[tokio::test]
async fn a_hundred_repeats_on_two_nodes_are_one_message() {
    let url = postgres::migrated();
    let nodes = Node::two(&url).await;
    let pair = Pair::of(&nodes[0]).await;
    let body = json!({ "clientId": Uuid::new_v4(), "content": "once" });
    let path = pair.path();
    let answers = join_all((0..100).map(|n| pair.a.post(&nodes[n % 2], &path, body.clone()))).await;
    let first = answers[0].data(201);
    assert!(answers.iter().all(|a| a.data(201) == first));
    assert_eq!(rows::number(&url, "SELECT count(*) FROM messages").await, 1);
    assert_eq!(rows::number(&url, "SELECT last_seq FROM conversations").await, 1);
    // The control: another id is another message.
    let other = json!({ "clientId": Uuid::new_v4(), "content": "once" });
    assert_eq!(pair.a.post(&nodes[1], &path, other).await.data(201)["seq"], 2);
    let [one, two] = nodes;
    one.stop().await;
    two.stop().await;
}

/// Sends one message until a node says that it is stored; returns its seq and how often it was
/// sent. The first try goes to `urls[start]`.
async fn send(
    client: &reqwest::Client,
    urls: &[String; 2],
    start: usize,
    person: &Person,
    body: &Value,
) -> (i64, usize) {
    let until = Instant::now() + Duration::from_secs(120);
    let mut tries = 0;
    loop {
        let url = &urls[(start + tries) % 2];
        tries += 1;
        let sent = client.post(url).bearer_auth(&person.token).json(body).send().await;
        if let Ok(answer) = sent
            && answer.status() == 201
            && let Ok(body) = answer.json::<Value>().await
        {
            return (body["data"]["seq"].as_i64().unwrap(), tries);
        }
        assert!(Instant::now() < until, "no node takes the message");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_killed_node_loses_and_doubles_nothing() {
    let each = std::env::var("CHAT_EACH").ok().map(|n| n.parse::<usize>().expect("a number"));
    let (senders, each) = each.map_or((12, 25), |each| (50, each));
    let url = postgres::migrated();
    let [doomed, survivor] = Node::two(&url).await;
    let owner = survivor.admin().await;
    let mut people = Vec::new();
    for _ in 0..senders {
        people.push(survivor.seeker().await);
    }
    let ids: Vec<&str> = people.iter().map(|p| p.id.as_str()).collect();
    let body = json!({ "kind": "group", "title": "Everybody", "memberIds": ids });
    let group = owner.post(&survivor, "/v1/conversations", body).await.data(201);
    let path = format!("/v1/conversations/{}/messages", group["id"].as_str().unwrap());
    let urls = Arc::new([doomed.url(&path), survivor.url(&path)]);
    let (client, done) = (reqwest::Client::new(), Arc::new(AtomicUsize::new(0)));
    let total = senders * each;
    let tasks: Vec<_> = people
        .into_iter()
        .enumerate()
        .map(|(n, person)| {
            let (client, urls, done) = (client.clone(), urls.clone(), done.clone());
            tokio::spawn(async move {
                let (mut acknowledged, mut again) = (Vec::new(), 0);
                for m in 0..each {
                    let id = Uuid::new_v4();
                    let body = json!({ "clientId": id, "content": format!("{n}/{m}") });
                    let (seq, tries) = send(&client, &urls, n % 2, &person, &body).await;
                    done.fetch_add(1, Ordering::Relaxed);
                    again += tries - 1;
                    acknowledged.push((id, seq));
                }
                (acknowledged, again)
            })
        })
        .collect();
    while done.load(Ordering::Relaxed) < total / 3 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    doomed.kill().await;
    let (mut acknowledged, mut again) = (BTreeMap::new(), 0);
    for task in tasks {
        let (theirs, retries) = task.await.unwrap();
        let seqs: Vec<i64> = theirs.iter().map(|(_, seq)| *seq).collect();
        assert!(seqs.is_sorted(), "a sender's own messages keep their order");
        acknowledged.extend(theirs.into_iter().map(|(id, seq)| (seq, id)));
        again += retries;
    }
    assert!(again > 0, "nobody noticed that a node died: the test tests nothing");
    let everything: Vec<i64> = (1..=i64::try_from(total).unwrap()).collect();
    assert_eq!(acknowledged.keys().copied().collect::<Vec<_>>(), everything);
    let stored = rows::rows(&url, "SELECT seq, client_id FROM messages ORDER BY seq").await;
    let stored: Vec<(i64, Uuid)> = stored
        .into_iter()
        .map(|row| {
            let [seq, id] = row.try_into().unwrap();
            (seq.unwrap().parse().unwrap(), id.unwrap().parse().unwrap())
        })
        .collect();
    assert_eq!(stored, acknowledged.into_iter().collect::<Vec<_>>());
    survivor.stop().await;
}
