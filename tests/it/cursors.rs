//! Lists that are read on from where a part of them ended.

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::chat::Pair;
use crate::support::{Person, TestHub};

/// All ids that following the cursors gives, in order, and how many parts it took.
async fn follow(hub: &TestHub, who: &Person, path: &str, next: &str) -> (Vec<String>, usize) {
    let (mut ids, mut parts, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let answer = who.get(hub, &format!("{path}?limit=2{cursor}")).await;
        let data = answer.data(200);
        let list = if data.is_array() { &data } else { &data["notifications"] };
        ids.extend(list.as_array().unwrap().iter().map(|x| x["id"].as_str().unwrap().to_owned()));
        parts += 1;
        assert!(parts < 20, "it never ends");
        match answer.body.pointer(next) {
            None | Some(Value::Null) => return (ids, parts),
            Some(next) => cursor = format!("&cursor={}", next.as_str().unwrap()),
        }
    }
}

#[tokio::test]
async fn bookings_are_read_on_by_a_cursor() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    for n in 0..5 {
        seeker.post(&hub, "/v1/bookings", practice.wish(practice.slot(n))).await.data(201);
    }
    let next = "/meta/pagination/nextCursor";
    let (ids, parts) = follow(&hub, &seeker, "/v1/bookings", next).await;
    assert_eq!((ids.len(), parts), (5, 3));
    let whole = seeker.get(&hub, "/v1/bookings").await;
    let listed = whole.data(200);
    let listed: Vec<_> = listed.as_array().unwrap().iter().map(|b| b["id"].clone()).collect();
    assert_eq!(ids, listed, "latest session first, each once");
    assert_eq!(whole.body["meta"]["pagination"]["total"], 5);
    assert_eq!(whole.body.pointer(next), None, "the list ends here");

    // What comes in meanwhile shifts pages, not what a cursor leads to.
    let first = seeker.get(&hub, "/v1/bookings?limit=2").await;
    assert_eq!(first.body["meta"]["pagination"]["totalPages"], 3);
    let cursor = first.body.pointer(next).unwrap().as_str().unwrap().to_owned();
    seeker.post(&hub, "/v1/bookings", practice.wish(practice.slot(9))).await.data(201);
    let second = seeker.get(&hub, &format!("/v1/bookings?limit=2&cursor={cursor}")).await;
    assert_eq!(second.data(200)[0]["id"], ids[2].as_str());
    assert_eq!(second.body["meta"]["pagination"].get("page"), None);
    let page = seeker.get(&hub, "/v1/bookings?limit=2&page=2").await.data(200);
    assert_eq!(page[0]["id"], ids[1].as_str());
    // A cursor goes with the filters, and leads to nobody else's bookings.
    let other = hub.seeker().await;
    let none = other.get(&hub, &format!("/v1/bookings?cursor={cursor}")).await.data(200);
    assert_eq!(none, json!([]));
    let pending = format!("/v1/bookings?status=cancelled&cursor={cursor}");
    assert_eq!(seeker.get(&hub, &pending).await.data(200), json!([]));
    for wrong in ["cursor=x", "cursor=", &format!("cursor={cursor}&page=1")] {
        seeker.get(&hub, &format!("/v1/bookings?{wrong}")).await.names("cursor");
    }
    hub.stop().await;
}

#[tokio::test]
async fn notifications_are_read_on_by_a_cursor() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    for n in 0..5 {
        seeker.post(&hub, "/v1/bookings", practice.wish(practice.slot(n))).await.data(201);
    }
    let path = "/v1/notifications";
    let (ids, parts) = follow(&hub, &practice.person, path, "/data/nextCursor").await;
    assert_eq!((ids.len(), parts), (5, 3));
    let listed = practice.person.get(&hub, path).await.data(200);
    let listed = listed["notifications"].as_array().unwrap();
    assert_eq!(ids, listed.iter().map(|n| n["id"].clone()).collect::<Vec<_>>());
    let first = practice.person.get(&hub, "/v1/notifications?limit=2").await.data(200);
    let cursor = first["nextCursor"].as_str().unwrap();
    practice.person.get(&hub, "/v1/notifications?cursor=x").await.names("cursor");
    let both = format!("/v1/notifications?cursor={cursor}&before={}", ids[0]);
    practice.person.get(&hub, &both).await.names("cursor");
    hub.stop().await;
}

#[tokio::test]
async fn messages_are_read_on_by_a_cursor_in_either_direction() {
    let hub = TestHub::start().await;
    let pair = Pair::of(&hub).await;
    let mut sent = Vec::new();
    for n in 0..5 {
        let message = pair.post(&hub, &pair.a, &format!("message {n}")).await;
        sent.push(message["id"].as_str().unwrap().to_owned());
    }
    let next = "/meta/pagination/nextCursor";
    let (ids, parts) = follow(&hub, &pair.b, &pair.path(), next).await;
    let newest_first: Vec<_> = sent.iter().rev().cloned().collect();
    assert_eq!((&ids, parts), (&newest_first, 3));

    // A cursor goes on as its part began: from an `after` to newer ones.
    let first = pair.b.get(&hub, &format!("{}?after=1&limit=2", pair.path())).await;
    let cursor = first.body.pointer(next).unwrap().as_str().unwrap().to_owned();
    assert_eq!(first.body["meta"]["pagination"]["limit"], 2);
    pair.post(&hub, &pair.a, "meanwhile").await;
    let path = format!("{}?limit=2&cursor={cursor}", pair.path());
    let second = pair.b.get(&hub, &path).await.data(200);
    assert_eq!((&second[0]["id"], &second[1]["id"]), (&json!(sent[3]), &json!(sent[4])));
    for with in ["before=3", "after=3"] {
        pair.b.get(&hub, &format!("{path}&{with}")).await.names("cursor");
    }
    // Neither anything else nor the cursor of another list.
    let other = Uuid::now_v7();
    let foreign = hub::http::cursor::write(Timestamp::now(), other);
    for wrong in ["x", "", foreign.as_str()] {
        pair.b.get(&hub, &format!("{}?cursor={wrong}", pair.path())).await.names("cursor");
    }
    hub.seeker().await.get(&hub, &path).await.refused(404, "not_found");
    hub.stop().await;
}
