//! What one user, and one who is nobody yet, can take from a hub through its sockets.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::raw_socket::TEXT;
use crate::support::{Node, RawSocket, Socket, TestHub, postgres};

#[tokio::test]
async fn a_user_has_so_many_sockets() {
    let hub = TestHub::start_with(|c| c.sockets.connections_per_user = 3).await;
    let (person, other) = (hub.seeker().await, hub.seeker().await);
    let phone = hub.login(&person).await;
    let mut open = vec![Socket::open(&hub, &person).await, Socket::open(&hub, &phone).await];
    let mut browser = Socket::try_open(&hub, None).await.unwrap();
    let answer = browser.ok("auth", json!({ "token": person.token })).await;
    assert_eq!(answer["limits"]["connections"], 3);
    // To renew a token takes no further place.
    browser.ok("auth", json!({ "token": person.token })).await;
    let mut fourth = Socket::try_open(&hub, Some(&person.token)).await.unwrap();
    assert_eq!(fourth.close_code().await, Some(4503));
    let mut in_frame = Socket::try_open(&hub, None).await.unwrap();
    in_frame.command("auth", json!({ "token": phone.token })).await;
    assert_eq!(in_frame.close_code().await, Some(4503));
    for socket in &mut open {
        socket.ok("ping", json!({})).await;
    }
    Socket::open(&hub, &other).await;
    // One that ends makes room, as soon as the hub knows.
    browser.close().await;
    let until = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        let mut again = Socket::try_open(&hub, Some(&person.token)).await.unwrap();
        again.command("ping", json!({})).await;
        match again.frame_or_close().await {
            Some(Ok(answer)) => break assert_eq!(answer["ok"], true),
            closed => assert_eq!(closed, Some(Err(Some(4503)))),
        }
        assert!(tokio::time::Instant::now() < until, "there is never room");
    }
}

#[tokio::test]
async fn the_sockets_of_a_user_share_a_rate() {
    let hub = TestHub::start_with(|c| c.sockets.user_commands = 5).await;
    let (person, other) = (hub.seeker().await, hub.seeker().await);
    let mut sockets = Vec::new();
    for _ in 0..3 {
        // Not by `open`, which sends a command.
        sockets.push(Socket::try_open(&hub, Some(&person.token)).await.unwrap());
    }
    let mut refused = Vec::new();
    for n in 0..30 {
        let answer = sockets[n % 3].call("ping", json!({})).await;
        if answer["ok"] == false {
            assert_eq!(answer["error"]["code"], "rate_limited");
            refused.push(answer["error"]["retryAfterMs"].as_u64().unwrap());
        }
    }
    // Ten at once, and what the time earned.
    assert!((10..=20).contains(&refused.len()), "{} of 30 refused", refused.len());
    assert!(refused.iter().all(|ms| *ms <= 200), "{refused:?}");
    // Every command counts, and somebody else is not held up.
    let typing = json!({ "conversationId": uuid::Uuid::new_v4() });
    let mut codes: Vec<Value> = Vec::new();
    for _ in 0..10 {
        let answer = sockets[0].call("typing:start", typing.clone()).await;
        codes.push(answer["error"]["code"].clone());
    }
    assert!(codes.contains(&json!("rate_limited")), "{codes:?}");
    Socket::open(&hub, &other).await.ok("ping", json!({})).await;
    tokio::time::sleep(Duration::from_millis(refused[refused.len() - 1] + 300)).await;
    sockets[1].ok("ping", json!({})).await;
}

/// Resident memory of a process in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Announces a frame of 200 MB, sends what the hub takes of it, and reads the close code.
async fn flood(socket: &mut RawSocket) -> Option<u16> {
    let mut bytes = vec![TEXT, 0x80 | 127];
    bytes.extend(200_000_000u64.to_be_bytes());
    bytes.extend([1, 2, 3, 4]);
    bytes.resize(1_000_000, b'x');
    socket.send_bytes(&bytes).await;
    socket.close_code().await
}

#[tokio::test]
async fn a_huge_frame_of_a_stranger_costs_little_memory() {
    const SOCKETS: usize = 40;
    let late = [("WS_AUTH_TIMEOUT_SECONDS", "60")];
    let node = Node::start_with(&postgres::migrated(), &late).await;
    // What is taken once and kept: buffers of the workers, of the allocator.
    for _ in 0..10 {
        assert_eq!(flood(&mut RawSocket::open(&node, "/v1/ws", &[]).await).await, Some(1009));
    }
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(RawSocket::open(&node, "/v1/ws", &[]).await);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = resident(node.pid());
    let mut peak = before;
    // All at once, and they stay: what one costs does not pay for the next.
    let floods = join_all(sockets.iter_mut().map(flood));
    let mut floods = std::pin::pin!(floods);
    let codes = loop {
        tokio::select! {
            codes = &mut floods => break codes,
            () = tokio::time::sleep(Duration::from_millis(2)) => {}
        }
        peak = peak.max(resident(node.pid()));
    };
    peak = peak.max(resident(node.pid()));
    assert_eq!(codes, [Some(1009); SOCKETS]);
    let each = (peak - before) / u64::try_from(SOCKETS).unwrap();
    println!("{each} bytes for each socket that announced 200 MB");
    assert!(each < 100_000, "{each} bytes of memory for each of {SOCKETS} sockets");
    node.stop().await;
}
