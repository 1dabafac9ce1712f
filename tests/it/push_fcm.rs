//! FCM against a fake Google on loopback, see `support/fake_google.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hub::push::{
    Fcm, FcmConfig, FcmToken, MAX_PAYLOAD_BYTES, Outcome, Push, PushMessage, SetupError, Target,
    Urgency,
};
use serde_json::{Value, json};

use crate::support::fake_google::{FakeGoogle, FcmAnswer, PROJECT, TokenAnswer};

const TOKEN: &str = "cX9-registration:APA91bSecret";

fn message() -> PushMessage {
    PushMessage {
        id: "0190c9c2-7a5e-7e39-9f54-3c1f2b0a9d11".into(),
        title: "Termin bestätigt".into(),
        body: "Reiki mit Amélie, 14:30".into(),
        data: BTreeMap::from([("open".into(), "/bookings/7".into())]),
        ttl_seconds: 3600,
        urgency: Urgency::High,
    }
}

fn config(google: &FakeGoogle) -> FcmConfig {
    FcmConfig {
        service_account_json: google.service_account().to_string().into(),
        project: None,
        base_url: Some(google.base_url().to_owned()),
        timeout: Duration::from_secs(5),
    }
}

fn sender(google: &FakeGoogle) -> Fcm {
    Fcm::new(config(google)).unwrap()
}

fn token() -> FcmToken {
    FcmToken::parse(TOKEN).unwrap()
}

fn rejected(reason: &str) -> Outcome {
    Outcome::Rejected { reason: reason.to_owned() }
}

fn retry(after: Option<u64>, reason: &str) -> Outcome {
    Outcome::Retry { after: after.map(Duration::from_secs), reason: reason.to_owned() }
}

#[tokio::test]
async fn a_message_arrives_as_fcm_wants_it() {
    let google = FakeGoogle::start().await.unwrap();
    let push = Push::new(None, Some(sender(&google)));
    let before = jiff::Timestamp::now().as_second();
    let outcome = push.send(&Target::Fcm(token()), &message()).await;
    assert_eq!(outcome, Outcome::Delivered, "{:?}", google.refused());

    let mut got = google.accepted().remove(0);
    let headers = got["apns"]["headers"].as_object_mut().unwrap();
    let expiration = headers.remove("apns-expiration").unwrap();
    let expiration: i64 = expiration.as_str().unwrap().parse().unwrap();
    assert!((before + 3600..before + 3630).contains(&expiration));
    let topic = headers["apns-collapse-id"].as_str().unwrap().to_owned();
    assert_eq!(topic.len(), 32);
    let tag = json!({"tag": message().id});
    assert_eq!(
        got,
        json!({
            "token": TOKEN,
            "notification": {"title": "Termin bestätigt", "body": "Reiki mit Amélie, 14:30"},
            "data": {"open": "/bookings/7", "id": message().id},
            "android": {"ttl": "3600s", "priority": "HIGH", "notification": tag},
            "apns": {"headers": {"apns-collapse-id": topic, "apns-priority": "10"}},
            "webpush": {
                "headers": {"TTL": "3600", "Topic": topic, "Urgency": "high"},
                "notification": tag,
            },
        })
    );
    google.stop().await;
}

#[tokio::test]
async fn low_urgency_long_life_and_long_body() {
    let google = FakeGoogle::start().await.unwrap();
    let (ttl_seconds, urgency) = (u32::MAX, Urgency::Low);
    let long = PushMessage { body: "né ".repeat(3000), ttl_seconds, urgency, ..message() };
    assert_eq!(sender(&google).send(&token(), &long).await, Outcome::Delivered);
    let now = PushMessage { ttl_seconds: 0, ..message() };
    assert_eq!(sender(&google).send(&token(), &now).await, Outcome::Delivered);
    let [long, now] = &google.accepted()[..] else { panic!() };
    assert_eq!(long["android"]["ttl"], "2419200s");
    assert_eq!(long["android"]["priority"], "NORMAL");
    assert_eq!(long["apns"]["headers"]["apns-priority"], "5");
    assert!(long["notification"]["body"].as_str().unwrap().ends_with('…'));
    assert_eq!(now["apns"]["headers"]["apns-expiration"], "0");
    google.stop().await;
}

#[tokio::test]
async fn an_impossible_message_is_refused_unsent() {
    let google = FakeGoogle::start().await.unwrap();
    let huge = PushMessage { title: "x".repeat(MAX_PAYLOAD_BYTES), ..message() };
    assert_eq!(sender(&google).send(&token(), &huge).await, Outcome::TooLarge);
    assert_eq!((google.requests(), google.exchanges()), (0, 0));
    google.stop().await;
}

/// Each row of the table at `Outcome`, worded as Google words it.
#[tokio::test]
async fn the_answer_table_holds() {
    let google = FakeGoogle::start().await.unwrap();
    let fcm = sender(&google);
    let table = final_answers().into_iter().chain(passing_answers());
    for (index, (answer, expected)) in table.enumerate() {
        let told = format!("{answer:?}");
        google.answer_with([answer]);
        assert_eq!(fcm.send(&token(), &message()).await, expected, "{told}");
        assert_eq!(google.requests(), index + 1, "one attempt only: {told}");
    }
    assert_eq!(google.exchanges(), 1, "no answer of these is the access token's fault");
    google.stop().await;
}

fn final_answers() -> Vec<(FcmAnswer, Outcome)> {
    let error = FcmAnswer::error;
    let argument = "INVALID_ARGUMENT";
    let violation = |field: &str| {
        let details = json!([
            {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": argument},
            {"@type": "type.googleapis.com/google.rpc.BadRequest",
             "fieldViolations": [{"field": field, "description": "Invalid"}]},
        ]);
        FcmAnswer::with_details(400, argument, "Request contains an error.", &details)
    };
    let malformed = "The registration token is not a valid FCM registration token";
    let third_party = error(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR");
    let mismatch = error(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH");
    vec![
        (error(404, "NOT_FOUND", "UNREGISTERED"), Outcome::Gone),
        (FcmAnswer::status(404), rejected("FCM answered 404")),
        (violation("message.token"), Outcome::Gone),
        (FcmAnswer::with_details(400, argument, malformed, &json!([])), Outcome::Gone),
        (violation("message.data"), rejected("FCM answered 400 (InvalidArgument)")),
        (error(400, argument, argument), rejected("FCM answered 400 (InvalidArgument)")),
        (FcmAnswer::status(400), rejected("FCM answered 400")),
        (third_party, rejected("FCM answered 401 (ThirdPartyAuthError)")),
        (mismatch, rejected("FCM answered 403 (SenderIdMismatch)")),
        (FcmAnswer::status(403), rejected("FCM answered 403")),
        (FcmAnswer::status(413), Outcome::TooLarge),
        (
            FcmAnswer { body: json!("<html>"), ..FcmAnswer::status(302) },
            rejected("FCM answered 302"),
        ),
    ]
}

fn passing_answers() -> Vec<(FcmAnswer, Outcome)> {
    let error = FcmAnswer::error;
    let quota = error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED");
    let unavailable = error(503, "UNAVAILABLE", "UNAVAILABLE");
    let after = |seconds: &str, answer: &FcmAnswer| {
        let retry_after = Some(seconds.to_owned());
        FcmAnswer { retry_after, ..answer.clone() }
    };
    vec![
        (after("90", &quota), retry(Some(90), "FCM answered 429 (QuotaExceeded)")),
        (quota, retry(Some(60), "FCM answered 429 (QuotaExceeded)")),
        (after("7", &unavailable), retry(Some(7), "FCM answered 503 (Unavailable)")),
        (unavailable, retry(None, "FCM answered 503 (Unavailable)")),
        (error(500, "INTERNAL", "INTERNAL"), retry(None, "FCM answered 500 (Internal)")),
        (error(500, "UNKNOWN", "SOMETHING_NEW"), retry(None, "FCM answered 500 (Other)")),
        (FcmAnswer::status(502), retry(None, "FCM answered 502")),
    ]
}

#[tokio::test]
async fn the_access_token_is_kept_until_shortly_before_it_expires() {
    let google = FakeGoogle::start().await.unwrap();
    let fcm = sender(&google);
    let (token, message) = (token(), message());
    // Together at first: one exchange serves them all.
    let outcomes = futures_util::future::join_all((0..8).map(|_| fcm.send(&token, &message))).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Delivered), "{outcomes:?}");
    assert_eq!(google.exchanges(), 1);
    assert_eq!(fcm.send(&token, &message).await, Outcome::Delivered);
    assert_eq!(google.exchanges(), 1);

    // One that has 15 s to live is used by whom it was fetched for, and not again.
    let short = TokenAnswer { status: 200, expires_in: 15, delay: Duration::ZERO };
    google.answer_tokens_with(short);
    let fcm = sender(&google);
    for exchanges in [2, 3] {
        assert_eq!(fcm.send(&token, &message).await, Outcome::Delivered);
        assert_eq!(google.exchanges(), exchanges);
    }
    google.stop().await;
}

#[tokio::test]
async fn a_refused_access_token_is_replaced_once() {
    let google = FakeGoogle::start().await.unwrap();
    let fcm = sender(&google);
    assert_eq!(fcm.send(&token(), &message()).await, Outcome::Delivered);
    google.revoke_tokens();
    assert_eq!(fcm.send(&token(), &message()).await, Outcome::Delivered);
    assert_eq!((google.exchanges(), google.requests()), (2, 3));

    // Refused again with the fresh one: that is the end of it.
    google.answer_with([FcmAnswer::status(401), FcmAnswer::status(401)]);
    let outcome = fcm.send(&token(), &message()).await;
    assert_eq!(outcome, rejected("FCM refused a fresh access token (401)"));
    assert_eq!((google.exchanges(), google.requests()), (3, 5));
    google.stop().await;
}

#[tokio::test]
async fn without_an_access_token_nothing_is_sent_and_all_is_retried() {
    let google = FakeGoogle::start().await.unwrap();
    let down = TokenAnswer { status: 503, expires_in: 0, delay: Duration::ZERO };
    google.answer_tokens_with(down);
    let fcm = sender(&google);
    let (token, message) = (token(), message());
    let outcomes = futures_util::future::join_all((0..8).map(|_| fcm.send(&token, &message))).await;
    let expected = retry(None, "no access token for FCM");
    assert!(outcomes.iter().all(|outcome| *outcome == expected), "{outcomes:?}");
    assert_eq!(google.requests(), 0);
    // gcp_auth asks five times; the seven who waited share that failure.
    assert_eq!(google.exchanges(), 5);

    let up = TokenAnswer { status: 200, expires_in: 3600, delay: Duration::ZERO };
    google.answer_tokens_with(up);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(fcm.send(&token, &message).await, Outcome::Delivered, "it recovers");
    google.stop().await;
}

#[tokio::test]
async fn a_stalled_google_is_left_after_the_timeout() {
    let google = FakeGoogle::start().await.unwrap();
    let timeout = Duration::from_millis(300);
    let fcm = Fcm::new(FcmConfig { timeout, ..config(&google) }).unwrap();
    let delay = Duration::from_secs(30);

    google.answer_tokens_with(TokenAnswer { status: 200, expires_in: 3600, delay });
    let started = Instant::now();
    let outcome = fcm.send(&token(), &message()).await;
    assert_eq!(outcome, retry(None, "no access token for FCM"));

    let fcm = Fcm::new(FcmConfig { timeout, ..config(&google) }).unwrap();
    let prompt = TokenAnswer { status: 200, expires_in: 3600, delay: Duration::ZERO };
    google.answer_tokens_with(prompt);
    google.answer_with([FcmAnswer { delay, ..FcmAnswer::status(200) }]);
    assert_eq!(fcm.send(&token(), &message()).await, retry(None, "timeout"));
    assert!(started.elapsed() < Duration::from_secs(5));
    google.stop().await;
}

#[tokio::test]
async fn an_unreachable_google_is_retried() {
    let google = FakeGoogle::start().await.unwrap();
    let nowhere = Some("http://127.0.0.1:1".to_owned());
    let fcm = Fcm::new(FcmConfig { base_url: nowhere, ..config(&google) }).unwrap();
    assert_eq!(fcm.send(&token(), &message()).await, retry(None, "no connection"));
    google.stop().await;
}

#[tokio::test]
async fn the_project_may_be_another_than_the_accounts() {
    let google = FakeGoogle::start().await.unwrap();
    let project = Some("another-project".to_owned());
    let fcm = Fcm::new(FcmConfig { project, ..config(&google) }).unwrap();
    assert_eq!(fcm.send(&token(), &message()).await, rejected("FCM answered 404"));

    let mut account = google.service_account();
    account.as_object_mut().unwrap().remove("project_id");
    let nameless =
        FcmConfig { service_account_json: account.to_string().into(), ..config(&google) };
    assert!(matches!(Fcm::new(nameless.clone()), Err(SetupError::FcmProject)));
    let named = FcmConfig { project: Some(PROJECT.to_owned()), ..nameless };
    assert_eq!(Fcm::new(named).unwrap().send(&token(), &message()).await, Outcome::Delivered);
    google.stop().await;
}

#[tokio::test]
async fn an_unusable_account_is_refused_at_the_start_without_being_quoted() {
    let google = FakeGoogle::start().await.unwrap();
    let with = |key: &str, value: Value| {
        let mut account = google.service_account();
        account[key] = value;
        account.to_string()
    };
    for account in [
        String::new(),
        "{}".to_owned(),
        "\"a-secret\"".to_owned(),
        with("private_key", json!("a-secret")),
        with("private_key", json!(["a-secret"])),
        with("token_uri", json!(7)),
    ] {
        let bad = FcmConfig { service_account_json: account.clone().into(), ..config(&google) };
        let error = Fcm::new(bad).unwrap_err();
        assert!(matches!(error, SetupError::ServiceAccount(_)), "{account}");
        assert!(!format!("{error} {error:?}").contains("a-secret"), "{error}");
    }
    for base_url in ["", "fcm.googleapis.com", "ftp://fcm.googleapis.com"] {
        let bad = FcmConfig { base_url: Some(base_url.to_owned()), ..config(&google) };
        assert!(matches!(Fcm::new(bad), Err(SetupError::FcmBaseUrl)), "{base_url}");
    }
    google.stop().await;
}

#[tokio::test]
async fn debug_output_hides_the_secrets() {
    let google = FakeGoogle::start().await.unwrap();
    let fcm = sender(&google);
    assert_eq!(fcm.send(&token(), &message()).await, Outcome::Delivered);
    let shown = format!("{fcm:?} {:?} {:?}", config(&google), Target::Fcm(token()));
    for secret in [TOKEN, "PRIVATE KEY", "ya29."] {
        assert!(!shown.contains(secret), "{shown}");
    }
    google.stop().await;
}

#[test]
fn registration_tokens_are_parsed_or_refused() {
    assert_eq!(FcmToken::parse(TOKEN).unwrap().expose(), TOKEN);
    assert!(FcmToken::parse(&"x".repeat(4096)).is_ok());
    for wrong in ["", " ", "a b", "a\n", "tökén", &"x".repeat(4097)] {
        assert_eq!(FcmToken::parse(wrong).unwrap_err().field, "token");
    }
}
