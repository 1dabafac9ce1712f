//! How sockets end that do not want to: revoked, suspended, drained; and how the connection under
//! them ends.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::chat::Pair;
use crate::support::raw_socket::TEXT;
use crate::support::redis::Redis;
use crate::support::{RawSocket, Socket, TestHub, rows};

/// A masked close frame's first byte, and its payload: 1000.
const CLOSE: u8 = 0x88;
const BYE: [u8; 2] = 1000u16.to_be_bytes();

/// How long the hub takes to end the connection.
async fn hangs_up(socket: &mut RawSocket) -> Duration {
    let began = Instant::now();
    while socket.frame().await.is_some() {}
    began.elapsed()
}

#[tokio::test]
async fn the_connection_ends_soon_after_both_have_said_goodbye() {
    let limit = Duration::from_millis(250);
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    // Of several attempts the best: the hub's own waiting shows in all of them, the machine's not.
    let (mut by_client, mut by_hub) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let mut socket = RawSocket::open_as(&hub, &person.token).await;
        let began = Instant::now();
        socket.send_frame(CLOSE, &BYE).await;
        assert_eq!(socket.close_code().await, Some(1000));
        hangs_up(&mut socket).await;
        by_client.push(began.elapsed());
        // The hub says it first, and waits for the answer.
        let mut socket = RawSocket::open_as(&hub, &person.token).await;
        socket.send_frame(TEXT, b"nonsense").await;
        assert_eq!(socket.close_code().await, Some(4502));
        tokio::time::sleep(Duration::from_millis(100)).await;
        socket.send_frame(TEXT, br#"{"id":1,"op":"ping"}"#).await;
        let began = Instant::now();
        socket.send_frame(CLOSE, &BYE).await;
        hangs_up(&mut socket).await;
        by_hub.push(began.elapsed());
    }
    assert!(by_client.iter().min().unwrap() < &limit, "{by_client:?}");
    assert!(by_hub.iter().min().unwrap() < &limit, "{by_hub:?}");
    // A peer that never answers does not keep it.
    let mut socket = RawSocket::open_as(&hub, &person.token).await;
    socket.send_frame(TEXT, b"nonsense").await;
    assert_eq!(socket.close_code().await, Some(4502));
    let took = hangs_up(&mut socket).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn who_sends_on_after_a_broken_frame_still_reads_why() {
    let hub = TestHub::start().await;
    for _ in 0..5 {
        let mut socket = RawSocket::open(&hub, "/v1/ws", &[]).await;
        let mut bytes = vec![TEXT, 0x80 | 127];
        bytes.extend(200_000_000u64.to_be_bytes());
        bytes.resize(500_000, 0);
        socket.send_bytes(&bytes).await;
        assert_eq!(socket.close_code().await, Some(1009), "and no reset");
        socket.send_bytes(&vec![0; 100_000]).await;
        let took = hangs_up(&mut socket).await;
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

#[tokio::test]
async fn a_session_that_is_revoked_behind_the_hubs_back_is_closed() {
    let hub = TestHub::start().await;
    let (person, other) = (hub.seeker().await, hub.seeker().await);
    let mut socket = Socket::open(&hub, &person).await;
    let mut stays = Socket::open(&hub, &other).await;
    let sql = format!(
        "UPDATE sessions SET revoked_at = now(), revoked_reason = 'by hand' WHERE id = '{}'",
        person.session_id
    );
    let began = Instant::now();
    assert_eq!(rows::run(&hub.database_url, &sql).await, 1);
    assert_eq!(socket.event("session:revoked").await["data"]["sessionId"], person.session_id);
    assert_eq!(socket.close_code().await, Some(4501));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    stays.ok("ping", json!({})).await;
}

#[tokio::test]
async fn an_account_that_is_suspended_or_closed_loses_its_sockets() {
    let hub = TestHub::start().await;
    for status in ["suspended", "inactive"] {
        let person = hub.seeker().await;
        let second = hub.login(&person).await;
        let mut sockets = [Socket::open(&hub, &person).await, Socket::open(&hub, &second).await];
        let sql = format!("UPDATE users SET status = '{status}' WHERE id = '{}'", person.id);
        let began = Instant::now();
        assert_eq!(rows::run(&hub.database_url, &sql).await, 1);
        for socket in &mut sockets {
            assert_eq!(socket.close_code().await, Some(4501));
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        // A belief in a token lasts a second.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(Socket::try_open(&hub, Some(&person.token)).await.is_err());
    }
}

#[tokio::test]
async fn a_logout_reaches_the_other_node_also_without_redis() {
    let Some(mut redis) = Redis::start().await else { return };
    let with = |url: String| move |c: &mut hub::config::Config| c.redis_url = Some(url.into());
    let hub = TestHub::start_with(with(redis.url())).await;
    let other = TestHub::start_over(hub.database_url.clone(), with(redis.url())).await;
    let phone = hub.seeker().await;
    let mut there = Socket::open(&other, &phone).await;
    redis.kill();
    let began = Instant::now();
    phone.post(&hub, "/v1/auth/logout", json!({})).await.data(200);
    assert_eq!(there.close_code().await, Some(4501));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// What a client sees of a drain: when the socket was closed, and what it was told before.
async fn goodbye(mut socket: Socket, began: Instant) -> (Duration, Value) {
    let told = socket.event("server:draining").await["data"].clone();
    assert_eq!(socket.close_code().await, Some(4000), "no client sees 1006");
    (began.elapsed(), told)
}

/// Sends messages until the hub closes the socket with 4000; the ids of those that it acknowledged.
async fn write_on(mut writer: Socket, pair: Pair) -> Vec<String> {
    let mut acknowledged = Vec::new();
    loop {
        writer.command("message:send", pair.message("on and on")).await;
        match writer.frame_or_close().await {
            Some(Ok(frame)) if frame["id"].is_number() => {
                assert_eq!(frame["ok"], true, "{frame}");
                acknowledged.push(frame["data"]["messageId"].as_str().unwrap().to_owned());
            }
            Some(Ok(_)) => {}
            Some(Err(code)) => {
                assert_eq!(code, Some(4000));
                return acknowledged;
            }
            None => panic!("1006"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_spreads_its_goodbyes() {
    const WINDOW: Duration = Duration::from_secs(3);
    let hub = TestHub::start_with(|c| c.sockets.drain = WINDOW).await;
    let mut sockets = Vec::new();
    for _ in 0..4 {
        let person = hub.seeker().await;
        for _ in 0..5 {
            sockets.push(Socket::open(&hub, &person).await);
        }
    }
    let pair = Pair::of(&hub).await;
    let writer = Socket::open(&hub, &pair.a).await;
    let writing = tokio::spawn(write_on(writer, pair));
    let (url, database) = (hub.url("/readyz"), hub.database_url.clone());
    let address = hub.address;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    let stop = tokio::spawn(hub.stop());
    // Not ready at once, and nobody else is let in.
    let mut refused = false;
    while began.elapsed() < Duration::from_secs(1) {
        let ready = reqwest::get(&url).await.unwrap().status();
        if ready == 503 {
            refused = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(refused, "it is ready while it stops");
    let late = reqwest::get(format!("http://{address}/v1/ws")).await.unwrap();
    assert_eq!(late.status(), 503);
    assert!(late.headers().contains_key("retry-after"));
    let goodbyes = sockets.into_iter().map(|socket| tokio::spawn(goodbye(socket, began)));
    let goodbyes: Vec<_> = goodbyes.collect();
    // Who is still there is served until their turn, and what is acknowledged is stored.
    let acknowledged = writing.await.unwrap();
    let mut seen = Vec::new();
    for goodbye in goodbyes {
        seen.push(goodbye.await.unwrap());
    }
    stop.await.unwrap();
    assert!(began.elapsed() < WINDOW + Duration::from_secs(3), "{:?}", began.elapsed());
    let told = |name: &str| -> Vec<u64> {
        let mut all: Vec<u64> = seen.iter().map(|(_, told)| told[name].as_u64().unwrap()).collect();
        all.sort_unstable();
        all
    };
    // Evenly over the window, and nobody before their time.
    let turns = told("closesInMs");
    assert!(turns[0] < 500 && turns[turns.len() - 1] > 2_000, "{turns:?}");
    assert!((6..=14).contains(&turns.iter().filter(|ms| **ms < 1_500).count()), "{turns:?}");
    for (at, told) in &seen {
        let turn = Duration::from_millis(told["closesInMs"].as_u64().unwrap());
        assert!(*at + Duration::from_millis(50) > turn, "{at:?} {told}");
    }
    let mut waits = told("reconnectAfterMs");
    waits.dedup();
    assert!(waits.len() > 10, "each client its own: {waits:?}");
    let ids = rows::column(&database, "SELECT id FROM messages").await;
    for id in &acknowledged {
        assert!(ids.contains(id), "{id} was acknowledged");
    }
    assert!(!acknowledged.is_empty());
}

#[tokio::test]
async fn a_stranger_is_not_waited_for() {
    let hub = TestHub::start_with(|c| c.sockets.drain = Duration::from_secs(60)).await;
    let mut stranger = RawSocket::open(&hub, "/v1/ws", &[]).await;
    assert_eq!(stranger.status, 101);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    let (code, ()) = tokio::join!(
        async {
            let code = stranger.close_code().await;
            stranger.send_frame(CLOSE, &BYE).await;
            code
        },
        hub.stop()
    );
    assert_eq!(code, Some(4000));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_role_is_that_of_the_token_until_it_is_renewed() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    let practice = hub.practice().await;
    let mut socket = Socket::open(&hub, &person).await;
    let sql = format!("UPDATE users SET user_type = 'practitioner' WHERE id = '{}'", person.id);
    rows::run(&hub.database_url, &sql).await;
    // Over REST as over the socket: the old token still books.
    let hold = socket.ok("hold:create", practice.wish(practice.slot(1))).await;
    assert!(Uuid::try_parse(hold["id"].as_str().unwrap()).is_ok());
    let body = json!({ "refreshToken": person.refresh_token });
    let fresh = hub.post("/v1/auth/refresh", body).await.data(200);
    socket.ok("auth", json!({ "token": fresh["accessToken"] })).await;
    socket.refused("hold:create", practice.wish(practice.slot(2)), "forbidden").await;
}
