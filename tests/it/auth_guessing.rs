//! Guessing passwords, and where secrets must not turn up.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hub::config::{Config, Env};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::hub::answer;
use crate::support::people::PASSWORD;
use crate::support::process::Process;
use crate::support::{Answer, TestHub, postgres, rows};

/// A login as a trusted proxy passes it on; `forwarded` is the whole `X-Forwarded-For`.
async fn login(hub: &TestHub, forwarded: &str, email: &str, password: &str) -> Answer {
    let body = json!({ "email": email, "password": password });
    let request = hub.request(Method::POST, "/v1/auth/login");
    answer(request.header("x-forwarded-for", forwarded).json(&body)).await
}

async fn behind_a_proxy() -> TestHub {
    TestHub::start_with(|c| c.http.trusted_proxies = vec![[127, 0, 0, 1].into()]).await
}

#[tokio::test]
async fn guessing_is_slowed_down_without_locking_the_owner_out() {
    let hub = behind_a_proxy().await;
    let (victim, other) = (hub.seeker().await, hub.seeker().await);
    let (attacker, home) = ("203.0.113.1", "203.0.113.2");
    for n in 0..5 {
        // Neither the case of the address nor what a client claims of itself makes a new one.
        let email = if n % 2 == 0 { victim.email.clone() } else { victim.email.to_uppercase() };
        let from = format!("198.51.100.{n}, {attacker}");
        let guess = login(&hub, &from, &email, "a wrong guess").await;
        guess.refused(401, "invalid_credentials");
    }
    let failures = "SELECT count(*) FROM audit_log WHERE event_type = 'failed_login'";
    assert_eq!(rows::number(&hub.database_url, failures).await, 5);
    for password in ["a wrong guess", PASSWORD] {
        let refused = login(&hub, attacker, &victim.email, password).await;
        refused.refused(429, "rate_limited");
        let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=900).contains(&wait), "{wait}");
    }
    login(&hub, home, &victim.email, PASSWORD).await.data(200);
    login(&hub, attacker, &other.email, PASSWORD).await.data(200);
    // The owner's success does not free the attacker.
    login(&hub, attacker, &victim.email, PASSWORD).await.refused(429, "rate_limited");
    let addresses = "SELECT DISTINCT ip_address FROM audit_log
        WHERE event_type = 'failed_login'";
    assert_eq!(rows::column(&hub.database_url, addresses).await, [attacker]);
    hub.stop().await;
}

#[tokio::test]
async fn a_right_password_starts_the_count_afresh() {
    let hub = behind_a_proxy().await;
    let person = hub.seeker().await;
    for _ in 0..3 {
        for _ in 0..4 {
            let guess = login(&hub, "203.0.113.1", &person.email, "a slip of the finger").await;
            guess.refused(401, "invalid_credentials");
        }
        login(&hub, "203.0.113.1", &person.email, PASSWORD).await.data(200);
    }
    hub.stop().await;
}

#[tokio::test]
async fn one_address_can_not_try_a_password_on_everybody() {
    let hub = behind_a_proxy().await;
    let person = hub.seeker().await;
    for n in 0..50 {
        let email = format!("guess{n}@example.in");
        let guess = login(&hub, "203.0.113.1", &email, "password1").await;
        guess.refused(401, "invalid_credentials");
    }
    login(&hub, "203.0.113.1", &person.email, PASSWORD).await.refused(429, "rate_limited");
    login(&hub, "203.0.113.2", &person.email, PASSWORD).await.data(200);
    hub.stop().await;
}

#[tokio::test]
async fn without_a_trusted_proxy_nobody_chooses_their_address() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    for n in 0..5 {
        let guess = login(&hub, &format!("203.0.113.{n}"), &person.email, "a wrong guess").await;
        guess.refused(401, "invalid_credentials");
    }
    login(&hub, "203.0.113.9", &person.email, PASSWORD).await.refused(429, "rate_limited");
    hub.stop().await;
}

#[tokio::test]
async fn registrations_are_counted_per_address() {
    let hub = behind_a_proxy().await;
    let register = async |n: u32, address: &str| {
        let body = json!({
            "email": format!("bot{n}@example.in"), "password": PASSWORD, "firstName": "B",
            "lastName": "T", "userType": "seeker",
        });
        let request = hub.request(Method::POST, "/v1/auth/register");
        answer(request.header("x-forwarded-for", address).json(&body)).await
    };
    for n in 0..30 {
        register(n, "203.0.113.1").await.data(201);
    }
    let refused = register(30, "203.0.113.1").await;
    refused.refused(429, "rate_limited");
    assert!(refused.headers.contains_key("retry-after"));
    register(30, "203.0.113.2").await.data(201);
    hub.stop().await;
}

#[tokio::test]
async fn right_passwords_at_once_all_log_in() {
    let hub = behind_a_proxy().await;
    let person = hub.seeker().await;
    let logins = (0..12).map(|_| login(&hub, "203.0.113.1", &person.email, PASSWORD));
    for answer in join_all(logins).await {
        answer.data(200);
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_thousand_guesses_at_once_are_no_more_than_a_few() {
    let hub = behind_a_proxy().await;
    let person = hub.seeker().await;
    let (one, everybody) = ("203.0.113.1", "203.0.113.2");
    let at_one = join_all((0..1_000).map(|_| login(&hub, one, &person.email, "a guess"))).await;
    let at_all =
        join_all((0..1_000).map(async |n| {
            login(&hub, everybody, &format!("guess{n}@example.in"), "a guess").await
        }))
        .await;
    for (answers, allowed) in [(at_one, 5), (at_all, 50)] {
        let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.status == 401);
        assert_eq!(made.len(), allowed);
        refused.iter().for_each(|answer| {
            answer.refused(429, "rate_limited");
        });
    }
    let failures = "SELECT count(*) FROM audit_log WHERE event_type = 'failed_login'";
    assert_eq!(rows::number(&hub.database_url, failures).await, 55);
    hub.stop().await;
}

/// The shortest of some logins: noise only ever adds.
async fn shortest(hub: &TestHub, email: &str) -> (Duration, Value) {
    let mut best = Duration::MAX;
    let mut body = Value::Null;
    for n in 0..5 {
        let started = Instant::now();
        let answer = login(hub, &format!("203.0.113.{n}"), email, "a wrong guess").await;
        best = best.min(started.elapsed());
        body = answer.refused(401, "invalid_credentials");
    }
    (best, body)
}

#[tokio::test]
async fn an_unknown_address_is_answered_like_a_wrong_password() {
    let hub = TestHub::start_with(|c| {
        c.auth.bcrypt_cost = 10;
        c.http.trusted_proxies = vec![[127, 0, 0, 1].into()];
    })
    .await;
    let person = hub.seeker().await;
    let (known, said) = shortest(&hub, &person.email).await;
    let (unknown, said_of_nobody) = shortest(&hub, "nobody@example.in").await;
    assert_eq!(said, said_of_nobody);
    let ratio = known.as_secs_f64() / unknown.as_secs_f64();
    assert!((1.0 / 3.0..3.0).contains(&ratio), "{known:?} for a known one, {unknown:?} for none");
    // The control: without the hashing the answer would come far sooner, and the bound would see it.
    let mut without = Duration::MAX;
    for _ in 0..5 {
        let started = Instant::now();
        hub.get("/readyz").await.data(200);
        without = without.min(started.elapsed());
    }
    assert!(unknown > without * 3, "{unknown:?} is hardly more than {without:?}");
    hub.stop().await;
}

/// The tables in which `needle` is stored.
async fn tables_with(url: &str, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for table in rows::contents(url).await.into_keys() {
        let sql = format!("SELECT count(*) FROM {table} t WHERE t::text LIKE '%{needle}%'");
        if rows::number(url, &sql).await > 0 {
            found.push(table);
        }
    }
    found
}

#[tokio::test]
async fn neither_passwords_nor_tokens_are_stored() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    let body = json!({ "email": person.email, "password": "a password mistyped" });
    hub.post("/v1/auth/login", body).await.refused(401, "invalid_credentials");
    let signature = person.token.rsplit('.').next().unwrap();
    for secret in [PASSWORD, "a password mistyped", &person.refresh_token, signature] {
        assert_eq!(tables_with(&hub.database_url, secret).await, [""; 0], "{secret}");
    }
    // The control: what is stored is found.
    assert_eq!(tables_with(&hub.database_url, &person.email).await, ["users"]);
    hub.stop().await;
}

#[test]
fn the_configuration_prints_no_secret() {
    let secrets = [
        ("DATABASE_URL", "postgres://hub:database-password@localhost/hub"),
        ("REDIS_URL", "redis://:redis-password@localhost"),
        ("JWT_SECRET", "a jwt secret of more than 32 bytes, really"),
        ("VAPID_PRIVATE_KEY", "a-private-vapid-key"),
    ];
    let config = Config::from_env(&Env::of(&secrets)).unwrap();
    let printed = format!("{config:?} {config:#?}");
    for (name, secret) in secrets {
        assert!(!printed.contains(secret), "{name} is printed");
    }
    assert!(!printed.contains("-password"), "a part of a URL is printed: {printed}");
    assert!(printed.contains("access_ttl"), "the control: the rest is printed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_holds_no_secret() {
    let jwt = "a jwt secret of more than 32 bytes, really";
    let vapid = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
    let secrets = [("JWT_SECRET", jwt), ("VAPID_PRIVATE_KEY", vapid)];
    let url = postgres::migrated();
    let dir = tempfile::tempdir().unwrap();
    let env = [&secrets[..], &[("DATABASE_URL", &url), ("LOG_LEVEL", "debug,hub=trace")]].concat();
    let mut process = Process::start(dir.path(), &["serve"], &env);
    // The hub does this for itself, in its own process here. Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
    let address = process.address().await;
    let ask = async |path: &str, token: &str, body: Value| {
        let request = client.post(format!("http://{address}/v1/{path}"));
        answer(request.bearer_auth(token).json(&body)).await
    };
    let new = json!({
        "email": "asha@example.in", "password": PASSWORD, "firstName": "Asha",
        "lastName": "Rao", "userType": "seeker",
    });
    let first = ask("auth/register", "x", new).await.data(201);
    let wrong = json!({ "email": "asha@example.in", "password": "a password mistyped" });
    ask("auth/login", "x", wrong).await.refused(401, "invalid_credentials");
    let odd = json!({ "email": "asha@example.in", "password": ["a password in a list"] });
    ask("auth/login", "x", odd).await.names("password");
    let refresh = json!({ "refreshToken": first["refreshToken"] });
    let second = ask("auth/refresh", "x", refresh.clone()).await.data(200);
    let text = |data: &Value, name: &str| data[name].as_str().unwrap().to_owned();
    let token = text(&second, "accessToken");
    let device = json!({ "fcm": { "token": "f".repeat(120) } });
    ask("notifications/devices", &token, device).await.data(201);
    ask("auth/refresh", "x", refresh).await.refused(401, "invalid_refresh_token");
    ask("auth/logout", &token, json!({})).await.refused(401, "unauthenticated");
    let log = process.stop().await;

    assert!(log.contains("/v1/auth/login") && log.contains("DEBUG"), "the control: {log}");
    let mut hidden = vec![PASSWORD.to_owned(), jwt.to_owned(), vapid.to_owned(), "f".repeat(120)];
    hidden.extend(["a password mistyped", "a password in a list"].map(ToOwned::to_owned));
    for data in [&first, &second] {
        hidden.extend([text(data, "accessToken"), text(data, "refreshToken")]);
    }
    for secret in hidden {
        let line = log.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{secret} is in the log");
    }
}
