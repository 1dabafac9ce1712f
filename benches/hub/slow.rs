//! Sockets that never read: what they cost the hub, how long it keeps them, and whether anybody else
//! feels them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::client::request;
use super::fanout::{conversation, subscribe};
use super::load::{Until, run as load};
use super::world::World;
use super::{Setup, ms};

#[derive(Args)]
pub struct Options {
    /// Sockets that never read.
    #[arg(long, default_value_t = 1_000)]
    sockets: usize,
    /// Messages per second to each of them.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Sockets that do read, of another conversation with 20 messages per second.
    #[arg(long, default_value_t = 50)]
    readers: usize,
    /// Seconds of a turn: one to get warm, one without those that do not read, one with them.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// Messages per second to those who read.
const OTHERS: f64 = 20.0;

/// Delays of deliveries.
type Delays = Arc<Mutex<Vec<Duration>>>;

/// Runs it; whether the goals are reached.
pub async fn run(options: &Options, setup: &Setup) -> bool {
    let world = World::start(1, 4, setup).await;
    let talks = [conversation(&world, 0).await, conversation(&world, 2).await];
    let delays = Delays::default();
    for n in 0..options.readers {
        let socket = open(world.address, &world.tokens[2 + n % 2], &talks[1]).await;
        tokio::spawn(note_delays(socket, delays.clone()));
    }
    // The flood goes on without sockets, too, so that only these make the difference.
    turn(&world, options, &talks).await;
    delays.lock().unwrap().clear();
    turn(&world, options, &talks).await;
    let without = p99(&delays);
    // The connections of the turns before are gone by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = Usage::of(world.pid());
    let mut deaf = Vec::new();
    for n in 0..options.sockets {
        deaf.push(open(world.address, &world.tokens[n % 2], &talks[0]).await);
    }
    assert!(Usage::of(world.pid()).files >= before.files + options.sockets);
    let watch = watch(world.pid(), before, Duration::from_secs(options.seconds));
    let (_, (most, gone)) = tokio::join!(turn(&world, options, &talks), watch);
    let with = p99(&delays);
    drop(deaf);
    let more = most.saturating_sub(before.kilobytes) / 1024;
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    let gone = gone.expect("all are gone before the turn ends");
    println!(
        "{} sockets that never read: {more} MB more (goal 350), all gone after {:.1} s (goal 15); \
         p99 of the others {} without them, {} with them: {ratio:.2} times (goal 1.20)",
        options.sockets,
        gone.as_secs_f64(),
        ms(without),
        ms(with),
    );
    world.stop(setup.keep).await;
    more <= 350 && gone <= Duration::from_secs(15) && ratio <= 1.2
}

/// Messages to both conversations for so many seconds.
async fn turn(world: &World, options: &Options, talks: &[String; 2]) {
    let send = |talk: usize, rate| {
        let path = format!("/v1/conversations/{}/messages", talks[talk]);
        let token = world.tokens[2 * talk].clone();
        let message = move |_| {
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
            let filler = "x".repeat(200);
            let content = format!("@@{now}@@{filler}");
            let body = json!({ "clientId": Uuid::now_v7(), "content": content }).to_string();
            request("POST", &path, &token, &body)
        };
        let until = Until::Time(Duration::from_secs(options.seconds));
        load(world.address, 4, until, Some(rate), message)
    };
    let (flood, others) = tokio::join!(send(0, options.rate), send(1, OTHERS));
    assert_eq!((flood.of(201), others.of(201)), (flood.requests(), others.requests()));
}

/// A socket that follows `talk`, after the answer to its command.
async fn open(address: SocketAddr, token: &str, talk: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let upgrade = format!(
        "GET /v1/ws HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    );
    let mut bytes = upgrade.into_bytes();
    let command = subscribe(&format!("conversation:{talk}"));
    let length = u8::try_from(command.len()).ok().filter(|n| *n < 126).unwrap();
    bytes.extend([0x81, 0x80 | length, 0, 0, 0, 0]);
    bytes.extend(command.as_bytes());
    stream.write_all(&bytes).await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"}") {
        assert!(stream.read_buf(&mut heard).await.unwrap() > 0, "the hub hung up");
    }
    assert!(String::from_utf8_lossy(&heard).contains(r#""ok":true"#));
    stream
}

/// Reads for ever; notes the age of every marker.
async fn note_delays(mut stream: TcpStream, delays: Delays) {
    let mut heard = Vec::new();
    while stream.read_buf(&mut heard).await.is_ok_and(|read| read > 0) {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let text = String::from_utf8_lossy(&heard).into_owned();
        let mut parts = text.split("@@").peekable();
        parts.next();
        let mut rest = String::new();
        while let Some(marker) = parts.next() {
            // What follows the marker is there, so the marker is whole.
            if parts.peek().is_none() {
                rest = format!("@@{marker}");
            } else if let Ok(sent) = marker.parse() {
                delays.lock().unwrap().push(now.saturating_sub(Duration::from_nanos(sent)));
                rest.clear();
            }
        }
        heard = if rest.len() > 40 { Vec::new() } else { rest.into_bytes() };
    }
}

fn p99(delays: &Delays) -> Duration {
    let mut delays = std::mem::take(&mut *delays.lock().unwrap());
    delays.sort_unstable();
    delays[delays.len() * 99 / 100]
}

/// What a process holds.
#[derive(Clone, Copy)]
struct Usage {
    kilobytes: usize,
    files: usize,
}

impl Usage {
    fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        let kilobytes = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        Self { kilobytes, files }
    }
}

/// The most kilobytes that the process held, and when it had given up as many connections as there
/// are more than `before`.
async fn watch(pid: u32, before: Usage, time: Duration) -> (usize, Option<Duration>) {
    let (began, mut most, mut gone) = (Instant::now(), 0, None);
    while began.elapsed() < time {
        let now = Usage::of(pid);
        most = most.max(now.kilobytes);
        // A few of the load's own connections may come besides.
        if gone.is_none() && now.files <= before.files + 10 {
            gone = Some(began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (most, gone)
}
