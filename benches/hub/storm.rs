//! Everybody comes back at once: how long until all follow their channels again, and what that
//! costs the database.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use uuid::Uuid;

use super::Setup;
use super::world::World;

/// How long all may take.
const GOAL: Duration = Duration::from_secs(60);
/// Sockets that open at a time before the storm.
const RAMP: usize = 100;

#[derive(Args)]
pub struct Options {
    /// Clients, each with a socket of its own. The limit of open files must allow it, for the hub
    /// and for this process.
    #[arg(long, default_value_t = 10_000)]
    clients: usize,
}

type Socket = WebSocketStream<tokio::net::TcpStream>;

/// What the clients count between them.
#[derive(Default)]
struct Counts {
    /// Attempts that the hub sent away, with a time to come again.
    sent_away: AtomicU64,
    /// Attempts that ended otherwise.
    failed: AtomicU64,
}

/// Opens a socket and resumes; how long to wait when the hub says so or nothing at all.
async fn come(address: SocketAddr, token: &str, resume: &str) -> Result<Socket, Option<Duration>> {
    let socket = TcpSocket::new_v4().map_err(|_| None)?;
    let stream = socket.connect(address).await.map_err(|_| None)?;
    // Ended by a reset: ports that wait out their time would be used up by the next storm.
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    let mut request = format!("ws://{address}/v1/ws").into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let (mut socket, _) = match tokio_tungstenite::client_async(request, stream).await {
        Ok(opened) => opened,
        Err(Error::Http(answer)) => {
            let after = answer.headers().get("retry-after").and_then(|v| v.to_str().ok());
            return Err(after.and_then(|s| s.parse().ok()).map(Duration::from_secs));
        }
        Err(_) => return Err(None),
    };
    socket.send(Message::text(resume)).await.map_err(|_| None)?;
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                if frame["id"] == 1 {
                    assert_eq!(frame["ok"], true, "{frame}");
                    return Ok(socket);
                }
            }
            Message::Close(frame) => {
                let reason = frame.map(|f| f.reason.to_string()).unwrap_or_default();
                let after = reason.rsplit_once("reconnectAfterMs=").map(|(_, ms)| ms.parse());
                return Err(after.and_then(Result::ok).map(Duration::from_millis));
            }
            _ => {}
        }
    }
    Err(None)
}

/// Comes until it is let in.
async fn be_there(
    address: SocketAddr,
    token: String,
    resume: String,
    counts: Rc<Counts>,
    gate: Option<Rc<Semaphore>>,
) -> Socket {
    let _turn = match &gate {
        Some(gate) => Some(gate.acquire().await.unwrap()),
        None => None,
    };
    loop {
        match come(address, &token, &resume).await {
            Ok(socket) => return socket,
            Err(Some(wait)) => {
                counts.sent_away.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(wait).await;
            }
            Err(None) => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn all(world: &World, counts: &Rc<Counts>, gate: Option<Rc<Semaphore>>) -> Vec<Socket> {
    let calendar = format!("calendar:{}", world.practitioners[0]);
    let local = LocalSet::new();
    local
        .run_until(async {
            let mut coming = JoinSet::new();
            for (n, token) in world.tokens.iter().enumerate() {
                let user = Uuid::from_fields(
                    0xc000_0000,
                    0,
                    0x4000,
                    &(0x8000_0000_0000_0000 | (n + 1) as u64).to_be_bytes(),
                );
                let channels = json!({ format!("user:{user}"): 0, &calendar: 0 });
                let resume = json!({ "id": 1, "op": "resume", "data": { "channels": channels } });
                coming.spawn_local(be_there(
                    world.address,
                    token.clone(),
                    resume.to_string(),
                    counts.clone(),
                    gate.clone(),
                ));
            }
            coming.join_all().await
        })
        .await
}

/// Statements and transactions that the database has carried out for the hub.
async fn queries(world: &World) -> i64 {
    // Backends report what they did within a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    world
        .number("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()")
        .await
}

pub async fn run(options: &Options, setup: &Setup) -> bool {
    let world = World::start(1, options.clients, setup).await;
    let counts = Rc::new(Counts::default());
    let sockets = all(&world, &counts, Some(Rc::new(Semaphore::new(RAMP)))).await;
    println!("{} clients are there", sockets.len());
    // Nothing that was believed of a token before helps.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = queries(&world).await;
    let counts = Rc::new(Counts::default());
    drop(sockets);
    let began = Instant::now();
    let sockets = all(&world, &counts, None).await;
    let took = began.elapsed();
    let asked = queries(&world).await - before;
    println!("{} clients came back in {:.1} s", sockets.len(), took.as_secs_f64());
    println!(
        "{} attempts sent away, {} failed",
        counts.sent_away.load(Ordering::Relaxed),
        counts.failed.load(Ordering::Relaxed)
    );
    let each = asked as f64 / sockets.len() as f64;
    println!("{asked} transactions of the database meanwhile, {each:.2} for each client");
    drop(sockets);
    world.stop(setup.keep).await;
    took < GOAL
}
