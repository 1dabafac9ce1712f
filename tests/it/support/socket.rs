//! A WebSocket client that never loses what it did not ask for: events wait until asked after.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{Person, TestHub};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// An open socket.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_id: u64,
    /// Events that came while an answer was waited for.
    pub events: VecDeque<Value>,
}

impl Socket {
    /// Opens a socket with a bearer token, or without one.
    pub async fn try_open(hub: &TestHub, token: Option<&str>) -> Result<Self, Error> {
        let mut request = format!("ws://{}/v1/ws", hub.address).into_client_request()?;
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert("authorization", value);
        }
        let (stream, _) = connect_async(request).await?;
        Ok(Self { stream, next_id: 1, events: VecDeque::new() })
    }

    /// Opens the socket of a user who is logged in, and waits until their own channel is open.
    pub async fn open(hub: &TestHub, person: &Person) -> Self {
        let mut socket = Self::try_open(hub, Some(&person.token)).await.unwrap();
        let channel = format!("user:{}", person.id);
        socket.ok("subscribe", json!({ "channel": channel })).await;
        socket
    }

    /// Sends any text.
    pub async fn send_text(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.unwrap();
    }

    /// Sends a command without waiting; returns its id.
    pub async fn command(&mut self, op: &str, data: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send_text(&json!({ "id": id, "op": op, "data": data }).to_string()).await;
        id
    }

    /// Sends a command and returns its whole answer.
    pub async fn call(&mut self, op: &str, data: Value) -> Value {
        let id = self.command(op, data).await;
        self.answer(id).await
    }

    /// Whether the socket still answers.
    pub async fn call_if_open(&mut self, op: &str) -> bool {
        let command = json!({ "id": "open?", "op": op }).to_string();
        if self.stream.send(Message::text(command)).await.is_err() {
            return false;
        }
        while let Some(frame) = self.frame(PATIENCE).await {
            if frame["id"] == "open?" {
                return true;
            }
        }
        false
    }

    /// The answer to the command `id`.
    pub async fn answer(&mut self, id: u64) -> Value {
        loop {
            let frame = self.frame(PATIENCE).await.unwrap_or_else(|| panic!("no answer to {id}"));
            if frame["id"] == id {
                return frame;
            }
            assert!(frame["event"].is_string(), "neither an answer nor an event: {frame}");
            self.events.push_back(frame);
        }
    }

    /// Sends a command that must succeed; returns its data.
    pub async fn ok(&mut self, op: &str, data: Value) -> Value {
        let answer = self.call(op, data).await;
        assert_eq!(answer["ok"], true, "{op}: {answer:#}");
        answer["data"].clone()
    }

    /// Sends a command that must be refused with `code`; returns the error.
    pub async fn refused(&mut self, op: &str, data: Value, code: &str) -> Value {
        let answer = self.call(op, data).await;
        assert_eq!(
            (&answer["ok"], &answer["error"]["code"]),
            (&json!(false), &json!(code)),
            "{op}"
        );
        answer["error"].clone()
    }

    /// The next event with this name; others that come first are left for later.
    pub async fn event(&mut self, name: &str) -> Value {
        self.event_within(name, PATIENCE).await.unwrap_or_else(|| panic!("no {name}"))
    }

    /// The next event with this name, or `None` if none comes in time.
    pub async fn event_within(&mut self, name: &str, patience: Duration) -> Option<Value> {
        if let Some(i) = self.events.iter().position(|e| e["event"] == name) {
            return self.events.remove(i);
        }
        let until = tokio::time::Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            let frame = self.frame(left).await?;
            if frame["event"] == name {
                return Some(frame);
            }
            self.events.push_back(frame);
        }
    }

    /// The next event of any name, or `None` if none comes in time.
    pub async fn any_event(&mut self, patience: Duration) -> Option<Value> {
        match self.events.pop_front() {
            Some(event) => Some(event),
            None => self.frame(patience).await,
        }
    }

    /// The next text frame, or the code of the close frame; `None` at the connection's end.
    pub async fn frame_or_close(&mut self) -> Option<Result<Value, Option<u16>>> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.stream.next()).await.ok()??;
            match next.ok()? {
                Message::Text(text) => return Some(Ok(serde_json::from_str(&text).unwrap())),
                Message::Close(frame) => return Some(Err(frame.map(|f| f.code.into()))),
                _ => {}
            }
        }
    }

    /// The next text frame, or `None` if none comes in time or the socket closes.
    async fn frame(&mut self, patience: Duration) -> Option<Value> {
        // Pings do not prolong it.
        let until = tokio::time::Instant::now() + patience;
        loop {
            let next = tokio::time::timeout_at(until, self.stream.next()).await.ok()??;
            match next.ok()? {
                Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// The code that the hub closes the socket with; text before it is dropped.
    pub async fn close_code(&mut self) -> Option<u16> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.stream.next()).await.ok()??;
            if let Message::Close(frame) = next.ok()? {
                return frame.map(|f| f.code.into());
            }
        }
    }

    /// Says goodbye and waits until the hub has, too.
    pub async fn close(mut self) {
        let _ = self.stream.close(None).await;
        while let Ok(Some(Ok(_))) = tokio::time::timeout(PATIENCE, self.stream.next()).await {}
    }
}
