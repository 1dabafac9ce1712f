//! `Idempotency-Key`: a POST that creates is carried out once, however often it is sent
//! (draft-ietf-httpapi-idempotency-key-header).

use std::future::Future;
use std::time::{Duration, Instant};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::body;
use super::caller::Caller;
use super::envelope::Reply;
use super::error::{self, ApiError, ApiResult};
use crate::domain::refusal::Refusal;
use crate::error::Error;
use crate::models::idempotency::{self, Claim};
use crate::models::pool::Pool;

/// How long a key is believed to be in flight when its node says nothing more.
const LOCK_SECONDS: f64 = 60.0;
/// Pauses between two looks at a key in flight. Most work is done within the first of them, and a
/// request that waited for its twin's answer need not be sent again.
const PAUSES: [Duration; 7] = [
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(160),
    Duration::from_millis(320),
    Duration::from_millis(640),
];

/// A caller's request with a body, to be carried out at most once.
pub struct Once<T> {
    caller: Caller,
    body: T,
    pool: web::Data<Pool>,
    key: Option<String>,
    hash: Vec<u8>,
}

impl<T: DeserializeOwned + 'static> FromRequest for Once<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (caller, bytes) = (Caller::from_request(req, payload), body::read(req, payload));
        let req = req.clone();
        Box::pin(async move {
            let caller = caller.await?;
            // Before the body: a key that is none is told first.
            key_of(&req)?;
            let bytes = bytes.await?;
            Self::of(&req, caller, &bytes, body::parse(&bytes)?)
        })
    }
}

fn key_of(req: &HttpRequest) -> ApiResult<Option<String>> {
    let Some(value) = req.headers().get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|k| (1..=100).contains(&k.len()));
    let problem = "must be 1 to 100 visible characters";
    let key = key.ok_or_else(|| Refusal::field("Idempotency-Key", problem))?;
    Ok(Some(key.to_owned()))
}

impl<T> Once<T> {
    /// The request `req` of `caller`, whose body was read as `bytes` and understood as `body`.
    pub(super) fn of(req: &HttpRequest, caller: Caller, bytes: &[u8], body: T) -> ApiResult<Self> {
        let key = key_of(req)?;
        let mut hash = Sha256::new();
        hash.update(req.method().as_str());
        hash.update([0]);
        hash.update(req.path());
        hash.update([0]);
        if !req.query_string().is_empty() {
            hash.update(req.query_string());
            hash.update([0]);
        }
        hash.update(bytes);
        let pool = req
            .app_data::<web::Data<Pool>>()
            .ok_or_else(|| Error::Fault("no pool".to_owned()))?
            .clone();
        Ok(Self { caller, body, pool, key, hash: hash.finalize().to_vec() })
    }

    /// Carries out `work`, or answers what it answered the first time.
    ///
    /// The work goes on when the client hangs up, so that its retry finds the answer. Refusals are
    /// kept like successes; what a retry can help against (overload, rate limits, faults) is not.
    /// The answer is kept after the work: a node that dies in between leaves the key in flight for
    /// a minute, and then the work is done anew. Where that would show, there is [`Self::run_traced`].
    pub async fn run<F>(self, work: impl FnOnce(Caller, T) -> F) -> ApiResult<Reply>
    where
        F: Future<Output = ApiResult<Reply>> + 'static,
    {
        self.run_traced(|caller, body, _| work(caller, body), async |_, _| Ok(None)).await
    }

    /// The same for work that leaves a trace of the key's id in its own transaction: whatever
    /// happens between that and the answer, `again` makes the answer of what it finds. It is asked
    /// by who comes while the key is in flight, who gets it after another, and who does not know
    /// whether the work was done: not in the ordinary run of things.
    ///
    /// `work` is told no id when there is no key.
    pub async fn run_traced<F>(
        self,
        work: impl FnOnce(Caller, T, Option<Uuid>) -> F,
        again: impl AsyncFn(Caller, Uuid) -> ApiResult<Option<Reply>> + 'static,
    ) -> ApiResult<Reply>
    where
        F: Future<Output = ApiResult<Reply>> + 'static,
    {
        let Self { caller, body, pool, key, hash } = self;
        let Some(key) = key else { return work(caller, body, None).await };
        let user_id = caller.user_id;
        let (id, anew) = match claim(&pool, user_id, &key, &hash).await? {
            Claim::Won { id, anew } => (id, anew),
            Claim::InFlight { id } => {
                let made = match id {
                    Some(id) => again(caller, id).await?,
                    None => None,
                };
                let mut result = Ok(made.ok_or(Refusal::IdempotencyInFlight)?);
                settle(&pool, user_id, &key, &mut result).await?;
                return result;
            }
            Claim::Conflict => return Err(Refusal::IdempotencyConflict.into()),
            Claim::Done { status, body } => return replay(status, &body),
        };
        let work = work(caller.clone(), body, Some(id));
        let task = actix_web::rt::spawn(async move {
            let mut result = carry_out(anew, work, async || again(caller.clone(), id).await).await;
            let kept = settle(&pool, user_id, &key, &mut result).await;
            if let Err(e) = kept {
                // The work is committed: its answer must not be lost for the sake of the key.
                tracing::error!("an idempotency key was not settled: {:?}", e.0);
            }
            result
        });
        task.await.map_err(|e| Error::Fault(format!("a keyed request: {e}")))?
    }
}

/// Does the work, unless `again` finds it done; who had the key before may also be doing it still.
async fn carry_out(
    anew: bool,
    work: impl Future<Output = ApiResult<Reply>>,
    again: impl AsyncFn() -> ApiResult<Option<Reply>>,
) -> ApiResult<Reply> {
    if anew && let Some(reply) = again().await? {
        return Ok(reply);
    }
    let began = Instant::now();
    let result = work.await;
    let Err(ApiError(e)) = &result else { return result };
    // What refuses it may be what it made itself.
    let unknown = e.cause().is_some() || anew || began.elapsed().as_secs_f64() >= LOCK_SECONDS;
    match unknown {
        true => again().await.ok().flatten().map_or(result, Ok),
        false => result,
    }
}

fn replay(status: u16, body: &Value) -> ApiResult<Reply> {
    let status = StatusCode::from_u16(status);
    let status = status.map_err(|e| Error::Fault(format!("stored status: {e}")))?;
    Ok(Reply::again(status, body))
}

/// Claims the key, or waits a moment for the answer of the request that has it.
async fn claim(pool: &Pool, user_id: Uuid, key: &str, hash: &[u8]) -> ApiResult<Claim> {
    let mut pauses = PAUSES.iter();
    loop {
        let mut conn = pool.get().await?;
        let claim = idempotency::claim(&mut conn, user_id, key, hash, LOCK_SECONDS).await?;
        drop(conn);
        match (&claim, pauses.next()) {
            (Claim::InFlight { .. }, Some(pause)) => tokio::time::sleep(*pause).await,
            _ => return Ok(claim),
        }
    }
}

async fn settle(
    pool: &Pool,
    user_id: Uuid,
    key: &str,
    result: &mut ApiResult<Reply>,
) -> ApiResult<()> {
    let mut conn = pool.get().await?;
    let (status, body) = match result {
        Ok(reply) => (reply.status, stored(&reply.body)?),
        Err(ApiError(e))
            if error::status(e).is_server_error() || error::retry_after(e).is_some() =>
        {
            idempotency::release(&mut conn, user_id, key).await?;
            return Ok(());
        }
        Err(ApiError(e)) => (error::status(e), error::body(e)),
    };
    let kept = idempotency::complete(&mut conn, user_id, key, status.as_u16(), &body).await?;
    match (kept, &mut *result) {
        (Some((other, body)), result) if other != status.as_u16() => {
            *result = replay(other, &body);
        }
        // The first answer reads byte by byte as it will when it is given again.
        (Some((_, body)), Ok(reply)) => reply.body = body.to_string(),
        (Some(_), Err(_)) | (None, _) => {}
    }
    Ok(())
}

fn stored(body: &str) -> Result<Value, Error> {
    serde_json::from_str(body).map_err(|e| Error::Fault(format!("json: {e}")))
}
