//! The request that asks for a WebSocket, and the connection that it came over.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{RawSocket, TestHub};

const UPGRADE: &str = "Host: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Sends `bytes` in one go; returns what comes back until it holds `last` or the connection ends.
async fn say(hub: &TestHub, bytes: &[u8], last: &str) -> String {
    let mut peer = TcpStream::connect(hub.address).await.unwrap();
    peer.write_all(bytes).await.unwrap();
    let mut all = Vec::new();
    let read = async {
        while peer.read_buf(&mut all).await.unwrap() > 0 {
            if !last.is_empty() && String::from_utf8_lossy(&all).contains(last) {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("an answer");
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn what_comes_before_and_with_the_request_is_not_lost() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    let command = json!({ "id": 7, "op": "ping" }).to_string();
    let mut bytes = format!(
        "GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n\
         GET /v1/ws HTTP/1.1\r\n{UPGRADE}Authorization: Bearer {}\r\n\r\n",
        person.token
    )
    .into_bytes();
    // A mask of nought leaves the text as it is.
    bytes.extend([0x81, 0x80 | u8::try_from(command.len()).unwrap(), 0, 0, 0, 0]);
    bytes.extend(command.as_bytes());
    let heard = say(&hub, &bytes, "\"heads\"").await;
    let (first, rest) = heard.split_once("HTTP/1.1 101").expect("the upgrade after the answer");
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    assert!(rest.contains(r#""id":7"#) && rest.contains(r#""ok":true"#), "{rest}");
    hub.stop().await;
}

#[tokio::test]
async fn other_answers_to_such_a_request_end_the_connection() {
    let hub = TestHub::start().await;
    for (start, status) in [
        ("GET /healthz", 200),
        ("HEAD /healthz", 200),
        ("GET /v1/nowhere", 404),
        ("GET /v1/users/profile", 401),
        ("POST /v1/ws", 405),
    ] {
        let asked = format!("{start} HTTP/1.1\r\n{UPGRADE}\r\n");
        let heard = say(&hub, asked.as_bytes(), "").await.to_lowercase();
        assert!(heard.starts_with(&format!("http/1.1 {status} ")), "{start}: {heard}");
        assert!(heard.contains("\r\nconnection: close\r\n"), "{start}: {heard}");
        let (head, body) = heard.split_once("\r\n\r\n").unwrap();
        let length = format!("content-length: {}", body.len());
        assert!(head.contains(&length) || start.starts_with("HEAD"), "{start}: {heard}");
        assert_eq!(body.is_empty(), start.starts_with("HEAD"), "{start}: {heard}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_request_with_a_body_or_for_other_protocols_opens_no_socket() {
    let hub = TestHub::start().await;
    let socket = RawSocket::open(&hub, "/v1/ws", &[("Transfer-Encoding", "chunked")]).await;
    assert_eq!(socket.status, 422, "{}", socket.head);
    let several = UPGRADE.replace("websocket\r\n", "h2c, websocket\r\n");
    let asked = format!("GET /v1/ws HTTP/1.1\r\n{several}\r\n");
    let heard = say(&hub, asked.as_bytes(), "Upgrade").await;
    assert!(heard.starts_with("HTTP/1.1 422 "), "{heard}");
    hub.stop().await;
}
