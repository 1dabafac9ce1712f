//! The command line. What the commands do is the library's.

use std::io::{IsTerminal, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use hub::app::{Database, Hub, StartError};
use hub::config::{Config, Env, LogConfig};
use hub::domain::explain::Case;
use hub::http::openapi;
use hub::models::migrations::Direction;
use hub::push::VapidKeys;
use hub::services::demo;
use mimalloc::MiMalloc;
use secrecy::ExposeSecret;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Under load a fifth of the hub's time went to the allocator of libc. Without huge pages: with them
/// an idle socket took 14 KB instead of 9.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Failure = Box<dyn std::error::Error>;

/// How long a stop waits for a start to come so far that it can be undone.
const PATIENCE: Duration = Duration::from_secs(20);

/// Klear Karma Hub: bookings, chat, live availability and push in one process.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    /// A file of lines NAME=value; variables of the environment win over it.
    #[arg(long, env = "HUB_CONFIG", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the hub: migrate the database, listen, serve until SIGTERM or SIGINT.
    Serve {
        /// Load the demo data first, unless they are there, and print their logins. While the hub
        /// listens on loopback, pushes may go to loopback too, as `make tour` needs, unless
        /// PUSH_ALLOW_PRIVATE_ENDPOINTS is set.
        #[arg(long)]
        demo: bool,
    },
    /// Bring the database to the newest schema, or take every table away again.
    Migrate {
        /// Revert all migrations. This deletes everything.
        #[arg(long)]
        down: bool,
    },
    /// Run the private PostgreSQL of DATA_DIR alone and print its URL, for several hubs on this
    /// machine, until SIGTERM or SIGINT.
    Database,
    /// Load the demo data and print their logins. Not while a hub runs on a private database.
    Demo,
    /// Print a new pair of VAPID keys.
    Vapid,
    /// Print the description of the API.
    Openapi {
        /// Print the table of error codes instead, as Markdown.
        #[arg(long)]
        errors: bool,
    },
    /// Questions about slots.
    #[command(subcommand)]
    Slots(Slots),
}

#[derive(Subcommand)]
enum Slots {
    /// Compute the slots of one case: an object such as those in the list `cases` of
    /// tests/data/slot-cases.json, or one of such a list.
    Explain {
        /// The file, or - for standard input.
        file: PathBuf,
        /// The `id` of the case, in a file with a list of `cases`.
        #[arg(long)]
        case: Option<String>,
        /// Also tell each start that was rejected, and by which rule.
        #[arg(long)]
        why: bool,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("hub: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Serve { demo } => {
            in_system(serve(configured_for(cli.config.as_deref(), demo)?, demo))
        }
        Command::Migrate { down } => in_system(migrate(configured(cli.config.as_deref())?, down)),
        Command::Database => in_system(keep_database(configured(cli.config.as_deref())?)),
        Command::Demo => in_system(load_demo(configured(cli.config.as_deref())?)),
        Command::Vapid => {
            let pair = VapidKeys::generate()?;
            println!("VAPID_PUBLIC_KEY={}", pair.public_key);
            println!("VAPID_PRIVATE_KEY={}", pair.private_key.expose_secret());
            Ok(())
        }
        Command::Openapi { errors: true } => {
            print!("{}", openapi::errors_markdown());
            Ok(())
        }
        Command::Openapi { errors: false } => {
            println!("{}", openapi::document().to_pretty_json()?);
            Ok(())
        }
        Command::Slots(Slots::Explain { file, case, why }) => explain(&file, case.as_deref(), why),
    }
}

fn configured(file: Option<&Path>) -> Result<Config, Failure> {
    configured_for(file, false)
}

fn configured_for(file: Option<&Path>, demo: bool) -> Result<Config, Failure> {
    let env = Env::load(file)?;
    let config = if demo { Config::for_demo(&env)? } else { Config::from_env(&env)? };
    start_log(&config.log)?;
    if config.push.allow_private_endpoints {
        tracing::warn!(
            "PUSH_ALLOW_PRIVATE_ENDPOINTS: users can make the hub post into its network"
        );
    }
    if config.push.allow_loopback_endpoints {
        tracing::warn!("--demo on loopback: pushes may go to this machine, over plain HTTP too");
    }
    Ok(config)
}

fn start_log(config: &LogConfig) -> Result<(), Failure> {
    // gcp_auth prints the bodies of refused token exchanges. The dispatcher calls it an error of
    // ours when anybody sends a malformed header.
    let quiet = "gcp_auth=off,actix_http::h1::dispatcher=off";
    let filter = EnvFilter::try_new(format!("{},{quiet}", config.filter))?;
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal() && !no_colour)
        .with_writer(std::io::stderr);
    if config.json {
        log.json().flatten_event(true).init();
    } else {
        log.init();
    }
    Ok(())
}

/// Runs `work` in an actix system over a multi-threaded runtime, which everything needs: actors
/// the one, migrations and drivers of connections the other.
fn in_system(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // The closure is called once; the runtime is made before it so that a failure is an error.
    let mut runtime = Some(runtime);
    let system = actix::System::with_tokio_rt(|| match runtime.take() {
        Some(runtime) => runtime,
        None => std::process::abort(),
    });
    system.block_on(work)
}

async fn serve(config: Config, demo: bool) -> Result<(), Failure> {
    // First of all: a signal during the start, too, stops the hub in order.
    let mut signals = Signals::catch()?;
    hub::app::check(&config)?;
    let Some(database) = open(&config, &mut signals).await? else { return Ok(()) };
    let served = serve_over(&config, &database, demo, &mut signals).await;
    database.close().await;
    served
}

/// The database; none when the hub was told to stop meanwhile.
async fn open(config: &Config, signals: &mut Signals) -> Result<Option<Database>, Failure> {
    let mut opening = std::pin::pin!(Database::open(config));
    tokio::select! {
        opened = &mut opening => return Ok(Some(opened?)),
        () = signals.told() => {}
    }
    // So that a private PostgreSQL is stopped and not left behind. One that recovers for longer is
    // stopped by its watchdog.
    if let Ok(Ok(database)) = tokio::time::timeout(PATIENCE, opening).await {
        database.close().await;
    }
    Ok(None)
}

async fn serve_over(
    config: &Config,
    database: &Database,
    demo: bool,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let starting = async {
        for migration in database.migrate(Direction::Up).await? {
            tracing::info!(migration, "migrated");
        }
        Hub::start_unready(config, database).await
    };
    let mut hub = tokio::select! {
        hub = starting => hub?,
        () = signals.told() => return Ok(()),
    };
    if let Some(address) = hub.metrics {
        tracing::info!(metrics = %address, "counting");
    }
    tracing::info!(address = %hub.address, "serving");
    let served = tokio::select! {
        Err(failed) = open_doors(&hub, demo) => Err(failed),
        lost = database.keep() => Err(lost.into()),
        () = signals.told() => Ok(()),
    };
    tracing::info!("stopping");
    if signals.by_hand {
        hub.hurry();
    }
    hub.stop().await;
    served
}

/// Loads what is to be loaded, says that the hub is ready, and serves until something else ends it.
async fn open_doors(hub: &Hub, demo: bool) -> Result<(), Failure> {
    let loaded = if demo { Some(hub.load_demo().await?) } else { None };
    hub.open();
    if let Some(loaded) = loaded {
        print_welcome(hub, loaded);
    }
    std::future::pending().await
}

/// The signals that stop a hub.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Somebody sits there and waits.
    by_hand: bool,
}

impl Signals {
    /// From now on they no longer end the process.
    fn catch() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())?, by_hand: false })
    }

    /// Waits for one.
    async fn told(&mut self) {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        self.by_hand |= name == "SIGINT";
        tracing::info!(signal = name, "told to stop");
    }
}

async fn migrate(config: Config, down: bool) -> Result<(), Failure> {
    let database = Database::open(&config).await?;
    let direction = if down { Direction::Down } else { Direction::Up };
    let result = database.migrate(direction).await;
    database.close().await;
    let names = result?;
    for name in &names {
        println!("{name}");
    }
    println!("{} migrations {}", names.len(), if down { "reverted" } else { "applied" });
    Ok(())
}

async fn keep_database(config: Config) -> Result<(), Failure> {
    if config.database.url.is_some() {
        return Err("DATABASE_URL is set: that PostgreSQL is not this hub's to run".into());
    }
    let mut signals = Signals::catch()?;
    let Some(database) = open(&config, &mut signals).await? else { return Ok(()) };
    println!("{}", database.url.expose_secret());
    let kept = tokio::select! {
        lost = database.keep() => Err(lost.into()),
        () = signals.told() => Ok(()),
    };
    database.close().await;
    kept
}

async fn load_demo(config: Config) -> Result<(), Failure> {
    hub::app::check(&config)?;
    let database = Database::open(&config).await?;
    let result = load_demo_into(&config, &database).await;
    database.close().await;
    println!("{}", if result? { "The demo data are loaded." } else { "They are there already." });
    print_logins();
    Ok(())
}

async fn load_demo_into(config: &Config, database: &Database) -> Result<bool, StartError> {
    database.migrate(Direction::Up).await?;
    let mut config = config.clone();
    // The services run as in a hub; nobody is to find it.
    config.http.listen = ([127, 0, 0, 1], 0).into();
    let hub = Hub::start(&config, database).await?;
    let loaded = hub.load_demo().await;
    hub.stop().await;
    loaded
}

fn print_logins() {
    println!("\nDemo accounts, all with the password {}:", demo::PASSWORD);
    for login in demo::logins() {
        println!("  {:<28} {:<13} {}", login.email, login.role, login.what);
    }
}

fn print_welcome(hub: &Hub, loaded: bool) {
    let base = base_url(hub.address);
    let tour = match base.as_str() {
        "http://127.0.0.1:8080" => "make tour".to_owned(),
        base => format!("make tour BASE_URL={base}"),
    };
    if !hub.address.ip().is_loopback() {
        tracing::warn!("the demo's accounts, whose passwords are public, may be reached by others");
    }
    println!("\nKlear Karma Hub serves on {base}");
    println!(
        "Demo data: {}",
        if loaded { "loaded just now" } else { "there from an earlier start" }
    );
    print_logins();
    println!(
        "\nThree things to try, in another terminal:\n  \
         1. curl -s {base}/v1/practitioners\n  \
         2. {tour}\n     two people sign up, book, chat, and get a push, step by step\n  \
         3. {base}/docs/   the API, to click through\n\nStop with Ctrl-C.\n"
    );
}

/// Where this machine reaches a hub that listens at `address`.
fn base_url(address: SocketAddr) -> String {
    let mut here = address;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => here.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => here.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("http://{here}")
}

fn explain(file: &Path, case: Option<&str>, why: bool) -> Result<(), Failure> {
    let mut text = String::new();
    if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    let answer = Case::from_file(&text, case)?.answer(why)?;
    println!("{}", serde_json::to_string_pretty(&answer)?);
    Ok(())
}
