//! A TCP proxy that stands between devices and a node, and lets connections down.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of a connection's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    /// Nothing comes from the hub any more, as when a phone loses its network.
    Held,
    Cut,
}

/// What is done to every so-many-th message on its way from the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tamper {
    Drop,
    Repeat,
    /// The next frame overtakes it.
    Swap,
    /// Of edits only: the new words come with another first letter.
    Garble,
}

impl Tamper {
    /// Whether this is one of the frames that it is done to.
    fn concerns(self, frame: &[u8]) -> bool {
        match self {
            Self::Garble => find(frame, b"\"change\":\"edit\"").is_some(),
            Self::Drop | Self::Repeat | Self::Swap => {
                DURABLE.iter().any(|event| find(frame, event).is_some())
            }
        }
    }
}

/// What is kept of a conversation.
const DURABLE: [&[u8]; 3] = [
    b"\"event\":\"message:new\"",
    b"\"event\":\"message:updated\"",
    b"\"event\":\"message:deleted\"",
];
/// Before the words of a message.
const CONTENT: &[u8] = b"\"content\":\"";

#[derive(Default)]
struct Shared {
    /// None while the node is down.
    upstream: Mutex<Option<SocketAddr>>,
    connections: Mutex<BTreeMap<u64, watch::Sender<Flow>>>,
    tamper: Option<(Tamper, usize)>,
}

/// A listening proxy; ends, with its connections, when dropped.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of loopback.
    pub async fn start() -> Self {
        Self::listen(None).await
    }

    /// One that does this to every `nth` message.
    pub async fn tampering(tamper: Tamper, nth: usize) -> Self {
        Self::listen(Some((tamper, nth))).await
    }

    async fn listen(tamper: Option<(Tamper, usize)>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { tamper, ..Shared::default() });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Self { address, shared, accepting }
    }

    /// Where new connections lead to.
    pub fn lead_to(&self, node: Option<SocketAddr>) {
        *self.shared.upstream.lock().unwrap() = node;
    }

    /// The node, unless it is down; for those who go there directly.
    pub fn leads_to(&self) -> Option<SocketAddr> {
        *self.shared.upstream.lock().unwrap()
    }

    /// Cuts each connection with this chance: some at once, some after a while of silence.
    pub fn cut(&self, rng: &mut StdRng, chance: f64) {
        for flow in self.shared.connections.lock().unwrap().values() {
            if !rng.random_bool(chance) {
                continue;
            }
            if rng.random_bool(0.7) {
                flow.send_replace(Flow::Cut);
                continue;
            }
            flow.send_replace(Flow::Held);
            let (flow, silence) =
                (flow.clone(), Duration::from_millis(rng.random_range(200..4_000)));
            tokio::spawn(async move {
                tokio::time::sleep(silence).await;
                flow.send_replace(Flow::Cut);
            });
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        for flow in self.shared.connections.lock().unwrap().values() {
            flow.send_replace(Flow::Cut);
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    for id in 0.. {
        let Ok((client, _)) = listener.accept().await else { continue };
        let Some(node) = *shared.upstream.lock().unwrap() else { continue };
        let (flow, watched) = watch::channel(Flow::Open);
        shared.connections.lock().unwrap().insert(id, flow);
        let shared = shared.clone();
        tokio::spawn(async move {
            if let Ok(hub) = TcpStream::connect(node).await {
                carry(client, hub, watched, shared.tamper).await;
            }
            shared.connections.lock().unwrap().remove(&id);
        });
    }
}

async fn carry(
    client: TcpStream,
    hub: TcpStream,
    mut flow: watch::Receiver<Flow>,
    tamper: Option<(Tamper, usize)>,
) {
    for stream in [&client, &hub] {
        let _ = stream.set_nodelay(true);
        // An end without a goodbye: what is under way is thrown away.
        let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
    let ((from_client, to_client), (from_hub, to_hub)) = (client.into_split(), hub.into_split());
    // Held back, the bytes wait in the buffers of the kernel, and then in the hub's.
    let (up, down) = (flow.clone(), flow.clone());
    tokio::select! {
        _ = flow.wait_for(|flow| *flow == Flow::Cut) => {}
        () = copy(from_client, to_hub, up, None) => {}
        () = copy(from_hub, to_client, down, tamper.map(Frames::new)) => {}
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut flow: watch::Receiver<Flow>,
    mut frames: Option<Frames>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        let _ = flow.wait_for(|flow| *flow != Flow::Held).await;
        let bytes = match &mut frames {
            Some(frames) => frames.pass(&buffer[..read]),
            None => buffer[..read].to_vec(),
        };
        if read == 0 || to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Takes the hub's bytes apart into WebSocket frames (RFC 6455 section 5.2, unmasked) and tampers
/// with those that carry a message.
struct Frames {
    tamper: Tamper,
    nth: usize,
    seen: usize,
    waiting: Vec<u8>,
    /// The answer to the upgrade is through.
    upgraded: bool,
    /// Overtaken by the next one.
    late: Option<Vec<u8>>,
}

impl Frames {
    fn new((tamper, nth): (Tamper, usize)) -> Self {
        Self { tamper, nth, seen: 0, waiting: Vec::new(), upgraded: false, late: None }
    }

    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.waiting.extend_from_slice(bytes);
        let mut out = Vec::new();
        if !self.upgraded {
            let Some(end) = find(&self.waiting, b"\r\n\r\n") else { return out };
            out.extend(self.waiting.drain(..end + 4));
            self.upgraded = true;
        }
        while let Some(length) = frame_length(&self.waiting) {
            let mut frame: Vec<u8> = self.waiting.drain(..length).collect();
            if !self.tamper.concerns(&frame) {
                out.extend(frame);
                continue;
            }
            self.seen += 1;
            let due = self.seen.is_multiple_of(self.nth);
            match self.tamper {
                Tamper::Drop if due => {}
                Tamper::Swap if due => self.late = Some(frame),
                Tamper::Garble if due => {
                    let content = find(&frame, CONTENT).unwrap() + CONTENT.len();
                    frame[content] = b'?';
                    out.extend(frame);
                }
                Tamper::Repeat if due => out.extend([frame.clone(), frame].concat()),
                _ => {
                    out.extend(frame);
                    out.extend(self.late.take().unwrap_or_default());
                }
            }
        }
        out
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// The length of the frame at the beginning, head included, if it is all there.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    let length = match *bytes.get(1)? {
        126 => 4 + usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())),
        127 => {
            10 + usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap())).ok()?
        }
        short => 2 + usize::from(short),
    };
    (bytes.len() >= length).then_some(length)
}
