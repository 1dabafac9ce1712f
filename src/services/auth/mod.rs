//! Accounts, logins and tokens.
//!
//! A login opens a session: a family of refresh tokens of which each is good for one use. The `jti`
//! of an access token is the id of the refresh token issued with it, so that a token leads to its
//! session and dies with it, although its claims are exactly those of section 6.1.

mod passwords;
mod registration;
mod throttle;
mod tokens;

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel_async::AsyncConnection;
use jiff::Timestamp;
use lru::LruCache;
use secrecy::SecretString;
use serde_json::json;
use tokio::sync::Semaphore;
use uuid::Uuid;

pub use self::passwords::Passwords;
pub use self::registration::Registration;
pub use self::tokens::{Claims, TokenRules};

use super::secrets::{hash_of, random_token};

use self::registration::check_registration;
use self::throttle::Throttle;
use crate::actors::fanout::Fanout;
use crate::bus::Envelope;
use crate::clock::now;
use crate::domain::access::Role;
use crate::domain::refusal::Refusal;
use crate::domain::tokens::{Rotation, decide};
use crate::error::{Error, Result};
use crate::models::pool::Pool;
use crate::models::sessions::{self, LockedToken, NewToken, Session};
use crate::models::users::{self, NewUser, User};
use crate::models::violation::Violation;
use crate::models::{Conn, audit};

/// How long "this token's session stands" is believed without asking again. A logout is known at
/// once on the node that made it, and after at most this long elsewhere.
const BELIEVED: Duration = Duration::from_secs(1);
/// Sessions that are looked up at a time, so that a storm of clients leaves connections to others,
/// how many may wait for that, and for how long; who can not is refused as `overloaded`.
const LOOKUPS: usize = 8;
const WAITING: usize = 8_192;
const LOOKUP_WAIT: Duration = Duration::from_secs(5);
/// How many tokens are remembered.
const REMEMBERED: NonZeroUsize = match NonZeroUsize::new(65_536) {
    Some(n) => n,
    None => NonZeroUsize::MIN,
};

/// Who is calling, proven by an access token.
#[derive(Debug, Clone)]
pub struct Caller {
    pub user_id: Uuid,
    pub role: Role,
    pub session_id: Uuid,
    /// When the token runs out.
    pub expires_at: Timestamp,
}

/// Where a request came from, for the throttle and the audit trail.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    pub address: Option<IpAddr>,
    pub user_agent: Option<String>,
}

/// A pair of tokens.
#[derive(Debug)]
pub struct Issued {
    pub user: User,
    pub session_id: Uuid,
    /// A JWT.
    pub access_token: SecretString,
    /// Opaque, good for one exchange.
    pub refresh_token: SecretString,
    pub expires_at: Timestamp,
}

/// Registration, login and everything about tokens.
pub struct Auth {
    pool: Pool,
    fanout: Fanout,
    rules: TokenRules,
    passwords: Passwords,
    throttle: Throttle,
    /// Sessions by `jti`, as they were found at an instant.
    believed: Mutex<LruCache<Uuid, (Instant, Uuid)>>,
    lookups: Semaphore,
    /// Cloned by each that waits.
    waiting: Arc<()>,
}

impl Auth {
    /// Auth over `pool`; revoked sessions are told to `fanout`.
    pub fn new(pool: Pool, fanout: Fanout, rules: TokenRules, passwords: Passwords) -> Self {
        let believed = Mutex::new(LruCache::new(REMEMBERED));
        Self {
            pool,
            fanout,
            rules,
            passwords,
            throttle: Throttle::default(),
            believed,
            lookups: Semaphore::new(LOOKUPS),
            waiting: Arc::default(),
        }
    }

    /// Opens an account and logs it in.
    ///
    /// The answer to an e-mail that has an account is necessarily another one (a client gets no
    /// tokens for it), but it takes the same time, and registrations are throttled per address.
    pub async fn register(&self, new: Registration, origin: &Origin) -> Result<Issued> {
        let email = check_registration(&new)?;
        self.throttle.admit_registration(origin.address)?;
        let hash = self.passwords.hash(&new.password).await?;
        self.insert(new, &email, &hash, origin).await
    }

    async fn insert(
        &self,
        new: Registration,
        email: &str,
        hash: &str,
        origin: &Origin,
    ) -> Result<Issued> {
        let mut conn = self.pool.get().await?;
        let user = NewUser {
            id: Uuid::now_v7(),
            email,
            password_hash: hash,
            first_name: new.first_name.trim(),
            last_name: new.last_name.trim(),
            phone: new.phone.as_deref(),
            user_type: &new.user_type,
        };
        conn.transaction(async |conn| {
            let user = users::insert(conn, &user).await.map_err(|e| {
                super::refuse_violation(e, |v| {
                    (v == Violation::UserEmail).then_some(Refusal::EmailTaken)
                })
            })?;
            self.open_session(conn, user, origin).await
        })
        .await
    }

    /// Logs in. Wrong password and unknown e-mail get the same answer after the same work.
    pub async fn login(
        &self,
        email: &str,
        password: &SecretString,
        origin: &Origin,
    ) -> Result<Issued> {
        let email = email.trim().to_lowercase();
        // Whatever goes wrong from here on, other than the password, is not held against anybody.
        let attempt = self.throttle.admit_login(&email, origin.address).await?;
        let mut conn = self.pool.get().await?;
        let found = users::find_with_password(&mut conn, &email).await?;
        // bcrypt takes a quarter of a second: no connection is kept meanwhile.
        drop(conn);
        let hash = found.as_ref().and_then(|(_, hash)| hash.clone());
        let matches = self.passwords.verify(password, hash).await?;
        match found {
            Some((user, _)) if matches && user.status == "active" => {
                if attempt.succeeded() {
                    self.tell_of_try(&email, origin, false);
                }
                let mut conn = self.pool.get().await?;
                conn.transaction(async |conn| self.open_session(conn, user, origin).await).await
            }
            other => {
                attempt.failed();
                self.tell_of_try(&email, origin, true);
                let mut conn = self.pool.get().await?;
                let user_id = other.map(|(user, _)| user.id);
                self.note(&mut conn, "failed_login", user_id, origin).await?;
                Err(Refusal::InvalidCredentials.into())
            }
        }
    }

    /// Lets the other nodes count the try, too.
    fn tell_of_try(&self, email: &str, origin: &Origin, failed: bool) {
        let (email, address) = (email.to_owned(), origin.address);
        self.fanout.bus().publish(&Envelope::Login { email, address, failed });
    }

    /// A password was tried at another node.
    pub fn tried_elsewhere(&self, email: &str, address: Option<IpAddr>, failed: bool) {
        self.throttle.ended_elsewhere(email, address, failed);
    }

    async fn open_session(&self, conn: &mut Conn, user: User, origin: &Origin) -> Result<Issued> {
        let session_id = Uuid::now_v7();
        let fresh = FreshToken::new()?;
        let expires_at = self.refresh_expiry();
        let agent = origin.user_agent.as_deref().map(|a| truncated(a, 255));
        sessions::open(conn, session_id, user.id, agent, fresh.row(expires_at)).await?;
        self.note(conn, "login", Some(user.id), origin).await?;
        self.issue(user, session_id, fresh)
    }

    fn refresh_expiry(&self) -> Timestamp {
        now().saturating_add(self.rules.refresh_ttl).unwrap_or(Timestamp::MAX)
    }

    fn issue(&self, user: User, session_id: Uuid, fresh: FreshToken) -> Result<Issued> {
        let (access_token, expires_at) = self.rules.sign(&user, fresh.id, now())?;
        Ok(Issued { user, session_id, access_token, refresh_token: fresh.secret, expires_at })
    }

    /// Exchanges a refresh token. One that was used before revokes its whole session.
    pub async fn refresh(&self, token: &SecretString, origin: &Origin) -> Result<Issued> {
        enum Step {
            Issued(Box<Issued>),
            Theft(LockedToken),
            Refused,
        }
        let hash = hash_of(token);
        let mut conn = self.pool.get().await?;
        let step = conn
            .transaction(async |conn| {
                let Some(found) = sessions::lock_token(conn, &hash).await? else {
                    return Ok(Step::Refused);
                };
                match decide(found.stored, now()) {
                    Rotation::Refuse => Ok(Step::Refused),
                    Rotation::RevokeFamily => {
                        let (user, session) = (found.user_id, Some(found.session_id));
                        sessions::revoke(conn, user, session, "token_reuse").await?;
                        self.note(conn, "token_reuse", Some(found.user_id), origin).await?;
                        Ok(Step::Theft(found))
                    }
                    Rotation::Issue => {
                        let user = users::find(conn, found.user_id).await?;
                        let Some(user) = user.filter(|u| u.status == "active") else {
                            return Ok(Step::Refused);
                        };
                        let fresh = FreshToken::new()?;
                        let row = fresh.row(self.refresh_expiry());
                        sessions::mark_used(conn, &found).await?;
                        sessions::add_token(conn, found.session_id, row).await?;
                        let issued = self.issue(user, found.session_id, fresh)?;
                        Ok::<_, Error>(Step::Issued(Box::new(issued)))
                    }
                }
            })
            .await?;
        match step {
            Step::Issued(issued) => Ok(*issued),
            Step::Theft(token) => {
                self.forget(token.user_id, &[token.session_id]);
                Err(Refusal::InvalidRefreshToken.into())
            }
            Step::Refused => Err(Refusal::InvalidRefreshToken.into()),
        }
    }

    /// Ends sessions of the caller: one of them, or all when `session_id` is `None`. A session that
    /// is not theirs is `NotFound`.
    pub async fn log_out(
        &self,
        caller: &Caller,
        session_id: Option<Uuid>,
        origin: &Origin,
    ) -> Result<()> {
        let mut conn = self.pool.get().await?;
        let revoked = conn
            .transaction::<_, Error, _>(async |conn| {
                let gone = sessions::revoke(conn, caller.user_id, session_id, "logout").await?;
                if gone.is_empty() {
                    return Err(Refusal::NotFound("session").into());
                }
                self.note(conn, "logout", Some(caller.user_id), origin).await?;
                Ok(gone)
            })
            .await?;
        self.forget(caller.user_id, &revoked);
        Ok(())
    }

    /// The caller's open sessions, last used first, at most 100.
    pub async fn sessions(&self, caller: &Caller) -> Result<Vec<Session>> {
        let mut conn = self.pool.get().await?;
        Ok(sessions::list(&mut conn, caller.user_id, 100).await?)
    }

    /// Who an access token belongs to. Refuses a forged one and one of a revoked session with
    /// `Unauthenticated`, an old one with `TokenExpired`.
    pub async fn verify(&self, token: &str) -> Result<Caller> {
        let claims = self.rules.verify(token, now())?;
        let session_id = self.session_of(claims.jti).await?.ok_or(Refusal::Unauthenticated)?;
        let role = Role::parse(&claims.user_type).ok_or(Refusal::Unauthenticated)?;
        let expires_at = Timestamp::from_second(claims.exp).unwrap_or(Timestamp::MIN);
        Ok(Caller { user_id: claims.sub, role, session_id, expires_at })
    }

    async fn session_of(&self, jti: Uuid) -> Result<Option<Uuid>> {
        let known = self.believed().get(&jti).copied();
        if let Some((at, session)) = known
            && at.elapsed() < BELIEVED
        {
            return Ok(Some(session));
        }
        let waiting = self.waiting.clone();
        if Arc::strong_count(&waiting) > WAITING {
            return Err(Error::overloaded());
        }
        // Never closed. Who waits longer would be looked up for a client that has given up.
        let lookup = tokio::time::timeout(LOOKUP_WAIT, self.lookups.acquire()).await;
        let _lookup = lookup.map_err(|_| Error::overloaded())?;
        let asked_at = Instant::now();
        let mut conn = self.pool.get().await?;
        let session = sessions::of_access_token(&mut conn, jti).await?;
        match session {
            Some(session) => {
                self.believed().put(jti, (asked_at, session));
            }
            None => {
                self.believed().pop(&jti);
            }
        }
        Ok(session)
    }

    /// Stops believing in revoked sessions, and closes their sockets.
    fn forget(&self, user_id: Uuid, revoked: &[Uuid]) {
        let mut believed = self.believed();
        let gone: Vec<Uuid> = believed
            .iter()
            .filter(|(_, (_, session))| revoked.contains(session))
            .map(|(jti, _)| *jti)
            .collect();
        for jti in gone {
            believed.pop(&jti);
        }
        drop(believed);
        self.fanout.revoke(user_id, revoked);
    }

    fn believed(&self) -> std::sync::MutexGuard<'_, LruCache<Uuid, (Instant, Uuid)>> {
        self.believed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn note(
        &self,
        conn: &mut Conn,
        event_type: &str,
        user_id: Option<Uuid>,
        origin: &Origin,
    ) -> Result<()> {
        let address = origin.address.map(|a| a.to_string());
        let entry = audit::NewEntry {
            id: Uuid::now_v7(),
            event_type,
            user_id,
            ip_address: address.as_deref(),
            user_agent: origin.user_agent.as_deref().map(|a| truncated(a, 255)),
            metadata: json!({}),
        };
        Ok(audit::append(conn, &entry).await?)
    }
}

/// A refresh token that nobody has seen yet.
struct FreshToken {
    id: Uuid,
    secret: SecretString,
    hash: Vec<u8>,
}

impl FreshToken {
    fn new() -> Result<Self> {
        let secret = random_token()?;
        let hash = hash_of(&secret);
        Ok(Self { id: Uuid::now_v7(), secret, hash })
    }

    fn row(&self, expires_at: Timestamp) -> NewToken<'_> {
        NewToken { id: self.id, hash: &self.hash, expires_at }
    }
}

fn truncated(text: &str, max: usize) -> &str {
    match text.char_indices().nth(max) {
        Some((end, _)) => text.get(..end).unwrap_or(text),
        None => text,
    }
}
