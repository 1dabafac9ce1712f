//! A WebSocket client that does as much as the load needs, and takes as little of the processor as
//! it can.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An open socket of the hub.
pub struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer was read and not yet looked at.
    unread: std::ops::Range<usize>,
}

impl Socket {
    /// Opens it for the user of `token`.
    pub async fn open(address: SocketAddr, token: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let upgrade = format!(
            "GET /v1/ws HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {token}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(upgrade.as_bytes()).await.unwrap();
        let mut socket = Self { stream, buffer: vec![0; 64 * 1024], unread: 0..0 };
        let end = loop {
            socket.read().await;
            let head = &socket.buffer[socket.unread.clone()];
            if let Some(end) = head.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&socket.buffer[..end]).into_owned();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        socket.unread.start = end;
        socket
    }

    async fn read(&mut self) {
        if self.unread.end == self.buffer.len() {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        assert!(self.unread.end < self.buffer.len(), "a frame that is too long");
        let read = self.stream.read(&mut self.buffer[self.unread.end..]).await.unwrap();
        assert!(read > 0, "the hub closed the socket");
        self.unread.end += read;
    }

    /// Sends a text frame. Its mask is nought, which leaves the text as it is.
    pub async fn send(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes()).await;
    }

    async fn frame(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first];
        match payload.len() {
            n @ 0..=125 => frame.push(0x80 | n as u8),
            n => {
                frame.push(0x80 | 126);
                frame.extend((n as u16).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The next text; pings are answered meanwhile.
    pub async fn next(&mut self) -> &[u8] {
        loop {
            let (first, payload) = loop {
                match self.whole() {
                    Some(frame) => break frame,
                    None => self.read().await,
                }
            };
            self.unread.start = payload.end;
            match first {
                0x81 => return &self.buffer[payload],
                0x89 => {
                    let payload = self.buffer[payload].to_vec();
                    self.frame(0x8a, &payload).await;
                }
                other => panic!("a frame that begins with {other:#x}"),
            }
        }
    }

    /// First byte and place of the payload of the frame that is there as a whole.
    fn whole(&self) -> Option<(u8, std::ops::Range<usize>)> {
        let bytes = &self.buffer[self.unread.clone()];
        let (head, length) = match *bytes.get(1)? {
            126 => (4, u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]).into()),
            n => (2, usize::from(n)),
        };
        assert!(length <= usize::from(u16::MAX));
        let start = self.unread.start + head;
        (bytes.len() >= head + length).then(|| (bytes[0], start..start + length))
    }
}
