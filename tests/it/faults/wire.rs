//! A socket as devices of a run see it: it parses what they need and nothing else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};
use uuid::Uuid;

use super::busy::{Snapshot, Span};
use super::view::Told;

/// How long a connect, a write or an answer may take before the device tries anew.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Any frame from the hub.
#[derive(Debug, Deserialize)]
pub struct Frame {
    pub id: Option<u64>,
    #[serde(default)]
    pub ok: bool,
    pub error: Option<Refused>,
    pub event: Option<Box<str>>,
    pub channel: Option<String>,
    pub seq: Option<i64>,
    #[serde(default)]
    pub data: Data,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    pub code: String,
    pub message: String,
    pub retry_after_ms: Option<u64>,
}

/// What of an answer's or event's data matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    pub id: Option<Uuid>,
    pub seq: Option<i64>,
    pub message_id: Option<Uuid>,
    pub message: Option<Told>,
    pub changes: Option<Vec<Span>>,
    pub snapshot: Option<Value>,
    pub heads: Option<BTreeMap<String, i64>>,
    pub channels: Option<BTreeMap<String, Resumed>>,
}

/// What is answered about a channel of `resume`.
#[derive(Debug, Deserialize)]
pub struct Resumed {
    pub seq: Option<i64>,
    pub error: Option<Refused>,
    pub snapshot: Option<Value>,
}

impl Data {
    pub fn calendar(&self) -> Option<Snapshot> {
        serde_json::from_value(self.snapshot.clone()?).ok()
    }
}

/// What came.
#[derive(Debug)]
pub enum Incoming {
    Frame(Box<Frame>),
    /// A ping or the like.
    Nothing,
    /// The end; with the code, if the hub said goodbye.
    End(Option<u16>),
}

/// An open socket.
pub struct Wire {
    stream: WebSocketStream<TcpStream>,
    next_id: u64,
}

impl Wire {
    /// None when there is no connection to be had.
    pub async fn open(address: SocketAddr, token: &str) -> Option<Self> {
        let opening = async {
            let mut request = format!("ws://{address}/v1/ws").into_client_request().ok()?;
            let bearer = format!("Bearer {token}").parse().ok()?;
            request.headers_mut().insert("authorization", bearer);
            let stream = TcpStream::connect(address).await.ok()?;
            let (stream, _) = client_async(request, stream).await.ok()?;
            Some(Self { stream, next_id: 1 })
        };
        tokio::time::timeout(PATIENCE, opening).await.ok()?
    }

    /// Sends a command; its id, or none when the connection is lost.
    pub async fn send(&mut self, op: &str, data: &Value) -> Option<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let text = json!({ "id": id, "op": op, "data": data }).to_string();
        let sending = self.stream.send(Message::text(text));
        tokio::time::timeout(PATIENCE, sending).await.ok()?.ok()?;
        Some(id)
    }

    /// The next thing that comes. Nothing is lost when it is dropped before.
    pub async fn next(&mut self) -> Incoming {
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => {
                let read = serde_json::from_str(&text);
                Incoming::Frame(Box::new(read.unwrap_or_else(|e| panic!("{e}: {text}"))))
            }
            Some(Ok(Message::Close(why))) => Incoming::End(why.map(|why| why.code.into())),
            Some(Ok(_)) => Incoming::Nothing,
            Some(Err(_)) | None => Incoming::End(None),
        }
    }

    /// Sends a command and waits for its answer, past everything else.
    pub async fn ask(&mut self, op: &str, data: &Value) -> Option<Frame> {
        let id = self.send(op, data).await?;
        let answer = async {
            loop {
                match self.next().await {
                    Incoming::Frame(frame) if frame.id == Some(id) => return Some(*frame),
                    Incoming::End(_) => return None,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, answer).await.ok()?
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        let _ = tokio::time::timeout(PATIENCE, self.stream.close(None)).await;
    }
}
