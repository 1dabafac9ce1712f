//! Reports keep what they are about, whatever its author did to hide it.

use serde_json::{Value, json};

use crate::chat::Pair;
use crate::support::{Person, TestHub, rows};

/// Reports `message` as `who` and reads the evidence as an administrator.
async fn evidence(hub: &TestHub, who: &Person, message: &Value) -> Value {
    let body = json!({ "messageId": message["id"], "reason": "threat" });
    let report = who.post(hub, "/v1/reports", body).await.data(201);
    let path = format!("/v1/reports/{}", report["id"].as_str().unwrap());
    hub.admin().await.get(hub, &path).await.data(200)["evidence"].clone()
}

#[tokio::test]
async fn words_can_be_changed_fifty_times_and_all_of_them_are_evidence() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let message = pair.post(&hub, &pair.a, "words 0").await;
    let path = format!("{}/{}", pair.path(), message["id"].as_str().unwrap());
    for n in 1..=50 {
        pair.a.put(&hub, &path, json!({ "content": format!("words {n}") })).await.data(200);
    }
    let refused = pair.a.put(&hub, &path, json!({ "content": "words 51" })).await;
    assert_eq!(refused.refused(409, "edit_closed")["details"], json!({ "edits": 50 }));
    // What it says already is no change, and it can still be taken away.
    pair.a.put(&hub, &path, json!({ "content": "words 50" })).await.data(200);
    pair.a.delete(&hub, &path).await.data(200);
    let evidence = evidence(&hub, &pair.b, &message).await;
    let versions = evidence["versions"].as_array().unwrap();
    assert_eq!((versions.len(), &evidence["versionCount"]), (51, &json!(51)));
    for (n, version) in versions.iter().enumerate() {
        assert_eq!(version["version"], n + 1);
        assert_eq!(version["content"], format!("words {n}"));
    }
}

#[tokio::test]
async fn what_was_changed_too_often_before_is_reported_by_its_ends() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let message = pair.post(&hub, &pair.a, "last").await;
    let id = message["id"].as_str().unwrap();
    let many = format!(
        "INSERT INTO message_versions (message_id, version, content, attachments, replaced_at)
         SELECT '{id}', n, 'words ' || n, '[]', now() FROM generate_series(1, 12000) n"
    );
    assert_eq!(rows::run(&hub.database_url, &many).await, 12_000);
    let path = format!("{}/{id}", pair.path());
    pair.a.put(&hub, &path, json!({ "content": "no" })).await.refused(409, "edit_closed");
    let evidence = evidence(&hub, &pair.b, &message).await;
    let kept: Vec<i64> = evidence["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["version"].as_i64().unwrap())
        .collect();
    let ends: Vec<i64> = (1..=26).chain(11_975..=12_000).collect();
    assert_eq!((kept, &evidence["versionCount"]), (ends, &json!(12_000)));
}
