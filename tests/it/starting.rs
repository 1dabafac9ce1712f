//! The start of the program: told to stop in the midst of it, and not ready before its end.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::private_postgres::{DataDir, processes_of, until};
use crate::support::process::{Process, get, readyz_becomes};

#[tokio::test]
async fn a_signal_during_the_start_stops_the_hub_in_order() {
    let dir = DataDir::new();
    // Into initdb, the server's start, the migrations, the demo data; then into a second start.
    let moments = [
        ("", 100, Signal::SIGTERM),
        ("", 1_500, Signal::SIGINT),
        ("the private PostgreSQL is ready", 0, Signal::SIGTERM),
        ("migrated", 0, Signal::SIGINT),
        ("serving address=", 0, Signal::SIGTERM),
        ("", 20, Signal::SIGTERM),
    ];
    for (words, delay, signal) in moments {
        // Its own directory where it waits for what is said only once per database.
        let fresh = DataDir::new();
        let dir = if words == "migrated" { &fresh } else { &dir };
        let mut hub = Process::start(dir.path(), &["serve", "--demo"], &[]);
        if !words.is_empty() {
            hub.says(words).await;
        }
        tokio::time::sleep(Duration::from_millis(delay)).await;
        hub.signal(signal);
        let (status, said) = hub.ends().await;
        let what = format!("{words} {delay} {signal}: {status} {said}");
        // Within its first milliseconds the process has no handler yet.
        assert!(status.success() || said.is_empty(), "{what}");
        assert!(status.success() == said.contains("told to stop"), "{what}");
        if dir.path().join("postgres").exists() {
            let gone = || processes_of(&dir.cluster()).is_empty();
            assert!(gone(), "a server is left: {what}");
            assert!(until(Duration::from_secs(1), gone).await);
        }
    }
    // Nothing of that did any harm.
    let mut hub = Process::start(dir.path(), &["serve", "--demo"], &[]);
    readyz_becomes(&hub.address().await, 200).await;
    hub.says("Klear Karma Hub serves on").await;
    hub.signal(Signal::SIGTERM);
    assert!(hub.ends().await.0.success());
}

#[tokio::test]
async fn a_hub_is_ready_once_the_demo_is_loaded() {
    let dir = DataDir::new();
    let mut hub = Process::start(dir.path(), &["serve", "--demo"], &[("BCRYPT_COST", "13")]);
    let address = hub.address().await;
    let (status, body) = get(&address, "/readyz").await.unwrap();
    assert_eq!(status, 503, "{body}");
    assert_eq!(body["error"]["code"], "unavailable");
    assert_eq!(body["error"]["details"], json!({ "notReady": ["starting"] }));
    assert_eq!(get(&address, "/healthz").await.unwrap().0, 200);
    let ready = readyz_becomes(&address, 200).await;
    assert_eq!(ready["data"]["status"], "ready");
    let (_, list) = get(&address, "/v1/practitioners").await.unwrap();
    assert!(list["meta"]["pagination"]["total"].as_i64().unwrap() > 1, "{list}");
    hub.signal(Signal::SIGTERM);
    assert!(hub.ends().await.0.success());
}
