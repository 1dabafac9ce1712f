//! The REST side of the tour.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::screen;
use super::wrong::{Wrong, ensure};

/// How long any answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client of one hub.
pub struct Api {
    base_url: String,
    client: reqwest::Client,
}

/// A request that is not sent yet.
#[derive(Debug, Clone)]
pub struct Request {
    method: Method,
    path: String,
    body: Option<Value>,
    header: Option<(&'static str, String)>,
}

impl Request {
    fn new(method: Method, path: impl Into<String>, body: Option<Value>) -> Self {
        Self { method, path: path.into(), body, header: None }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, None)
    }

    pub fn post(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::POST, path, Some(body))
    }

    pub fn put(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::PUT, path, Some(body))
    }

    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path, None)
    }

    pub fn with_header(self, name: &'static str, value: impl Into<String>) -> Self {
        Self { header: Some((name, value.into())), ..self }
    }

    /// For people, on one line.
    pub fn in_short(&self) -> String {
        let path: Vec<String> = self
            .path
            .split_inclusive(['/', '?', '&', '='])
            .map(|part| {
                let (id, end) = part.split_at(part.len().min(36));
                let short = Uuid::try_parse(id).map(|id| format!("{}{end}", screen::id(id)));
                short.unwrap_or_else(|_| part.to_owned())
            })
            .collect();
        let mut text = format!("{} {}", self.method, path.concat());
        if let Some((name, value)) = &self.header {
            let value = Uuid::try_parse(value).map_or_else(|_| value.clone(), screen::id);
            text.push_str(&format!(" [{name}: {value}]"));
        }
        if let Some(body) = &self.body {
            text.push_str(&format!(" {}", screen::in_short(body)));
        }
        text
    }
}

/// An answer with the status that was expected.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The envelope's `data`.
    pub data: Value,
    /// The `ETag`.
    pub version: Option<String>,
    pub sent_at: Instant,
    pub took: Duration,
}

impl Reply {
    /// The text at a JSON pointer into the data.
    pub fn text(&self, pointer: &str) -> Result<&str, Wrong> {
        text(&self.data, pointer)
    }
}

/// The text at a JSON pointer.
pub fn text<'v>(value: &'v Value, pointer: &str) -> Result<&'v str, Wrong> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.ok_or_else(|| Wrong::new(format!("no text {pointer} in {value}")))
}

/// The number at a JSON pointer.
pub fn number(value: &Value, pointer: &str) -> Result<i64, Wrong> {
    let found = value.pointer(pointer).and_then(Value::as_i64);
    found.ok_or_else(|| Wrong::new(format!("no number {pointer} in {value}")))
}

/// The list at a JSON pointer.
pub fn list<'v>(value: &'v Value, pointer: &str) -> Result<&'v [Value], Wrong> {
    let found = value.pointer(pointer).and_then(Value::as_array);
    found.map(Vec::as_slice).ok_or_else(|| Wrong::new(format!("no list {pointer} in {value}")))
}

impl Api {
    pub fn new(base_url: &str) -> Result<Self, Wrong> {
        let base_url = base_url.trim_end_matches('/').to_owned();
        ensure(base_url.starts_with("http://"), || {
            format!("--base-url must begin with http://, it is {base_url}")
        })?;
        // The client wants to know how to speak TLS even if it never does. Set by whoever is first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self { base_url, client: reqwest::Client::builder().timeout(PATIENCE).build()? })
    }

    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Where sockets are opened.
    pub fn socket_url(&self) -> String {
        format!("{}/v1/ws", self.base_url.replacen("http", "ws", 1))
    }

    /// Sends a request; an answer with another status than `status` is wrong.
    pub async fn send(
        &self,
        token: Option<&str>,
        request: Request,
        status: u16,
    ) -> Result<Reply, Wrong> {
        let Request { method, path, body, header } = request;
        let what = format!("{method} {path}");
        let mut sending = self.client.request(method, format!("{}{path}", self.base_url));
        if let Some(token) = token {
            sending = sending.bearer_auth(token);
        }
        if let Some((name, value)) = header {
            sending = sending.header(name, value);
        }
        if let Some(body) = &body {
            sending = sending.json(body);
        }
        let sent_at = Instant::now();
        let answer = sending.send().await?;
        let got = answer.status().as_u16();
        let version = answer.headers().get("etag").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let text = answer.text().await?;
        let took = sent_at.elapsed();
        let envelope: Value = serde_json::from_str(&text)
            .map_err(|_| Wrong::new(format!("{what}: {got}, and no JSON: {text}")))?;
        ensure(got == status && envelope.get("success") == Some(&json!(status < 400)), || {
            let error = envelope.get("error").unwrap_or(&envelope);
            let id = envelope.pointer("/meta/requestId").unwrap_or(&Value::Null);
            format!("{what}: expected {status}, the hub answered {got} {error} (requestId {id})")
        })?;
        let data = envelope.get("data").cloned().unwrap_or_default();
        Ok(Reply { data, version, sent_at, took })
    }
}
