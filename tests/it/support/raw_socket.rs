//! A WebSocket client that does what no library lets one do: odd headers, broken frames, silence.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::TestHub;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Opcodes of RFC 6455 with the final bit set.
pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const PING: u8 = 0x89;

/// A connection that asked for an upgrade.
pub struct RawSocket {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Status of the answer.
    pub status: u16,
    /// Its head, in lower case.
    pub head: String,
}

impl RawSocket {
    /// Asks for an upgrade at `path` with these headers besides the usual ones.
    pub async fn open(hub: &TestHub, path: &str, headers: &[(&str, &str)]) -> Self {
        let stream = TcpStream::connect(hub.address).await.unwrap();
        let mut socket = Self { stream, buffer: Vec::new(), status: 0, head: String::new() };
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            hub.address
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        socket.send_bytes(request.as_bytes()).await;
        let end = loop {
            if let Some(i) = socket.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break i + 4;
            }
            assert!(socket.fill().await, "the hub hung up on the upgrade");
        };
        let head: Vec<u8> = socket.buffer.drain(..end).collect();
        socket.head = String::from_utf8(head).unwrap().to_lowercase();
        socket.status = socket.head.split(' ').nth(1).unwrap().parse().unwrap();
        socket
    }

    /// The same for somebody who is logged in.
    pub async fn open_as(hub: &TestHub, token: &str) -> Self {
        let bearer = format!("Bearer {token}");
        Self::open(hub, "/v1/ws", &[("Authorization", bearer.as_str())]).await
    }

    /// Sends bytes as they are. That the hub has hung up already shows when reading.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Sends a masked frame whose first byte is `first`.
    pub async fn send_frame(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first];
        match payload.len() {
            n @ 0..=125 => frame.push(0x80 | u8::try_from(n).unwrap()),
            n @ 126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(n).unwrap().to_be_bytes());
            }
            n => {
                frame.push(0x80 | 127);
                frame.extend((n as u64).to_be_bytes());
            }
        }
        let mask = [7, 11, 13, 17];
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        self.send_bytes(&frame).await;
    }

    /// The next frame: its opcode and payload; `None` at the end of the connection.
    pub async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = take_frame(&mut self.buffer) {
                return Some(frame);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The next text frame; `None` when the hub closes first.
    pub async fn json(&mut self) -> Option<Value> {
        loop {
            match self.frame().await? {
                (1, payload) => return Some(serde_json::from_slice(&payload).unwrap()),
                (8, _) => return None,
                _ => {}
            }
        }
    }

    /// The code that the hub closes with, whatever comes before it.
    pub async fn close_code(&mut self) -> Option<u16> {
        loop {
            if let (8, payload) = self.frame().await? {
                return Some(u16::from_be_bytes([payload[0], payload[1]]));
            }
        }
    }

    async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        matches!(read.expect("the hub says something or hangs up"), Ok(n) if n > 0)
    }
}

fn take_frame(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (first, second) = (*buffer.first()?, *buffer.get(1)?);
    let (header, length) = match second {
        126 => (4, usize::from(u16::from_be_bytes(buffer.get(2..4)?.try_into().unwrap()))),
        127 => {
            let length = u64::from_be_bytes(buffer.get(2..10)?.try_into().unwrap());
            (10, usize::try_from(length).unwrap())
        }
        short => (2, usize::from(short)),
    };
    if buffer.len() < header + length {
        return None;
    }
    let frame: Vec<u8> = buffer.drain(..header + length).collect();
    Some((first & 0x0f, frame[header..].to_vec()))
}
