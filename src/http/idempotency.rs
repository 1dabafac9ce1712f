//! `Idempotency-Key`: a POST that creates is carried out once, however often it is sent
//! (draft-ietf-httpapi-idempotency-key-header).

use std::future::Future;
use std::time::Duration;

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
use crate::actors::error::Error;
use crate::domain::refusal::Refusal;
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
    /// a minute, and then the work is done anew.
    pub async fn run<F>(self, work: impl FnOnce(Caller, T) -> F) -> ApiResult<Reply>
    where
        F: Future<Output = ApiResult<Reply>> + 'static,
    {
        let Self { caller, body, pool, key, hash } = self;
        let Some(key) = key else { return work(caller, body).await };
        let user_id = caller.user_id;
        match claim(&pool, user_id, &key, &hash).await? {
            Claim::Won => {}
            Claim::InFlight => return Err(Refusal::IdempotencyInFlight.into()),
            Claim::Conflict => return Err(Refusal::IdempotencyConflict.into()),
            Claim::Done { status, body } => {
                let status = StatusCode::from_u16(status)
                    .map_err(|e| Error::Fault(format!("stored status: {e}")))?;
                return Ok(Reply::again(status, &body));
            }
        }
        let work = work(caller, body);
        let task = actix_web::rt::spawn(async move {
            let mut result = work.await;
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

/// Claims the key, or waits a moment for the answer of the request that has it.
async fn claim(pool: &Pool, user_id: Uuid, key: &str, hash: &[u8]) -> ApiResult<Claim> {
    let mut pauses = PAUSES.iter();
    loop {
        let mut conn = pool.get().await?;
        let claim = idempotency::claim(&mut conn, user_id, key, hash, LOCK_SECONDS).await?;
        drop(conn);
        match (&claim, pauses.next()) {
            (Claim::InFlight, Some(pause)) => tokio::time::sleep(*pause).await,
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
    match result {
        Ok(reply) => {
            let (status, body) = (reply.status.as_u16(), stored(&reply.body)?);
            // The first answer reads byte by byte as it will when it is given again.
            reply.body = body.to_string();
            idempotency::complete(&mut conn, user_id, key, status, &body).await?;
        }
        Err(ApiError(e))
            if error::status(e).is_server_error() || error::retry_after(e).is_some() =>
        {
            idempotency::release(&mut conn, user_id, key).await?;
        }
        Err(ApiError(e)) => {
            let (status, body) = (error::status(e).as_u16(), error::body(e));
            idempotency::complete(&mut conn, user_id, key, status, &body).await?;
        }
    }
    Ok(())
}

fn stored(body: &str) -> Result<Value, Error> {
    serde_json::from_str(body).map_err(|e| Error::Fault(format!("json: {e}")))
}
