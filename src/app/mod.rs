//! Puts the hub together: database, bus, actors, services, server, jobs. Started by `main` and, in
//! the same way, by every test.

mod background;
mod bus;
mod database;
mod keys;
mod metrics;
mod server;
mod settings;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::Arbiter;
use actix_web::dev::ServerHandle;
use actix_web::web;
use jiff::SignedDuration;
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::actors::calendar::Calendars;
use crate::actors::calendar_batch::{BookingRules, CalendarBatch};
use crate::actors::committer::Committer;
use crate::actors::connections::Connections;
use crate::actors::conversation::{Conversations, MessageBatch};
use crate::actors::conversation_changes::ChangeBatch;
use crate::actors::fanout::Fanout;
use crate::actors::presence::PresenceBook;
use crate::bus::RedisFault;
use crate::config::{Config, ConfigError};
use crate::error::Error;
use crate::http::operations::Readiness;
use crate::models::calendar_commit::CommitRules;
use crate::models::migrations::MigrationFault;
use crate::models::pool::{Pool, PoolFault};
use crate::outbound::EndpointPolicy;
use crate::postgres;
use crate::push::{Push, SetupError};
use crate::services::archive::Archive;
use crate::services::attachments::Attachments;
use crate::services::auth::{Auth, Passwords, TokenRules};
use crate::services::bookings::Bookings;
use crate::services::catalogue::Catalogue;
use crate::services::chat::Chat;
use crate::services::demo::Demo;
use crate::services::external_calendars::ExternalCalendars;
use crate::services::inbox::Inbox;
use crate::services::invites::Invites;
use crate::services::practices::Practices;
use crate::services::preferences::NotificationPreferences;
use crate::services::reviews::Reviews;
use crate::services::safety::Safety;
use crate::services::users::Users;
use crate::services::waitlist::Waitlist;
use crate::storage::{Storage, StorageFault};

/// Why the hub does not start. The messages say what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Postgres(#[from] postgres::StartError),
    #[error(transparent)]
    Database(#[from] postgres::DatabaseError),
    #[error("DATABASE_URL: {0}")]
    Connect(#[from] diesel::ConnectionError),
    #[error("DATABASE_URL: {0}")]
    Unreachable(String),
    #[error(transparent)]
    Migration(#[from] MigrationFault),
    #[error(transparent)]
    Pool(#[from] PoolFault),
    #[error("REDIS_URL: {0}")]
    Redis(#[from] RedisFault),
    #[error("{variable}: {0}", variable = settings::variable_of(.0))]
    Push(#[from] SetupError),
    #[error("STORAGE_URL: {0}")]
    Storage(#[from] StorageFault),
    #[error("{what}: {cause}")]
    Io {
        /// What was tried.
        what: String,
        cause: std::io::Error,
    },
    #[error("the demo could not be loaded: {0:?}")]
    Demo(Error),
    #[error("passwords: {0:?}")]
    Passwords(Error),
}

use self::bus::Listeners;
pub use self::database::Database;
pub use self::settings::check;

/// The services, as the HTTP floor gets them.
#[derive(Clone)]
pub struct Services {
    pub auth: web::Data<Auth>,
    pub users: web::Data<Users>,
    pub catalogue: web::Data<Catalogue>,
    pub practices: web::Data<Practices>,
    pub external_calendars: web::Data<ExternalCalendars>,
    pub invites: web::Data<Invites>,
    pub bookings: web::Data<Bookings>,
    pub waitlist: web::Data<Waitlist>,
    pub chat: web::Data<Chat>,
    pub attachments: web::Data<Attachments>,
    pub archive: web::Data<Archive>,
    pub safety: web::Data<Safety>,
    pub inbox: web::Data<Inbox>,
    pub preferences: web::Data<NotificationPreferences>,
    pub reviews: web::Data<Reviews>,
}

/// A running hub.
pub struct Hub {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where `/metrics` is, if anywhere.
    pub metrics: Option<SocketAddr>,
    pub services: Services,
    pool: Pool,
    passwords: Passwords,
    fanout: Fanout,
    ready: Readiness,
    /// Over how long a stop spreads the goodbyes of sockets.
    drain: Duration,
    stop_jobs: watch::Sender<bool>,
    jobs: Vec<JoinHandle<()>>,
    server: ServerHandle,
    metrics_server: Option<ServerHandle>,
    threads: Vec<Arbiter>,
}

/// What the services are made of.
struct World {
    pool: Pool,
    fanout: Fanout,
    calendars: Calendars,
    conversations: Conversations,
    connections: Connections,
    presence: PresenceBook,
    passwords: Passwords,
    push: Arc<Push>,
    storage: Storage,
    endpoints: EndpointPolicy,
    /// Where calendars that are imported may lie.
    feeds: EndpointPolicy,
    listeners: Listeners,
}

impl Hub {
    /// Starts everything over `database`, whose migrations have run. Must be called inside an
    /// actix `System` on a multi-threaded runtime.
    pub async fn start(config: &Config, database: &Database) -> Result<Self, StartError> {
        let hub = Self::start_unready(config, database).await?;
        hub.open();
        Ok(hub)
    }

    /// The same, but `/readyz` refuses until [`open`](Self::open): something has to be loaded first.
    pub async fn start_unready(config: &Config, database: &Database) -> Result<Self, StartError> {
        let pool = Pool::new(
            database.url.expose_secret(),
            config.database.pool_size,
            config.database.pool_wait,
        )?;
        // A wrong DATABASE_URL is told now, not by the first request.
        pool.ping().await?;
        let threads: Vec<Arbiter> =
            (0..config.http.actor_threads).map(|_| Arbiter::new()).collect();
        let world = World::build(config, pool, &threads).await?;
        let services = world.services(config)?;
        let ready = Readiness::new(world.fanout.bus().clone());
        let (server, address) = server::start(config, &world, &services, &ready)?;
        let metrics = config.http.metrics;
        let metrics = metrics.map(|at| metrics::start(at, world.pool.clone())).transpose()?;
        metrics::keep_tidy();
        let (stop_jobs, stop) = watch::channel(false);
        let jobs = background::start(config, &world, &services, &stop)?;
        let World { pool, passwords, fanout, .. } = world;
        let (metrics_server, metrics) = metrics.unzip();
        Ok(Self {
            address,
            metrics,
            services,
            pool,
            passwords,
            fanout,
            ready,
            drain: config.sockets.drain,
            stop_jobs,
            jobs,
            server,
            metrics_server,
            threads,
        })
    }

    /// Everything is there: new work is welcome.
    pub fn open(&self) {
        self.ready.open();
    }

    /// Loads the demo data; false when they are there already.
    pub async fn load_demo(&self) -> Result<bool, StartError> {
        let demo = Demo {
            pool: &self.pool,
            auth: &self.services.auth,
            passwords: &self.passwords,
            practices: &self.services.practices,
        };
        demo.load().await.map_err(StartError::Demo)
    }

    /// A stop is not to spread the goodbyes of sockets over time.
    pub fn hurry(&mut self) {
        self.drain = Duration::ZERO;
    }

    /// Stops: not ready at once, sockets are told and closed with 4000, requests under way are
    /// finished, jobs finish what they have in hand.
    pub async fn stop(self) {
        self.ready.close();
        self.fanout.rosters().drain(self.drain).await;
        self.server.stop(true).await;
        // Fails only when the jobs have ended.
        let _ = self.stop_jobs.send(true);
        for job in self.jobs {
            let _ = job.await;
        }
        if let Some(server) = self.metrics_server {
            server.stop(false).await;
        }
        for thread in self.threads {
            thread.stop();
        }
        self.pool.close();
    }
}

impl World {
    async fn build(config: &Config, pool: Pool, threads: &[Arbiter]) -> Result<Self, StartError> {
        let (fanout, listeners) = bus::connect(config)?;
        let threads: Arc<[_]> = threads.iter().map(Arbiter::handle).collect();
        let push_window = config.push.window;
        let commission_bps = config.booking.commission_bps;
        let calendars = Calendars::new(
            threads.clone(),
            pool.clone(),
            Committer::start(
                CalendarBatch(CommitRules { push_window, commission_bps }),
                pool.clone(),
                fanout.clone(),
            ),
            BookingRules { hold_ttl: config.booking.hold_ttl, commission_bps },
        );
        let messages = Committer::start(MessageBatch { push_window }, pool.clone(), fanout.clone());
        let changes = Committer::start(ChangeBatch, pool.clone(), fanout.clone());
        let conversations =
            Conversations::new(threads.clone(), pool.clone(), fanout.clone(), messages, changes);
        let connections = server::connections(config, &fanout);
        let grace = config.sockets.presence_grace;
        let presence = PresenceBook::new(threads, fanout.clone(), connections.clone(), grace);
        // The bus may tell of these from now on. Set once, here.
        let _ = listeners.calendars.set(calendars.clone());
        let _ = listeners.conversations.set(conversations.clone());
        let _ = listeners.presence.set(presence.clone());
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let cost = config.auth.bcrypt_cost;
        let passwords = web::block(move || Passwords::new(cost, cores))
            .await
            .map_err(|e| StartError::Passwords(Error::Fault(e.to_string())))?
            .map_err(StartError::Passwords)?;
        let push = Arc::new(settings::push(config)?);
        let storage = settings::storage(config).await?;
        let endpoints = settings::endpoints(&config.push);
        let feeds = settings::feeds(config.import.allow_private);
        Ok(Self {
            pool,
            fanout,
            calendars,
            conversations,
            connections,
            presence,
            passwords,
            push,
            storage,
            endpoints,
            feeds,
            listeners,
        })
    }

    fn services(&self, config: &Config) -> Result<Services, StartError> {
        let pool = || self.pool.clone();
        let whole = |d: Duration| SignedDuration::try_from(d).unwrap_or(SignedDuration::MAX);
        let rules = TokenRules {
            secret: keys::jwt_secret(config)?,
            access_ttl: whole(config.auth.access_ttl),
            refresh_ttl: whole(config.auth.refresh_ttl),
        };
        let auth = Auth::new(pool(), self.fanout.clone(), rules, self.passwords.clone());
        let auth = web::Data::new(auth);
        let _ = self.listeners.auth.set(auth.clone());
        let chat = Chat::new(pool(), self.conversations.clone(), self.fanout.clone());
        let bookings = Bookings::new(pool(), self.calendars.clone(), config.booking.hold_ttl);
        let inbox = Inbox::new(pool(), self.fanout.clone(), self.push.clone(), self.endpoints);
        let reviews = Reviews::new(pool(), self.fanout.clone(), config.push.window);
        let external = ExternalCalendars::new(pool(), self.calendars.clone(), self.feeds);
        Ok(Services {
            auth,
            users: web::Data::new(Users::new(pool())),
            catalogue: web::Data::new(Catalogue::new(pool())),
            practices: web::Data::new(Practices::new(pool(), self.calendars.clone())),
            external_calendars: web::Data::new(external),
            invites: web::Data::new(Invites::new(pool())),
            bookings: web::Data::new(bookings),
            waitlist: web::Data::new(Waitlist::new(pool(), self.calendars.clone())),
            chat: web::Data::new(chat),
            attachments: web::Data::new(Attachments::new(pool(), self.storage.clone())),
            archive: web::Data::new(Archive::new(pool(), config.storage.kept)),
            safety: web::Data::new(Safety::new(pool(), self.fanout.clone())),
            inbox: web::Data::new(inbox),
            preferences: web::Data::new(NotificationPreferences::new(pool())),
            reviews: web::Data::new(reviews),
        })
    }
}
