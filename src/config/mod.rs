//! Configuration: one struct per concern, from environment variables and an optional file.
//!
//! A value that is not allowed stops the start and names its variable. README.md has the table;
//! `tests/it/config.rs` holds the two against each other.

mod check;
mod env;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

pub use self::env::{ConfigError, Env};

/// Everything that can be configured.
#[derive(Debug, Clone)]
pub struct Config {
    pub http: HttpConfig,
    pub database: DatabaseConfig,
    pub redis_url: Option<SecretString>,
    pub auth: AuthConfig,
    pub booking: BookingConfig,
    pub import: ImportConfig,
    pub sockets: SocketConfig,
    pub push: PushConfig,
    pub storage: StorageConfig,
    pub log: LogConfig,
}

/// Where the hub listens and whom it believes.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// On loopback unless told otherwise: the demo's passwords are public.
    pub listen: SocketAddr,
    /// Where `/metrics` is served. None: nowhere. It asks for no token.
    pub metrics: Option<SocketAddr>,
    /// HTTP worker threads. More than cores only costs memory; each has its own switchboard.
    pub workers: usize,
    /// Threads for calendars, conversations and presence.
    pub actor_threads: usize,
    /// Origins whose pages may open sockets, besides the hub's own.
    pub allowed_origins: Vec<String>,
    /// Balancers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// How long a stop waits for requests under way.
    pub shutdown: Duration,
}

/// Where the data are.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// None: the hub runs a PostgreSQL of its own.
    pub url: Option<SecretString>,
    /// Where that one keeps its data, and the hub its generated keys.
    pub data_dir: PathBuf,
    /// PostgreSQL's programs, if they are in an unusual place.
    pub pg_bin: Option<PathBuf>,
    /// Connections. Too few: requests wait and are refused as overloaded. Too many: PostgreSQL
    /// spends its time switching; four per core is plenty.
    pub pool_size: usize,
    /// How long a request waits for one.
    pub pool_wait: Duration,
}

/// Tokens and passwords.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// None: generated once and kept in the data directory.
    pub jwt_secret: Option<SecretString>,
    pub access_ttl: Duration,
    pub refresh_ttl: Duration,
    /// Each step doubles the time of a login, and of an attack on a stolen database.
    pub bcrypt_cost: u32,
}

/// Holds and prices.
#[derive(Debug, Clone)]
pub struct BookingConfig {
    pub hold_ttl: Duration,
    /// The platform's share in basis points (1500 = 15 %).
    pub commission_bps: u16,
}

/// Calendars elsewhere.
#[derive(Debug, Clone)]
pub struct ImportConfig {
    /// Between two readings of one. Too short: their hosts refuse. Too long: times that are taken
    /// there are bookable here.
    pub every: Duration,
    /// Whether they may lie at private addresses and be read by plain HTTP. For trying things out.
    pub allow_private: bool,
}

/// WebSockets and presence.
#[derive(Debug, Clone)]
pub struct SocketConfig {
    pub heartbeat: Duration,
    pub auth_timeout: Duration,
    pub presence_grace: Duration,
    /// Sockets of one user at a time. Too few: people with several devices and tabs lose some.
    pub connections_per_user: u32,
    /// Commands per second of all sockets of a user together.
    pub user_commands: u32,
    /// Over how long a stop spreads the closing of sockets. Too short: all come back at once.
    pub drain: Duration,
}

/// Pushes.
#[derive(Debug, Clone)]
pub struct PushConfig {
    /// How long a live device may take to acknowledge before a push goes out.
    pub window: Duration,
    /// None: generated once and kept in the data directory.
    pub vapid_private_key: Option<SecretString>,
    /// Whom a push service may write to: `mailto:` or `https:`.
    pub vapid_subject: String,
    /// Whether subscriptions may point to private addresses and plain HTTP. For trying things out.
    pub allow_private_endpoints: bool,
    /// Whether they may point to this machine. Only the demo sets it, see [`Config::for_demo`].
    pub allow_loopback_endpoints: bool,
    /// Path of a Google service account's JSON. None: no FCM.
    pub fcm_credentials: Option<PathBuf>,
    pub fcm_project: Option<String>,
    pub fcm_base_url: Option<String>,
}

/// Where files of users lie, and how long messages are kept.
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// A `file://` or `s3://` URL. None: `attachments` in the data directory, which no other node
    /// sees.
    pub url: Option<String>,
    pub s3_region: String,
    /// Of a service that is not Amazon's.
    pub s3_endpoint: Option<String>,
    /// None: as the machine's role has them.
    pub s3_access_key_id: Option<String>,
    pub s3_secret_access_key: Option<SecretString>,
    /// How long messages are kept; None: for ever.
    pub kept: Option<Duration>,
}

/// What the log looks like.
#[derive(Debug, Clone)]
pub struct LogConfig {
    pub json: bool,
    /// Directives of tracing's `EnvFilter`.
    pub filter: String,
}

impl Config {
    /// Reads everything, or names the first variable whose value is not allowed.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let config = Self {
            http: HttpConfig::from_env(env)?,
            database: DatabaseConfig::from_env(env)?,
            redis_url: env.secret("REDIS_URL"),
            auth: AuthConfig::from_env(env)?,
            booking: BookingConfig {
                hold_ttl: env.seconds("HOLD_TTL_SECONDS", 300, 1..=900)?,
                commission_bps: env.number("COMMISSION_BPS", 1_500, 0..=10_000)?,
            },
            import: ImportConfig {
                every: env.seconds("CALENDAR_IMPORT_SECONDS", 900, 60..=86_400)?,
                allow_private: env.choice(
                    "CALENDAR_ALLOW_PRIVATE_FEEDS",
                    "false",
                    &["true", "false"],
                )? == "true",
            },
            sockets: SocketConfig {
                heartbeat: env.seconds("WS_HEARTBEAT_SECONDS", 25, 1..=300)?,
                auth_timeout: env.seconds("WS_AUTH_TIMEOUT_SECONDS", 5, 1..=60)?,
                presence_grace: env.seconds("PRESENCE_GRACE_SECONDS", 15, 0..=120)?,
                connections_per_user: env.number("WS_CONNECTIONS_PER_USER", 20, 1..=100_000)?,
                user_commands: env.number("WS_USER_COMMANDS_PER_SECOND", 100, 1..=100_000)?,
                drain: env.seconds("DRAIN_WINDOW_SECONDS", 25, 0..=300)?,
            },
            push: PushConfig::from_env(env)?,
            storage: StorageConfig::from_env(env)?,
            log: LogConfig {
                json: env.choice("LOG_FORMAT", "text", &["text", "json"])? == "json",
                filter: check::log_level(env.text("LOG_LEVEL"))?,
            },
        };
        env.refuse_unknown()?;
        Ok(config)
    }
}

impl Config {
    /// The same for `hub serve --demo`: a hub that only this machine reaches also takes push
    /// endpoints on this machine (and in no other private network), where `make tour` has its push
    /// service, unless `PUSH_ALLOW_PRIVATE_ENDPOINTS` is set.
    pub fn for_demo(env: &Env) -> Result<Self, ConfigError> {
        let mut config = Self::from_env(env)?;
        let said = env.text("PUSH_ALLOW_PRIVATE_ENDPOINTS").is_some();
        if !said && config.http.listen.ip().is_loopback() {
            config.push.allow_loopback_endpoints = true;
        }
        Ok(config)
    }
}

impl HttpConfig {
    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Self {
            listen: env.parse("HUB_LISTEN", "127.0.0.1:8080", "an address such as 0.0.0.0:8080")?,
            metrics: env.text("METRICS_ADDR").map(|text| text.parse()).transpose().map_err(
                |_| ConfigError::new("METRICS_ADDR", "an address such as 127.0.0.1:9464"),
            )?,
            workers: env.number("HTTP_WORKERS", cores, 1..=64)?,
            actor_threads: env.number("ACTOR_THREADS", cores.min(4), 1..=32)?,
            allowed_origins: check::origins(env.list("ALLOWED_ORIGINS"))?,
            trusted_proxies: env
                .list("TRUSTED_PROXIES")
                .iter()
                .map(|ip| ip.parse())
                .collect::<Result<_, _>>()
                .map_err(|_| ConfigError::new("TRUSTED_PROXIES", "IP addresses, by commas"))?,
            shutdown: env.seconds("SHUTDOWN_SECONDS", 10, 1..=120)?,
        })
    }
}

impl DatabaseConfig {
    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            url: env.secret("DATABASE_URL"),
            data_dir: env.text("DATA_DIR").unwrap_or_else(|| "data".to_owned()).into(),
            pg_bin: env.text("HUB_PG_BIN").map(Into::into),
            pool_size: env.number("DATABASE_POOL_SIZE", 16, 2..=200)?,
            pool_wait: env.seconds("DATABASE_POOL_WAIT_SECONDS", 5, 1..=60)?,
        })
    }
}

impl AuthConfig {
    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        use secrecy::ExposeSecret;
        let jwt_secret = env.secret("JWT_SECRET");
        let long = jwt_secret.as_ref().is_none_or(|s| s.expose_secret().len() >= 32);
        if !long {
            return Err(ConfigError::new("JWT_SECRET", "at least 32 bytes"));
        }
        Ok(Self {
            jwt_secret,
            access_ttl: env.seconds("ACCESS_TOKEN_TTL_SECONDS", 900, 5..=86_400)?,
            refresh_ttl: env.seconds("REFRESH_TOKEN_TTL_SECONDS", 2_592_000, 60..=31_536_000)?,
            bcrypt_cost: env.number("BCRYPT_COST", 12, 10..=15)?,
        })
    }
}

impl PushConfig {
    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let private = env.choice("PUSH_ALLOW_PRIVATE_ENDPOINTS", "false", &["true", "false"])?;
        Ok(Self {
            window: env.seconds("PUSH_WINDOW_SECONDS", 5, 0..=300)?,
            vapid_private_key: env.secret("VAPID_PRIVATE_KEY"),
            vapid_subject: env
                .text("VAPID_SUBJECT")
                .unwrap_or_else(|| "mailto:push@klearkarma.com".to_owned()),
            allow_private_endpoints: private == "true",
            allow_loopback_endpoints: false,
            fcm_credentials: env.text("FCM_CREDENTIALS_FILE").map(Into::into),
            fcm_project: env.text("FCM_PROJECT"),
            fcm_base_url: env.text("FCM_BASE_URL"),
        })
    }
}

impl StorageConfig {
    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let config = Self {
            url: env.text("STORAGE_URL"),
            s3_region: env.text("STORAGE_REGION").unwrap_or_else(|| "us-east-1".to_owned()),
            s3_endpoint: check::endpoint("STORAGE_ENDPOINT", env.text("STORAGE_ENDPOINT"))?,
            s3_access_key_id: env.text("STORAGE_ACCESS_KEY_ID"),
            s3_secret_access_key: env.secret("STORAGE_SECRET_ACCESS_KEY"),
            kept: match env.number("CHAT_RETENTION_DAYS", 0, 0..=36_500)? {
                0 => None,
                days => Some(Duration::from_secs(days * 86_400)),
            },
        };
        match (&config.s3_access_key_id, &config.s3_secret_access_key) {
            (Some(_), None) => Err(ConfigError::new(
                "STORAGE_SECRET_ACCESS_KEY",
                "set together with STORAGE_ACCESS_KEY_ID",
            )),
            (None, Some(_)) => Err(ConfigError::new(
                "STORAGE_ACCESS_KEY_ID",
                "set together with STORAGE_SECRET_ACCESS_KEY",
            )),
            _ => Ok(config),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_on_loopback_takes_endpoints_there_unless_told() {
        const ALLOW: &str = "PUSH_ALLOW_PRIVATE_ENDPOINTS";
        let allows = |make: fn(&Env) -> Result<Config, ConfigError>, pairs| {
            let push = make(&Env::of(pairs)).unwrap().push;
            (push.allow_private_endpoints, push.allow_loopback_endpoints)
        };
        assert_eq!(allows(Config::from_env, &[]), (false, false));
        assert_eq!(allows(Config::for_demo, &[]), (false, true));
        assert_eq!(allows(Config::for_demo, &[("HUB_LISTEN", "[::1]:80")]), (false, true));
        assert_eq!(allows(Config::for_demo, &[("HUB_LISTEN", "0.0.0.0:80")]), (false, false));
        assert_eq!(allows(Config::for_demo, &[(ALLOW, "false")]), (false, false));
        let open = [("HUB_LISTEN", "0.0.0.0:80"), (ALLOW, "true")];
        assert_eq!(allows(Config::for_demo, &open), (true, false));
    }
}
