//! The life of a socket: who may open one, what its frames may be, when and how it ends.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;

use crate::support::raw_socket::{BINARY, PING, TEXT};
use crate::support::{RawSocket, Socket, TestHub};

const QUICK: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_native_app_authenticates_on_the_upgrade() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    let mut socket = Socket::try_open(&hub, Some(&person.token)).await.unwrap();
    assert!(socket.ok("ping", json!({})).await["now"].is_string());
    match Socket::try_open(&hub, Some("forged")).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 401),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("a forged token opens a socket"),
    }
}

#[tokio::test]
async fn a_browser_authenticates_with_its_first_frame() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    let mut socket = Socket::try_open(&hub, None).await.unwrap();
    let answer = socket.ok("auth", json!({ "token": person.token })).await;
    assert_eq!(
        (&answer["userId"], &answer["sessionId"], &answer["heartbeatMs"]),
        (&json!(person.id), &json!(person.session_id), &json!(25_000))
    );
    let expires: jiff::Timestamp = answer["expiresAt"].as_str().unwrap().parse().unwrap();
    let left = expires.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((880..=900).contains(&left), "{left}");
    let limits = &answer["limits"];
    assert_eq!((&limits["frameBytes"], &limits["subscriptions"]), (&json!(65_536), &json!(100)));
    assert!(limits["commandsPerSecond"].as_i64().unwrap() > 0);
    // The own channel is open without being asked for; its head is told once it is known.
    let own = format!("user:{}", person.id);
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let heads = socket.ok("ping", json!({})).await["heads"].clone();
        if heads.get(&own).is_some() {
            break;
        }
        assert_eq!(heads, json!({}));
        assert!(tokio::time::Instant::now() < until, "it is never known");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn who_does_not_authenticate_is_closed() {
    let hub = TestHub::start_with(|c| c.sockets.auth_timeout = Duration::from_millis(300)).await;
    let mut silent = Socket::try_open(&hub, None).await.unwrap();
    assert_eq!(silent.close_code().await, Some(4500));
    let mut hasty = Socket::try_open(&hub, None).await.unwrap();
    hasty.refused("ping", json!({}), "unauthenticated").await;
    assert_eq!(hasty.close_code().await, Some(4500));
    let mut forger = Socket::try_open(&hub, None).await.unwrap();
    forger.refused("auth", json!({ "token": "forged" }), "unauthenticated").await;
    assert_eq!(forger.close_code().await, Some(4500));
    // Who did authenticate outlives the timeout: this one answers after another ran into it.
    let person = hub.seeker().await;
    let mut known = Socket::try_open(&hub, None).await.unwrap();
    known.ok("auth", json!({ "token": person.token })).await;
    assert_eq!(Socket::try_open(&hub, None).await.unwrap().close_code().await, Some(4500));
    known.ok("ping", json!({})).await;
}

#[tokio::test]
async fn a_token_is_renewed_on_a_live_socket_or_runs_out() {
    let hub = TestHub::start_with(|c| c.auth.access_ttl = Duration::from_secs(5)).await;
    let long = TestHub::start_over(hub.database_url.clone(), |_| {}).await;
    let (person, other) = (hub.seeker().await, hub.seeker().await);
    let mut left_alone = Socket::open(&hub, &person).await;
    let mut renewed = Socket::open(&hub, &person).await;
    // The other hub's tokens last longer.
    let body = json!({ "refreshToken": person.refresh_token });
    let fresh = long.post("/v1/auth/refresh", body).await.data(200);
    renewed.refused("auth", json!({ "token": other.token }), "forbidden").await;
    renewed.refused("auth", json!({ "token": "forged" }), "unauthenticated").await;
    let answer = renewed.ok("auth", json!({ "token": fresh["accessToken"] })).await;
    assert_eq!(answer["expiresAt"], fresh["expiresAt"]);
    assert_eq!(answer["userId"], json!(person.id));
    assert_eq!(left_alone.close_code().await, Some(4003));
    renewed.ok("ping", json!({})).await;
}

#[tokio::test]
async fn the_sub_protocol_is_answered_when_offered() {
    let hub = TestHub::start().await;
    let offered = ("Sec-WebSocket-Protocol", "chat, klearkarma.v1");
    let with = RawSocket::open(&hub, "/v1/ws", &[offered]).await;
    assert_eq!(with.status, 101);
    assert!(with.head.contains("sec-websocket-protocol: klearkarma.v1\r\n"), "{}", with.head);
    let without = RawSocket::open(&hub, "/v1/ws", &[]).await;
    assert_eq!(without.status, 101);
    assert!(!without.head.contains("sec-websocket-protocol"), "{}", without.head);
}

#[tokio::test]
async fn pages_of_other_sites_open_no_sockets() {
    let hub = TestHub::start_with(|c| {
        c.http.allowed_origins = vec!["https://app.klearkarma.com".to_owned()];
    })
    .await;
    let own = format!("http://{}", hub.address);
    let other_port = format!("http://{}", hub.address.ip());
    for (origin, status) in [
        (own.as_str(), 101),
        ("https://app.klearkarma.com", 101),
        ("https://evil.example", 403),
        ("https://app.klearkarma.com.evil.example", 403),
        ("http://app.klearkarma.com", 403),
        (other_port.as_str(), 403),
        ("null", 403),
    ] {
        let socket = RawSocket::open(&hub, "/v1/ws", &[("Origin", origin)]).await;
        assert_eq!(socket.status, status, "{origin}");
    }
}

#[tokio::test]
async fn a_token_in_the_url_is_worth_nothing() {
    let hub = TestHub::start().await;
    let token = hub.seeker().await.token;
    for name in ["token", "access_token", "authorization"] {
        let mut socket = RawSocket::open(&hub, &format!("/v1/ws?{name}={token}"), &[]).await;
        assert_eq!(socket.status, 101);
        socket.send_frame(TEXT, br#"{"id":1,"op":"ping"}"#).await;
        let answer = socket.json().await.unwrap();
        assert_eq!(answer["error"]["code"], "unauthenticated");
        assert_eq!(socket.close_code().await, Some(4500));
    }
}

#[tokio::test]
async fn commands_are_answered_under_their_ids() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    let mut socket = RawSocket::open_as(&hub, &person.token).await;
    for id in [json!(0), json!(-7), json!(1.5), json!("a"), json!("7"), json!("")] {
        let command = json!({ "id": id, "op": "ping", "data": {} }).to_string();
        socket.send_frame(TEXT, command.as_bytes()).await;
        let answer = socket.json().await.unwrap();
        assert_eq!((&answer["id"], &answer["ok"]), (&id, &json!(true)));
    }
    socket.send_frame(TEXT, br#"{"id":"x","op":"message:bogus"}"#).await;
    let answer = socket.json().await.unwrap();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("x"), &json!("unknown_op")));
    // A command that is refused for its data leaves the socket open, and names the field.
    socket.send_frame(TEXT, br#"{"id":2,"op":"typing:start","data":{"conversationId":3}}"#).await;
    let answer = socket.json().await.unwrap();
    assert_eq!(answer["error"]["code"], "validation_failed");
    assert_eq!(answer["error"]["details"][0]["field"], "conversationId");
}

#[tokio::test]
async fn what_is_no_command_ends_the_socket() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    for bad in [
        "nonsense",
        "[]",
        r#"{"op":"ping"}"#,
        r#"{"id":null,"op":"ping"}"#,
        r#"{"id":[1],"op":"ping"}"#,
        r#"{"id":1}"#,
        r#"{"id":1,"op":"ping","data":[]}"#,
        r#"{"id":1,"op":"ping","more":1}"#,
    ] {
        let mut socket = RawSocket::open_as(&hub, &person.token).await;
        socket.send_frame(TEXT, bad.as_bytes()).await;
        assert_eq!(socket.close_code().await, Some(4502), "{bad}");
    }
    let mut socket = RawSocket::open_as(&hub, &person.token).await;
    socket.send_frame(BINARY, br#"{"id":1,"op":"ping"}"#).await;
    assert_eq!(socket.close_code().await, Some(4502));
}

#[tokio::test]
async fn broken_frames_close_with_the_codes_of_the_rfc() {
    let hub = TestHub::start().await;
    let mut oversized = vec![TEXT, 0x80 | 127];
    oversized.extend(100_000_000u64.to_be_bytes());
    let mut one_too_many = vec![TEXT, 0x80 | 127];
    one_too_many.extend(65_537u64.to_be_bytes());
    for (bytes, code) in [
        (oversized, 1009),
        (one_too_many, 1009),
        (vec![TEXT, 0x02, b'{', b'}'], 1002),
        (vec![TEXT | 0x40, 0x80, 0, 0, 0, 0], 1002),
        (vec![0x83, 0x80, 0, 0, 0, 0], 1002),
        (vec![0x09, 0x80, 0, 0, 0, 0], 1002),
        (vec![0x80, 0x80, 0, 0, 0, 0], 1002),
        (vec![TEXT, 0x82, 0, 0, 0, 0, 0xc3, 0x28], 1007),
    ] {
        // Nobody is authenticated: strangers must not cost more than this.
        let mut socket = RawSocket::open(&hub, "/v1/ws", &[]).await;
        socket.send_bytes(&bytes).await;
        assert_eq!(socket.close_code().await, Some(code), "{bytes:02x?}");
        assert!(socket.frame().await.is_none(), "nothing comes after the close frame");
    }
}

#[tokio::test]
async fn fragments_are_put_together_up_to_the_limit() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    let mut socket = RawSocket::open_as(&hub, &person.token).await;
    socket.send_frame(0x01, br#"{"id":"frag","#).await;
    socket.send_frame(PING, b"between").await;
    socket.send_frame(0x00, br#""op":"#).await;
    socket.send_frame(0x80, br#""ping"}"#).await;
    assert_eq!(socket.frame().await.unwrap(), (10, b"between".to_vec()));
    assert_eq!(socket.json().await.unwrap()["id"], "frag");
    // A character may be cut in two, a message may not hold half of one.
    let whole = r#"{"id":"é","op":"ping"}"#.as_bytes();
    socket.send_frame(0x01, &whole[..8]).await;
    socket.send_frame(0x80, &whole[8..]).await;
    assert_eq!(socket.json().await.unwrap()["id"], "é");
    socket.send_frame(0x01, &whole[..8]).await;
    socket.send_frame(0x80, b"}").await;
    assert_eq!(socket.close_code().await, Some(1007));

    let mut socket = RawSocket::open_as(&hub, &person.token).await;
    socket.send_frame(0x01, &vec![b' '; 60_000]).await;
    socket.send_frame(0x00, &vec![b' '; 6_000]).await;
    assert_eq!(socket.close_code().await, Some(1009));
}

#[tokio::test]
async fn a_ping_tells_the_heads() {
    let hub = TestHub::start().await;
    let (a, b) = (hub.seeker().await, hub.register("practitioner").await);
    let chat = a.post(&hub, "/v1/conversations", json!({ "userId": b.id })).await.data(201);
    let path = format!("/v1/conversations/{}/messages", chat["id"].as_str().unwrap());
    let channel = format!("conversation:{}", chat["id"].as_str().unwrap());
    let mut socket = Socket::open(&hub, &b).await;
    assert_eq!(socket.ok("subscribe", json!({ "channel": channel })).await["seq"], 0);
    for n in 1..=3 {
        let message = json!({ "clientId": uuid::Uuid::new_v4(), "content": "Namaste" });
        a.post(&hub, &path, message).await.data(201);
        assert_eq!(socket.event("message:new").await["seq"], n);
    }
    let answer = socket.ok("ping", json!({})).await;
    assert_eq!(answer["heads"], json!({ channel: 3, format!("user:{}", b.id): 0 }));
}

#[tokio::test]
async fn a_socket_follows_at_most_a_hundred_channels() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    let made = hub
        .execute(&format!(
            "WITH c AS (INSERT INTO conversations (id, kind)
                        SELECT gen_random_uuid(), 'group' FROM generate_series(1, 101) RETURNING id)
             INSERT INTO conversation_members (conversation_id, user_id)
             SELECT id, '{}' FROM c",
            person.id
        ))
        .await;
    assert_eq!(made, 101);
    let list = person.get(&hub, "/v1/conversations?limit=100").await.data(200);
    let channels: Vec<String> = list.as_array().unwrap().iter().map(channel_of).collect();
    let mut socket = Socket::open(&hub, &person).await;
    let many = |n: usize| -> Value {
        json!({ "channels": channels.iter().take(n).map(|c| (c.clone(), json!(0))).collect::<serde_json::Map<_, _>>() })
    };
    let answer = socket.ok("resume", many(99)).await;
    assert_eq!(answer["channels"].as_object().unwrap().len(), 99);
    assert!(answer["channels"].as_object().unwrap().values().all(|c| c["seq"] == 0), "{answer}");
    let (first, last) = (&channels[0], &channels[99]);
    let error =
        socket.refused("subscribe", json!({ "channel": last }), "too_many_subscriptions").await;
    assert_eq!(error["details"]["limit"], 100);
    // One that is followed already counts once.
    socket.ok("subscribe", json!({ "channel": first })).await;
    socket.ok("unsubscribe", json!({ "channel": first })).await;
    socket.ok("subscribe", json!({ "channel": last })).await;
    // Channels without a seq count like the others.
    let own = format!("presence:{}", person.id);
    let answer = socket.ok("resume", json!({ "channels": { own.clone(): 0 } })).await;
    assert_eq!(answer["channels"][&own]["error"]["code"], "too_many_subscriptions", "{answer}");
    socket.refused("subscribe", json!({ "channel": own }), "too_many_subscriptions").await;
}

fn channel_of(conversation: &Value) -> String {
    format!("conversation:{}", conversation["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_flood_of_commands_is_slowed_down() {
    let hub = TestHub::start().await;
    let mut socket = Socket::open(&hub, &hub.seeker().await).await;
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(socket.command("ping", json!({})).await);
    }
    let mut refused = Vec::new();
    for id in ids {
        let answer = socket.answer(id).await;
        if answer["ok"] == false {
            assert_eq!(answer["error"]["code"], "rate_limited");
            refused.push(answer["error"]["retryAfterMs"].as_u64().unwrap());
        }
    }
    assert!((20..=101).contains(&refused.len()), "{} of 200 refused", refused.len());
    assert!(refused.iter().all(|ms| *ms <= 1_000));
    tokio::time::sleep(Duration::from_millis(refused.last().unwrap() + 20)).await;
    socket.ok("ping", json!({})).await;
}

#[tokio::test]
async fn who_does_not_answer_pings_is_closed() {
    let hub = TestHub::start_with(|c| c.sockets.heartbeat = Duration::from_secs(1)).await;
    let person = hub.seeker().await;
    let mut silent = RawSocket::open_as(&hub, &person.token).await;
    let mut live = Socket::open(&hub, &person).await;
    let opened = Instant::now();
    let first = silent.frame().await.unwrap();
    assert_eq!(first.0, 9, "the hub pings");
    // Reading is answering for the other one.
    let (code, none) = tokio::join!(
        silent.close_code(),
        live.event_within("nothing", Duration::from_millis(4_500))
    );
    assert_eq!((code, none), (Some(4002), None));
    assert!(opened.elapsed() > Duration::from_millis(1_900));
    live.ok("ping", json!({})).await;
}

#[tokio::test]
async fn a_revoked_session_loses_its_sockets_at_once() {
    let hub = TestHub::start().await;
    let phone = hub.seeker().await;
    let (tablet, laptop) = (hub.login(&phone).await, hub.login(&phone).await);
    let mut on_phone = Socket::open(&hub, &phone).await;
    let mut on_tablet = Socket::open(&hub, &tablet).await;
    let mut on_laptop = Socket::open(&hub, &laptop).await;
    let started = Instant::now();
    phone.post(&hub, "/v1/auth/logout", json!({})).await.data(200);
    assert_eq!(on_phone.close_code().await, Some(4501));
    let path = format!("/v1/auth/sessions/{}", tablet.session_id);
    laptop.delete(&hub, &path).await.data(200);
    assert_eq!(on_tablet.close_code().await, Some(4501));
    assert!(started.elapsed() < QUICK, "{:?}", started.elapsed());
    on_laptop.ok("ping", json!({})).await;
    match Socket::try_open(&hub, Some(&tablet.token)).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 401),
        other => panic!("{:?}", other.err()),
    }
    laptop.delete(&hub, "/v1/auth/sessions").await.data(200);
    assert_eq!(on_laptop.close_code().await, Some(4501));
    let left = "SELECT count(*) FROM sessions WHERE revoked_at IS NULL";
    assert_eq!(hub.number(left).await, 0);
}

#[tokio::test]
async fn a_hub_that_stops_says_goodbye() {
    let hub = TestHub::start().await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(Socket::open(&hub, &hub.seeker().await).await);
    }
    let goodbyes = async {
        for socket in &mut sockets {
            let told = socket.event("server:draining").await;
            assert!(told["data"]["reconnectAfterMs"].as_u64().unwrap() > 0, "{told}");
            assert_eq!(socket.close_code().await, Some(4000));
        }
    };
    tokio::join!(hub.stop(), goodbyes);
}

#[tokio::test]
async fn channels_of_others_are_not_there() {
    let hub = TestHub::start().await;
    let (a, b, stranger) =
        (hub.seeker().await, hub.register("practitioner").await, hub.seeker().await);
    let chat = a.post(&hub, "/v1/conversations", json!({ "userId": b.id })).await.data(201);
    let mut socket = Socket::open(&hub, &stranger).await;
    let nowhere = uuid::Uuid::new_v4();
    for channel in [
        format!("user:{}", a.id),
        format!("presence:{}", a.id),
        channel_of(&chat),
        format!("conversation:{nowhere}"),
        format!("calendar:{nowhere}"),
        format!("presence:{nowhere}"),
    ] {
        socket.refused("subscribe", json!({ "channel": channel }), "not_found").await;
        let answer = socket.ok("resume", json!({ "channels": { &channel: 0 } })).await;
        assert_eq!(answer["channels"][&channel]["error"]["code"], "not_found", "{answer}");
    }
    for bad in ["", "conversation", "conversation:1", "weather:today"] {
        socket.refused("subscribe", json!({ "channel": bad }), "validation_failed").await;
    }
    let heads = socket.ok("ping", json!({})).await["heads"].clone();
    assert_eq!(heads, json!({ format!("user:{}", stranger.id): 0 }));
}
