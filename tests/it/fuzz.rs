//! Random requests to every route and every operation of the sockets: whatever comes, the hub
//! answers in its envelope and never with a fault.
//!
//! `FUZZ_CASES` says how many requests (and half as many commands), `FUZZ_SEED` which ones.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use hub::http::{ROUTES, openapi};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use crate::fuzz_world::World;
use crate::support::Socket;
use crate::support::hub::answer;

/// Panics in the hub's own code, in whatever thread; those of tests are not counted.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.location().is_some_and(|l| l.file().starts_with("src/")) {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            before(info);
        }));
    });
}

fn cases() -> usize {
    std::env::var("FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000)
}

fn runner() -> TestRunner {
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(7_u8);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    TestRunner::new_with_rng(Config::default(), rng)
}

fn encoded(query: &[(String, String)]) -> String {
    let escaped =
        |text: &str| text.bytes().take(3_000).map(|b| format!("%{b:02X}")).collect::<String>();
    let pairs = query.iter().map(|(name, value)| format!("{name}={}", escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn draw<T: std::fmt::Debug>(strategy: &BoxedStrategy<T>, runner: &mut TestRunner) -> T {
    strategy.new_tree(runner).unwrap().current()
}

fn codes() -> BTreeSet<String> {
    let table = openapi::errors_markdown();
    let codes = table.lines().skip(2).filter_map(|line| line.split('`').nth(1));
    codes.map(ToOwned::to_owned).collect()
}

type Request = (usize, usize, Vec<usize>, Option<String>, Vec<(String, String)>, Option<String>);

fn requests(world: &World) -> BoxedStrategy<Request> {
    let names = [
        "page",
        "limit",
        "status",
        "serviceId",
        "durationMinutes",
        "practitionerIds",
        "from",
        "to",
        "timeZone",
        "before",
        "after",
        "specialization",
        "language",
        "token",
        "name",
        "version",
        "cursor",
        "x",
    ];
    let name = proptest::sample::select(names.map(ToOwned::to_owned).to_vec());
    let query = proptest::collection::vec((name, world.texts()), 0..4);
    let key = proptest::option::weighted(0.2, "[ -~]{0,20}");
    let id = prop_oneof![1 => Just(usize::MAX), 8 => any::<usize>()];
    let odd_id = proptest::option::weighted(0.05, "[a-zA-Z0-9.~-]{1,40}");
    (0..ROUTES.len(), 0..3_usize, proptest::collection::vec(id, 2), odd_id, query, key).boxed()
}

#[tokio::test]
async fn no_request_is_answered_with_a_fault() {
    count_panics();
    let mut world = World::build().await;
    let codes = codes();
    let (mut runner, mut succeeded) = (runner(), 0);
    let (requests, bodies) = (requests(&world), world.bodies(world.valid_bodies()));
    for n in 0..cases() {
        let (route, who, ids, odd_id, query, key) = draw(&requests, &mut runner);
        let body = draw(&bodies, &mut runner);
        let (method, pattern) = ROUTES[route];
        let mut ids = ids.into_iter();
        let path: String = pattern
            .split('/')
            .skip(1)
            .map(|part| match (part.starts_with('{'), ids.next(), &odd_id) {
                (false, ..) => format!("/{part}"),
                (true, _, Some(odd)) => format!("/{odd}"),
                (true, Some(usize::MAX) | None, _) => format!("/{}", Uuid::now_v7()),
                (true, Some(i), _) => format!("/{}", world.ids[i % world.ids.len()]),
            })
            .collect();
        let method: Method = method.to_uppercase().parse().unwrap();
        let token = world.people[who].token.clone();
        let mut request = world.hub.request(method.clone(), &path).bearer_auth(&token);
        request = request.header("x-forwarded-for", format!("10.0.{}.{}", n / 250, n % 250));
        if method == Method::GET {
            request = world.hub.request(method.clone(), &format!("{path}?{}", encoded(&query)));
            request = request.bearer_auth(&token);
        } else {
            request = request.json(&body);
        }
        if let Some(key) = &key {
            request = request.header("idempotency-key", key).header("if-match", key);
        }
        let answer = answer(request).await;
        let what = format!("case {n}: {method} {path} {query:?} {body} {key:?}: {}", answer.body);
        assert!(answer.status.as_u16() < 500, "{what}");
        succeeded += usize::from(answer.status.is_success());
        // Neither is in the envelope.
        let plain = path == "/openapi.json" || pattern.ends_with(".ics");
        if plain && answer.status == 200 {
            continue;
        }
        assert!(answer.body["meta"]["requestId"].is_string(), "{what}");
        assert_eq!(answer.body["success"], answer.status.is_success(), "{what}");
        if let Some(code) = answer.body["error"]["code"].as_str() {
            assert!(codes.contains(code) && code != "internal", "{what}");
        }
        // A logout, or the end of all sessions, is among the routes.
        if answer.status == 401 || pattern.starts_with("/v1/auth/") {
            world.people[who] = world.hub.login(&world.people[who]).await;
        }
    }
    assert!(succeeded * 20 > cases(), "hardly any request fits: {succeeded}");
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
    world.hub.get("/readyz").await.data(200);
    world.hub.stop().await;
}

#[tokio::test]
async fn no_command_of_a_socket_is_answered_with_a_fault() {
    count_panics();
    let world = World::build().await;
    let codes = codes();
    let (mut runner, mut succeeded) = (runner(), 0);
    let commands = world.valid_commands();
    let ops: Vec<&str> = commands.iter().map(|(op, _)| *op).collect();
    let bodies = world.bodies(commands.iter().map(|(_, data)| data.clone()).collect());
    let fitting: Vec<BoxedStrategy<Value>> =
        commands.iter().map(|(_, data)| world.bodies(vec![data.clone()])).collect();
    let choice = (0..ops.len(), any::<bool>()).boxed();
    let mut socket = Socket::open(&world.hub, &world.people[0]).await;
    for n in 0..cases() / 2 {
        // A socket may send a hundred commands at once; a new one begins afresh.
        if n % 90 == 89 {
            socket.close().await;
            socket = Socket::open(&world.hub, &world.people[n % 3]).await;
        }
        let (op, fits) = draw(&choice, &mut runner);
        let data = draw(if fits { &fitting[op] } else { &bodies }, &mut runner);
        if !data.is_object() {
            continue;
        }
        let answer = socket.call(ops[op], data.clone()).await;
        let what = format!("case {n}: {} {data}: {answer}", ops[op]);
        succeeded += usize::from(answer["ok"] == true);
        if answer["ok"] != true {
            let code = answer["error"]["code"].as_str().expect(&what);
            assert!(codes.contains(code) && code != "internal", "{what}");
            assert!(answer["error"]["message"].is_string(), "{what}");
        }
    }
    assert!(succeeded * 40 > cases() / 2, "hardly any command fits: {succeeded}");
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
    world.hub.get("/readyz").await.data(200);
    world.hub.stop().await;
}

#[tokio::test]
async fn text_that_is_no_command_ends_the_socket_and_nothing_else() {
    count_panics();
    let world = World::build().await;
    let mut runner = runner();
    let trees = world.trees(vec!["id".into(), "op".into(), "data".into()]);
    let texts = prop_oneof![trees.prop_map(|v| v.to_string()), world.texts()].boxed();
    let mut ended = 0;
    for _ in 0..60 {
        let text = draw(&texts, &mut runner);
        let mut socket = Socket::open(&world.hub, &world.people[0]).await;
        socket.send_text(&text).await;
        if hub::actors::protocol::parse(&text).is_none() {
            assert_eq!(socket.close_code().await, Some(4502), "{text:?}");
            ended += 1;
        }
    }
    assert!(ended > 30);
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
    world.hub.stop().await;
}
