//! A database that goes away: what clients and operators are told, and that it heals.

use std::time::Duration;

use hub::postgres::{self, StartError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::json;

use crate::private_postgres::{DataDir, ask, until};
use crate::support::process::{Process, get, readyz_becomes};
use crate::support::{Socket, TestHub};

#[tokio::test]
async fn a_lost_database_is_said_to_be_away_and_comes_back() {
    let dir = DataDir::new();
    let server = postgres::start(dir.options()).await.unwrap();
    server.create_database_if_missing("hub").await.unwrap();
    let url = server.url("hub");
    let conn = crate::support::postgres::connect(&url).await;
    let up = hub::models::migrations::Direction::Up;
    hub::models::migrations::run(conn, up).await.unwrap();
    let hub = TestHub::start_over(url, |c| {
        c.database.pool_size = 2;
        c.database.pool_wait = Duration::from_secs(1);
    })
    .await;
    let ready = hub.get("/readyz").await.data(200);
    assert_eq!((&ready["status"], &ready["bus"]), (&json!("ready"), &json!("none")));
    let (practice, other) = (hub.practice().await, hub.seeker().await);
    let person = &practice.person;
    let mut socket = Socket::open(&hub, person).await;
    // Once it has this, it reads no more from the database by itself.
    other.post(&hub, "/v1/bookings", practice.wish(practice.slot(9))).await.data(201);
    socket.event("notification:new").await;

    server.stop().await.unwrap();
    let refused = hub.get("/readyz").await;
    let error = refused.refused(503, "unavailable");
    assert_eq!(error["details"], json!({ "notReady": ["database"] }));
    assert!(refused.headers.contains_key("retry-after"));
    for (method, path, body) in [
        (Method::GET, "/v1/services", None),
        (Method::GET, "/v1/users/profile", None),
        (Method::POST, "/v1/auth/login", Some(json!({ "email": "a@b.in", "password": "x" }))),
        (Method::POST, "/v1/conversations", Some(json!({ "userId": other.id }))),
    ] {
        let refused = hub.call(method, path, Some(&person.token), body.as_ref()).await;
        let error = refused.refused(503, "unavailable");
        assert!(error.get("details").is_none(), "{error}");
        assert!(!error.to_string().contains("PGSQL"), "the cause is told: {error}");
        assert!(refused.headers.contains_key("retry-after"));
    }
    let message = json!({ "conversationId": person.id, "seq": 1 });
    let error = socket.refused("message:read", message, "unavailable").await;
    assert!(error["retryAfterMs"].as_u64().unwrap() >= 1_000, "{error}");
    hub.get("/healthz").await.data(200);

    let server = postgres::start(dir.options()).await.unwrap();
    for path in ["/readyz", "/v1/services"] {
        hub.get(path).await.data(200);
    }
    person.get(&hub, "/v1/users/profile").await.data(200);
    hub.stop().await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn cut_connections_are_made_again() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    for _ in 0..20 {
        hub.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
              WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
        let answer = person.get(&hub, "/v1/users/profile").await;
        assert!(matches!(answer.status.as_u16(), 200 | 503), "{:#}", answer.body);
        if answer.status == 503 {
            answer.refused(503, "unavailable");
        }
    }
    let answered = || async { person.get(&hub, "/v1/users/profile").await.status == 200 };
    assert!(answered().await || answered().await);
    hub.stop().await;
}

#[tokio::test]
async fn a_hub_whose_tables_were_taken_away_is_not_ready() {
    let hub = TestHub::start().await;
    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('99991231000001')";
    hub.execute(newer).await;
    hub.get("/readyz").await.data(200);
    let newest = "DELETE FROM __diesel_schema_migrations WHERE version =
        (SELECT max(version) FROM __diesel_schema_migrations WHERE version < '9999')";
    assert_eq!(hub.execute(newest).await, 1);
    let error = hub.get("/readyz").await.refused(503, "unavailable");
    assert_eq!(error["details"], json!({ "notReady": ["migrations"] }));
    hub.execute("DROP TABLE __diesel_schema_migrations").await;
    let error = hub.get("/readyz").await.refused(503, "unavailable");
    assert_eq!(error["details"], json!({ "notReady": ["migrations"] }));
    hub.stop().await;
}

fn end(pid: u32) {
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn a_private_server_that_ends_is_started_again_three_times() {
    let dir = DataDir::new();
    let server = postgres::start(dir.options()).await.unwrap();
    server.create_database_if_missing("kept").await.unwrap();
    let mut pid = server.pid();
    let kill_it = async {
        for _ in 0..3 {
            end(pid);
            let again = || server.pid() != pid;
            assert!(until(Duration::from_secs(30), again).await);
            pid = server.pid();
            assert_eq!(ask(&server, "kept", "SELECT 1").await, "1");
        }
        end(pid);
        std::future::pending::<()>().await;
    };
    let error = tokio::select! {
        error = server.keep() => error,
        () = kill_it => unreachable!(),
    };
    assert!(matches!(error, StartError::KeepsEnding { times: 4, .. }), "{error}");
    assert!(error.to_string().contains("postgres.log"), "{error}");
    server.stop().await.unwrap();
}

/// A stop that comes while the server is being started again.
#[tokio::test]
async fn a_stop_leaves_no_server_behind_that_was_just_coming_up() {
    let dir = DataDir::new();
    for delay in [0, 250, 300, 400, 600] {
        let server = postgres::start(dir.options()).await.unwrap();
        end(server.pid());
        let watch = tokio::time::timeout(Duration::from_millis(delay), server.keep());
        assert!(watch.await.is_err());
        server.stop().await.unwrap();
        let gone = || crate::private_postgres::processes_of(&dir.cluster()).is_empty();
        assert!(until(Duration::from_secs(5), gone).await, "after {delay} ms");
    }
}

fn postmaster(dir: &DataDir) -> u32 {
    let file = std::fs::read_to_string(dir.cluster().join("postmaster.pid")).unwrap();
    file.lines().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_hub_outlives_its_server_and_ends_when_that_keeps_ending() {
    let dir = DataDir::new();
    let mut hub = Process::start(dir.path(), &["serve"], &[]);
    let address = hub.address().await;
    readyz_becomes(&address, 200).await;
    for _ in 0..3 {
        let before = postmaster(&dir);
        end(before);
        let restarted = || {
            let file = std::fs::read_to_string(dir.cluster().join("postmaster.pid"));
            file.is_ok_and(|text| !text.starts_with(&format!("{before}\n")))
        };
        assert!(until(Duration::from_secs(30), restarted).await, "{}", hub.said());
        readyz_becomes(&address, 200).await;
        let (status, body) = get(&address, "/v1/services").await.unwrap();
        assert_eq!(status, 200, "{body}");
    }
    end(postmaster(&dir));
    let (status, said) = hub.ends().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("hub: PostgreSQL has ended 4 times"), "{said}");
    let gone = || crate::private_postgres::processes_of(&dir.cluster()).is_empty();
    assert!(until(Duration::from_secs(10), gone).await);
}
