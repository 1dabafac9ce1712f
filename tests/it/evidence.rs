//! Reports keep what they are about, whatever its author did to hide it; sweeping leaves it there.

use std::path::Path;
use std::time::Duration;

use hub::services::attachments::Attachments;
use serde_json::{Value, json};
use tokio_postgres::NoTls;

use crate::attachments::{Room, jpeg};
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

/// A room whose files lie in `dir`, and who sweeps them.
async fn room_in(dir: &Path) -> (Room, Attachments) {
    let url = format!("file://{}", dir.display());
    let place = hub::storage::Place::parse(&url).unwrap();
    let room = Room::open(TestHub::start_with(move |c| c.storage.url = Some(url)).await).await;
    let pool = hub::models::pool::Pool::new(&room.hub.database_url, 2, Duration::from_secs(5));
    let storage = hub::storage::Storage::open(&place).unwrap();
    let attachments = Attachments::new(pool.unwrap(), storage);
    (room, attachments)
}

/// Sends a picture and takes the message away again; the file and the message.
async fn sent_and_taken_away(room: &Room) -> (Value, Value) {
    let file = room.upload(&room.a, "image/jpeg", jpeg(9, 9)).await.data(201);
    let body = json!({ "type": "image", "attachments": [file["id"]] });
    let message = room.send(&room.a, body).await.data(201);
    let path =
        format!("/v1/conversations/{}/messages/{}", room.id, message["id"].as_str().unwrap());
    room.a.delete(&room.hub, &path).await.data(200);
    (file, message)
}

#[tokio::test]
async fn a_file_that_becomes_evidence_while_files_are_swept_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (room, attachments) = room_in(dir.path()).await;
    let url = &room.hub.database_url;
    let (first, _) = sent_and_taken_away(&room).await;
    let (second, message) = sent_and_taken_away(&room).await;
    // The sweep has read what is doomed and waits for the first file's row.
    let (mut client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let lock = client.transaction().await.unwrap();
    let row = format!("SELECT 1 FROM attachments WHERE id = {} FOR UPDATE", quoted(&first["id"]));
    lock.batch_execute(&row).await.unwrap();
    let sweep = tokio::spawn(async move { attachments.sweep().await });
    room.hub.becomes("SELECT least(1, count(*)) FROM pg_locks WHERE NOT granted", 1).await;
    evidence(&room.hub, &room.b, &message).await;
    lock.rollback().await.unwrap();
    sweep.await.unwrap().unwrap();
    let admin = room.hub.admin().await;
    assert_eq!(room.download(&admin, &second["id"], "").await.0, 200);
    assert_eq!(rows::count(url, "attachments").await, 1);
    room.hub.stop().await;
}

fn quoted(id: &Value) -> String {
    format!("'{}'", id.as_str().unwrap())
}

#[tokio::test]
async fn a_file_that_can_not_be_deleted_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let (room, attachments) = room_in(dir.path()).await;
    let (stuck, _) = sent_and_taken_away(&room).await;
    sent_and_taken_away(&room).await;
    // A directory is no file.
    let id = stuck["id"].as_str().unwrap().replace('-', "");
    let path = dir.path().join("attachments").join(&id[30..]).join(&id);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("in the way"), b"x").unwrap();
    assert_eq!(attachments.sweep().await.unwrap(), 1);
    let left = rows::column(&room.hub.database_url, "SELECT id FROM attachments").await;
    assert_eq!(left, [stuck["id"].as_str().unwrap()]);
    std::fs::remove_dir_all(&path).unwrap();
    assert_eq!(attachments.sweep().await.unwrap(), 1);
    room.hub.stop().await;
}
