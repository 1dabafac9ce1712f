//! One user's slow uploads are nobody else's trouble.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use reqwest::Method;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::attachments::Room;
use crate::support::{Person, TestHub};

/// Uploads a PDF as `who` whose beginning is followed by one byte after each `pause`.
fn trickle(room: &Room, who: &Person, pause: Duration) -> JoinHandle<()> {
    let path = format!("/v1/conversations/{}/attachments", room.id);
    let bytes = stream::unfold(true, move |is_first| async move {
        if is_first {
            return Some((Ok::<_, std::io::Error>(Bytes::from_static(b"%PDF-1.7\n")), false));
        }
        tokio::time::sleep(pause).await;
        Some((Ok(Bytes::from_static(b"x")), false))
    });
    let request = room.hub.request(Method::POST, &path).bearer_auth(&who.token);
    let request = request.header("content-type", "application/pdf");
    let request = request.timeout(Duration::from_secs(120));
    let sent = request.body(reqwest::Body::wrap_stream(bytes)).send();
    // The hub hangs up or the test does.
    tokio::spawn(async move { drop(sent.await) })
}

#[tokio::test]
async fn a_user_has_three_uploads_under_way() {
    let room = Room::open(TestHub::start().await).await;
    let slow: Vec<_> =
        (0..3).map(|_| trickle(&room, &room.a, Duration::from_millis(200))).collect();
    room.hub.becomes("SELECT count(*) FROM attachments", 3).await;
    let refused = room.upload(&room.a, "text/plain", b"one more".to_vec()).await;
    refused.refused(429, "rate_limited");
    assert!(refused.headers.contains_key("retry-after"));
    room.upload(&room.b, "text/plain", b"mine".to_vec()).await.data(201);
    slow.iter().for_each(JoinHandle::abort);
    let until = Instant::now() + Duration::from_secs(10);
    while room.upload(&room.a, "text/plain", b"one more".to_vec()).await.status != 201 {
        assert!(Instant::now() < until, "what broke off still counts");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    room.hub.stop().await;
}

#[tokio::test]
async fn an_upload_that_trickles_in_is_given_up() {
    let room = Room::open(TestHub::start().await).await;
    let began = Instant::now();
    let slow = trickle(&room, &room.a, Duration::from_millis(100));
    let given_up = "SELECT count(*) FROM attachments WHERE doomed_at IS NOT NULL";
    room.hub.becomes(given_up, 1).await;
    assert!(began.elapsed() > Duration::from_secs(5), "too early for a phone with a bad line");
    assert!(!slow.is_finished() || began.elapsed() < Duration::from_secs(60));
    slow.abort();
    room.hub.stop().await;
}
