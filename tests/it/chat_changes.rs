//! Messages that are edited, taken away and reacted to, over REST and sockets.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::chat::Pair;
use crate::support::{Person, Socket, TestHub};

impl Pair {
    fn named(&self, message: &Value, more: &Value) -> Value {
        let mut data = json!({ "conversationId": self.id, "messageId": message["id"] });
        for (key, value) in more.as_object().unwrap() {
            data[key] = value.clone();
        }
        data
    }

    fn path_of(&self, message: &Value) -> String {
        format!("{}/{}", self.path(), message["id"].as_str().unwrap())
    }

    async fn history(&self, hub: &TestHub, who: &Person) -> Value {
        who.get(hub, &format!("{}?after=0&limit=100", self.path())).await.data(200)
    }
}

/// Everything that a conversation's channel tells after `since`.
async fn replay(hub: &TestHub, pair: &Pair, who: &Person, since: i64) -> Vec<Value> {
    let mut socket = Socket::open(hub, who).await;
    let ask = json!({ "channel": pair.channel(), "since": since });
    let head = socket.ok("subscribe", ask).await["seq"].as_i64().unwrap();
    let mut told = Vec::new();
    while told.len() < usize::try_from(head - since).unwrap() {
        let event = socket.any_event(std::time::Duration::from_secs(10)).await.expect("an event");
        if event["seq"].is_i64() && event["channel"] == pair.channel() {
            told.push(event);
        }
    }
    told
}

/// Every seq up to the head is a message or a change, once.
async fn is_dense(hub: &TestHub) {
    let broken = "SELECT count(*) FROM conversations c WHERE c.last_seq <> (
            SELECT count(DISTINCT s.seq) FROM (
                SELECT seq FROM messages m WHERE m.conversation_id = c.id
                UNION ALL SELECT seq FROM conversation_events e WHERE e.conversation_id = c.id) s)
        OR c.last_seq <> (SELECT count(*) FROM messages m WHERE m.conversation_id = c.id)
            + (SELECT count(*) FROM conversation_events e WHERE e.conversation_id = c.id)";
    assert_eq!(hub.number(broken).await, 0);
}

#[tokio::test]
async fn words_can_be_changed_and_everybody_hears() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let mut watcher = pair.follow(&hub, &pair.b).await;
    let mut writer = Socket::open(&hub, &pair.a).await;
    let first = pair.post(&hub, &pair.a, "Namste").await;
    watcher.event("message:new").await;
    let edit = pair.named(&first, &json!({ "content": "Namaste" }));
    let edited = writer.ok("message:edit", edit.clone()).await;
    assert_eq!((&edited["content"], &edited["seq"]), (&json!("Namaste"), &json!(1)));
    let event = watcher.event("message:updated").await;
    assert_eq!((&event["seq"], &event["data"]["change"]), (&json!(2), &json!("edit")));
    assert_eq!(
        (&event["data"]["message"], &event["data"]["actorId"]),
        (&edited, &json!(pair.a.id))
    );
    // The same again changes nothing, over REST as well.
    assert_eq!(writer.ok("message:edit", edit).await, edited);
    let path = pair.path_of(&first);
    let same = json!({ "content": "Namaste" });
    assert_eq!(pair.a.put(&hub, &path, same).await.data(200), edited);
    pair.a.put(&hub, &path, json!({ "content": "Namaste!" })).await.data(200);
    assert_eq!(watcher.event("message:updated").await["seq"], 3);

    // Nobody else's, nothing empty, nothing that is not there.
    let mine = json!({ "content": "mine now" });
    pair.b.put(&hub, &path, mine.clone()).await.refused(403, "forbidden");
    pair.a.put(&hub, &path, json!({ "content": " " })).await.names("content");
    let nowhere = format!("{}/{}", pair.path(), uuid::Uuid::new_v4());
    pair.a.put(&hub, &nowhere, mine.clone()).await.refused(404, "not_found");
    let elsewhere = Pair::of(&hub).await;
    let foreign = elsewhere.post(&hub, &elsewhere.a, "foreign").await;
    pair.a.put(&hub, &pair.path_of(&foreign), mine).await.refused(404, "not_found");

    // Who resumes from before hears the message as it is, and each change.
    let told = replay(&hub, &pair, &pair.b, 0).await;
    let names: Vec<&Value> = told.iter().map(|e| &e["event"]).collect();
    assert_eq!(names, ["message:new", "message:updated", "message:updated"]);
    for (event, seq) in told.iter().zip(1..) {
        assert_eq!(event["seq"], seq);
        assert_eq!(event["data"]["message"]["content"], "Namaste!");
    }
    let versions = format!(
        "SELECT count(*) FROM message_versions WHERE message_id = '{}' AND content LIKE 'Nam%'",
        first["id"].as_str().unwrap()
    );
    assert_eq!(hub.number(&versions).await, 2, "as evidence");
    is_dense(&hub).await;
}

#[tokio::test]
async fn words_can_be_changed_for_a_day() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let message = pair.post(&hub, &pair.a, "then").await;
    hub.execute("UPDATE messages SET created_at = created_at - interval '25 hours'").await;
    let path = pair.path_of(&message);
    pair.a.put(&hub, &path, json!({ "content": "now" })).await.refused(409, "edit_closed");
    // It says so already, and it can be taken away for ever.
    pair.a.put(&hub, &path, json!({ "content": "then" })).await.data(200);
    pair.a.delete(&hub, &path).await.data(200);
}

#[tokio::test]
async fn what_was_taken_away_leaves_its_place() {
    let hub = TestHub::start_with(|c| c.push.window = std::time::Duration::from_secs(300)).await;
    let pair = Pair::of(&hub).await;
    let mut watcher = pair.follow(&hub, &pair.b).await;
    let device = json!({ "fcm": { "token": "t".repeat(100) } });
    pair.b.post(&hub, "/v1/notifications/devices", device).await.data(201);
    let secret = pair.post(&hub, &pair.a, "a secret").await;
    let reply =
        json!({ "clientId": uuid::Uuid::new_v4(), "content": "what?", "replyTo": secret["id"] });
    let reply = pair.b.post(&hub, &pair.path(), reply).await.data(201);
    let quote = &reply["quote"];
    assert_eq!((&quote["content"], &quote["seq"]), (&json!("a secret"), &json!(1)));
    let like = json!({ "emoji": "👍" });
    watcher.ok("message:react", pair.named(&secret, &like)).await;
    let waiting = "SELECT count(*) FROM outbox WHERE state = 'waiting' AND topic_seq = 1";
    assert_eq!(hub.number(waiting).await, 1);

    pair.b.delete(&hub, &pair.path_of(&secret)).await.refused(403, "forbidden");
    let mut writer = Socket::open(&hub, &pair.a).await;
    let gone = writer.ok("message:delete", pair.named(&secret, &json!({}))).await;
    let event = watcher.event("message:deleted").await;
    assert_eq!((&event["seq"], &event["data"]["message"]), (&json!(4), &gone));
    assert_eq!((&gone["content"], &gone["seq"]), (&json!(""), &json!(1)));
    assert!(gone["deletedAt"].is_string() && gone.get("reactions").is_none(), "{gone}");
    // Again, it is gone already; nothing can be done with it any more.
    assert_eq!(pair.a.delete(&hub, &pair.path_of(&secret)).await.data(200), gone);
    let again = pair.named(&secret, &json!({ "content": "back" }));
    writer.refused("message:edit", again, "not_found").await;
    watcher.refused("message:react", pair.named(&secret, &like), "not_found").await;

    // Its words are nowhere: history, replay, quotes, previews, lists, pushes.
    let history = pair.history(&hub, &pair.b).await;
    assert_eq!(history[0], gone);
    assert_eq!(history[1]["quote"]["deletedAt"], gone["deletedAt"]);
    let told = replay(&hub, &pair, &pair.b, 0).await;
    let list = pair.b.get(&hub, "/v1/conversations").await.data(200);
    assert_eq!((&list[0]["unread"], &list[0]["lastSeq"]), (&json!(0), &json!(4)));
    for what in [history.to_string(), json!(told).to_string(), list.to_string()] {
        assert!(!what.contains("secret"), "{what}");
    }
    assert_eq!(hub.number(waiting).await, 0);
    let kept = "SELECT count(*) FROM message_versions WHERE content = 'a secret'";
    assert_eq!(hub.number(kept).await, 1, "as evidence");
    // The same client id is still answered with what it became.
    let repeat = json!({ "clientId": secret["clientId"], "content": "a secret" });
    assert_eq!(pair.a.post(&hub, &pair.path(), repeat).await.data(201), gone);
    is_dense(&hub).await;
}

#[tokio::test]
async fn reactions_are_given_once_and_bounded() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let message = pair.post(&hub, &pair.a, "Yoga at six").await;
    let mut watcher = pair.follow(&hub, &pair.a).await;
    let mut reader = Socket::open(&hub, &pair.b).await;
    let react = |emoji: &str| pair.named(&message, &json!({ "emoji": emoji }));
    let told = reader.ok("message:react", react("🧘‍♀️")).await;
    assert_eq!(told["reactions"], json!([{ "emoji": "🧘‍♀️", "userIds": [pair.b.id] }]));
    let event = watcher.event("message:updated").await;
    assert_eq!((&event["data"]["message"], &event["data"]["change"]), (&told, &json!("reaction")));
    assert_eq!(reader.ok("message:react", react("🧘‍♀️")).await, told);
    let path = format!("{}/reactions/%F0%9F%91%8D", pair.path_of(&message));
    let both = pair.a.put(&hub, &path, json!({})).await.data(200);
    assert_eq!(both["reactions"].as_array().unwrap().len(), 2);
    assert_eq!(pair.history(&hub, &pair.b).await[0]["reactions"], both["reactions"]);
    pair.a.delete(&hub, &path).await.data(200);
    let one = pair.a.delete(&hub, &path).await.data(200);
    assert_eq!(one["reactions"], told["reactions"]);
    assert_eq!(hub.number("SELECT last_seq FROM conversations").await, 4, "repeats take no seq");
    for other in ["", "ok", "👍👍"] {
        reader.refused("message:react", react(other), "validation_failed").await;
    }
    for emoji in ["👍", "❤️", "🙏", "🎉"] {
        reader.ok("message:react", react(emoji)).await;
    }
    let error = reader.refused("message:react", react("🔥"), "validation_failed").await;
    assert_eq!(error["details"][0]["field"], "emoji");
    let mut back = react("👍");
    back["remove"] = json!(true);
    reader.ok("message:react", back).await;
    reader.ok("message:react", react("🔥")).await;
    is_dense(&hub).await;
}

#[tokio::test]
async fn changes_on_two_nodes_at_once_make_one_order() {
    let hub = TestHub::start().await;
    let other = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    let pair = Pair::of(&hub).await;
    let mut messages = Vec::new();
    for n in 0..5 {
        messages.push(pair.post(&hub, &pair.a, &format!("{n}")).await);
    }
    let hubs = [&hub, &other];
    let (pair, messages) = (&pair, &messages);
    let answers = join_all((0..60usize).map(|n| async move {
        let (hub, message) = (hubs[n % 2], &messages[n % 5]);
        let path = pair.path_of(message);
        match n % 4 {
            0 => pair.a.put(hub, &path, json!({ "content": format!("edit {n}") })).await,
            1 if n % 5 == 0 => pair.a.delete(hub, &path).await,
            1 | 2 => pair.b.put(hub, &format!("{path}/reactions/%F0%9F%91%8D"), json!({})).await,
            _ => {
                let new = json!({ "clientId": uuid::Uuid::new_v4(), "content": "new" });
                pair.b.post(hub, &pair.path(), new).await
            }
        }
    }))
    .await;
    // What came after a message was taken away is refused, and nothing else.
    assert!(answers.iter().all(|a| a.status.is_success() || a.status == 404), "{answers:#?}");
    is_dense(&hub).await;
    let told = replay(&other, pair, &pair.b, 0).await;
    for (event, seq) in told.iter().zip(1..) {
        assert_eq!(event["seq"], seq);
    }
    let deleted = told.iter().filter(|e| e["event"] == "message:deleted").count();
    assert_eq!(deleted, 1);
}

#[tokio::test]
async fn a_preview_is_looked_for_among_the_newest_hundred() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let kept = pair.post(&hub, &pair.a, "still there").await;
    let gone = |from: i64, to: i64| {
        format!(
            "INSERT INTO messages (id, conversation_id, seq, sender_id, client_id, message_type,
                                   content, attachments, deleted_at)
             SELECT gen_random_uuid(), conversation_id, n, sender_id, gen_random_uuid(), 'text',
                    '', '[]', now()
               FROM messages, generate_series({from}, {to}) n WHERE seq = 1"
        )
    };
    hub.execute(&gone(2, 100)).await;
    let preview = async || {
        let list = pair.b.get(&hub, "/v1/conversations").await.data(200);
        list[0]["preview"].clone()
    };
    assert_eq!(preview().await["messageId"], kept["id"]);
    hub.execute(&gone(101, 101)).await;
    assert_eq!(preview().await, json!(null), "more is not looked through");
}
