//! Where the secrets of calendars must not turn up: in the log, however much of it is asked for.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::feed_server::{FeedServer, Page};
use crate::support::hub::answer;
use crate::support::people::PASSWORD;
use crate::support::postgres;
use crate::support::process::Process;

/// Reads a feed with its token, with a wrong one, and in a way that is refused before it is looked
/// at.
async fn read_feed(client: &reqwest::Client, base: &str, made: &Value) {
    let (path, token) = (made["path"].as_str().unwrap(), made["token"].as_str().unwrap());
    let wrong = path.replace(token, "a-token-that-is-wrong");
    for (path, status) in [(path, 200), (&wrong, 404), (&format!("{path}&version=2"), 406)] {
        let answer = client.get(format!("{base}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_holds_no_secret_of_a_calendar() {
    let url = postgres::migrated();
    let dir = tempfile::tempdir().unwrap();
    let env = [
        ("DATABASE_URL", url.as_str()),
        ("LOG_LEVEL", "debug,hub=trace"),
        ("JWT_SECRET", "a jwt secret of more than 32 bytes, really"),
        ("CALENDAR_ALLOW_PRIVATE_FEEDS", "true"),
    ];
    let mut process = Process::start(dir.path(), &["serve"], &env);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
    let base = format!("http://{}", process.address().await);
    let server = FeedServer::start();
    server.put("/cal.ics", Page::status(500));

    let post = async |path: &str, token: &str, body: Value| {
        answer(client.post(format!("{base}{path}")).bearer_auth(token).json(&body)).await.data(201)
    };
    let new = json!({
        "email": "meera@example.in", "password": PASSWORD, "firstName": "Meera",
        "lastName": "Nair", "userType": "practitioner",
    });
    let me = post("/v1/auth/register", "x", new).await;
    let me = me["accessToken"].as_str().unwrap();
    let practice = json!({ "availability": { "timeZone": "UTC" } });
    let practice = post("/v1/practitioners", me, practice).await;
    let practice = format!("/v1/practitioners/{}", practice["id"].as_str().unwrap());
    let mut hidden = Vec::new();
    for feed in ["/v1/users/calendar-feed", &format!("{practice}/calendar-feed")] {
        let made = post(feed, me, json!({})).await;
        read_feed(&client, &base, &made).await;
        hidden.push(made["token"].as_str().unwrap().to_owned());
    }
    hidden.push("a-token-that-is-wrong".to_owned());
    let address = server.url("/cal.ics?key=an-address-that-is-secret");
    let external = format!("{practice}/external-calendars");
    post(&external, me, json!({ "name": "x", "url": address })).await;
    server.waits_for("/cal.ics", 1).await;
    let refused = json!({ "name": "x", "url": "ftp://an-address-that-is-wrong/" });
    let refused = answer(client.post(format!("{base}{external}")).bearer_auth(me).json(&refused));
    refused.await.names("url");
    hidden.extend(["an-address-that-is-secret", "an-address-that-is-wrong"].map(String::from));

    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    let list = || answer(client.get(format!("{base}{external}")).bearer_auth(me));
    while list().await.data(200)[0]["staleSince"].is_null() {
        assert!(tokio::time::Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let log = process.stop().await;
    let control = "status 500";
    assert!(
        log.contains("calendar.ics") && log.contains(control) && log.contains("DEBUG"),
        "{log}"
    );
    for secret in hidden {
        let line = log.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{secret} is in the log");
    }
    server.stop().await;
}
