//! A durable PostgreSQL, a hub process over it, and as many people as the load needs.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use hub::postgres::{Options, PrivatePostgres, start};
use hub::services::auth::Claims;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{EncodingKey, Header};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_postgres::{Client as Sql, NoTls};
use uuid::Uuid;

use super::Setup;
use super::client::{Client, request};

const SECRET: &str = "a secret of the benchmarks, of more than 32 bytes";
const DATABASE: &str = "hub";

/// The hub's process; killed when dropped, unless it was stopped before.
struct HubProcess(Child);

impl Drop for HubProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Everything that is measured. Dropped, it ends the hard way.
pub struct World {
    pub address: SocketAddr,
    pub sql: Sql,
    pub postgres: PrivatePostgres,
    pub service_id: Uuid,
    /// Practitioners with the same hours and offer.
    pub practitioners: Vec<Uuid>,
    /// Access tokens of seekers.
    pub tokens: Vec<String>,
    hub: HubProcess,
    dir: tempfile::TempDir,
}

impl World {
    /// Starts it with so many practitioners, open around the clock, whose service takes 60 minutes
    /// and begins every hour up to two years ahead, and so many seekers. Hub and PostgreSQL
    /// run with the defaults of the hub but for `setup`.
    pub async fn start(practitioners: usize, seekers: usize, setup: &Setup) -> Self {
        let dir = tempfile::Builder::new().prefix("hub-bench-").tempdir().unwrap();
        let mut options = Options::new(dir.path().join("data"));
        options.orphan_grace = Duration::ZERO;
        options.settings = pairs(&setup.postgres).collect();
        let postgres = start(options).await.unwrap();
        postgres.create_database_if_missing(DATABASE).await.unwrap();
        let url = postgres.url(DATABASE);
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = File::create(dir.path().join("hub.log")).unwrap();
        let hub = Command::new(env!("CARGO_BIN_EXE_hub"))
            .arg("serve")
            .env_clear()
            .env("HUB_LISTEN", address.to_string())
            .env("DATABASE_URL", &url)
            .env("DATA_DIR", dir.path().join("keys"))
            .env("JWT_SECRET", SECRET)
            .env("ACCESS_TOKEN_TTL_SECONDS", "86400")
            // Loads with few people and many sockets are no floods here.
            .env("WS_CONNECTIONS_PER_USER", "100000")
            .env("WS_USER_COMMANDS_PER_SECOND", "100000")
            .envs(pairs(&setup.hub))
            .stderr(log)
            .spawn()
            .unwrap();
        let (sql, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        let mut world = Self {
            address,
            sql,
            postgres,
            service_id: Uuid::now_v7(),
            practitioners: Vec::new(),
            tokens: Vec::new(),
            hub: HubProcess(hub),
            dir,
        };
        world.listens().await;
        world.populate(practitioners, seekers).await;
        world
    }

    async fn listens(&mut self) {
        let until = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(self.address).await.is_err() {
            let ended = self.hub.0.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < until, "see {}", self.log().display());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The hub's process.
    pub fn pid(&self) -> u32 {
        self.hub.0.id()
    }

    /// The hub's log.
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("hub.log")
    }

    /// The one number that `query` gives.
    pub async fn number(&self, query: &str) -> i64 {
        self.sql.query_one(&format!("SELECT ({query})::bigint"), &[]).await.unwrap().get(0)
    }

    /// The processor time that hub and PostgreSQL have taken so far. What else runs on the machine
    /// hardly changes it.
    pub fn processor(&self) -> Processor {
        let postmaster = self.postgres.pid();
        let servers = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let stat = Stat::read(entry.file_name().to_str()?)?;
            (stat.parent == postmaster).then_some(stat.own)
        });
        let server = Stat::read(&postmaster.to_string()).unwrap();
        Processor {
            hub: Stat::read(&self.hub.0.id().to_string()).unwrap().own,
            postgres: server.own + server.of_ended + servers.sum::<Duration>(),
        }
    }

    /// One practice is made through the API, with rows as the hub writes them; the others are
    /// copies of it.
    async fn populate(&mut self, practitioners: usize, seekers: usize) {
        let mut client = Client::connect(self.address).await;
        let body = json!({ "email": "first@example.in", "password": "a long password",
            "firstName": "First", "lastName": "Bench", "userType": "practitioner" });
        let post = request("POST", "/v1/auth/register", "", &body.to_string());
        let first = client.send(&post).await.data(201);
        let token = first["accessToken"].as_str().unwrap();
        let day = |weekday| json!({ "weekday": weekday, "start": "00:00", "end": "24:00" });
        let weekly: Vec<Value> = (1..=7).map(day).collect();
        let body = json!({ "availability": { "timeZone": "Asia/Kolkata", "weekly": weekly } });
        let post = request("POST", "/v1/practitioners", token, &body.to_string());
        let practice = client.send(&post).await.data(201);
        let practice = practice["id"].as_str().unwrap();
        let insert = format!(
            "INSERT INTO services (id, name, duration_minutes) VALUES ('{}', 'Reiki', 60)",
            self.service_id
        );
        self.sql.batch_execute(&insert).await.unwrap();
        let body = json!({ "price": { "amount": 150_000, "currency": "INR" },
            "durationMinutes": 60, "horizonDays": 730 });
        let path = format!("/v1/practitioners/{practice}/services/{}", self.service_id);
        client.send(&request("PUT", &path, token, &body.to_string())).await.data(200);
        self.sql.batch_execute(&copies(practice, practitioners, seekers)).await.unwrap();
        self.practitioners = (1..=practitioners).map(|n| id(PRACTICE, n)).collect();
        self.tokens = (1..=seekers).map(token_of).collect();
        self.sql.batch_execute("VACUUM ANALYZE").await.unwrap();
    }

    /// Opens `conversations` 1:1 conversations whose ids begin with `kind`, each of two seekers who are
    /// in no other of the kind.
    pub async fn converse(&self, kind: u32, conversations: usize) {
        let (id, seeker) = (id_sql(kind), id_sql(SEEKER));
        let insert = format!(
            "INSERT INTO conversations (id, kind, direct_key)
               SELECT {id}, 'direct', '{kind}:' || n FROM generate_series(1, {conversations}) n;
             INSERT INTO conversation_members (conversation_id, user_id)
               SELECT c.id, {seeker} FROM (SELECT {id} AS id, n AS pair
                                             FROM generate_series(1, {conversations}) n) c,
                      LATERAL (VALUES (2 * pair - 1), (2 * pair)) AS side (n)"
        );
        self.sql.batch_execute(&insert).await.unwrap();
    }

    /// Ends it, or first waits for Enter.
    pub async fn stop(mut self, keep: bool) {
        if keep {
            println!("hub {} at http://{}", self.hub.0.id(), self.address);
            println!("log {}", self.log().display());
            println!("psql -h {} -U hub {DATABASE}", self.postgres.socket_dir().display());
            println!("Enter ends it");
            tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()))
                .await
                .unwrap()
                .unwrap();
        }
        kill(Pid::from_raw(self.hub.0.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        assert!(self.hub.0.wait().unwrap().success());
        drop(self.sql);
        self.postgres.stop().await.unwrap();
    }
}

/// Processor time.
#[derive(Clone, Copy)]
pub struct Processor {
    hub: Duration,
    postgres: Duration,
}

impl Processor {
    /// What was taken since `before`, for each of `things`.
    pub fn since(self, before: Self, things: usize) -> String {
        let each = |now: Duration, then: Duration| (now - then).as_secs_f64() * 1e6 / things as f64;
        let (hub, postgres) = (each(self.hub, before.hub), each(self.postgres, before.postgres));
        format!("processor for each: hub {hub:.0} µs, PostgreSQL {postgres:.0} µs")
    }
}

/// What /proc tells of a process (proc_pid_stat(5)).
struct Stat {
    parent: u32,
    own: Duration,
    /// Of its children that it has waited for.
    of_ended: Duration,
}

impl Stat {
    fn read(pid: &str) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field, a name in parentheses, may hold anything.
        let (_, rest) = text.rsplit_once(") ")?;
        let field = |n: usize| rest.split(' ').nth(n - 3)?.parse::<u64>().ok();
        // Hundredths of a second, on every Linux there is.
        let time =
            |from: usize| Some(Duration::from_millis(10 * (field(from)? + field(from + 1)?)));
        Some(Self { parent: field(4)?.try_into().ok()?, own: time(14)?, of_ended: time(16)? })
    }
}

fn pairs(given: &[String]) -> impl Iterator<Item = (String, String)> {
    given.iter().map(|pair| {
        let (name, value) = pair.split_once('=').expect("NAME=VALUE");
        (name.to_owned(), value.to_owned())
    })
}

/// What the ids of things of a kind begin with; their number follows.
const PRACTICE: u32 = 0xa000_0000;
/// Practices that the hub is never asked about: pgbench's.
const STRANGER: u32 = 0xb000_0000;
const SEEKER: u32 = 0xc000_0000;

pub fn id(kind: u32, n: usize) -> Uuid {
    Uuid::from_fields(kind, 0, 0x4000, &(0x8000_0000_0000_0000 | n as u64).to_be_bytes())
}

/// The same in SQL, for a number `n`; booking.sql says it a third time.
fn id_sql(kind: u32) -> String {
    format!("('{kind:08x}-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid")
}

/// `practitioners` copies of `practice` and as many strangers, and `seekers` who are logged in.
fn copies(practice: &str, practitioners: usize, seekers: usize) -> String {
    let copy = |kind: u32| {
        let id = id_sql(kind);
        format!(
            "INSERT INTO users SELECT (jsonb_populate_record(u, jsonb_build_object('id', {id},
                    'email', '{kind}.' || n || '@example.in'))).*
               FROM users u JOIN practitioners p ON p.user_id = u.id,
                    generate_series(1, {practitioners}) n WHERE p.id = '{practice}';
             INSERT INTO user_channels (user_id) SELECT {id} FROM generate_series(1, {practitioners}) n;
             INSERT INTO practitioners SELECT (jsonb_populate_record(p,
                    jsonb_build_object('id', {id}, 'user_id', {id}))).*
               FROM practitioners p, generate_series(1, {practitioners}) n WHERE p.id = '{practice}';
             INSERT INTO calendars (practitioner_id)
               SELECT {id} FROM generate_series(1, {practitioners}) n;
             INSERT INTO practitioner_services SELECT (jsonb_populate_record(s,
                    jsonb_build_object('practitioner_id', {id}))).*
               FROM practitioner_services s, generate_series(1, {practitioners}) n
              WHERE s.practitioner_id = '{practice}';"
        )
    };
    let seeker = id_sql(SEEKER);
    format!(
        "{} {}
         INSERT INTO users (id, email, first_name, last_name, user_type)
           SELECT {seeker}, 'seeker.' || n || '@example.in', 'Seeker', 'Bench', 'seeker'
             FROM generate_series(1, {seekers}) n;
         INSERT INTO user_channels (user_id) SELECT {seeker} FROM generate_series(1, {seekers}) n;
         INSERT INTO sessions (id, user_id) SELECT {seeker}, {seeker} FROM generate_series(1, {seekers}) n;
         INSERT INTO refresh_tokens (id, session_id, token_hash, expires_at)
           SELECT {seeker}, {seeker}, sha256({seeker}::text::bytea), now() + interval '30 days'
             FROM generate_series(1, {seekers}) n",
        copy(PRACTICE),
        copy(STRANGER),
    )
}

/// An access token as the hub would have signed it for the `n`th seeker.
fn token_of(n: usize) -> String {
    let now = Timestamp::now();
    let claims = Claims {
        sub: id(SEEKER, n),
        email: format!("seeker.{n}@example.in"),
        user_type: "seeker".to_owned(),
        permissions: Vec::new(),
        iat: now.as_second(),
        exp: (now + SignedDuration::from_hours(24)).as_second(),
        jti: id(SEEKER, n),
    };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap()
}

/// The `n`th full hour of Kolkata's clocks from the day after tomorrow on.
pub fn slot(n: usize) -> Timestamp {
    let day = Timestamp::now().as_second().div_euclid(86_400) + 2;
    Timestamp::from_second(day * 86_400 - 19_800 + n as i64 * 3_600).unwrap()
}
