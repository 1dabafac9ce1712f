//! Settings of the program that are wrong: told at once, before anything is made.

use nix::sys::signal::Signal;

use crate::support::postgres;
use crate::support::process::{Process, get};

const SECRET: (&str, &str) = ("JWT_SECRET", "a secret of the tests, of more than 32 bytes");

/// Runs `hub serve`, which must end with an error that names `variable`; returns what it said.
async fn refused(env: &[(&str, &str)], arguments: &[&str], variable: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut hub = Process::start(&data, &[arguments, &["serve"]].concat(), env);
    let (status, said) = hub.ends().await;
    assert_eq!(status.code(), Some(1), "{env:?}: {said}");
    assert!(said.contains(variable), "{env:?}: {said}");
    assert!(!data.exists(), "{env:?}: something was made before that was noticed: {said}");
    for (name, value) in env {
        assert!(!name.contains("KEY") || !said.contains(value), "a secret is shown: {said}");
    }
    said
}

#[tokio::test]
async fn what_is_wrong_is_told_before_anything_is_made() {
    let database = ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing");
    for (env, variable) in [
        (vec![database], "JWT_SECRET"),
        (vec![database, SECRET, ("VAPID_PRIVATE_KEY", "a-key-that-is-none")], "VAPID_PRIVATE_KEY"),
        (vec![("VAPID_PRIVATE_KEY", "a-key-that-is-none")], "VAPID_PRIVATE_KEY"),
        (vec![("VAPID_SUBJECT", "push@example.in")], "VAPID_SUBJECT"),
        (vec![("FCM_CREDENTIALS_FILE", "/nowhere/at/all.json")], "FCM_CREDENTIALS_FILE"),
        (vec![("FCM_CREDENTIALS_FILE", "/etc/hostname")], "FCM_CREDENTIALS_FILE"),
        (vec![("FCM_PROJECT", "a b")], "FCM_PROJECT"),
        (vec![("FCM_BASE_URL", "xx")], "FCM_BASE_URL"),
        (vec![("REDIS_URL", "foo")], "REDIS_URL"),
        (vec![("REDIS_URL", "http://localhost")], "REDIS_URL"),
        (vec![("STORAGE_URL", "data/files")], "STORAGE_URL"),
        (vec![("STORAGE_URL", "gs://bucket")], "STORAGE_URL"),
        (vec![("STORAGE_ENDPOINT", "minio:9000")], "STORAGE_ENDPOINT"),
        (vec![("STORAGE_ACCESS_KEY_ID", "AKIAEXAMPLE")], "STORAGE_SECRET_ACCESS_KEY"),
        (vec![("LOG_LEVEL", "inof")], "LOG_LEVEL"),
        (vec![("ALLOWED_ORIGINS", "foo,bar")], "ALLOWED_ORIGINS"),
        (vec![("ALLOWED_ORIGINS", "https://app.example.in/")], "ALLOWED_ORIGINS"),
    ] {
        refused(&env, &[], variable).await;
    }
    let said = refused(&[("REDIS_URL", "foo")], &[], "REDIS_URL").await;
    assert!(said.contains("redis://"), "what is allowed: {said}");
}

#[tokio::test]
async fn a_misspelt_name_in_the_file_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "COMMISSION_BPS=1000\nHOLD_TTL_SECOND=5\n").unwrap();
    let path = file.path().to_str().unwrap();
    let said = refused(&[], &["--config", path], "HOLD_TTL_SECOND").await;
    assert!(said.contains("such as HOLD_TTL_SECONDS"), "{said}");
    // The environment is everybody's: what is not ours there is no mistake.
    std::fs::write(&file, "COMMISSION_BPS=70000\n").unwrap();
    let env = [("HOLD_TTL_SECOND", "5")];
    refused(&env, &["--config", path], "COMMISSION_BPS").await;
}

#[tokio::test]
async fn one_case_of_a_file_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/slot-cases.json");
    let mut all = Process::start(dir.path(), &["slots", "explain", file], &[]);
    let (status, said) = all.ends().await;
    assert_eq!(status.code(), Some(1));
    let id = said.split("--case ").nth(1).unwrap().trim();
    let mut one = Process::start(dir.path(), &["slots", "explain", "--case", id, file], &[]);
    let (status, said) = one.ends().await;
    assert!(status.success() && said.contains("\"slots\""), "{said}");
}

#[tokio::test]
async fn an_unreachable_redis_is_said_while_it_is_waited_for() {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let (url, redis) = (postgres::migrated(), format!("redis://127.0.0.1:{port}"));
    let dir = tempfile::tempdir().unwrap();
    let env = [("DATABASE_URL", url.as_str()), SECRET, ("REDIS_URL", &redis)];
    let mut hub = Process::start(dir.path(), &["serve"], &env);
    hub.says("redis can not be reached").await;
    hub.signal(Signal::SIGTERM);
    assert!(hub.ends().await.0.success());
}

#[tokio::test]
async fn the_log_is_plain_where_nobody_looks_and_calls_no_client_an_error() {
    let url = postgres::migrated();
    let dir = tempfile::tempdir().unwrap();
    for format in ["text", "json"] {
        let env = [("DATABASE_URL", url.as_str()), SECRET, ("LOG_FORMAT", format)];
        let mut hub = Process::start(dir.path(), &["serve"], &env);
        let words = if format == "json" { "\"address\":\"" } else { "serving address=" };
        let line = hub.says(words).await;
        let address = line.split([' ', '"']).next().unwrap().to_owned();
        // A header that is none.
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        stream.write_all(b"GET / HTTP/1.1\r\nbad header\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
        get(&address, "/v1/services").await.unwrap();
        hub.says("/v1/services").await;
        hub.signal(Signal::SIGTERM);
        let (status, said) = hub.ends().await;
        assert!(status.success(), "{said}");
        assert!(!said.contains('\u{1b}'), "escapes: {said}");
        assert!(!said.contains("ERROR"), "{said}");
        if format == "json" {
            for line in said.lines() {
                serde_json::from_str::<serde_json::Value>(line).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn nodes_that_share_no_files_are_warned_of() {
    let (url, dir) = (postgres::migrated(), tempfile::tempdir().unwrap());
    let elsewhere = format!("file://{}", dir.path().join("shared").display());
    let nowhere = ("REDIS_URL", "redis://127.0.0.1:1");
    let database = ("DATABASE_URL", url.as_str());
    for (more, is_warned_of) in [
        (vec![nowhere], true),
        (vec![nowhere, ("STORAGE_URL", elsewhere.as_str())], false),
        (vec![], false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut hub =
            Process::start(dir.path(), &["serve"], &[&[database, SECRET], &*more].concat());
        hub.address().await;
        hub.signal(Signal::SIGTERM);
        let (status, said) = hub.ends().await;
        assert!(status.success(), "{said}");
        let lines = said.lines().filter(|line| line.contains("WARN"));
        assert_eq!(lines.filter(|line| line.contains("STORAGE_URL")).count() == 1, is_warned_of);
    }
}
