//! Web Push against a real push service on loopback, see `support/push_receiver.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hub::outbound::EndpointPolicy;
use hub::push::{
    MAX_PAYLOAD_BYTES, Outcome, Push, PushMessage, SetupError, Subscription, Target, Urgency,
    VapidKeys, WebPush, WebPushConfig,
};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::support::push_receiver::{Answer, PushReceiver};

const SOON: Duration = Duration::from_secs(5);

fn message() -> PushMessage {
    PushMessage {
        id: "0190c9c2-7a5e-7e39-9f54-3c1f2b0a9d11".into(),
        title: "Termin bestätigt".into(),
        body: "Reiki mit Amélie, 14:30 \"Uhr\" 🙏".into(),
        data: BTreeMap::from([("open".into(), "/bookings/7".into())]),
        ttl_seconds: 3600,
        urgency: Urgency::High,
    }
}

fn keys() -> VapidKeys {
    VapidKeys::load(&VapidKeys::generate().unwrap().private_key).unwrap()
}

fn sender_with(endpoints: EndpointPolicy, timeout: Duration) -> WebPush {
    let subject = "mailto:ops@klearkarma.example".to_owned();
    WebPush::new(WebPushConfig { vapid: keys(), subject, endpoints, timeout }).unwrap()
}

fn sender() -> WebPush {
    sender_with(EndpointPolicy::Any, SOON)
}

fn subscription(receiver: &PushReceiver) -> Subscription {
    let s = receiver.subscription();
    Subscription::parse(&s.endpoint, &s.p256dh, &s.auth, EndpointPolicy::Any).unwrap()
}

async fn outcome_of(answer: Answer) -> Outcome {
    let receiver = PushReceiver::start().await.unwrap();
    receiver.answer_with(answer);
    let outcome = sender().send(&subscription(&receiver), &message()).await;
    assert_eq!(receiver.requests(), 1, "one attempt only");
    receiver.stop().await;
    outcome
}

#[tokio::test]
async fn a_message_arrives_readable_and_signed() {
    let receiver = PushReceiver::start().await.unwrap();
    let web_push = sender();
    let public_key = web_push.public_key().to_owned();
    let push = Push::new(Some(web_push), None);
    assert_eq!(push.vapid_public_key(), Some(public_key.as_str()));

    let target = Target::WebPush(subscription(&receiver));
    assert_eq!(push.send(&target, &message()).await, Outcome::Delivered);

    let got = receiver.next(SOON).await.unwrap_or_else(|| panic!("{:?}", receiver.refused()));
    assert_eq!(
        got.plaintext,
        json!({
            "id": message().id, "title": message().title, "body": message().body,
            "data": {"open": "/bookings/7"},
        })
    );
    assert_eq!((got.ttl, got.urgency.as_str()), (3600, "high"));
    assert_eq!(got.topic.unwrap().len(), 32);
    assert_eq!(got.vapid_key, public_key);
    assert_eq!(got.vapid_claims["aud"], receiver.origin());
    assert_eq!(got.vapid_claims["sub"], "mailto:ops@klearkarma.example");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let lifetime = got.vapid_claims["exp"].as_u64().unwrap() - now;
    assert!((12 * 3600 - 60..=12 * 3600).contains(&lifetime), "{lifetime}");
    receiver.stop().await;
}

#[tokio::test]
async fn attempts_share_the_topic_but_no_key_or_salt() {
    let receiver = PushReceiver::start().await.unwrap();
    let (sender, subscription) = (sender(), subscription(&receiver));
    for _ in 0..2 {
        assert_eq!(sender.send(&subscription, &message()).await, Outcome::Delivered);
    }
    let first = receiver.next(SOON).await.unwrap();
    let second = receiver.next(SOON).await.unwrap();
    assert_eq!(first.topic, second.topic);
    assert_eq!(first.plaintext["id"], second.plaintext["id"]);
    assert_ne!(first.body[..16], second.body[..16], "salt");
    assert_ne!(first.body[21..86], second.body[21..86], "sender's key");
    receiver.stop().await;
}

#[tokio::test]
async fn a_long_body_is_cut_and_an_impossible_message_refused_unsent() {
    let receiver = PushReceiver::start().await.unwrap();
    let (sender, subscription) = (sender(), subscription(&receiver));
    let long = PushMessage { body: "né ".repeat(3000), ..message() };
    assert_eq!(sender.send(&subscription, &long).await, Outcome::Delivered);
    let got = receiver.next(SOON).await.unwrap();
    assert!(got.plaintext["body"].as_str().unwrap().ends_with('…'));
    assert!(got.body.len() <= 4096);

    let data = BTreeMap::from([("k".to_owned(), "v".repeat(MAX_PAYLOAD_BYTES))]);
    let huge = PushMessage { data, ..message() };
    assert_eq!(sender.send(&subscription, &huge).await, Outcome::TooLarge);
    assert_eq!(receiver.requests(), 1);
    receiver.stop().await;
}

#[tokio::test]
async fn an_empty_message_is_still_a_payload() {
    let receiver = PushReceiver::start().await.unwrap();
    let empty = PushMessage {
        id: String::new(),
        title: String::new(),
        body: String::new(),
        data: BTreeMap::new(),
        ttl_seconds: 0,
        urgency: Urgency::VeryLow,
    };
    assert_eq!(sender().send(&subscription(&receiver), &empty).await, Outcome::Delivered);
    let got = receiver.next(SOON).await.unwrap();
    assert_eq!((got.ttl, got.urgency.as_str()), (0, "very-low"));
    receiver.stop().await;
}

#[tokio::test]
async fn accepting_answers_are_delivered() {
    for status in [200, 201, 202, 204] {
        assert_eq!(outcome_of(Answer::status(status)).await, Outcome::Delivered, "{status}");
    }
}

#[tokio::test]
async fn the_answer_table_holds() {
    for status in [404, 410] {
        assert_eq!(outcome_of(Answer::status(status)).await, Outcome::Gone, "{status}");
    }
    assert_eq!(outcome_of(Answer::status(413)).await, Outcome::TooLarge);
    for status in [406, 408, 425, 429, 500, 502, 503, 504] {
        let outcome = outcome_of(Answer::status(status)).await;
        assert!(matches!(outcome, Outcome::Retry { after: None, .. }), "{status}: {outcome:?}");
    }
    for status in [400, 401, 403, 405, 409, 422] {
        let outcome = outcome_of(Answer::status(status)).await;
        let reason = format!("the push service answered {status}");
        assert_eq!(outcome, Outcome::Rejected { reason });
    }
}

#[tokio::test]
async fn retry_after_is_passed_on() {
    let retry = |outcome| match outcome {
        Outcome::Retry { after, .. } => after,
        other => panic!("{other:?}"),
    };
    let after = retry(outcome_of(Answer::slow_down("37")).await);
    assert_eq!(after, Some(Duration::from_secs(37)));
    let date = jiff::Timestamp::now() + Duration::from_secs(100);
    let date = jiff::fmt::strtime::format("%a, %d %b %Y %H:%M:%S GMT", date).unwrap();
    let after = retry(outcome_of(Answer::slow_down(&date)).await).unwrap().as_secs();
    assert!((90..=100).contains(&after), "{after}");
    let unavailable = Answer { status: 503, ..Answer::slow_down("5") };
    assert_eq!(retry(outcome_of(unavailable).await), Some(Duration::from_secs(5)));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = PushReceiver::start().await.unwrap();
    for status in [301, 307, 308] {
        let location = Some(elsewhere.subscription().endpoint);
        let outcome = outcome_of(Answer { location, ..Answer::status(status) }).await;
        assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
    }
    assert_eq!(elsewhere.requests(), 0);
    elsewhere.stop().await;
}

#[tokio::test]
async fn reasons_name_the_services_code_and_nothing_else() {
    let body = r#"{"reason":"BadJwtToken"}"#.to_owned();
    let outcome = outcome_of(Answer { body, ..Answer::status(403) }).await;
    let reason = "the push service answered 403 (BadJwtToken)".to_owned();
    assert_eq!(outcome, Outcome::Rejected { reason });
    // A body that never seems to end, echoing secrets.
    let body = "/push/device-1 ".repeat(200_000);
    let outcome = outcome_of(Answer { body, ..Answer::status(500) }).await;
    assert!(!format!("{outcome:?}").contains("device-1"));
}

#[tokio::test]
async fn a_slow_service_is_left_after_the_timeout() {
    let receiver = PushReceiver::start().await.unwrap();
    receiver.answer_with(Answer::late(Duration::from_secs(30)));
    let sender = sender_with(EndpointPolicy::Any, Duration::from_millis(300));
    let started = Instant::now();
    let outcome = sender.send(&subscription(&receiver), &message()).await;
    assert_eq!(outcome, Outcome::Retry { after: None, reason: "timeout".into() });
    assert!(started.elapsed() < Duration::from_secs(3));
    receiver.stop().await;
}

#[tokio::test]
async fn no_listener_and_no_such_name_are_retried() {
    let receiver = PushReceiver::start().await.unwrap();
    let (gone, s) = (subscription(&receiver), receiver.subscription());
    receiver.stop().await;
    let no_connection = Outcome::Retry { after: None, reason: "no connection".into() };
    assert_eq!(sender().send(&gone, &message()).await, no_connection);

    let endpoint = "https://push.invalid/x";
    let policy = EndpointPolicy::PublicHttps;
    let unknown = Subscription::parse(endpoint, &s.p256dh, &s.auth, policy).unwrap();
    let outcome = sender_with(policy, SOON).send(&unknown, &message()).await;
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
    assert!(!format!("{outcome:?}").contains("push.invalid"));
}

#[tokio::test]
async fn private_addresses_are_out_of_reach() {
    let receiver = PushReceiver::start().await.unwrap();
    let s = receiver.subscription();
    let port = receiver.origin().rsplit_once(':').unwrap().1;
    let strict = EndpointPolicy::PublicHttps;
    for endpoint in [
        format!("http://127.0.0.1:{port}/push/x"),
        format!("https://127.0.0.1:{port}/push/x"),
        format!("https://127.1:{port}/push/x"),
        format!("https://0x7f000001:{port}/push/x"),
        format!("https://2130706433:{port}/push/x"),
        format!("https://[::1]:{port}/push/x"),
        format!("https://[::ffff:127.0.0.1]:{port}/push/x"),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "https://10.0.0.1/".to_owned(),
        "https://[fd00:ec2::254]/".to_owned(),
    ] {
        let parsed = Subscription::parse(&endpoint, &s.p256dh, &s.auth, strict);
        assert_eq!(parsed.unwrap_err().field, "endpoint", "{endpoint}");
        // One that was stored under the lax setting is not sent to under the strict one.
        let lax = Subscription::parse(&endpoint, &s.p256dh, &s.auth, EndpointPolicy::Any).unwrap();
        let outcome = sender_with(strict, SOON).send(&lax, &message()).await;
        assert!(matches!(outcome, Outcome::Rejected { .. }), "{endpoint}: {outcome:?}");
    }
    // A name shows only when it is resolved, and the connection uses what was looked at.
    let endpoint = format!("https://localhost:{port}/push/x");
    let named = Subscription::parse(&endpoint, &s.p256dh, &s.auth, strict).unwrap();
    let outcome = sender_with(strict, SOON).send(&named, &message()).await;
    let reason = "the endpoint's name resolves to no public address".to_owned();
    assert_eq!(outcome, Outcome::Rejected { reason });
    assert_eq!(receiver.requests(), 0);
    receiver.stop().await;
}

/// Negative control for the test above: the same name is reached once the guard is off.
#[tokio::test]
async fn with_the_guard_off_a_private_name_is_reached() {
    let receiver = PushReceiver::start().await.unwrap();
    let s = receiver.subscription();
    let endpoint = s.endpoint.replace("127.0.0.1", "localhost");
    let named = Subscription::parse(&endpoint, &s.p256dh, &s.auth, EndpointPolicy::Any).unwrap();
    assert_eq!(sender().send(&named, &message()).await, Outcome::Delivered);
    receiver.stop().await;
}

#[tokio::test]
async fn what_is_not_configured_is_rejected() {
    let receiver = PushReceiver::start().await.unwrap();
    let target = Target::WebPush(subscription(&receiver));
    let outcome = Push::default().send(&target, &message()).await;
    assert!(matches!(outcome, Outcome::Rejected { .. }));
    receiver.stop().await;
}

#[tokio::test]
async fn debug_output_hides_the_secrets() {
    let receiver = PushReceiver::start().await.unwrap();
    let s = receiver.subscription();
    let pair = VapidKeys::generate().unwrap();
    let keys = VapidKeys::load(&pair.private_key).unwrap();
    let shown = format!(
        "{:?} {pair:?} {keys:?} {:?} {:?}",
        Target::WebPush(subscription(&receiver)),
        sender(),
        message()
    );
    let private = pair.private_key.expose_secret();
    for secret in [s.auth.as_str(), "device-1", private, "Amélie", "bestätigt", "/bookings"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    receiver.stop().await;
}

#[test]
fn the_subject_must_be_a_contact() {
    for subject in ["", "mailto:", "ops@klearkarma.example", "http://klearkarma.example"] {
        let config = WebPushConfig {
            vapid: keys(),
            subject: subject.to_owned(),
            endpoints: EndpointPolicy::Any,
            timeout: SOON,
        };
        assert!(matches!(WebPush::new(config), Err(SetupError::VapidSubject)), "{subject}");
    }
}

/// The npm package `http_ece`, by the RFC's author, reads what we encrypt, and Node's OpenSSL
/// verifies what we sign. Without node, npm or a registry the test says so and passes.
#[tokio::test]
async fn another_implementation_reads_what_we_send() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("http_ece-1.2.1");
    if let Err(why) = install_http_ece(&directory).await {
        eprintln!("\n*** SKIPPED another_implementation_reads_what_we_send: {why} ***\n");
        return;
    }
    let receiver = PushReceiver::start().await.unwrap();
    let outcome = sender().send(&subscription(&receiver), &message()).await;
    assert_eq!(outcome, Outcome::Delivered);
    let got = receiver.next(SOON).await.unwrap();
    let (private, auth) = receiver.secrets();
    let script = r#"
        const ece = require('http_ece'), crypto = require('crypto');
        const [body, key, auth, authorization] = JSON.parse(process.argv[1]);
        const bytes = (text) => Buffer.from(text, 'base64url');
        const device = crypto.createECDH('prime256v1');
        device.setPrivateKey(bytes(key));
        const plain = ece.decrypt(bytes(body),
            { version: 'aes128gcm', privateKey: device, authSecret: bytes(auth) });
        const [, token, point] = /^vapid t=([^,]+), k=(.+)$/.exec(authorization);
        const [head, claims, signature] = token.split('.');
        const raw = bytes(point);
        const jwk = { kty: 'EC', crv: 'P-256',
            x: raw.subarray(1, 33).toString('base64url'), y: raw.subarray(33).toString('base64url') };
        const good = crypto.verify('sha256', Buffer.from(head + '.' + claims),
            { key: jwk, format: 'jwk', dsaEncoding: 'ieee-p1363' }, bytes(signature));
        console.log(JSON.stringify({ plain: JSON.parse(plain), good }));
    "#;
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let arguments =
        json!([encode(&got.body), encode(&private), encode(&auth), got.headers["authorization"]]);
    let output = tokio::process::Command::new("node")
        .args(["-e", script, &arguments.to_string()])
        .current_dir(&directory)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer, json!({"plain": got.plaintext, "good": true}));
    receiver.stop().await;
}

async fn install_http_ece(directory: &Path) -> Result<(), String> {
    if directory.join("node_modules/http_ece/package.json").exists() {
        return Ok(());
    }
    std::fs::create_dir_all(directory).map_err(|e| e.to_string())?;
    let mut npm = tokio::process::Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
        .arg(directory)
        .arg("http_ece@1.2.1")
        .kill_on_drop(true);
    match tokio::time::timeout(Duration::from_secs(60), npm.output()).await {
        Err(_) => Err("npm took over a minute".to_owned()),
        Ok(Err(error)) => Err(format!("no npm: {error}")),
        Ok(Ok(output)) if !output.status.success() => Err("npm could not install".to_owned()),
        Ok(Ok(_)) => Ok(()),
    }
}
