//! The conventions that every route keeps: the envelope, named fields, limits, versions, ids.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::hub::answer;
use crate::support::{Answer, Person, Practice, TestHub, rows};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A refused request: method, path, body, the field that must be named.
type Wrong = (&'static str, String, Value, &'static str);

async fn all_are_refused(hub: &TestHub, who: &Person, wrong: Vec<Wrong>) {
    let before = rows::contents(&hub.database_url).await;
    for (method, path, body, field) in wrong {
        let sent = (method != "GET").then_some(&body);
        let answer = hub.call(method.parse().unwrap(), &path, Some(&who.token), sent).await;
        let details = &answer.body["error"]["details"];
        let named = details.as_array().is_some_and(|d| d.iter().any(|p| p["field"] == field));
        assert!(answer.status == 422 && named, "{method} {path} {body}: {:#}", answer.body);
        answer.refused(422, "validation_failed");
    }
    assert_eq!(rows::contents(&hub.database_url).await, before, "something was changed");
}

#[allow(clippy::needless_pass_by_value)] // reads better with json!() at every call
fn with(valid: &Value, changes: Value) -> Value {
    let mut body = valid.clone();
    for (key, value) in changes.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[tokio::test]
async fn fields_that_are_unknown_missing_or_of_the_wrong_type_are_named() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let path = format!("/v1/practitioners/{}", practice.id);
    let hours = format!("{path}/availability");
    let offer = format!("{path}/services/{}", practice.service_id);
    let price = json!({ "amount": 1, "currency": "INR" });
    let day = |start: Value| json!({ "weekday": 1, "start": start, "end": "10:00" });
    all_are_refused(
        &hub,
        &practice.person,
        vec![
            ("PUT", path.clone(), json!({ "biography": "x" }), "biography"),
            ("PUT", path.clone(), json!({ "bio": 5 }), "bio"),
            ("PUT", path.clone(), json!({ "languages": ["en", 5] }), "languages[1]"),
            ("PUT", path.clone(), json!({ "hourlyRate": { "amount": 1 } }), "hourlyRate.currency"),
            ("PUT", path.clone(), json!({ "experienceYears": 1.5 }), "experienceYears"),
            ("PUT", path.clone(), json!({ "experienceYears": 101 }), "experienceYears"),
            ("PUT", path.clone(), json!([]), "body"),
            ("PUT", path.clone(), json!("text"), "body"),
            // All fields in order, as serde would take them.
            ("PUT", path, json!(["bio", 1, null, null, null, null, null]), "body"),
            ("PUT", hours.clone(), json!({}), "timeZone"),
            (
                "PUT",
                hours.clone(),
                json!({ "timeZone": "UTC", "weekly": [day(json!(9))] }),
                "weekly[0].start",
            ),
            (
                "PUT",
                hours,
                json!({ "timeZone": "UTC", "weekly": [{ "weekday": 1, "day": 1 }] }),
                "weekly[0].day",
            ),
            ("PUT", offer.clone(), json!({ "durationMinutes": 60 }), "price"),
            ("PUT", offer, json!({ "durationMinutes": "60", "price": price }), "durationMinutes"),
            ("POST", "/v1/auth/login".into(), json!({ "email": "a@b.in" }), "password"),
            ("POST", "/v1/holds".into(), json!({ "practitionerId": "x" }), "practitionerId"),
            ("POST", "/v1/notifications/read".into(), json!({}), "notificationId"),
        ],
    )
    .await;
    hub.stop().await;
}

/// Serde would read an object from the list of its fields, in order.
#[tokio::test]
async fn a_list_is_no_object_at_any_depth() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let path = format!("/v1/practitioners/{}", practice.id);
    let hours = format!("{path}/availability");
    let offer = format!("{path}/services/{}", practice.service_id);
    let (start, end) = (practice.slot(1), practice.slot(2));
    let block = json!({ "startsAt": start, "endsAt": end, "recurrence": ["day", 1, null, null, "2099-01-01"] });
    let weekly = json!({ "timeZone": "UTC", "weekly": [[1, "09:00", "12:00"]] });
    let price = json!({ "durationMinutes": 60, "price": [7, "INR"] });
    let longer = json!({
        "durationMinutes": 60, "price": { "amount": 1, "currency": "INR" },
        "otherDurations": [[90, { "amount": 1, "currency": "INR" }]],
    });
    let quiet = json!({ "quietHours": ["22:00", "07:00", "Asia/Kolkata"] });
    let limits = json!({ "timeZone": "UTC", "limits": [1, 2] });
    let device =
        json!({ "webPush": { "endpoint": "https://push.example.com", "keys": ["x", "y"] } });
    all_are_refused(
        &hub,
        &practice.person,
        vec![
            ("PUT", offer.clone(), price.clone(), "price"),
            ("PUT", offer.clone(), longer, "otherDurations[0]"),
            ("PUT", path, json!({ "hourlyRate": [7, "INR"] }), "hourlyRate"),
            ("PUT", hours.clone(), weekly, "weekly[0]"),
            ("PUT", hours, limits, "limits"),
            ("POST", format!("/v1/practitioners/{}/blocks", practice.id), block, "recurrence"),
            ("PUT", "/v1/notifications/preferences".into(), quiet, "quietHours"),
            ("POST", "/v1/notifications/devices".into(), device, "webPush.keys"),
        ],
    )
    .await;
    let refused = practice.person.put(&hub, &offer, price).await;
    assert_eq!(refused.body["error"]["details"][0]["problem"], "must be an object");
    hub.stop().await;
}

#[tokio::test]
async fn what_a_session_costs_stays_exact_and_in_a_currency_that_there_is() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let offer = format!("/v1/practitioners/{}/services/{}", practice.id, practice.service_id);
    let most = (1_i64 << 53) - 1;
    let body = |amount: i64, capacity: i64, currency: &str| {
        let price = json!({ "amount": amount, "currency": currency });
        json!({ "durationMinutes": 60, "price": price, "capacity": capacity })
    };
    let longer = json!({ "durationMinutes": 90, "price": { "amount": most, "currency": "INR" } });
    let other = with(&body(1, 2, "INR"), json!({ "otherDurations": [longer] }));
    let mut wrong = vec![
        ("PUT", offer.clone(), body(most, 2, "INR"), "price.amount"),
        ("PUT", offer.clone(), body(most / 500 + 1, 500, "INR"), "price.amount"),
        ("PUT", offer.clone(), other, "otherDurations[0].price.amount"),
    ];
    for currency in ["ZZZ", "XXX", "XTS", "XAU", "AAA"] {
        wrong.push(("PUT", offer.clone(), body(1, 1, currency), "price.currency"));
    }
    all_are_refused(&hub, &practice.person, wrong).await;
    practice.person.put(&hub, &offer, body(most / 500, 500, "EUR")).await.data(200);
    practice.person.put(&hub, &offer, body(most, 1, "JPY")).await.data(200);
    hub.stop().await;
}

#[tokio::test]
async fn registrations_and_profiles_are_checked_field_by_field() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    let valid = json!({
        "email": "new@example.in", "password": "long enough", "firstName": "A", "lastName": "B",
        "userType": "seeker",
    });
    let register = "/v1/auth/register".to_owned();
    let mut wrong: Vec<Wrong> = Vec::new();
    for email in ["", "a", "a@b", "@b.in", "a b@c.in", "a@b@c.in", "a\u{0}@b.in"] {
        wrong.push(("POST", register.clone(), with(&valid, json!({ "email": email })), "email"));
    }
    for password in ["short", &"x".repeat(73), "nul\u{0}nul\u{0}nul"] {
        let body = with(&valid, json!({ "password": password }));
        wrong.push(("POST", register.clone(), body, "password"));
    }
    for name in ["", "   ", &"x".repeat(101), "a\u{0}b"] {
        let body = with(&valid, json!({ "firstName": name }));
        wrong.push(("POST", register.clone(), body, "firstName"));
    }
    for phone in ["", "12345", "+1", "+9198123456789012345", "+91 98123 45678"] {
        wrong.push(("POST", register.clone(), with(&valid, json!({ "phone": phone })), "phone"));
    }
    let profile = "/v1/users/profile".to_owned();
    for date in ["1899-12-31", "2999-01-01", "2020-02-30", "yesterday"] {
        wrong.push(("PUT", profile.clone(), json!({ "dateOfBirth": date }), "dateOfBirth"));
    }
    for empty in ["phone", "gender", "firstName"] {
        wrong.push(("PUT", profile.clone(), json!({ empty: "" }), empty));
    }
    wrong.push(("PUT", profile, json!({ "email": "other@example.in" }), "email"));
    all_are_refused(&hub, &person, wrong).await;

    // Every wrong field is told at once, and text of any script is welcome.
    let both = with(&valid, json!({ "email": "x", "firstName": "" }));
    let refused = hub.post("/v1/auth/register", both).await;
    refused.names("email");
    refused.names("firstName");
    let name = "आशा 🪷 \u{202e}x".repeat(5);
    let body = with(&valid, json!({ "firstName": name, "password": "प".repeat(24) }));
    let data = hub.post("/v1/auth/register", body).await.data(201);
    assert_eq!(data["user"]["firstName"], name);
    hub.stop().await;
}

#[tokio::test]
async fn what_is_null_in_a_profile_is_taken_away_and_what_is_not_there_stays() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    let all = json!({ "phone": "+919812345678", "gender": "female", "dateOfBirth": "1990-01-31" });
    person.put(&hub, "/v1/users/profile", all).await.data(200);
    let kept = person.put(&hub, "/v1/users/profile", json!({ "phone": null })).await.data(200);
    assert_eq!(kept["phone"], Value::Null);
    assert_eq!((&kept["gender"], &kept["dateOfBirth"]), (&json!("female"), &json!("1990-01-31")));
    let both = json!({ "gender": null, "dateOfBirth": null });
    person.put(&hub, "/v1/users/profile", both).await.data(200);
    let profile = person.get(&hub, "/v1/users/profile").await.data(200);
    for field in ["phone", "gender", "dateOfBirth"] {
        assert_eq!(profile[field], Value::Null, "{field}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn zones_are_stored_as_the_database_of_zones_writes_them() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let path = format!("/v1/practitioners/{}/availability", practice.id);
    let hours = json!({
        "timeZone": "asia/KOLKATA",
        "travel": [{ "from": "2030-01-01", "to": "2030-01-05", "timeZone": "europe/lisbon" }],
    });
    let put = practice.person.put(&hub, &path, hours).await.data(200);
    assert_eq!(put["availability"]["timeZone"], "Asia/Kolkata");
    let stored =
        "SELECT (availability->>'timeZone') || ' ' || (availability#>>'{travel,0,timeZone}')
        FROM practitioners";
    assert_eq!(rows::column(&hub.database_url, stored).await, ["Asia/Kolkata Europe/Lisbon"]);
    let quiet =
        json!({ "quietHours": { "from": "22:00", "to": "07:00", "timeZone": "ASIA/kolkata" } });
    let path = "/v1/notifications/preferences";
    practice.person.put(&hub, path, quiet).await.data(200);
    let preferences = practice.person.get(&hub, path).await.data(200);
    assert_eq!(preferences["quietHours"]["timeZone"], "Asia/Kolkata");
    hub.stop().await;
}

#[tokio::test]
async fn lengths_prices_and_hours_have_bounds() {
    let hub = TestHub::start().await;
    let Practice { id, service_id, person } = hub.practice().await;
    let offer = format!("/v1/practitioners/{id}/services/{service_id}");
    let valid = json!({ "price": { "amount": 0, "currency": "INR" }, "durationMinutes": 1440 });
    let mut wrong: Vec<Wrong> = Vec::new();
    for (field, values) in [
        ("durationMinutes", [0, -1, 1441]),
        ("incrementMinutes", [0, -1, 1441]),
        ("bufferBeforeMinutes", [-1, 1441, i32::MAX]),
        ("bufferAfterMinutes", [-1, 1441, i32::MIN]),
        ("minNoticeMinutes", [-1, 525_601, i32::MAX]),
        ("horizonDays", [0, -1, 731]),
    ] {
        for value in values {
            wrong.push(("PUT", offer.clone(), with(&valid, json!({ field: value })), field));
        }
    }
    let price = |amount: i64, currency: &str| {
        with(&valid, json!({ "price": { "amount": amount, "currency": currency } }))
    };
    for amount in [-1, 1 << 53, i64::MAX] {
        wrong.push(("PUT", offer.clone(), price(amount, "INR"), "price.amount"));
        let longer = json!({
            "otherDurations": [{
                "durationMinutes": 90, "price": { "amount": amount, "currency": "INR" },
            }],
        });
        let field = "otherDurations[0].price.amount";
        wrong.push(("PUT", offer.clone(), with(&valid, longer), field));
        let rate = json!({ "hourlyRate": { "amount": amount, "currency": "INR" } });
        wrong.push(("PUT", format!("/v1/practitioners/{id}"), rate, "hourlyRate.amount"));
    }
    for currency in ["", "inr", "RUPEE", "₹"] {
        wrong.push(("PUT", offer.clone(), price(1, currency), "price.currency"));
    }
    wrong.push(("PUT", offer.clone(), with(&valid, json!({ "slotGrid": "x" })), "slotGrid"));
    wrong.push(("PUT", offer.clone(), with(&valid, json!({ "status": "x" })), "status"));
    let huge = with(&valid, json!({ "durationMinutes": 99_999_999_999_i64 }));
    wrong.push(("PUT", offer.clone(), huge, "durationMinutes"));
    let unknown = format!("/v1/practitioners/{id}/services/{}", Uuid::now_v7());
    wrong.push(("PUT", unknown, valid.clone(), "serviceId"));
    all_are_refused(&hub, &person, wrong).await;
    // The control: the bounds themselves are allowed.
    person.put(&hub, &offer, valid.clone()).await.data(200);
    // The largest price of one seat, and the largest of many: exact, all seats together.
    let offered = person.put(&hub, &offer, price((1 << 53) - 1, "INR")).await.data(200);
    assert_eq!(offered[0]["price"]["amount"], 9_007_199_254_740_991_i64);
    let dearest = with(&price(18_014_398_509_481, "INR"), json!({ "capacity": 500 }));
    person.put(&hub, &offer, dearest).await.data(200);
    let seeker = hub.seeker().await;
    let slots = format!("/v1/practitioners/{id}/availability?serviceId={service_id}");
    let from = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
    let to = from + jiff::SignedDuration::from_hours(72);
    let found = hub.get(&format!("{slots}&from={from}&to={to}")).await.data(200);
    let wish = json!({
        "practitionerId": id, "serviceId": service_id, "startsAt": found["slots"][0]["start"],
        "seats": 500,
    });
    let booked = seeker.post(&hub, "/v1/bookings", wish).await.data(201);
    assert_eq!(booked["totalAmount"]["amount"], 18_014_398_509_481_i64 * 500);
    hub.stop().await;
}

#[tokio::test]
async fn schedules_and_blocks_are_checked() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let hours = format!("/v1/practitioners/{}/availability", practice.id);
    let range = |weekday: i64, start: &str, end: &str| json!({ "weekday": weekday, "start": start, "end": end });
    let weekly = |ranges: &[Value]| json!({ "timeZone": "Europe/Lisbon", "weekly": ranges });
    let on = |date: &str, start: &str, end: &str| {
        json!({ "timeZone": "Europe/Lisbon", "overrides":
            [{ "date": date, "windows": [{ "start": start, "end": end }] }] })
    };
    let twice = json!({ "timeZone": "UTC", "overrides": [
        { "date": "2027-01-01", "windows": [] }, { "date": "2027-01-01", "windows": [] }] });
    let skipped = json!({ "timeZone": "Pacific/Apia", "overrides":
        [{ "date": "2011-12-30", "windows": [] }] });
    let put = |body: Value, field: &'static str| -> Wrong { ("PUT", hours.clone(), body, field) };
    let mut wrong = vec![
        put(weekly(&[range(1, "09:00", "12:00"), range(1, "11:59", "13:00")]), "weekly[1]"),
        put(weekly(&[range(0, "09:00", "12:00")]), "weekly[0].weekday"),
        put(weekly(&[range(8, "09:00", "12:00")]), "weekly[0].weekday"),
        put(weekly(&[range(1, "12:00", "12:00")]), "weekly[0].end"),
        put(weekly(&[range(1, "9:00", "12:00")]), "weekly[0].start"),
        put(weekly(&[range(1, "09:00", "24:01")]), "weekly[0].end"),
        put(weekly(&[range(1, "09:00:30", "12:00")]), "weekly[0].start"),
        put(weekly(&vec![range(1, "09:00", "12:00"); 65]), "weekly"),
        put(on("2027-02-30", "09:00", "10:00"), "overrides[0].date"),
        put(twice, "overrides[1].date"),
        put(skipped, "overrides[0].date"),
        // Lisbon's clocks jump from 01:00 to 02:00 on that day.
        put(on("2027-03-28", "01:30", "02:00"), "overrides[0].windows[0].start"),
    ];
    for zone in ["", "Mars/Olympus", "+05:30", "EST5EDT4", "Etc/Unknown", "../etc/passwd"] {
        wrong.push(put(json!({ "timeZone": zone }), "timeZone"));
    }
    let blocks = format!("/v1/practitioners/{}/blocks", practice.id);
    let block = |start: &str, end: &str| json!({ "startsAt": start, "endsAt": end });
    let post =
        |body: Value, field: &'static str| -> Wrong { ("POST", blocks.clone(), body, field) };
    wrong.extend([
        post(block("2030-01-02T00:00:00Z", "2030-01-01T00:00:00Z"), "endsAt"),
        post(block("2030-01-01T00:00:00Z", "2030-01-01T00:00:00Z"), "endsAt"),
        post(block("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"), "endsAt"),
        post(block("2030-01-01T00:00:00Z", "2032-01-01T00:00:00Z"), "endsAt"),
        post(block("2030-01-01", "2030-01-02T00:00:00Z"), "startsAt"),
        post(block("2030-01-01T00:00:00", "2030-01-02T00:00:00Z"), "startsAt"),
    ]);
    all_are_refused(&hub, &practice.person, wrong).await;
    // The controls: touching ranges, and a window of which something is left after the gap.
    let touching = weekly(&[range(1, "09:00", "12:00"), range(1, "12:00", "24:00")]);
    practice.person.put(&hub, &hours, touching).await.data(200);
    practice.person.put(&hub, &hours, on("2027-03-28", "01:00", "03:00")).await.data(200);
    hub.stop().await;
}

#[tokio::test]
async fn lists_and_queries_have_bounds() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let mut wrong: Vec<Wrong> = Vec::new();
    for list in ["/v1/services", "/v1/practitioners", "/v1/bookings", "/v1/conversations"] {
        for (query, field) in [
            ("page=0", "page"),
            ("page=-1", "page"),
            ("page=10001", "page"),
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("limit=9223372036854775807", "limit"),
            ("sort=name", "sort"),
        ] {
            wrong.push(("GET", format!("{list}?{query}"), Value::Null, field));
        }
    }
    wrong.push(("GET", "/v1/bookings?status=held%00".into(), Value::Null, "status"));
    wrong.push(("GET", "/v1/notifications?limit=101".into(), Value::Null, "limit"));
    let slots = format!("/v1/practitioners/{}/availability", practice.id);
    let service = &practice.service_id;
    for (query, field) in [
        ("to=2027-01-02".to_owned(), "from"),
        ("from=2027-01-02&to=2027-01-01".into(), "to"),
        ("from=x&to=2027-01-01".into(), "from"),
        ("from=2027-01-01&to=2027-04-01".into(), "to"),
        ("from=2027-01-01&to=2027-01-02&timeZone=Mars/Olympus".into(), "timeZone"),
    ] {
        let path = format!("{slots}?serviceId={service}&{query}");
        wrong.push(("GET", path, Value::Null, field));
    }
    all_are_refused(&hub, &practice.person, wrong).await;

    let page = hub.get("/v1/practitioners?page=2&limit=1").await;
    assert_eq!(page.data(200), json!([]));
    let pagination = json!({ "page": 2, "limit": 1, "total": 1, "totalPages": 1 });
    assert_eq!(page.body["meta"]["pagination"], pagination);
    hub.stop().await;
}

#[tokio::test]
async fn an_id_that_is_none_is_named() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let person = &practice.person;
    let good = Uuid::now_v7().to_string();
    let mut tried = 0;
    for (method, pattern) in hub::http::ROUTES.iter().filter(|(_, path)| path.contains('{')) {
        let (_, last) = pattern.rsplit_once('{').unwrap();
        let name = last.split('}').next().unwrap();
        for bad in ["x", "0", "%00", "..%2f", &good[1..]] {
            let path = pattern
                .replace(&format!("{{{name}}}"), bad)
                .replace("{id}", &practice.id)
                .replace("{messageId}", &good);
            let query =
                "?serviceId=00000000-0000-0000-0000-000000000000&from=2027-01-01&to=2027-01-02";
            let path = if pattern.ends_with("/availability") && *method == "get" {
                format!("{path}{query}")
            } else {
                path
            };
            let body = json!({});
            let sent = (*method == "post" || *method == "put").then_some(&body);
            let method = method.to_uppercase().parse().unwrap();
            let answer = hub.call(method, &path, Some(&person.token), sent).await;
            assert_eq!(answer.status, 422, "{path}: {:#}", answer.body);
            // A body that does not fit either may be told instead.
            let error = answer.refused(422, "validation_failed");
            if sent.is_none() {
                assert_eq!(error["details"][0]["field"], name, "{path}: {error:#}");
            }
            tried += 1;
        }
    }
    assert!(tried > 50);
    hub.stop().await;
}

async fn raw(hub: &TestHub, who: &Person, kind: Option<&str>, body: String) -> Answer {
    let mut request = hub.request(Method::PUT, "/v1/users/profile").bearer_auth(&who.token);
    if let Some(kind) = kind {
        request = request.header("content-type", kind);
    }
    answer(request.body(body)).await
}

/// Sends `body` without saying how long it is; returns status and code of the answer.
async fn chunked(hub: &TestHub, who: &Person, body: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(hub.address).await.unwrap();
    let head = format!(
        "PUT /v1/users/profile HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        hub.address, who.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for chunk in body.as_bytes().chunks(4_096) {
        let size = format!("{:x}\r\n", chunk.len());
        let frame = [size.as_bytes(), chunk, b"\r\n"].concat();
        // The hub may have heard enough.
        if stream.write_all(&frame).await.is_err() {
            break;
        }
    }
    let _ = stream.write_all(b"0\r\n\r\n").await;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let body: Value = serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    (status, body["error"]["code"].as_str().unwrap_or("none").to_owned())
}

#[tokio::test]
async fn only_json_of_at_most_64_kib_is_read() {
    let hub = TestHub::start().await;
    let person = hub.seeker().await;
    let before = rows::contents(&hub.database_url).await;
    let json = Some("application/json");
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("")] {
        let answer = raw(&hub, &person, kind, r#"{"gender":"x"}"#.into()).await;
        answer.refused(415, "unsupported_media_type");
    }
    for broken in
        ["{", "nonsense", r#"{"gender":"x"} {}"#, r#"{"gender":"x","gender":"y"}"#, "\u{feff}{}"]
    {
        raw(&hub, &person, json, broken.into()).await.refused(422, "validation_failed");
    }
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    raw(&hub, &person, json, deep).await.names("body");

    let large = format!(r#"{{"gender":"{}"}}"#, "x".repeat(64 * 1024));
    let announced = raw(&hub, &person, json, large.clone()).await;
    assert_eq!(announced.refused(413, "payload_too_large")["details"]["limit"], 65_536);
    assert_eq!(chunked(&hub, &person, &large).await, (413, "payload_too_large".to_owned()));
    assert_eq!(rows::contents(&hub.database_url).await, before);

    // The controls: a charset, and a body of exactly the limit.
    let kind = Some("Application/JSON; charset=utf-8");
    raw(&hub, &person, kind, r#"{"gender":"x"}"#.into()).await.data(200);
    let padded = format!("{}{}", r#"{"gender":"y"}"#, " ".repeat(64 * 1024 - 14));
    raw(&hub, &person, json, padded).await.data(200);
    let small = r#"{"gender":"z"}"#;
    assert_eq!(chunked(&hub, &person, small).await, (200, "none".to_owned()));
    hub.stop().await;
}
