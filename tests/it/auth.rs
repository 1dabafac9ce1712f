//! Accounts, logins, rotation of refresh tokens, sessions.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::hub::answer;
use crate::support::people::PASSWORD;
use crate::support::{Person, Socket, TestHub, rows};

/// The same user with the next pair of tokens.
async fn refreshed(hub: &TestHub, person: &Person) -> Person {
    let body = json!({ "refreshToken": person.refresh_token });
    let data = hub.post("/v1/auth/refresh", body).await.data(200);
    let text = |name: &str| data[name].as_str().unwrap().to_owned();
    assert_eq!(text("sessionId"), person.session_id);
    let (token, refresh_token) = (text("accessToken"), text("refreshToken"));
    Person { token, refresh_token, ..person.clone() }
}

async fn assert_dead(hub: &TestHub, person: &Person) {
    person.get(hub, "/v1/users/profile").await.refused(401, "unauthenticated");
    let body = json!({ "refreshToken": person.refresh_token });
    hub.post("/v1/auth/refresh", body).await.refused(401, "invalid_refresh_token");
}

async fn assert_alive(hub: &TestHub, person: &Person) {
    let profile = person.get(hub, "/v1/users/profile").await.data(200);
    assert_eq!(profile["id"], person.id);
}

/// Asks until the token is refused: another node believes in it for a second.
async fn dies_within(hub: &TestHub, person: &Person, patience: Duration) {
    let asked = Instant::now();
    while person.get(hub, "/v1/users/profile").await.status == StatusCode::OK {
        assert!(asked.elapsed() < patience, "the token is still good");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    person.get(hub, "/v1/users/profile").await.refused(401, "unauthenticated");
}

async fn audit(hub: &TestHub, event: &str) -> Vec<String> {
    let sql = format!(
        "SELECT coalesce(user_id::text, '-') FROM audit_log WHERE event_type = '{event}' ORDER BY id"
    );
    rows::column(&hub.database_url, &sql).await
}

async fn revoked_reason(hub: &TestHub, session_id: &str) -> String {
    let sql = format!("SELECT revoked_reason FROM sessions WHERE id = '{session_id}'");
    rows::column(&hub.database_url, &sql).await.remove(0)
}

fn registration(email: &str) -> Value {
    json!({
        "email": email, "password": PASSWORD, "firstName": " Asha ", "lastName": "Rao",
        "phone": "+919812345678", "userType": "seeker",
    })
}

#[tokio::test]
async fn an_account_is_opened_once_whatever_the_case_of_its_address() {
    let hub = TestHub::start().await;
    let data = hub.post("/v1/auth/register", registration(" Asha@Example.IN ")).await.data(201);
    assert_eq!(
        (&data["user"]["email"], &data["user"]["firstName"], &data["tokenType"]),
        (&json!("asha@example.in"), &json!("Asha"), &json!("Bearer"))
    );
    let user = data["user"].as_object().unwrap();
    assert!(!user.keys().any(|key| key.to_lowercase().contains("password")), "{user:?}");
    let again = hub.post("/v1/auth/register", registration("ASHA@example.in")).await;
    again.refused(409, "email_taken");
    let sql = "SELECT count(*) FROM users";
    assert_eq!(rows::number(&hub.database_url, sql).await, 1);
    let sql = "SELECT password_hash FROM users";
    let hash = rows::column(&hub.database_url, sql).await.remove(0);
    assert!(hash.starts_with("$2") && bcrypt::verify(PASSWORD, &hash).unwrap());

    let body = json!({ "email": "  ASHA@EXAMPLE.in ", "password": PASSWORD });
    let login = hub.post("/v1/auth/login", body).await.data(200);
    assert_eq!(login["user"]["id"], data["user"]["id"]);
    assert_ne!(login["sessionId"], data["sessionId"]);
    hub.stop().await;
}

#[tokio::test]
async fn two_registrations_at_once_make_one_account() {
    let hub = TestHub::start().await;
    let register = || hub.post("/v1/auth/register", registration("twin@example.in"));
    let (a, b) = tokio::join!(register(), register());
    let mut statuses = [a.status.as_u16(), b.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
    hub.stop().await;
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_the_session_goes_on() {
    let hub = TestHub::start().await;
    let first = hub.seeker().await;
    let second = refreshed(&hub, &first).await;
    assert!(second.token != first.token && second.refresh_token != first.refresh_token);
    assert_alive(&hub, &second).await;
    let third = refreshed(&hub, &second).await;
    assert_alive(&hub, &third).await;
    let sql = "SELECT count(*), count(used_at) FROM refresh_tokens";
    let counts = rows::rows(&hub.database_url, sql).await.remove(0);
    assert_eq!(counts, [Some("3".to_owned()), Some("2".to_owned())]);
    for nonsense in ["", "nonsense", &"A".repeat(43)] {
        let body = json!({ "refreshToken": nonsense });
        hub.post("/v1/auth/refresh", body).await.refused(401, "invalid_refresh_token");
    }
    // An access token is no refresh token, and the other way round.
    let body = json!({ "refreshToken": third.token });
    hub.post("/v1/auth/refresh", body).await.refused(401, "invalid_refresh_token");
    let swapped = Person { token: third.refresh_token.clone(), ..third.clone() };
    swapped.get(&hub, "/v1/users/profile").await.refused(401, "unauthenticated");
    assert_alive(&hub, &third).await;
    hub.stop().await;
}

#[tokio::test]
async fn a_second_use_of_a_refresh_token_ends_its_whole_family() {
    let hub = TestHub::start().await;
    let first = hub.seeker().await;
    let other_device = hub.login(&first).await;
    let second = refreshed(&hub, &first).await;
    let mut socket = Socket::open(&hub, &second).await;

    let body = json!({ "refreshToken": first.refresh_token });
    hub.post("/v1/auth/refresh", body).await.refused(401, "invalid_refresh_token");
    assert_dead(&hub, &first).await;
    assert_dead(&hub, &second).await;
    assert_eq!(socket.close_code().await, Some(4501));
    assert_alive(&hub, &other_device).await;
    assert_eq!(revoked_reason(&hub, &first.session_id).await, "token_reuse");
    assert_eq!(audit(&hub, "token_reuse").await, [first.id]);
    hub.stop().await;
}

#[tokio::test]
async fn of_two_refreshes_at_once_one_wins_and_the_family_ends() {
    let hub = TestHub::start().await;
    for _ in 0..10 {
        let person = hub.seeker().await;
        let body = json!({ "refreshToken": person.refresh_token });
        let refresh = || hub.post("/v1/auth/refresh", body.clone());
        let (a, b) = tokio::join!(refresh(), refresh());
        let won: Vec<_> = [&a, &b].into_iter().filter(|x| x.status == 200).collect();
        assert_eq!(won.len(), 1, "{:#} {:#}", a.body, b.body);
        let text = |name: &str| won[0].body["data"][name].as_str().unwrap().to_owned();
        let winner = Person {
            token: text("accessToken"),
            refresh_token: text("refreshToken"),
            ..person.clone()
        };
        assert_eq!(revoked_reason(&hub, &person.session_id).await, "token_reuse");
        assert_dead(&hub, &winner).await;
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_refresh_token_that_ran_out_is_refused_and_nothing_else_happens() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    let old = "UPDATE refresh_tokens SET expires_at = now() - interval '1 second'";
    rows::rows(&hub.database_url, old).await;
    let body = json!({ "refreshToken": person.refresh_token });
    hub.post("/v1/auth/refresh", body).await.refused(401, "invalid_refresh_token");
    assert_eq!(revoked_reason(&hub, &person.session_id).await, "");
    assert_alive(&hub, &person).await;
    hub.stop().await;
}

#[tokio::test]
async fn logging_out_kills_the_tokens_at_once() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    let other_device = hub.login(&person).await;
    let mut socket = Socket::open(&hub, &person).await;
    assert_alive(&hub, &person).await;
    person.post(&hub, "/v1/auth/logout", json!({})).await.data(200);
    assert_dead(&hub, &person).await;
    assert_eq!(socket.close_code().await, Some(4501));
    assert!(Socket::try_open(&hub, Some(&person.token)).await.is_err());
    assert_alive(&hub, &other_device).await;
    assert_eq!(revoked_reason(&hub, &person.session_id).await, "logout");
    assert_eq!(audit(&hub, "logout").await, [person.id]);
    hub.stop().await;
}

#[tokio::test]
async fn a_logout_reaches_the_other_nodes_within_the_second() {
    let here = TestHub::start().await;
    let there = TestHub::start_over(here.database_url.clone(), |_| {}).await;
    let person = here.seeker().await;
    assert_alive(&there, &person).await;
    person.post(&here, "/v1/auth/logout", json!({})).await.data(200);
    dies_within(&there, &person, Duration::from_secs(3)).await;
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn sessions_are_listed_and_ended_one_by_one() {
    let hub = TestHub::start().await;
    let (here, stranger) = (hub.seeker().await, hub.seeker().await);
    let body = json!({ "email": here.email, "password": PASSWORD });
    let login = hub.request(reqwest::Method::POST, "/v1/auth/login");
    let login = answer(login.header("user-agent", "Asha's phone").json(&body)).await.data(200);
    let phone = login["sessionId"].as_str().unwrap().to_owned();

    let listed = here.get(&hub, "/v1/auth/sessions").await.data(200);
    let mut seen: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["id"].as_str().unwrap().to_owned(), s["current"] == true))
        .collect();
    seen.sort();
    let mut expected = vec![(here.session_id.clone(), true), (phone.clone(), false)];
    expected.sort();
    assert_eq!(seen, expected);
    let of_phone = listed.as_array().unwrap().iter().find(|s| s["id"] == phone.as_str());
    assert_eq!(of_phone.unwrap()["userAgent"], "Asha's phone");

    for not_mine in [stranger.session_id.clone(), Uuid::now_v7().to_string()] {
        let path = format!("/v1/auth/sessions/{not_mine}");
        here.delete(&hub, &path).await.refused(404, "not_found");
    }
    assert_alive(&hub, &stranger).await;

    let path = format!("/v1/auth/sessions/{phone}");
    here.delete(&hub, &path).await.data(200);
    let text = |name: &str| login[name].as_str().unwrap().to_owned();
    let lost = Person {
        token: text("accessToken"),
        refresh_token: text("refreshToken"),
        session_id: phone,
        ..here.clone()
    };
    assert_dead(&hub, &lost).await;
    assert_alive(&hub, &here).await;
    here.delete(&hub, &path).await.refused(404, "not_found");
    hub.stop().await;
}

#[tokio::test]
async fn all_sessions_end_together() {
    let hub = TestHub::start().await;
    let (here, stranger) = (hub.seeker().await, hub.seeker().await);
    let devices = [hub.login(&here).await, hub.login(&here).await, here.clone()];
    here.delete(&hub, "/v1/auth/sessions").await.data(200);
    for device in &devices {
        assert_dead(&hub, device).await;
    }
    assert_alive(&hub, &stranger).await;
    // The account itself is well.
    assert_alive(&hub, &hub.login(&here).await).await;
    hub.stop().await;
}

#[tokio::test]
async fn a_suspended_account_is_shut_out() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    assert_alive(&hub, &person).await;
    rows::rows(&hub.database_url, "UPDATE users SET status = 'suspended'").await;
    dies_within(&hub, &person, Duration::from_secs(3)).await;
    let body = json!({ "refreshToken": person.refresh_token });
    hub.post("/v1/auth/refresh", body).await.refused(401, "invalid_refresh_token");
    let body = json!({ "email": person.email, "password": PASSWORD });
    hub.post("/v1/auth/login", body).await.refused(401, "invalid_credentials");
    hub.stop().await;
}

#[tokio::test]
async fn logins_and_their_failures_are_in_the_audit_log() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    hub.login(&person).await;
    for email in [person.email.as_str(), "nobody@example.in"] {
        let body = json!({ "email": email, "password": "not the password" });
        let login = hub.request(reqwest::Method::POST, "/v1/auth/login");
        let login = login.header("user-agent", "x".repeat(300)).json(&body);
        answer(login).await.refused(401, "invalid_credentials");
    }
    // The registration logs in as well.
    assert_eq!(audit(&hub, "login").await, [person.id.clone(), person.id.clone()]);
    assert_eq!(audit(&hub, "failed_login").await, [person.id, "-".to_owned()]);
    let sql = "SELECT ip_address, length(user_agent), metadata FROM audit_log
                WHERE event_type = 'failed_login'";
    for row in rows::rows(&hub.database_url, sql).await {
        let row: Vec<_> = row.iter().flatten().map(String::as_str).collect();
        assert_eq!(row, ["127.0.0.1", "255", "{}"]);
    }
    hub.stop().await;
}
