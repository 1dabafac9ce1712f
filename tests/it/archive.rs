//! Conversations as a whole: searching, handing out, emptying what is old.

use std::time::{Duration, Instant};

use diesel_async::RunQueryDsl;
use hub::models::message_archive::{self, SEARCH};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::attachments::{Room, jpeg};
use crate::support::{Person, Socket, TestHub, postgres, rows};

async fn found(room: &Room, who: &Person, query: &str) -> Vec<Value> {
    let path = format!("/v1/conversations/search?{query}");
    let data = who.get(&room.hub, &path).await.data(200);
    data["hits"].as_array().unwrap().clone()
}

fn text_of(hit: &Value) -> String {
    let pieces = hit["snippet"].as_array().unwrap();
    pieces.iter().map(|p| p["text"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_search_finds_what_one_may_read_and_nothing_else() {
    let room = Room::open(TestHub::start().await).await;
    for text in
        ["Reiki on Monday & \"at\" nine?", "no, massage", "reiki: योग और ध्यान", "REIKI \u{e000}x"]
    {
        room.send(&room.a, json!({ "content": text })).await.data(201);
    }
    for who in [&room.a, &room.b] {
        let hits = found(&room, who, "q=reiki").await;
        let texts: Vec<String> = hits.iter().map(text_of).collect();
        assert_eq!(texts, ["REIKI x", "reiki: योग और ध्यान", "Reiki on Monday & \"at\" nine?"]);
        assert_eq!(hits[0]["snippet"][0], json!({ "text": "REIKI", "hit": true }));
    }
    assert!(found(&room, &room.stranger, "q=reiki").await.is_empty());
    assert_eq!(
        found(&room, &room.a, "q=%E0%A4%A7%E0%A5%8D%E0%A4%AF%E0%A4%BE%E0%A4%A8").await.len(),
        1
    );
    assert_eq!(found(&room, &room.a, "q=reiki+-monday").await.len(), 2);
    assert_eq!(found(&room, &room.a, "q=%22at+nine%22").await.len(), 1);
    assert_eq!(found(&room, &room.a, "q=massage+or+monday").await.len(), 2);
    for (query, field) in [
        ("q=a", "q"),
        ("q=-reiki", "q"),
        ("q=%21%21%26%28", "q"),
        ("q=reiki&limit=0", "limit"),
        ("q=reiki&cursor=x", "cursor"),
        ("q=a%00b", "q"),
    ] {
        let path = format!("/v1/conversations/search?{query}");
        room.a.get(&room.hub, &path).await.names(field);
    }
    // What was taken away is not found.
    let gone =
        "UPDATE messages SET content = '', deleted_at = now() WHERE content LIKE 'Reiki on%'";
    rows::run(&room.hub.database_url, gone).await;
    assert_eq!(found(&room, &room.a, "q=reiki").await.len(), 2);
    room.hub.stop().await;
}

#[tokio::test]
async fn a_search_is_read_on_by_its_cursor() {
    let room = Room::open(TestHub::start().await).await;
    for n in 0..5 {
        room.send(&room.a, json!({ "content": format!("needle {n}") })).await.data(201);
    }
    let (mut seen, mut path) = (Vec::new(), "/v1/conversations/search?q=needle&limit=2".to_owned());
    loop {
        let page = room.b.get(&room.hub, &path).await.data(200);
        seen.extend(page["hits"].as_array().unwrap().iter().map(text_of));
        let Some(next) = page["nextCursor"].as_str() else { break };
        path = format!("/v1/conversations/search?q=needle&limit=2&cursor={next}");
    }
    assert_eq!(seen, ["needle 4", "needle 3", "needle 2", "needle 1", "needle 0"]);
    room.hub.stop().await;
}

/// Puts many messages of others there, all with the word that is looked for.
async fn crowd(room: &Room, count: usize) {
    let url = &room.hub.database_url;
    let other = Uuid::now_v7();
    let sql = format!(
        "INSERT INTO conversations (id, kind, last_seq) VALUES ('{other}', 'group', {count})"
    );
    rows::run(url, &sql).await;
    let sql = format!(
        "INSERT INTO messages (id, conversation_id, seq, client_id, message_type, content)
         SELECT gen_random_uuid(), '{other}', n, gen_random_uuid(), 'text', 'needle number ' || n
           FROM generate_series(1, {count}) n"
    );
    assert_eq!(rows::run(url, &sql).await, count);
    rows::run(url, "ANALYZE messages").await;
}

#[tokio::test]
async fn a_search_reads_its_own_conversations_by_the_index() {
    let room = Room::open(TestHub::start().await).await;
    room.send(&room.a, json!({ "content": "a needle of ours" })).await.data(201);
    crowd(&room, 30_000).await;
    let sql = SEARCH
        .replace("$1", &format!("ARRAY['{}']::uuid[]", room.id))
        .replace("$2", "'ffffffff-ffff-ffff-ffff-ffffffffffff'")
        .replace("$3", "'needle'")
        .replace("$4", "20");
    let plan = rows::column(&room.hub.database_url, &format!("EXPLAIN {sql}")).await.join("\n");
    assert!(plan.contains("idx_messages_search") || plan.contains("messages_seq_key"), "{plan}");
    assert!(!plan.contains("Seq Scan on messages"), "{plan}");
    let started = Instant::now();
    assert_eq!(found(&room, &room.a, "q=needle").await.len(), 1);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    room.hub.stop().await;
}

async fn exported(room: &Room, who: &Person) -> (u16, Vec<Value>) {
    let path = format!("/v1/conversations/{}/export", room.id);
    let request = room.hub.request(Method::GET, &path).bearer_auth(&who.token);
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[tokio::test]
async fn an_export_is_the_whole_conversation() {
    let room = Room::open(TestHub::start().await).await;
    room.send(&room.a, json!({ "content": "first" })).await.data(201);
    let sql = format!(
        "INSERT INTO messages (id, conversation_id, seq, client_id, message_type, content)
         SELECT gen_random_uuid(), '{}', n, gen_random_uuid(), 'text', 'number ' || n
           FROM generate_series(2, 450) n",
        room.id
    );
    rows::run(&room.hub.database_url, &sql).await;
    rows::run(&room.hub.database_url, "UPDATE conversations SET last_seq = 450").await;
    let (status, lines) = exported(&room, &room.b).await;
    assert_eq!((status, lines.len()), (200, 451));
    assert_eq!(
        (&lines[0]["id"], lines[0]["members"].as_array().unwrap().len()),
        (&json!(room.id), 2)
    );
    let seqs: Vec<i64> = lines[1..].iter().map(|m| m["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (1..=450).collect::<Vec<_>>());
    assert_eq!(lines[1]["content"], "first");
    assert_eq!(exported(&room, &room.stranger).await.0, 404);
    room.hub.stop().await;
}

/// Makes the messages up to `seq` as old as those of 2022.
async fn age(room: &Room, seq: i64) {
    let sql = format!(
        "UPDATE messages SET id = ('0180' || substr(id::text, 5))::uuid,
                created_at = '2022-04-07T00:00:00Z' WHERE seq <= {seq}"
    );
    rows::run(&room.hub.database_url, &sql).await;
}

#[tokio::test]
async fn old_messages_are_emptied_and_the_order_stays_whole() {
    let room = Room::open(TestHub::start().await).await;
    for n in 1..=250 {
        room.send(&room.a, json!({ "content": format!("secret {n}") })).await.data(201);
    }
    let file = room.upload(&room.a, "image/jpeg", jpeg(8, 8)).await.data(201);
    age(&room, 240).await;
    let picture = json!({ "type": "image", "attachments": [file["id"]] });
    let picture = room.send(&room.a, picture).await.data(201);
    let day = Duration::from_secs(86_400).as_secs_f64();
    let mut conn = postgres::connect(&room.hub.database_url).await;
    let mut after = Uuid::nil();
    let mut steps = 0;
    while let Some(last) = message_archive::empty_old(&mut conn, day, after, 100).await.unwrap() {
        after = last;
        steps += 1;
    }
    assert_eq!(steps, 3);
    let url = &room.hub.database_url;
    assert_eq!(rows::count(url, "messages WHERE content LIKE 'secret%'").await, 10);
    assert_eq!(rows::count(url, "messages").await, 251);
    assert_eq!(room.download(&room.b, &file["id"], "").await.0, 200);

    // Who comes back from before gets every seq once, what is left of the old ones among them.
    let mut socket = Socket::open(&room.hub, &room.b).await;
    let channel = format!("conversation:{}", room.id);
    let answer = socket.ok("subscribe", json!({ "channel": channel, "since": 5 })).await;
    assert_eq!(answer["seq"], 251);
    for seq in 6..=251i64 {
        let event = socket.event("message:new").await;
        assert_eq!(event["seq"], seq);
        let message = &event["data"]["message"];
        assert_eq!(message["deletedAt"].is_string(), seq <= 240, "{seq}");
        assert_eq!(message["content"] == "", seq <= 240 || seq == 251, "{seq}");
    }
    assert!(socket.event_within("message:new", Duration::from_millis(300)).await.is_none());

    // A picture that grows old takes its file along.
    let sql = format!(
        "UPDATE messages SET content = '', attachments = '[]', deleted_at = now() WHERE id = '{}'",
        picture["id"].as_str().unwrap()
    );
    diesel::sql_query(sql).execute(&mut conn).await.unwrap();
    assert_eq!(room.download(&room.b, &file["id"], "").await.0, 404);
    assert_eq!(rows::count(url, "attachments WHERE doomed_at IS NOT NULL").await, 1);
    room.hub.stop().await;
}
