//! Paths, methods, versions, request ids, and connections that are used again.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::hub::answer;
use crate::support::{Answer, TestHub};

async fn ask(hub: &TestHub, path: &str, accept: Option<&str>) -> Answer {
    let mut request = hub.request(Method::GET, path);
    if let Some(accept) = accept {
        request = request.header("accept", accept);
    }
    answer(request).await
}

#[tokio::test]
async fn unknown_paths_and_methods_are_answered_in_the_envelope() {
    let hub = TestHub::start().await;
    for path in
        ["/", "/v1", "/v1/", "/v2/services", "/v1/services/", "/v1//services", "/V1/services"]
    {
        let answer = hub.get(path).await;
        assert_eq!(answer.status, 404, "{path}: {:#}", answer.body);
        answer.refused(404, "no_such_route");
    }
    for (method, path, allowed) in [
        ("PATCH", "/v1/services", ["GET", "HEAD", "POST"].as_slice()),
        ("DELETE", "/v1/auth/login", &["POST"]),
        ("POST", "/v1/practitioners/x/availability", &["GET", "HEAD", "PUT"]),
        ("PUT", "/healthz", &["GET", "HEAD"]),
    ] {
        let answer = hub.call(method.parse().unwrap(), path, None, None).await;
        answer.refused(405, "method_not_allowed");
        let allow = answer.headers.get("allow").map(|v| v.to_str().unwrap().to_owned());
        let mut allow: Vec<_> = allow.iter().flat_map(|a| a.split(", ")).collect();
        allow.sort_unstable();
        assert_eq!(allow, allowed, "{method} {path}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn head_is_answered_like_get_without_the_body() {
    let hub = TestHub::start().await;
    for path in ["/healthz", "/readyz", "/v1/services", "/v1/users/profile", "/nowhere", "/docs/"] {
        let get = hub.request(Method::GET, path).send().await.unwrap();
        let head = hub.request(Method::HEAD, path).send().await.unwrap();
        assert_eq!(head.status(), get.status(), "{path}");
        assert_eq!(head.headers()["content-type"], get.headers()["content-type"], "{path}");
        let length = |response: &reqwest::Response| response.headers()["content-length"].clone();
        let (of_head, of_get) = (length(&head), length(&get));
        // The timestamp inside may be shorter by a digit or so.
        let number = |value: reqwest::header::HeaderValue| -> i64 {
            value.to_str().unwrap().parse().unwrap()
        };
        assert!((number(of_head) - number(of_get)).abs() < 10, "{path}");
        assert_eq!(head.bytes().await.unwrap().len(), 0, "{path}");
    }
    hub.call(Method::HEAD, "/v1/auth/login", None, None).await;
    hub.stop().await;
}

#[tokio::test]
async fn a_version_can_be_asked_for_in_three_ways() {
    let hub = TestHub::start().await;
    let v1 = Some("application/vnd.klearkarma.v1+json");
    for (path, accept) in [
        ("/v1/services", None),
        ("/v1/services", v1),
        ("/v1/services?version=1", None),
        ("/services?version=1", None),
        ("/services?limit=5&version=1&page=1", None),
        ("/services", v1),
        ("/v1/services?version=1", v1),
        ("/v1/services", Some("text/html, application/vnd.klearkarma.v1+json;q=0.9")),
    ] {
        let answer = ask(&hub, path, accept).await;
        assert_eq!(answer.status, 200, "{path} {accept:?}: {:#}", answer.body);
    }
    for (path, accept) in [
        ("/v1/services?version=2", None),
        ("/services?version=", None),
        ("/v1/services?version=1&version=2", None),
        ("/v1/services", Some("application/vnd.klearkarma.v9+json")),
        ("/v1/services?version=1", Some("application/vnd.klearkarma.v2+json")),
        ("/v1/services", Some("application/vnd.klearkarma.v1")),
    ] {
        let answer = ask(&hub, path, accept).await;
        assert_eq!(answer.status, 406, "{path} {accept:?}: {:#}", answer.body);
        answer.refused(406, "unsupported_version");
    }
    // Without a version anywhere there is no such path, and another query is still refused.
    ask(&hub, "/services", None).await.refused(404, "no_such_route");
    ask(&hub, "/services?version=1&x=1", None).await.names("x");
    hub.stop().await;
}

#[tokio::test]
async fn a_request_id_is_echoed_when_it_can_stand_in_a_log() {
    let hub = TestHub::start().await;
    let longest = "x".repeat(100);
    for path in ["/healthz", "/nowhere", "/v1/users/profile", "/v1/services?version=2"] {
        for (sent, echoed) in [
            (Some("my-Request_1.2:3"), true),
            (Some(longest.as_str()), true),
            (Some(&format!("{longest}x")), false),
            (Some(""), false),
            (Some("two words"), false),
            (Some("quote\""), false),
            (Some("{\"a\":1}"), false),
            (None, false),
        ] {
            let mut request = hub.request(Method::GET, path);
            if let Some(id) = sent {
                request = request.header("x-request-id", id);
            }
            let answer = answer(request).await;
            let id = answer.body["meta"]["requestId"].as_str().unwrap();
            assert_eq!(answer.headers["x-request-id"], id, "{path}");
            assert_eq!(Some(id) == sent, echoed, "{path} {sent:?} {id}");
            assert!(echoed || uuid::Uuid::try_parse(id).is_ok(), "{id}");
            let at: jiff::Timestamp =
                answer.body["meta"]["timestamp"].as_str().unwrap().parse().unwrap();
            assert!(jiff::Timestamp::now().duration_since(at).as_secs().abs() < 60);
        }
    }
    hub.stop().await;
}

/// A pool of connections, a balancer's say, that gives one a request just as the server closes it
/// sees a broken request. So the hub keeps them longer than those do, also those that were opened
/// ahead of their first request.
#[tokio::test]
async fn an_idle_connection_takes_another_request() {
    let hub = TestHub::start().await;
    let peers = [[0, 7], [7, 0]].map(|pauses| speak(hub.address, pauses));
    futures_util::future::join_all(peers).await;
    hub.stop().await;
}

/// Asks over one connection, after each of the pauses, in seconds.
async fn speak(address: SocketAddr, pauses: [u64; 2]) {
    let mut peer = tokio::net::TcpStream::connect(address).await.unwrap();
    for pause in pauses {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        peer.write_all(b"GET /healthz HTTP/1.1\r\nhost: hub\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        peer.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        let mut rest = vec![0; 4_096];
        assert!(peer.read(&mut rest).await.unwrap() > 0);
    }
}
