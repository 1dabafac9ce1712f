//! Files of conversations: uploading, reading, sweeping.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::hub::answer;
use crate::support::{Answer, Person, Socket, TestHub, rows};

/// Two who talk, and one who does not belong there.
pub struct Room {
    pub hub: TestHub,
    pub a: Person,
    pub b: Person,
    pub stranger: Person,
    pub id: String,
}

impl Room {
    /// Opens the conversation of a seeker and a practitioner.
    pub async fn open(hub: TestHub) -> Self {
        let (a, stranger) = (hub.seeker().await, hub.seeker().await);
        let b = hub.register("practitioner").await;
        let open = a.post(&hub, "/v1/conversations", json!({ "userId": b.id })).await.data(201);
        let id = open["id"].as_str().unwrap().to_owned();
        Self { hub, a, b, stranger, id }
    }

    /// Uploads `body` as `who`.
    pub async fn upload(&self, who: &Person, kind: &str, body: Vec<u8>) -> Answer {
        self.upload_named(who, kind, body, "").await
    }

    async fn upload_named(&self, who: &Person, kind: &str, body: Vec<u8>, query: &str) -> Answer {
        let path = format!("/v1/conversations/{}/attachments{query}", self.id);
        let request = self.hub.request(Method::POST, &path).bearer_auth(&who.token);
        answer(request.header("content-type", kind).body(body)).await
    }

    /// Reads a file as `who`.
    pub async fn download(&self, who: &Person, id: &Value, form: &str) -> (u16, Vec<u8>) {
        let path = format!("/v1/attachments/{}{form}", id.as_str().unwrap());
        let request = self.hub.request(Method::GET, &path).bearer_auth(&who.token);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap().to_vec())
    }

    /// Sends a message as `who`.
    pub async fn send(&self, who: &Person, body: Value) -> Answer {
        let mut message = json!({ "clientId": Uuid::new_v4(), "content": "" });
        for (key, value) in body.as_object().unwrap() {
            message[key] = value.clone();
        }
        let path = format!("/v1/conversations/{}/messages", self.id);
        who.post(&self.hub, &path, message).await
    }
}

fn encoded(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let image =
        RgbImage::from_fn(width, height, |x, y| Rgb([x.to_le_bytes()[0], y.to_le_bytes()[0], 9]));
    let mut out = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(image).write_to(&mut out, format).unwrap();
    out.into_inner()
}

/// A JPEG with a comment that nobody else is to see.
pub fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let plain = encoded(width, height, ImageFormat::Jpeg);
    let comment = b"\xff\xfe\x00\x0eat home, 12N";
    [&plain[..2], &comment[..], &plain[2..]].concat()
}

#[tokio::test]
async fn a_picture_is_stored_without_its_metadata() {
    let room = Room::open(TestHub::start().await).await;
    let sent = jpeg(900, 600);
    assert!(sent.windows(7).any(|w| w == b"at home"));
    let query = "?name=..%2F..%2Fbeach.exe";
    let file = room.upload_named(&room.a, "image/jpeg", sent, query).await.data(201);
    assert_eq!(
        (&file["width"], &file["height"], &file["name"]),
        (&json!(900), &json!(600), &json!("beach.jpg"))
    );
    let (status, bytes) = room.download(&room.a, &file["id"], "").await;
    assert_eq!(status, 200);
    assert!(!bytes.windows(7).any(|w| w == b"at home"));
    assert_eq!(image::load_from_memory(&bytes).unwrap().width(), 900);
    let (_, thumb) = room.download(&room.a, &file["id"], "/thumbnail").await;
    let thumb = image::load_from_memory(&thumb).unwrap();
    assert_eq!((thumb.width(), thumb.height()), (320, 213));
    room.hub.stop().await;
}

#[tokio::test]
async fn a_file_is_handed_out_such_that_a_browser_runs_nothing() {
    let room = Room::open(TestHub::start().await).await;
    let pdf = [b"%PDF-1.7\n".to_vec(), vec![b'x'; 3_000_000]].concat();
    let name = "?name=%E0%A4%AF%E0%A5%8B%E0%A4%97.pdf";
    let file = room.upload_named(&room.a, "application/pdf", pdf.clone(), name).await.data(201);
    assert_eq!(file["bytes"], json!(3_000_009));
    let path = format!("/v1/attachments/{}", file["id"].as_str().unwrap());
    let ask = || room.hub.request(Method::GET, &path).bearer_auth(&room.a.token);
    let response = ask().send().await.unwrap();
    let headers = response.headers().clone();
    for (name, value) in [
        ("content-type", "application/pdf"),
        ("content-length", "3000009"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; sandbox"),
        ("cache-control", "private, no-cache"),
        ("content-disposition", "attachment; filename*=UTF-8''%E0%A4%AF%E0%A5%8B%E0%A4%97.pdf"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert!(response.bytes().await.unwrap() == pdf);
    let again = ask().header("if-none-match", &headers["etag"]).send().await.unwrap();
    assert_eq!((again.status().as_u16(), again.bytes().await.unwrap().len()), (304, 0));
    assert_eq!(room.download(&room.a, &file["id"], "/thumbnail").await.0, 404);
    room.hub.stop().await;
}

#[tokio::test]
async fn what_is_not_what_it_says_is_refused_and_taken_away() {
    let room = Room::open(TestHub::start().await).await;
    let png = encoded(20, 20, ImageFormat::Png);
    let mut bomb = png.clone();
    bomb[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
    for (kind, body) in [
        ("image/jpeg", png.clone()),
        ("image/png", b"%PDF-1.7 hello".to_vec()),
        ("image/png", png[..30].to_vec()),
        ("image/png", bomb),
        ("application/pdf", b"<html><script>alert(1)</script>".to_vec()),
        ("text/plain", b"MZ\x90\0\x03\0\0\0".to_vec()),
        ("text/plain", b"latin1 \xe9t\xe9".to_vec()),
        ("text/plain", Vec::new()),
        ("audio/mpeg", b"no music".to_vec()),
    ] {
        let refused = room.upload(&room.a, kind, body).await;
        refused.names("body");
    }
    for kind in ["image/svg+xml", "text/html", "application/octet-stream", "video/mp4", "image"] {
        let refused = room.upload(&room.a, kind, png.clone()).await;
        let error = refused.refused(415, "unsupported_media_type");
        let allowed = error["details"]["allowed"].as_array().unwrap();
        assert!(allowed.len() == 10 && allowed.contains(&json!("image/webp")), "{error}");
    }
    let large = room.upload(&room.a, "image/png", vec![0; 10 * 1024 * 1024 + 1]).await;
    assert_eq!(large.refused(413, "payload_too_large")["details"]["limit"], 10 * 1024 * 1024);
    let (url, left) = (&room.hub.database_url, "attachments WHERE doomed_at IS NULL");
    assert_eq!(rows::count(url, left).await, 0);
    room.upload(&room.a, "text/plain", "नमस्ते\n".into()).await.data(201);
    room.upload(&room.a, "image/png", png).await.data(201);
    room.hub.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_tell_its_size_is_cut_off() {
    let room = Room::open(TestHub::start().await).await;
    let head = bytes::Bytes::from_static(b"%PDF-1.7\n");
    let more = bytes::Bytes::from(vec![b'x'; 1024 * 1024]);
    let chunks = std::iter::once(head).chain(std::iter::repeat_n(more, 40));
    let body = futures_util::stream::iter(chunks.map(Ok::<_, std::io::Error>));
    let path = format!("/v1/conversations/{}/attachments", room.id);
    let request = room.hub.request(Method::POST, &path).bearer_auth(&room.a.token);
    let request = request.header("content-type", "application/pdf");
    // The hub answers before all of it came, and then hangs up: either is seen.
    if let Ok(response) = request.body(reqwest::Body::wrap_stream(body)).send().await {
        assert_eq!(response.status(), 413);
    }
    let (url, left) = (&room.hub.database_url, "attachments WHERE doomed_at IS NULL");
    assert_eq!(rows::count(url, left).await, 0);
    room.hub.stop().await;
}

#[tokio::test]
async fn files_are_their_uploaders_until_they_are_sent() {
    let room = Room::open(TestHub::start().await).await;
    room.upload(&room.stranger, "image/jpeg", jpeg(9, 9)).await.refused(404, "not_found");
    let file = room.upload(&room.a, "image/jpeg", jpeg(9, 9)).await.data(201);
    assert_eq!(room.download(&room.a, &file["id"], "").await.0, 200);
    for who in [&room.b, &room.stranger] {
        for form in ["", "/thumbnail"] {
            assert_eq!(room.download(who, &file["id"], form).await.0, 404);
        }
    }
    room.hub.stop().await;
}

#[tokio::test]
async fn a_day_has_an_end() {
    let room = Room::open(TestHub::start().await).await;
    room.upload(&room.a, "text/plain", b"one".to_vec()).await.data(201);
    let url = &room.hub.database_url;
    assert_eq!(rows::column(url, "SELECT files || ' ' || bytes FROM upload_days").await, ["1 3"]);
    rows::run(url, "UPDATE upload_days SET files = 200").await;
    let refused = room.upload(&room.a, "text/plain", b"two".to_vec()).await;
    refused.refused(429, "rate_limited");
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&wait), "{wait}");
    rows::run(url, "UPDATE upload_days SET files = 1, bytes = 524288000 - 2").await;
    room.upload(&room.a, "text/plain", b"two".to_vec()).await.refused(429, "rate_limited");
    room.upload(&room.a, "text/plain", b"2!".to_vec()).await.data(201);
    // Yesterday's do not count.
    rows::run(url, "UPDATE upload_days SET day = day - 1, files = 200").await;
    room.upload(&room.a, "text/plain", b"two".to_vec()).await.data(201);
    room.hub.stop().await;
}

#[tokio::test]
async fn a_file_is_sent_once_and_is_then_the_conversations() {
    let room = Room::open(TestHub::start().await).await;
    let picture = room.upload(&room.a, "image/jpeg", jpeg(30, 20)).await.data(201);
    let text = room.upload(&room.a, "text/plain", b"notes".to_vec()).await.data(201);
    let image = |ids: Vec<&Value>| json!({ "type": "image", "attachments": ids });
    // Not one's own, not there, twice, too many, none, no picture, no type that takes files.
    room.send(&room.b, image(vec![&picture["id"]])).await.names("attachments");
    room.send(&room.a, image(vec![&json!(Uuid::now_v7())])).await.names("attachments");
    let twice = vec![&picture["id"], &picture["id"]];
    room.send(&room.a, image(twice)).await.names("attachments");
    room.send(&room.a, image(vec![&picture["id"]; 11])).await.names("attachments");
    room.send(&room.a, image(vec![])).await.names("attachments");
    room.send(&room.a, image(vec![&text["id"]])).await.names("attachments");
    let words = json!({ "content": "see", "attachments": [picture["id"]] });
    room.send(&room.a, words).await.names("attachments");

    let mut socket = Socket::open(&room.hub, &room.b).await;
    let channel = format!("conversation:{}", room.id);
    socket.ok("subscribe", json!({ "channel": channel })).await;
    let mut body = image(vec![&picture["id"]]);
    (body["clientId"], body["content"]) = (json!(Uuid::new_v4()), json!("the beach"));
    let sent = room.send(&room.a, body.clone()).await.data(201);
    let told = json!([{
        "id": picture["id"], "contentType": "image/jpeg", "name": "picture.jpg",
        "bytes": picture["bytes"], "width": 30, "height": 20,
    }]);
    assert_eq!(sent["attachments"], told);
    let event = socket.event("message:new").await;
    assert_eq!(event["data"]["message"]["attachments"], told);
    // Sent again it is the same message; in another message it is refused.
    assert_eq!(room.send(&room.a, body).await.data(201)["id"], sent["id"]);
    room.send(&room.a, image(vec![&picture["id"]])).await.names("attachments");
    for form in ["", "/thumbnail"] {
        assert_eq!(room.download(&room.b, &picture["id"], form).await.0, 200);
        assert_eq!(room.download(&room.stranger, &picture["id"], form).await.0, 404);
    }
    let file = json!({ "type": "file", "attachments": [text["id"]] });
    room.send(&room.a, file).await.data(201);
    room.hub.stop().await;
}

#[tokio::test]
async fn of_many_who_send_the_same_file_at_once_one_does() {
    let room = Room::open(TestHub::start().await).await;
    let file = room.upload(&room.a, "text/plain", b"notes".to_vec()).await.data(201);
    let body = json!({ "type": "file", "attachments": [file["id"]] });
    let answers =
        futures_util::future::join_all((0..12).map(|_| room.send(&room.a, body.clone()))).await;
    let sent = answers.iter().filter(|a| a.status == 201).count();
    assert_eq!(sent, 1);
    answers.iter().filter(|a| a.status != 201).for_each(|a| a.names("attachments"));
    let url = &room.hub.database_url;
    assert_eq!(rows::count(url, "messages").await, 1);
    assert_eq!(rows::number(url, "SELECT last_seq FROM conversations").await, 1);
    room.hub.stop().await;
}

#[tokio::test]
async fn what_is_not_sent_or_was_taken_away_leaves_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", dir.path().display());
    let place = hub::storage::Place::parse(&url).unwrap();
    let room = Room::open(TestHub::start_with(move |c| c.storage.url = Some(url)).await).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let file = room.upload(&room.a, "image/jpeg", jpeg(9, 9)).await.data(201);
        ids.push(file["id"].clone());
    }
    for id in &ids[1..] {
        let body = json!({ "type": "image", "attachments": [id] });
        room.send(&room.a, body).await.data(201);
    }
    let files = || walk(dir.path()).len();
    assert_eq!(files(), 6);
    let database = &room.hub.database_url;
    rows::run(database, "UPDATE attachments SET created_at = now() - interval '25 hours'").await;
    let gone = "UPDATE messages SET attachments = '[]', deleted_at = now() WHERE seq = 1";
    rows::run(database, gone).await;
    let pool =
        hub::models::pool::Pool::new(database, 2, std::time::Duration::from_secs(5)).unwrap();
    let storage = hub::storage::Storage::open(&place).unwrap();
    let attachments = hub::services::attachments::Attachments::new(pool, storage);
    assert_eq!(attachments.sweep().await.unwrap(), 2);
    assert_eq!(attachments.sweep().await.unwrap(), 0);
    assert_eq!((files(), rows::count(database, "attachments").await), (2, 1));
    assert_eq!(room.download(&room.b, &ids[2], "").await.0, 200);
    room.hub.stop().await;
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
