//! The socket side of the tour. A task stamps each frame when it arrives, so that durations do
//! not depend on when the tour looks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::wrong::{Wrong, ensure};

/// How long an answer or an event may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

enum Arrival {
    Text(String),
    Closed(Option<u16>),
}

/// An event and when it arrived.
#[derive(Debug, Clone)]
pub struct Event {
    pub seq: Option<i64>,
    pub data: Value,
    pub at: Instant,
    name: String,
}

/// What a command was answered: its data, or the error.
pub type Answer = Result<Value, Value>;

/// An open socket.
pub struct Socket {
    who: String,
    sink: SplitSink<Stream, Message>,
    arrivals: mpsc::Receiver<(Instant, Arrival)>,
    /// Events that nobody asked after yet.
    events: VecDeque<Event>,
    next_id: u64,
}

impl Socket {
    /// Opens the socket of `who` at `url`, with a bearer token as a native app would, or without
    /// one as a browser must. Returns how long it took.
    pub async fn open(
        url: &str,
        who: &str,
        token: Option<&str>,
    ) -> Result<(Self, Duration), Wrong> {
        let started = Instant::now();
        let mut request = url.into_client_request()?;
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", HeaderValue::from_static("klearkarma.v1"));
        if let Some(token) = token {
            let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
            let bearer = bearer.map_err(|_| Wrong::new("the token fits into no header"))?;
            headers.insert("authorization", bearer);
        }
        let (stream, _) = connect_async(request).await?;
        let took = started.elapsed();
        let (sink, stream) = stream.split();
        let (sender, arrivals) = mpsc::channel(1_024);
        tokio::spawn(read(stream, sender));
        let socket =
            Self { who: who.to_owned(), sink, arrivals, events: VecDeque::new(), next_id: 1 };
        Ok((socket, took))
    }

    /// Whose it is.
    pub fn who(&self) -> &str {
        &self.who
    }

    /// Sends a command; returns its answer and how long that took.
    pub async fn call(&mut self, op: &str, data: Value) -> Result<(Answer, Duration), Wrong> {
        let id = self.next_id;
        self.next_id += 1;
        let started = Instant::now();
        let command = json!({ "id": id, "op": op, "data": data }).to_string();
        self.sink.send(Message::text(command)).await?;
        loop {
            let (at, frame) = self.frame(PATIENCE).await?.ok_or_else(|| {
                Wrong::new(format!("{op}: no answer within {} s", PATIENCE.as_secs()))
            })?;
            if frame.get("event").is_some() {
                self.keep(at, &frame)?;
                continue;
            }
            ensure(frame.get("id") == Some(&json!(id)), || format!("{op}: answered by {frame}"))?;
            let part = |name: &str| frame.get(name).cloned().unwrap_or_default();
            let ok = frame.get("ok") == Some(&json!(true));
            let answer = if ok { Ok(part("data")) } else { Err(part("error")) };
            return Ok((answer, at.saturating_duration_since(started)));
        }
    }

    /// The next event `name` whose data has each value at its JSON pointer. Events that come
    /// before it wait until asked after.
    pub async fn event(&mut self, name: &str, with: &[(&str, Value)]) -> Result<Event, Wrong> {
        let event = self.event_within(PATIENCE, name, with).await?;
        event.ok_or_else(|| {
            let waiting: Vec<&str> = self.events.iter().map(|e| e.name.as_str()).collect();
            Wrong::new(format!(
                "{}'s socket did not get {name} within {} s (it got {waiting:?})",
                self.who,
                PATIENCE.as_secs()
            ))
        })
    }

    /// The same, or `None` when it does not come within `patience`.
    pub async fn event_within(
        &mut self,
        patience: Duration,
        name: &str,
        with: &[(&str, Value)],
    ) -> Result<Option<Event>, Wrong> {
        let until = Instant::now() + patience;
        loop {
            let fits = |e: &Event| {
                e.name == name && with.iter().all(|(at, value)| e.data.pointer(at) == Some(value))
            };
            if let Some(i) = self.events.iter().position(fits) {
                return Ok(self.events.remove(i));
            }
            let left = until.saturating_duration_since(Instant::now());
            let Some((at, frame)) = self.frame(left).await? else { return Ok(None) };
            self.keep(at, &frame)?;
        }
    }

    /// Closes the socket; returns the code that the hub answers with.
    pub async fn close(mut self) -> Result<u16, Wrong> {
        self.sink.send(Message::Close(None)).await?;
        loop {
            match tokio::time::timeout(PATIENCE, self.arrivals.recv()).await.ok().flatten() {
                Some((_, Arrival::Text(_))) => {}
                Some((_, Arrival::Closed(Some(code)))) => return Ok(code),
                _ => return Err(Wrong::new("the hub did not answer the close frame with a code")),
            }
        }
    }

    fn keep(&mut self, at: Instant, frame: &Value) -> Result<(), Wrong> {
        let name = super::api::text(frame, "/event")?.to_owned();
        let seq = frame.get("seq").and_then(Value::as_i64);
        let data = frame.get("data").cloned().unwrap_or_default();
        self.events.push_back(Event { seq, data, at, name });
        Ok(())
    }

    /// The next text frame, or `None` if none comes in time.
    async fn frame(&mut self, patience: Duration) -> Result<Option<(Instant, Value)>, Wrong> {
        let Ok(arrival) = tokio::time::timeout(patience, self.arrivals.recv()).await else {
            return Ok(None);
        };
        match arrival {
            Some((at, Arrival::Text(text))) => match serde_json::from_str(&text) {
                Ok(frame) => Ok(Some((at, frame))),
                Err(_) => Err(Wrong::new(format!("{}'s socket got no JSON: {text}", self.who))),
            },
            Some((_, Arrival::Closed(code))) => {
                let code = code.map_or("no code".to_owned(), |code| code.to_string());
                Err(Wrong::new(format!("the hub closed {}'s socket with {code}", self.who)))
            }
            None => Err(Wrong::new(format!("{}'s socket broke off", self.who))),
        }
    }
}

/// Reads until the socket ends or nobody listens. Pings are answered on the way.
async fn read(mut stream: SplitStream<Stream>, to: mpsc::Sender<(Instant, Arrival)>) {
    while let Some(Ok(message)) = stream.next().await {
        let arrival = match message {
            Message::Text(text) => Arrival::Text(text.to_string()),
            Message::Close(frame) => Arrival::Closed(frame.map(|frame| frame.code.into())),
            _ => continue,
        };
        if to.send((Instant::now(), arrival)).await.is_err() {
            return;
        }
    }
}
