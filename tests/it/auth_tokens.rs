//! Access tokens: what is in them, and what is none.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::{Answer, Person, Socket, TestHub};

const SECRET: &str = "the secret of this hub and of no other one";

async fn hub() -> TestHub {
    TestHub::start_with(|c| {
        c.auth.jwt_secret = Some(SECRET.into());
        c.auth.access_ttl = std::time::Duration::from_secs(1_000);
    })
    .await
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn encoded(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

fn signed(claims: &Value, algorithm: Algorithm, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
}

/// The claims of `token` with some of them changed.
fn altered(token: &str, changes: &Value) -> Value {
    let mut claims = part(token, 1);
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

async fn ask(hub: &TestHub, token: &str) -> Answer {
    hub.call(reqwest::Method::GET, "/v1/users/profile", Some(token), None).await
}

#[tokio::test]
async fn a_token_has_the_claims_of_section_6_1_and_no_others() {
    let hub = hub().await;
    let permissions = [
        ("seeker", "booking:create"),
        ("practitioner", "booking:update:practitioner"),
        ("admin", "catalogue:update"),
    ];
    for (user_type, permission) in permissions {
        let person =
            if user_type == "admin" { hub.admin().await } else { hub.register(user_type).await };
        let claims = part(&person.token, 1);
        let mut names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["email", "exp", "iat", "jti", "permissions", "sub", "userType"]);
        assert_eq!(
            (&claims["sub"], &claims["email"], &claims["userType"]),
            (&json!(person.id), &json!(person.email), &json!(user_type))
        );
        let permissions = claims["permissions"].as_array().unwrap();
        assert!(permissions.contains(&json!(permission)), "{permissions:?}");
        let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
        assert_eq!(exp - iat, 1_000);
        assert!((jiff::Timestamp::now().as_second() - iat).abs() < 60);
        assert!(uuid::Uuid::try_parse(claims["jti"].as_str().unwrap()).is_ok());
        assert_eq!(part(&person.token, 0), json!({ "typ": "JWT", "alg": "HS256" }));
    }
    hub.stop().await;
}

#[tokio::test]
async fn the_answer_tells_when_the_token_runs_out() {
    let hub = hub().await;
    let person = hub.seeker().await;
    let body = json!({ "refreshToken": person.refresh_token });
    let data = hub.post("/v1/auth/refresh", body).await.data(200);
    let expires_at: jiff::Timestamp = data["expiresAt"].as_str().unwrap().parse().unwrap();
    let claims = part(data["accessToken"].as_str().unwrap(), 1);
    assert_eq!(json!(expires_at.as_second()), claims["exp"]);
    assert_ne!(claims["jti"], part(&person.token, 1)["jti"]);
    hub.stop().await;
}

/// Every way to make a token that the hub did not sign.
fn forgeries(person: &Person) -> Vec<(&'static str, String)> {
    let claims = part(&person.token, 1);
    let admin = altered(&person.token, &json!({ "userType": "admin" }));
    let pieces: Vec<&str> = person.token.split('.').collect();
    let with_header = |header: Value| {
        let message = format!("{}.{}", encoded(&header), pieces[1]);
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    };
    let none = |name: &str| encoded(&json!({ "alg": name, "typ": "JWT" }));
    vec![
        ("another secret", signed(&claims, Algorithm::HS256, "another secret of 32 bytes or more")),
        ("no secret", signed(&claims, Algorithm::HS256, "")),
        ("HS384", signed(&claims, Algorithm::HS384, SECRET)),
        ("HS512", signed(&claims, Algorithm::HS512, SECRET)),
        ("RS256 in the header", with_header(json!({ "alg": "RS256", "typ": "JWT" }))),
        ("an unknown algorithm", with_header(json!({ "alg": "HS257", "typ": "JWT" }))),
        ("a header without one", with_header(json!({ "typ": "JWT" }))),
        ("none, unsigned", format!("{}.{}.", none("none"), pieces[1])),
        ("None, unsigned", format!("{}.{}.", none("None"), pieces[1])),
        ("none, signed", with_header(json!({ "alg": "none", "typ": "JWT" }))),
        ("no signature", format!("{}.{}.", pieces[0], pieces[1])),
        ("two parts", format!("{}.{}", pieces[0], pieces[1])),
        ("altered payload", format!("{}.{}.{}", pieces[0], encoded(&admin), pieces[2])),
        ("a later end", {
            let later = altered(&person.token, &json!({ "exp": 4_000_000_000_i64 }));
            format!("{}.{}.{}", pieces[0], encoded(&later), pieces[2])
        }),
        ("an unknown jti", {
            let claims = altered(&person.token, &json!({ "jti": uuid::Uuid::now_v7() }));
            signed(&claims, Algorithm::HS256, SECRET)
        }),
        ("another claim", {
            let claims = altered(&person.token, &json!({ "scope": "all" }));
            signed(&claims, Algorithm::HS256, SECRET)
        }),
        ("an unknown user type", {
            let claims = altered(&person.token, &json!({ "userType": "root" }));
            signed(&claims, Algorithm::HS256, SECRET)
        }),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("long nonsense", "a".repeat(4_000)),
    ]
}

#[tokio::test]
async fn a_forged_token_is_refused_over_rest_and_sockets() {
    let hub = hub().await;
    let person = hub.seeker().await;
    // The control: what these tests sign with the hub's own secret is believed.
    let own = signed(&part(&person.token, 1), Algorithm::HS256, SECRET);
    ask(&hub, &own).await.data(200);
    for (what, token) in forgeries(&person) {
        let answer = ask(&hub, &token).await;
        assert_eq!(answer.status, 401, "{what}: {:#}", answer.body);
        answer.refused(401, "unauthenticated");
        let mut socket = Socket::try_open(&hub, None).await.unwrap();
        socket.refused("auth", json!({ "token": token }), "unauthenticated").await;
        assert_eq!(socket.close_code().await, Some(4500), "{what}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_token_of_another_hub_is_refused() {
    let (hub, other) = (hub().await, TestHub::start().await);
    let person = other.seeker().await;
    ask(&hub, &person.token).await.refused(401, "unauthenticated");
    ask(&other, &person.token).await.data(200);
    hub.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn an_old_token_is_told_from_a_wrong_one() {
    let hub = hub().await;
    let person = hub.seeker().await;
    let now = jiff::Timestamp::now().as_second();
    let old = altered(&person.token, &json!({ "iat": now - 10, "exp": now }));
    let token = signed(&old, Algorithm::HS256, SECRET);
    ask(&hub, &token).await.refused(401, "token_expired");
    let mut socket = Socket::try_open(&hub, None).await.unwrap();
    socket.refused("auth", json!({ "token": token }), "token_expired").await;
    let forged = signed(&old, Algorithm::HS256, "another secret of 32 bytes or more");
    ask(&hub, &forged).await.refused(401, "unauthenticated");
    // The session lives on.
    ask(&hub, &person.token).await.data(200);
    let body = json!({ "refreshToken": person.refresh_token });
    hub.post("/v1/auth/refresh", body).await.data(200);
    hub.stop().await;
}

#[tokio::test]
async fn a_token_does_not_outlive_its_time() {
    let hub = TestHub::start_with(|c| c.auth.access_ttl = std::time::Duration::from_secs(1)).await;
    let person = hub.seeker().await;
    let exp = part(&person.token, 1)["exp"].as_i64().unwrap();
    let mut socket = Socket::try_open(&hub, Some(&person.token)).await.unwrap();
    // The hub closes the socket when the token runs out: that is the event to wait for.
    assert_eq!(socket.close_code().await, Some(4003));
    assert!(jiff::Timestamp::now().as_second() >= exp);
    ask(&hub, &person.token).await.refused(401, "token_expired");
    hub.stop().await;
}
