//! A push service and one browser behind it, on loopback: what the hub sends is checked and
//! decrypted as a real service and a real browser would, by code that shares nothing with the
//! sender (RustCrypto, written from RFC 8188, 8291 and 8292; the sender uses OpenSSL and jwt-simple).
//!
//! Used by the tests and, through `#[path]`, by `examples/tour`; so nothing here needs a test.

#![allow(dead_code)] // each user needs another part

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, http::StatusCode, web};
use aes_gcm::Aes128Gcm;
use aes_gcm::aead::{Aead, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use p256::ecdsa::signature::Verifier;
use p256::elliptic_curve::rand_core::{OsRng, RngCore};
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::{PublicKey, SecretKey, ecdh::diffie_hellman};
use serde_json::Value;
use sha2::Sha256;
use tokio::sync::mpsc;

/// What a browser hands to the hub when it subscribes.
#[derive(Debug, Clone)]
pub struct BrowserSubscription {
    pub endpoint: String,
    pub p256dh: String,
    pub auth: String,
}

/// A push message that was accepted, authenticated and decrypted.
#[derive(Debug, Clone)]
pub struct Received {
    /// What the service worker gets, as JSON.
    pub plaintext: Value,
    /// Every request header, names in lower case.
    pub headers: BTreeMap<String, String>,
    pub topic: Option<String>,
    /// Seconds.
    pub ttl: u64,
    pub urgency: String,
    /// The claims of the verified VAPID token.
    pub vapid_claims: Value,
    /// The key that signed it: base64url of the uncompressed point.
    pub vapid_key: String,
    /// The encrypted body as it came.
    pub body: Vec<u8>,
}

/// How the service answers from now on. A request is checked and recorded only under 2xx.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<String>,
    pub location: Option<String>,
    pub body: String,
    /// Before the answer.
    pub delay: Duration,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            retry_after: None,
            location: None,
            body: String::new(),
            delay: Duration::ZERO,
        }
    }

    /// 429 with this `Retry-After`.
    pub fn slow_down(retry_after: &str) -> Self {
        Self { retry_after: Some(retry_after.to_owned()), ..Self::status(429) }
    }

    /// 201, but only after `delay`.
    pub fn late(delay: Duration) -> Self {
        Self { delay, ..Self::status(201) }
    }
}

struct Service {
    private_key: SecretKey,
    auth: [u8; 16],
    answer: Mutex<Answer>,
    /// Why requests were refused that should have been in order.
    refused: Mutex<Vec<String>>,
    requests: Mutex<usize>,
    accepted: mpsc::Sender<Received>,
}

/// The running service. Dropped without [`PushReceiver::stop`] it runs on until the process ends.
pub struct PushReceiver {
    origin: String,
    service: Arc<Service>,
    accepted: tokio::sync::Mutex<mpsc::Receiver<Received>>,
    handle: ServerHandle,
}

impl PushReceiver {
    /// Listens on a free port of 127.0.0.1 and answers 201.
    #[allow(clippy::unused_async)] // needs a runtime to be running, and async says so
    pub async fn start() -> io::Result<Self> {
        let (sender, accepted) = mpsc::channel(1024);
        let mut auth = [0; 16];
        OsRng.fill_bytes(&mut auth);
        let service = Arc::new(Service {
            private_key: SecretKey::random(&mut OsRng),
            auth,
            answer: Mutex::new(Answer::status(201)),
            refused: Mutex::default(),
            requests: Mutex::default(),
            accepted: sender,
        });
        let data = web::Data::from(service.clone());
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .app_data(web::PayloadConfig::new(64 * 1024))
                .route("/push/{id}", web::post().to(receive))
        })
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))?;
        let address = server.addrs().first().copied().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        let origin = format!("http://{address}");
        Ok(Self { origin, service, accepted: tokio::sync::Mutex::new(accepted), handle })
    }

    /// The browser's subscription.
    pub fn subscription(&self) -> BrowserSubscription {
        BrowserSubscription {
            endpoint: format!("{}/push/device-1", self.origin),
            p256dh: URL_SAFE_NO_PAD.encode(self.service.public_key()),
            auth: URL_SAFE_NO_PAD.encode(self.service.auth),
        }
    }

    /// The next message in the order of arrival, or `None` when none comes within `timeout`.
    pub async fn next(&self, timeout: Duration) -> Option<Received> {
        let mut accepted = self.accepted.lock().await;
        tokio::time::timeout(timeout, accepted.recv()).await.ok().flatten()
    }

    pub fn answer_with(&self, answer: Answer) {
        *lock(&self.service.answer) = answer;
    }

    /// Every request so far, whatever it was answered.
    pub fn requests(&self) -> usize {
        *lock(&self.service.requests)
    }

    /// Why requests were refused although the service was to accept.
    pub fn refused(&self) -> Vec<String> {
        lock(&self.service.refused).clone()
    }

    /// Scheme, host and port: the `aud` a VAPID token must name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The browser's private key and auth secret, for checks by another implementation.
    pub fn secrets(&self) -> (Vec<u8>, [u8; 16]) {
        (self.service.private_key.to_bytes().to_vec(), self.service.auth)
    }

    /// Stops listening and closes every connection.
    pub async fn stop(self) {
        self.handle.stop(false).await;
    }
}

impl Service {
    fn public_key(&self) -> Vec<u8> {
        self.private_key.public_key().to_encoded_point(false).as_bytes().to_vec()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn receive(
    request: HttpRequest,
    body: web::Bytes,
    service: web::Data<Service>,
) -> HttpResponse {
    *lock(&service.requests) += 1;
    let Answer { mut status, retry_after, location, body: text, delay } =
        lock(&service.answer).clone();
    tokio::time::sleep(delay).await;
    if (200..300).contains(&status) {
        match check(&request, &body, &service) {
            Ok(received) => drop(service.accepted.try_send(received)),
            Err((refusal, why)) => {
                lock(&service.refused).push(why);
                status = refusal;
            }
        }
    }
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = HttpResponse::build(code);
    if let Some(value) = retry_after {
        answer.insert_header(("retry-after", value));
    }
    if let Some(value) = location {
        answer.insert_header(("location", value));
    }
    answer.body(text)
}

/// Everything a strict service and browser would check; an error is the status and why.
fn check(request: &HttpRequest, body: &[u8], service: &Service) -> Result<Received, (u16, String)> {
    let headers: BTreeMap<String, String> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
        .collect();
    let header = |name: &str| headers.get(name).cloned();
    let bad = |why: &str| (400, why.to_owned());
    let ttl = header("ttl").and_then(|v| v.parse().ok()).ok_or_else(|| bad("no TTL"))?;
    let urgency = header("urgency").unwrap_or_else(|| "normal".to_owned());
    if !["very-low", "low", "normal", "high"].contains(&urgency.as_str()) {
        return Err(bad("unknown urgency"));
    }
    let topic = header("topic");
    if topic.as_deref().is_some_and(|topic| !is_topic(topic)) {
        return Err(bad("Topic must be 1 to 32 base64url characters"));
    }
    if header("content-encoding").as_deref() != Some("aes128gcm") {
        return Err(bad("Content-Encoding must be aes128gcm"));
    }
    if body.len() > 4096 {
        return Err((413, "more than the 4096 bytes every service takes".to_owned()));
    }
    let host = header("host").unwrap_or_default();
    let (vapid_claims, vapid_key) = verify_vapid(
        &header("authorization").unwrap_or_default(),
        &format!("http://{host}"),
        SystemTime::now(),
    )
    .map_err(|why| (403, why))?;
    let plaintext = decrypt(&service.private_key, &service.auth, body).map_err(|why| bad(&why))?;
    let plaintext = serde_json::from_slice(&plaintext).map_err(|_| bad("not JSON"))?;
    let body = body.to_vec();
    Ok(Received { plaintext, headers, topic, ttl, urgency, vapid_claims, vapid_key, body })
}

fn is_topic(topic: &str) -> bool {
    (1..=32).contains(&topic.len())
        && topic.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// RFC 8292 §2 and §3: `vapid t=<JWT>, k=<key>`, signed with ES256 by `k`, for `origin`, not
/// expired and not valid beyond 24 h, with a contact. Returns the claims and the key.
pub fn verify_vapid(
    authorization: &str,
    origin: &str,
    now: SystemTime,
) -> Result<(Value, String), String> {
    let parameters = authorization.strip_prefix("vapid ").ok_or("not the vapid scheme")?;
    let parameter = |name: &str| {
        parameters.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
    };
    let token = parameter("t").ok_or("no t")?;
    let key = parameter("k").ok_or("no k")?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|e| e.to_string());
    let (signed, signature) = token.rsplit_once('.').ok_or("not a JWT")?;
    let (header, claims) = signed.split_once('.').ok_or("not a JWT")?;
    let json = |text: &str| -> Result<Value, String> {
        serde_json::from_slice(&decode(text)?).map_err(|e| e.to_string())
    };
    if json(header)?.get("alg").and_then(Value::as_str) != Some("ES256") {
        return Err("alg must be ES256".to_owned());
    }
    let verifying = p256::ecdsa::VerifyingKey::from_sec1_bytes(&decode(key)?)
        .map_err(|_| "k is no P-256 point")?;
    let signature = p256::ecdsa::Signature::from_slice(&decode(signature)?)
        .map_err(|_| "the signature is not r || s")?;
    verifying.verify(signed.as_bytes(), &signature).map_err(|_| "wrong signature")?;
    let claims = json(claims)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("aud") != origin {
        return Err(format!("aud must be {origin}, is {}", text("aud")));
    }
    if !text("sub").starts_with("mailto:") && !text("sub").starts_with("https://") {
        return Err("sub must be a contact".to_owned());
    }
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let exp = claims.get("exp").and_then(Value::as_u64).ok_or("no exp")?;
    if exp <= now || exp > now + 24 * 3600 {
        return Err("exp must lie within the next 24 h".to_owned());
    }
    Ok((claims, key.to_owned()))
}

/// RFC 8291 §3.4 with the `aes128gcm` coding of RFC 8188 §2: one record, padded or not.
pub fn decrypt(private_key: &SecretKey, auth: &[u8], body: &[u8]) -> Result<Vec<u8>, String> {
    let (salt, rest) = body.split_at_checked(16).ok_or("no salt")?;
    let (record_size, rest) = rest.split_first_chunk::<4>().ok_or("no record size")?;
    let (key_length, rest) = rest.split_first().ok_or("no key length")?;
    let (key, record) = rest.split_at_checked(usize::from(*key_length)).ok_or("no key")?;
    if record.len() > u32::from_be_bytes(*record_size) as usize {
        return Err("more than one record (RFC 8291 §4)".to_owned());
    }
    let sender = PublicKey::from_sec1_bytes(key).map_err(|_| "keyid is no P-256 point")?;
    let own = private_key.public_key().to_encoded_point(false);
    let shared = diffie_hellman(private_key.to_nonzero_scalar(), sender.as_affine());

    let key_info = [b"WebPush: info\0".as_slice(), own.as_bytes(), key].concat();
    let expand = |from: &Hkdf<Sha256>, info: &[u8], length: usize| {
        let mut out = vec![0; length];
        from.expand(info, &mut out).map(|()| out).map_err(|e| e.to_string())
    };
    let prk_key = Hkdf::<Sha256>::new(Some(auth), shared.raw_secret_bytes());
    let ikm = expand(&prk_key, &key_info, 32)?;
    let prk = Hkdf::<Sha256>::new(Some(salt), &ikm);
    let content_key = expand(&prk, b"Content-Encoding: aes128gcm\0", 16)?;
    let nonce = expand(&prk, b"Content-Encoding: nonce\0", 12)?;
    let nonce: [u8; 12] = nonce.try_into().map_err(|_| "nonce")?;

    let cipher = Aes128Gcm::new_from_slice(&content_key).map_err(|e| e.to_string())?;
    let padded = cipher.decrypt(&nonce.into(), record).map_err(|_| "does not decrypt")?;
    let end = padded.iter().rposition(|&b| b != 0).ok_or("no delimiter")?;
    match padded.split_at(end) {
        (plaintext, [2, ..]) => Ok(plaintext.to_vec()),
        _ => Err("the last record must end with 2".to_owned()),
    }
}
