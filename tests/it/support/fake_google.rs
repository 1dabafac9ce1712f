//! What the hub sees of Google, on loopback: the OAuth token endpoint and FCM HTTP v1. Assertions
//! are verified (RS256, with the `rsa` crate; the sender signs with ring), access tokens must have
//! been issued here and not revoked, and a message with a field FCM does not know is refused.

#![allow(dead_code)] // each user needs another part

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, http::StatusCode, web};
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use p256::elliptic_curve::rand_core::OsRng;
use rsa::pkcs1v15::{Signature, VerifyingKey};
use rsa::pkcs8::{EncodePrivateKey, LineEnding};
use rsa::signature::Verifier;
use rsa::{RsaPrivateKey, RsaPublicKey};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;

pub const PROJECT: &str = "klear-karma-test";
const EMAIL: &str = "push@klear-karma-test.iam.gserviceaccount.com";
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

/// base64url, padded or not: `gcp_auth` pads its JWT, and Google takes that.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One per process: making it takes seconds in a debug build. `None` only without randomness.
static KEY: LazyLock<Option<RsaPrivateKey>> =
    LazyLock::new(|| RsaPrivateKey::new(&mut OsRng, 2048).ok());

/// One answer of the send endpoint to a request that is in order.
#[derive(Debug, Clone)]
pub struct FcmAnswer {
    pub status: u16,
    pub retry_after: Option<String>,
    pub body: Value,
    pub delay: Duration,
}

impl FcmAnswer {
    /// A bare status with an empty object.
    pub fn status(status: u16) -> Self {
        Self { status, retry_after: None, body: json!({}), delay: Duration::ZERO }
    }

    /// As Google words it: `error_code` in an `FcmError` detail.
    pub fn error(status: u16, google_status: &str, error_code: &str) -> Self {
        let detail = json!({
            "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError",
            "errorCode": error_code,
        });
        Self::with_details(status, google_status, "As told by the test.", &json!([detail]))
    }

    pub fn with_details(status: u16, google_status: &str, message: &str, details: &Value) -> Self {
        let body = json!({"error": {
            "code": status, "message": message, "status": google_status, "details": details,
        }});
        Self { body, ..Self::status(status) }
    }
}

/// How the token endpoint answers a valid assertion.
#[derive(Debug, Clone)]
pub struct TokenAnswer {
    pub status: u16,
    /// Seconds.
    pub expires_in: u64,
    pub delay: Duration,
}

struct Google {
    token_uri: Mutex<String>,
    tokens: Mutex<Vec<String>>,
    exchanges: Mutex<usize>,
    requests: Mutex<usize>,
    token_answer: Mutex<TokenAnswer>,
    answers: Mutex<VecDeque<FcmAnswer>>,
    accepted: Mutex<Vec<Value>>,
    refused: Mutex<Vec<String>>,
}

pub struct FakeGoogle {
    origin: String,
    google: Arc<Google>,
    handle: ServerHandle,
}

impl FakeGoogle {
    /// Listens on a free port of 127.0.0.1; tokens live an hour, messages are accepted.
    pub async fn start() -> io::Result<Self> {
        // Off the async threads: the first call makes the key.
        tokio::task::spawn_blocking(|| KEY.is_some()).await.map_err(io::Error::other)?;
        let ok = TokenAnswer { status: 200, expires_in: 3600, delay: Duration::ZERO };
        let google = Arc::new(Google {
            token_uri: Mutex::default(),
            tokens: Mutex::default(),
            exchanges: Mutex::default(),
            requests: Mutex::default(),
            token_answer: Mutex::new(ok),
            answers: Mutex::default(),
            accepted: Mutex::default(),
            refused: Mutex::default(),
        });
        let data = web::Data::from(google.clone());
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .route("/token", web::post().to(exchange))
                .route("/v1/projects/{project}/messages:send", web::post().to(send))
        })
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))?;
        let address = server.addrs().first().copied().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        let origin = format!("http://{address}");
        *lock(&google.token_uri) = format!("{origin}/token");
        Ok(Self { origin, google, handle })
    }

    pub fn base_url(&self) -> &str {
        &self.origin
    }

    /// A key file as the Cloud console hands it out, its `token_uri` pointing here.
    pub fn service_account(&self) -> Value {
        let pem = KEY.as_ref().and_then(|key| key.to_pkcs8_pem(LineEnding::LF).ok());
        json!({
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "1",
            "private_key": pem.as_deref(),
            "client_email": EMAIL,
            "client_id": "1",
            "auth_uri": format!("{}/auth", self.origin),
            "token_uri": *lock(&self.google.token_uri),
        })
    }

    /// The next answers of the send endpoint, in order; after them messages are accepted again.
    pub fn answer_with(&self, answers: impl IntoIterator<Item = FcmAnswer>) {
        lock(&self.google.answers).extend(answers);
    }

    pub fn answer_tokens_with(&self, answer: TokenAnswer) {
        *lock(&self.google.token_answer) = answer;
    }

    /// Every access token issued so far is refused from now on.
    pub fn revoke_tokens(&self) {
        lock(&self.google.tokens).clear();
    }

    /// How often the token endpoint was asked.
    pub fn exchanges(&self) -> usize {
        *lock(&self.google.exchanges)
    }

    /// How often the send endpoint was asked, whatever it answered.
    pub fn requests(&self) -> usize {
        *lock(&self.google.requests)
    }

    /// The `message` of every request that was accepted.
    pub fn accepted(&self) -> Vec<Value> {
        lock(&self.google.accepted).clone()
    }

    /// Why requests were refused that the test did not ask to be refused.
    pub fn refused(&self) -> Vec<String> {
        lock(&self.google.refused).clone()
    }

    pub async fn stop(self) {
        self.handle.stop(false).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    grant_type: String,
    assertion: String,
}

async fn exchange(form: web::Form<TokenRequest>, google: web::Data<Google>) -> HttpResponse {
    *lock(&google.exchanges) += 1;
    let TokenAnswer { status, expires_in, delay } = lock(&google.token_answer).clone();
    tokio::time::sleep(delay).await;
    let audience = lock(&google.token_uri).clone();
    if let Err(why) = check_assertion(&form, &audience) {
        lock(&google.refused).push(why.clone());
        let body = json!({"error": "invalid_grant", "error_description": why});
        return HttpResponse::BadRequest().json(body);
    }
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if !code.is_success() {
        return HttpResponse::build(code).json(json!({"error": "unavailable"}));
    }
    let token = format!("ya29.fake-{}", *lock(&google.exchanges));
    lock(&google.tokens).push(token.clone());
    HttpResponse::build(code)
        .json(json!({"access_token": token, "expires_in": expires_in, "token_type": "Bearer"}))
}

/// RFC 7523 as Google asks for it.
/// <https://developers.google.com/identity/protocols/oauth2/service-account#authorizingrequests>
fn check_assertion(request: &TokenRequest, audience: &str) -> Result<(), String> {
    if request.grant_type != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
        return Err("wrong grant_type".to_owned());
    }
    let decode = |text: &str| BASE64URL.decode(text).map_err(|e| e.to_string());
    let (signed, signature) = request.assertion.rsplit_once('.').ok_or("not a JWT")?;
    let (header, claims) = signed.split_once('.').ok_or("not a JWT")?;
    let json = |text: &str| -> Result<Value, String> {
        serde_json::from_slice(&decode(text)?).map_err(|e| e.to_string())
    };
    if json(header)?.get("alg").and_then(Value::as_str) != Some("RS256") {
        return Err("alg must be RS256".to_owned());
    }
    let key = RsaPublicKey::from(KEY.as_ref().ok_or("no key")?);
    let signature =
        Signature::try_from(decode(signature)?.as_slice()).map_err(|e| e.to_string())?;
    VerifyingKey::<Sha256>::new(key)
        .verify(signed.as_bytes(), &signature)
        .map_err(|_| "wrong signature")?;
    let claims = json(claims)?;
    for (claim, expected) in [("iss", EMAIL), ("scope", SCOPE), ("aud", audience)] {
        if claims.get(claim).and_then(Value::as_str) != Some(expected) {
            return Err(format!("{claim} must be {expected}"));
        }
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let second = |claim: &str| claims.get(claim).and_then(Value::as_u64).ok_or("no iat or exp");
    let (iat, exp) = (second("iat")?, second("exp")?);
    if iat.abs_diff(now.as_secs()) > 60 || exp <= iat || exp > iat + 3600 {
        return Err("iat must be now and exp within an hour".to_owned());
    }
    Ok(())
}

async fn send(
    request: HttpRequest,
    project: web::Path<String>,
    body: web::Bytes,
    google: web::Data<Google>,
) -> HttpResponse {
    *lock(&google.requests) += 1;
    let FcmAnswer { status, retry_after, body: told, delay } =
        match refusal(&request, &project, &body, &google) {
            Some(refusal) => {
                lock(&google.refused).push(refusal.body.to_string());
                refusal
            }
            None => lock(&google.answers).pop_front().unwrap_or_else(|| FcmAnswer {
                body: json!({"name": format!("projects/{PROJECT}/messages/1")}),
                ..FcmAnswer::status(200)
            }),
        };
    tokio::time::sleep(delay).await;
    if status == 200 {
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        lock(&google.accepted).push(body.get("message").cloned().unwrap_or_default());
    }
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = HttpResponse::build(code);
    if let Some(value) = retry_after {
        answer.insert_header(("retry-after", value));
    }
    answer.json(told)
}

/// What Google refuses of itself: a wrong project, a bad access token, a malformed message.
fn refusal(
    request: &HttpRequest,
    project: &str,
    body: &[u8],
    google: &Google,
) -> Option<FcmAnswer> {
    let bearer = request
        .headers()
        .get("authorization")
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer ").map(ToOwned::to_owned));
    if !bearer.is_some_and(|token| lock(&google.tokens).contains(&token)) {
        let message = "Request had invalid authentication credentials.";
        return Some(FcmAnswer::with_details(401, "UNAUTHENTICATED", message, &json!([])));
    }
    if project != PROJECT {
        let message = "Requested entity was not found.";
        return Some(FcmAnswer::with_details(404, "NOT_FOUND", message, &json!([])));
    }
    let message = match serde_json::from_slice::<SendRequest>(body) {
        Ok(request) => request.message.problem()?,
        Err(error) => format!("Invalid JSON payload received. {error}"),
    };
    let violations = json!([{
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"field": "message", "description": message}],
    }]);
    Some(FcmAnswer::with_details(400, "INVALID_ARGUMENT", &message, &violations))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SendRequest {
    message: Message,
}

/// <https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages>, what we may use.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    token: String,
    notification: Notification,
    data: BTreeMap<String, String>,
    android: Android,
    apns: Apns,
    webpush: WebPush,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Notification {
    title: String,
    body: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Android {
    ttl: String,
    priority: String,
    notification: Tag,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tag {
    tag: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Apns {
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WebPush {
    headers: BTreeMap<String, String>,
    notification: Tag,
}

impl Message {
    fn problem(&self) -> Option<String> {
        let seconds = self.android.ttl.strip_suffix('s').and_then(|n| n.parse::<u32>().ok());
        let reserved = |key: &String| {
            ["from", "message_type"].contains(&key.as_str())
                || key.starts_with("google")
                || key.starts_with("gcm")
        };
        let size = self.notification.title.len()
            + self.notification.body.len()
            + self.data.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        if seconds.is_none_or(|n| n > 2_419_200) {
            Some("Invalid value at 'message.android.ttl'".to_owned())
        } else if !["NORMAL", "HIGH"].contains(&self.android.priority.as_str()) {
            Some("Invalid value at 'message.android.priority'".to_owned())
        } else if self.data.keys().any(reserved) {
            Some("Invalid data payload key".to_owned())
        } else if self.apns.headers.get("apns-collapse-id").is_some_and(|id| id.len() > 64) {
            Some("Invalid apns-collapse-id".to_owned())
        } else if size > 4096 {
            Some("Message too big".to_owned())
        } else {
            None
        }
    }
}
