//! What a socket costs in memory, and a delivery in time, beside a server that does one `write` per
//! delivery and nothing else. The load generator and that server are not part of the hub: `--tools`
//! or TOOLS says where they are.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use uuid::Uuid;

use super::client::{Client, request};
use super::world::World;
use super::{Setup, median};

#[derive(Args)]
pub struct Options {
    /// The folder of `wsbench` and `rawfan`; without it nothing is measured.
    #[arg(long, env = "TOOLS")]
    tools: Option<PathBuf>,
    /// Sockets, each of a user of its own, whose memory is measured while they are idle.
    #[arg(long, value_delimiter = ',', default_value = "5000,10000")]
    idle: Vec<usize>,
    /// Measure memory and nothing else.
    #[arg(long)]
    memory: bool,
    /// Sockets that watch one conversation.
    #[arg(long, default_value_t = 5_000)]
    watchers: usize,
    /// Messages per second, one series of turns for each; the goals are those of the first.
    #[arg(long, value_delimiter = ',', default_value = "10,20")]
    rates: Vec<u32>,
    /// Seconds of a turn.
    #[arg(long, default_value_t = 6)]
    seconds: u32,
    /// Turns of either server, one after the other.
    #[arg(long, default_value_t = 3)]
    turns: usize,
}

/// The programs beside the hub.
struct Tools {
    wsbench: PathBuf,
    rawfan: PathBuf,
}

impl Tools {
    /// Builds them into a scratch folder of cargo's.
    async fn build(sources: &Path) -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools");
        for name in ["wsbench", "rawfan"] {
            let manifest = sources.join(name).join("Cargo.toml");
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--release", "--manifest-path"]).arg(manifest);
            let built = cargo.arg("--target-dir").arg(&target).status().await.unwrap();
            assert!(built.success(), "{name} was not built");
        }
        let program = |name| target.join("release").join(name);
        Self { wsbench: program("wsbench"), rawfan: program("rawfan") }
    }

    /// Runs the generator against `address`; returns what it printed.
    async fn load(&self, address: &str, pid: u32, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.wsbench);
        command.args(["--addr", address, "--pid", &pid.to_string()]).args(arguments);
        let done = command.stderr(Stdio::inherit()).kill_on_drop(true).output().await.unwrap();
        assert!(done.status.success());
        String::from_utf8(done.stdout).unwrap()
    }

    async fn floor(&self, address: &str) -> Child {
        let child = Command::new(&self.rawfan).arg(address).kill_on_drop(true).spawn().unwrap();
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        child
    }
}

/// Runs it; whether the goals are reached.
pub async fn run(options: &Options, setup: &Setup) -> bool {
    let Some(sources) = &options.tools else {
        println!("SKIPPED: --tools or TOOLS has to name the folder of wsbench and rawfan");
        return false;
    };
    let tools = Tools::build(sources).await;
    let mut reached = true;
    for sockets in &options.idle {
        reached &= idle(&tools, *sockets, setup).await;
    }
    if options.memory {
        return reached;
    }
    for (n, rate) in options.rates.iter().enumerate() {
        let good = fan_out(&tools, options, *rate, setup).await;
        reached &= good || n > 0;
    }
    reached
}

/// Memory of sockets that are authenticated, each as a user of its own, and follow a calendar.
async fn idle(tools: &Tools, sockets: usize, setup: &Setup) -> bool {
    let world = World::start(1, sockets, setup).await;
    let tokens = token_file(&world, sockets);
    let channel = format!("calendar:{}", world.practitioners[0]);
    let said = tools
        .load(
            &world.address.to_string(),
            world.pid(),
            &[
                "--path",
                "/v1/ws",
                "--header-file",
                tokens.path().to_str().unwrap(),
                "--init",
                &subscribe(&channel),
                "--expect",
                "1",
                "--conns",
                &sockets.to_string(),
            ],
        )
        .await;
    print!("idle: {said}");
    let bytes = figure(&said, "bytes_per_conn");
    println!("{sockets} idle sockets: {bytes} bytes each (goal 14336)");
    let all = figure(&said, "ready") as usize == sockets;
    world.stop(setup.keep).await;
    all && bytes <= 14_336.0
}

/// Turns of both servers with the same watchers and the same rate.
async fn fan_out(tools: &Tools, options: &Options, rate: u32, setup: &Setup) -> bool {
    let floor_at = free_address();
    let mut floor = tools.floor(&floor_at).await;
    let world = World::start(1, 2, setup).await;
    let tokens = token_file(&world, 2);
    let conversation = conversation(&world, 0).await;
    let posts = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let posts_at = posts.local_addr().unwrap().to_string();
    let publisher =
        tokio::spawn(publish(posts, world.address, world.tokens[0].clone(), conversation.clone()));
    let (conns, rate_text) = (options.watchers.to_string(), rate.to_string());
    let seconds = options.seconds.to_string();
    let common = ["--conns", &conns, "--rate", &rate_text, "--secs", &seconds, "--expect", "1"];
    let (mut ratios, mut p99s, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 1..=options.turns {
        let mut arguments = common.to_vec();
        arguments.extend(["--path", "/ws", "--init", "x"]);
        arguments.extend(["--pub-http", r#"POST /pub {"content":"{ts}"}"#]);
        let raw = tools.load(&floor_at, floor.id().unwrap(), &arguments).await;
        let mut arguments = common.to_vec();
        let init = subscribe(&format!("conversation:{conversation}"));
        arguments.extend(["--path", "/v1/ws", "--init", &init, "--pub-addr", &posts_at]);
        arguments.extend(["--header-file", tokens.path().to_str().unwrap()]);
        arguments.extend(["--pub-http", "POST / {ts}"]);
        let hub = tools.load(&world.address.to_string(), world.pid(), &arguments).await;
        print!("turn {turn}, floor: {raw}turn {turn}, hub: {hub}");
        let cost = "cpu_us_per_delivery";
        ratios.push(figure(&hub, cost) / figure(&raw, cost));
        p99s.push(figure(&hub, "p99"));
        rates.push(delivered_per_second(&hub));
    }
    publisher.abort();
    floor.kill().await.unwrap();
    world.stop(setup.keep).await;
    let (ratio, p99, reached) = (median(ratios), median(p99s), median(rates));
    println!(
        "{rate} messages/s to {conns} sockets: {reached:.0} deliveries/s; {ratio:.2} times the \
         floor's time per delivery (goal 1.40), p99 {p99:.1} ms (goal 70)"
    );
    ratio <= 1.4 && p99 <= 70.0
}

/// Answers each post with one message to the conversation, whose text is the body: the generator
/// can not make the ids that messages need.
async fn publish(posts: TcpListener, at: SocketAddr, token: String, conversation: String) {
    let path = format!("/v1/conversations/{conversation}/messages");
    while let Ok((mut stream, _)) = posts.accept().await {
        // One for each connection of the generator, which keeps its own open.
        let mut hub = Client::connect(at).await;
        let mut buffer = vec![0; 4096];
        while let Ok(read) = stream.read(&mut buffer).await {
            let post = String::from_utf8_lossy(&buffer[..read]);
            let Some((_, text)) = post.split_once("\r\n\r\n") else { break };
            // The time stands behind what inboxes are shown of a message: their news, which may wait,
            // are not timed, though they are paid for.
            let content = format!("{}{text}", ".".repeat(150));
            let body = json!({ "clientId": Uuid::now_v7(), "content": content }).to_string();
            hub.send(&request("POST", &path, &token, &body)).await.data(201);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            if stream.write_all(answer).await.is_err() {
                break;
            }
        }
    }
}

/// The id of a conversation between the `first` seeker and the next one, who from then on is a
/// practitioner: seekers do not write to strangers among them.
pub async fn conversation(world: &World, first: usize) -> String {
    let mut client = Client::connect(world.address).await;
    let profile = request("GET", "/v1/users/profile", &world.tokens[first + 1], "");
    let other = client.send(&profile).await.data(200)["id"].clone();
    let turn = "UPDATE users SET user_type = 'practitioner' WHERE id = $1::text::uuid";
    world.sql.execute(turn, &[&other.as_str().unwrap()]).await.unwrap();
    let body = json!({ "userId": other }).to_string();
    let post = request("POST", "/v1/conversations", &world.tokens[first], &body);
    client.send(&post).await.data(201)["id"].as_str().unwrap().to_owned()
}

pub fn subscribe(channel: &str) -> String {
    let subscribe: Value = json!({ "id": 1, "op": "subscribe", "data": { "channel": channel } });
    subscribe.to_string()
}

/// A header line with a token a line.
fn token_file(world: &World, users: usize) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let lines: Vec<String> =
        world.tokens.iter().take(users).map(|t| format!("Authorization: Bearer {t}")).collect();
    std::fs::write(file.path(), lines.join("\n")).unwrap();
    file
}

fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// The number behind `name=`; the last one, if there are more.
fn figure(said: &str, name: &str) -> f64 {
    let mut value = said.split_whitespace().filter_map(|word| {
        let (key, value) = word.split_once('=')?;
        (key == name).then_some(value)
    });
    value.next_back().expect("the generator says it").parse().unwrap()
}

/// `… in 6.00s = 50000/s …`
fn delivered_per_second(said: &str) -> f64 {
    let (_, rest) = said.split_once("s = ").expect("the generator says it");
    rest.split('/').next().unwrap().parse().unwrap()
}
