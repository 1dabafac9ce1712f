//! What a request gets wrong is named as the client wrote it: parameters of queries and paths,
//! instants, fields of devices and of the socket's own ops.

use hub::http::ROUTES;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::support::{Socket, TestHub};

#[tokio::test]
async fn a_wrong_parameter_of_a_query_is_named() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    let (id, nobody) = (Uuid::now_v7(), Uuid::now_v7());
    let slots = format!("/v1/practitioners/{id}/availability?from=2027-03-01&to=2027-03-02");
    for (path, field) in [
        (format!("{slots}&serviceId=zz"), "serviceId"),
        (slots.clone(), "serviceId"),
        (format!("{slots}&serviceId={nobody}&seats=many"), "seats"),
        (format!("{slots}&serviceId={nobody}&more=1"), "more"),
        ("/v1/practitioners?serviceId=zz".into(), "serviceId"),
        ("/v1/practitioners?specialization=a%00b".into(), "specialization"),
        ("/v1/practitioners?limit=x".into(), "limit"),
        ("/v1/services?page=1.5".into(), "page"),
        ("/v1/bookings?seriesId=1".into(), "seriesId"),
        ("/v1/bookings?limit=1&limit=2".into(), "limit"),
        ("/v1/notifications?before=yesterday".into(), "before"),
        (format!("/v1/conversations/{id}/messages?after=x"), "after"),
        (format!("/v1/practitioners/{id}/reviews?limit=x"), "limit"),
        ("/v1/reviews?page=x".into(), "page"),
        ("/v1/holidays?year=2026".into(), "country"),
    ] {
        let answer = person.get(&hub, &path).await;
        assert_eq!(answer.status, 422, "{path}: {:#}", answer.body);
        answer.names(field);
    }
    let block = format!("/v1/practitioners/{id}/blocks/{nobody}?series=maybe");
    person.delete(&hub, &block).await.names("series");
    hub.stop().await;
}

/// Also where no parameter is known at all: `?limit=` that does nothing would be missed by nobody but
/// its user.
#[tokio::test]
async fn what_no_route_knows_is_no_parameter_of_any() {
    let hub = TestHub::start().await;
    let person = hub.admin().await;
    // Probes, browsers and services that read calendars may add what they like; sockets are asked
    // for by their own libraries.
    let free = ["/healthz", "/readyz", "/openapi.json", "/v1/ws"];
    let is_free = |path: &str| free.contains(&path) || path.ends_with("calendar.ics");
    for (_, path) in ROUTES.iter().filter(|(method, path)| *method == "get" && !is_free(path)) {
        let parts = path.split('/').map(|part| match part.starts_with('{') {
            true => Uuid::now_v7().to_string(),
            false => part.to_owned(),
        });
        let path = parts.collect::<Vec<_>>().join("/");
        let answer = person.get(&hub, &format!("{path}?nonsense=1")).await;
        assert_eq!(answer.status, 422, "{path}: {:#}", answer.body);
        answer.refused(422, "validation_failed");
    }
    for path in ["/v1/holds?limit=5", "/v1/auth/sessions?page=2"] {
        let field = path.split(['?', '=']).nth(1).unwrap();
        person.get(&hub, path).await.names(field);
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_wrong_part_of_a_path_is_named() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    let id = Uuid::now_v7();
    let offer = json!({ "price": { "amount": 1, "currency": "INR" }, "durationMinutes": 60 });
    for (method, path, field) in [
        ("GET", "/v1/practitioners/abc".to_owned(), "id"),
        ("PUT", format!("/v1/practitioners/abc/services/{id}"), "id"),
        ("PUT", format!("/v1/practitioners/{id}/services/abc"), "serviceId"),
        ("DELETE", format!("/v1/practitioners/abc/blocks/{id}"), "id"),
        ("DELETE", format!("/v1/practitioners/{id}/blocks/abc"), "blockId"),
        ("GET", "/v1/bookings/abc/events".to_owned(), "id"),
    ] {
        let body = (method == "PUT").then_some(&offer);
        hub.call(method.parse().unwrap(), &path, Some(&person.token), body).await.names(field);
    }
    hub.stop().await;
}

#[tokio::test]
async fn instants_are_rfc_3339_everywhere() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let mut socket = Socket::open(&hub, &seeker).await;
    let id = Uuid::now_v7();
    let slots = format!("/v1/practitioners/{}/availability?serviceId={}", practice.id, id);
    for bad in ["20270328T030000Z", "2027-03-28 03:00Z", "2027-03-28T03:00:00Z[Asia/Kolkata]"] {
        let wish = json!({
            "practitionerId": practice.id, "serviceId": practice.service_id, "startsAt": bad,
        });
        let series = json!({
            "practitionerId": practice.id, "serviceId": practice.service_id, "startsAt": bad,
            "count": 2,
        });
        let wait = |from: &str, to: &str| {
            json!({
                "practitionerId": practice.id, "serviceId": practice.service_id, "from": from,
                "to": to,
            })
        };
        let good = "2027-03-28T03:00:00Z";
        for (path, body, field) in [
            ("/v1/holds", &wish, "startsAt"),
            ("/v1/bookings", &wish, "startsAt"),
            ("/v1/bookings/series", &series, "startsAt"),
            ("/v1/waitlist", &wait(bad, good), "from"),
            ("/v1/waitlist", &wait(good, bad), "to"),
        ] {
            let answer = seeker.post(&hub, path, body.clone()).await;
            answer.names(field);
            let said = answer.body["error"]["details"][0]["problem"].as_str().unwrap();
            assert!(said.contains("2027-03-01T09:30:00Z"), "{path}: {said}");
        }
        let change = json!({ "startsAt": bad });
        seeker.put(&hub, &format!("/v1/bookings/{id}"), change).await.names("startsAt");
        let block = json!({ "startsAt": good, "endsAt": bad });
        let blocks = format!("/v1/practitioners/{}/blocks", practice.id);
        practice.person.post(&hub, &blocks, block).await.names("endsAt");
        let query = format!("{slots}&from={bad}&to=2027-03-29").replace(' ', "%20");
        hub.get(&query).await.names("from");
        let error = socket.refused("hold:create", wish, "validation_failed").await;
        assert_eq!(error["details"][0]["field"], "startsAt");
    }
    hub.stop().await;
}

#[tokio::test]
async fn the_fields_of_a_device_are_named_by_their_path() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    let device = |endpoint: &str, p256dh: &str, auth: &str| json!({ "webPush": { "endpoint": endpoint, "keys": { "p256dh": p256dh, "auth": auth } } });
    let point =
        "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
    let (url, secret) = ("https://push.example.com/1", "BTBZMqHH6r4Tts7J_aSIgg");
    for (body, field) in [
        (device("nowhere", point, secret), "webPush.endpoint"),
        (device(url, "x", secret), "webPush.keys.p256dh"),
        (device(url, point, "x"), "webPush.keys.auth"),
        (json!({ "fcm": { "token": "" } }), "fcm.token"),
    ] {
        person.post(&hub, "/v1/notifications/devices", body).await.names(field);
    }
    hub.stop().await;
}

#[tokio::test]
async fn every_op_of_the_socket_refuses_what_it_does_not_know() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    let mut socket = Socket::open(&hub, &person).await;
    let calendar = format!("calendar:{}", Uuid::now_v7());
    let own = format!("user:{}", person.id);
    for (op, data, field) in [
        ("ping", json!({ "more": 1 }), "more"),
        ("auth", json!({ "token": person.token, "more": 1 }), "more"),
        ("auth", json!({}), "token"),
        ("auth", json!({ "token": 5 }), "token"),
        ("subscribe", json!({ "channel": calendar, "from": 0 }), "from"),
        ("subscribe", json!({ "channel": "calendar" }), "channel"),
        ("subscribe", json!({ "channel": calendar, "since": -1 }), "since"),
        ("subscribe", json!({ "channel": calendar, "since": "0" }), "since"),
        ("unsubscribe", json!({ "channel": calendar, "since": 0 }), "since"),
        ("unsubscribe", json!({ "channel": own }), "channel"),
        ("resume", json!({ "channels": {}, "more": 1 }), "more"),
        ("resume", json!({ "channels": { "x": 0 } }), "channels.x"),
        ("resume", json!({ "channels": { &calendar: "0" } }), &format!("channels.{calendar}")),
        ("resume", json!({ "channels": { &calendar: -1 } }), &format!("channels.{calendar}")),
        ("resume", json!({ "channels": [] }), "channels"),
    ] {
        let error = socket.refused(op, data.clone(), "validation_failed").await;
        assert_eq!(error["details"][0]["field"], field, "{op} {data}: {error}");
    }
    // None of that did any harm.
    socket.ok("ping", json!({})).await;
    socket.ok("auth", json!({ "token": person.token })).await;
    let since = json!({ "channel": own, "since": null });
    assert_eq!(socket.ok("subscribe", since).await["seq"], 0);
    let profile = hub.call(Method::GET, "/v1/users/profile", Some(&person.token), None).await;
    profile.data(200);
    hub.stop().await;
}
