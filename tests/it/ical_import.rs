//! Busy times from calendars elsewhere: what they block, what changes them, and what never does.

use std::time::Duration;

use hub::config::Config;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::feed_server::{FeedServer, Page};
use crate::support::hub::answer;
use crate::support::{Answer, Person, Practice, Socket, TestHub, rows};

/// A hub that reads addresses on this machine, every second.
async fn eager() -> TestHub {
    TestHub::start_with(|c| every(c, 1)).await
}

fn every(config: &mut Config, seconds: u64) {
    config.import.allow_private = true;
    config.import.every = Duration::from_secs(seconds);
}

fn stamp(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// A calendar with an event for each (UID, start, end), of titles that nobody is to see.
fn calendar(events: &[(&str, Timestamp, Timestamp)]) -> String {
    let event = |(uid, start, end): &(&str, Timestamp, Timestamp)| {
        format!(
            "BEGIN:VEVENT\r\nUID:{uid}\r\nSUMMARY:my secret ailment\r\nDTSTART:{}\r\nDTEND:{}\r\nEND:VEVENT\r\n",
            stamp(*start),
            stamp(*end)
        )
    };
    let events: String = events.iter().map(event).collect();
    format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{events}END:VCALENDAR\r\n")
}

fn path(practice: &Practice) -> String {
    format!("/v1/practitioners/{}/external-calendars", practice.id)
}

fn id_of(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

async fn add(hub: &TestHub, practice: &Practice, url: &str) -> Value {
    let body = json!({ "name": "Private", "url": url });
    practice.person.post(hub, &path(practice), body).await.data(201)
}

async fn upload(hub: &TestHub, practice: &Practice, text: &str) -> Answer {
    let request = hub.request(Method::POST, &format!("{}?name=File", path(practice)));
    let request = request.bearer_auth(&practice.person.token);
    answer(request.header("content-type", "text/calendar").body(text.to_owned())).await
}

async fn list(hub: &TestHub, practice: &Practice) -> Value {
    practice.person.get(hub, &path(practice)).await.data(200)
}

/// Waits until the only calendar of the practice is as `wanted` says.
async fn becomes(hub: &TestHub, practice: &Practice, wanted: impl Fn(&Value) -> bool) -> Value {
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let found = list(hub, practice).await[0].clone();
        if wanted(&found) {
            return found;
        }
        assert!(tokio::time::Instant::now() < until, "it stays {found:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn read(hub: &TestHub, practice: &Practice) -> Value {
    becomes(hub, practice, |c| !c["lastReadAt"].is_null()).await
}

async fn slots(hub: &TestHub, practice: &Practice, from: i64, to: i64) -> Vec<Timestamp> {
    let path = format!(
        "/v1/practitioners/{}/availability?serviceId={}&from={}&to={}",
        practice.id,
        practice.service_id,
        practice.slot(from),
        practice.slot(to)
    );
    let data = hub.get(&path).await.data(200);
    let slots = data["slots"].as_array().unwrap().iter();
    slots.map(|slot| slot["start"].as_str().unwrap().parse().unwrap()).collect()
}

fn hours(practice: &Practice, hours: &[i64]) -> Vec<Timestamp> {
    hours.iter().map(|n| practice.slot(*n)).collect()
}

/// Books through the database alone, as a node whose memory knows nothing would.
async fn refused_at(hub: &TestHub, seeker: &Person, practice: &Practice, hour: i64) {
    for path in ["/v1/holds", "/v1/bookings"] {
        let refused = seeker.post(hub, path, practice.wish(practice.slot(hour))).await;
        refused.refused(409, "slot_taken");
    }
}

#[tokio::test]
async fn the_busy_times_of_an_address_block_and_follow_it() {
    let hub = eager().await;
    let practice = hub.practice().await;
    let (seeker, server) = (hub.seeker().await, FeedServer::start());
    let at = |hour| practice.slot(hour);
    // The actor has the calendar in memory before anything is read.
    assert_eq!(slots(&hub, &practice, 8, 14).await.len(), 6);
    let kept = seeker.post(&hub, "/v1/bookings", practice.wish(at(9))).await.data(201);
    server.put("/cal.ics", Page::of(calendar(&[("1", at(9), at(11)), ("2", at(12), at(13))])));
    let added = add(&hub, &practice, &server.url("/cal.ics?key=s3cret")).await;
    assert_eq!((&added["host"], &added["kind"]), (&json!("127.0.0.1"), &json!("address")));
    let found = read(&hub, &practice).await;
    assert_eq!((&found["events"], &found["unreadable"]), (&json!(2), &json!(0)));
    assert_eq!((&found["staleSince"], &found["lastError"]), (&json!(null), &json!(null)));
    assert_eq!(slots(&hub, &practice, 8, 14).await, hours(&practice, &[8, 11, 13]));
    refused_at(&hub, &seeker, &practice, 10).await;
    // What was booked before stays.
    let path = format!("/v1/bookings/{}", id_of(&kept));
    assert_eq!(seeker.get(&hub, &path).await.data(200)["status"], "pending");

    // Neither listed as blocked by the practitioner, nor to be opened one by one.
    let blocks = format!("/v1/practitioners/{}/blocks", practice.id);
    assert_eq!(practice.person.get(&hub, &blocks).await.data(200), json!([]));
    let row =
        rows::column(&hub.database_url, "SELECT id FROM blocked_times LIMIT 1").await.remove(0);
    practice.person.delete(&hub, &format!("{blocks}/{row}")).await.refused(404, "not_found");

    // An event that moves frees its old time, and only what changed is told.
    let version =
        format!("SELECT version FROM calendars WHERE practitioner_id = '{}'", practice.id);
    let before = hub.number(&version).await;
    server.put("/cal.ics", Page::of(calendar(&[("1", at(9), at(11)), ("2b", at(11), at(12))])));
    hub.becomes(&version, before + 1).await;
    let told = format!("SELECT changes::text FROM calendar_changes WHERE version = {}", before + 1);
    let told: Value =
        serde_json::from_str(&rows::column(&hub.database_url, &told).await[0]).unwrap();
    let change = |from, to, state| json!({ "start": at(from), "end": at(to), "state": state });
    assert_eq!(told["changes"], json!([change(11, 12, "busy"), change(12, 13, "free")]));
    hub.becomes("SELECT count(*) FROM blocked_times", 1).await; // 9 to 12, merged
    assert_eq!(slots(&hub, &practice, 8, 14).await, hours(&practice, &[8, 12, 13]));

    // Nothing new: no version, however often it is read.
    let asked = server.count("/cal.ics");
    server.waits_for("/cal.ics", asked + 3).await;
    assert_eq!(hub.number(&version).await, before + 1);
    assert!(server.asked().last().unwrap().if_none_match.is_some());
    assert!(server.asked().iter().all(|a| a.authorization.is_none()));

    // An empty calendar is a calendar.
    server.put("/cal.ics", Page::of(calendar(&[])));
    hub.becomes(&version, before + 2).await;
    assert_eq!(slots(&hub, &practice, 10, 14).await, hours(&practice, &[10, 11, 12, 13]));
    // Where something else keeps it busy, nothing became free.
    let told = format!("SELECT changes::text FROM calendar_changes WHERE version = {}", before + 2);
    let told: Value =
        serde_json::from_str(&rows::column(&hub.database_url, &told).await[0]).unwrap();
    assert_eq!(told["changes"], json!([change(10, 12, "free")]));

    for table in ["blocked_times", "external_calendars", "calendar_changes"] {
        let sql = format!("SELECT count(*) FROM {table} t WHERE t::text LIKE '%ailment%'");
        assert_eq!(hub.number(&sql).await, 0, "titles are kept nowhere");
    }
    assert!(!list(&hub, &practice).await.to_string().contains("s3cret"));
    hub.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_feed_that_can_not_be_read_keeps_its_busy_times() {
    let hub = eager().await;
    let practice = hub.practice().await;
    let server = FeedServer::start();
    let at = |hour| practice.slot(hour);
    let good = Page::of(calendar(&[("1", at(9), at(11))]));
    server.put("/cal.ics", good.clone());
    add(&hub, &practice, &server.url("/cal.ics")).await;
    let first = read(&hub, &practice).await;
    let cut = Page::of(calendar(&[("1", at(9), at(11)), ("2", at(11), at(12))])[..90].to_owned());
    let bomb =
        calendar(&[("1", at(9), at(11))]).replace("SUMMARY:", "RRULE:FREQ=SECONDLY\r\nSUMMARY:");
    let cases = [
        (Page::status(404), "the address answers with status 404"),
        (Page::status(500), "the address answers with status 500"),
        (Page::of("<html>please log in</html>"), "it is not an iCalendar file"),
        (Page::of(""), "it is not an iCalendar file"),
        (cut, "the file ends in the middle of the calendar"),
        (Page::of(bomb), "its repeating events repeat too often to be worked out"),
        (Page::of("x".repeat(5 << 20)), "it is larger than 4 MiB"),
        (Page::redirect("/cal.ics"), "the address redirects too often"),
        (
            Page::redirect("file:///etc/passwd"),
            "the address redirects to where the hub does not go",
        ),
    ];
    let mut since = None;
    for (page, error) in cases {
        server.put("/cal.ics", page);
        let asked = server.count("/cal.ics");
        // The pause doubles with each failure; the test does not wait for it.
        rows::run(&hub.database_url, "UPDATE external_calendars SET next_read_at = now()").await;
        server.waits_for("/cal.ics", asked + 1).await;
        let stale = becomes(&hub, &practice, |c| c["lastError"] == error).await;
        assert_eq!(since.get_or_insert(stale["staleSince"].clone()), &stale["staleSince"]);
        assert!(stale["lastReadAt"].as_str() >= first["lastReadAt"].as_str());
        assert_eq!(slots(&hub, &practice, 8, 13).await, hours(&practice, &[8, 11, 12]), "{error}");
    }
    let failures = "SELECT failures FROM external_calendars";
    assert!(hub.number(failures).await >= 8);
    let pause = "SELECT extract(epoch FROM next_read_at - now())::bigint FROM external_calendars";
    assert!(hub.number(pause).await > 60, "one that fails again and again is asked less often");

    server.put("/cal.ics", good);
    rows::run(&hub.database_url, "UPDATE external_calendars SET next_read_at = now()").await;
    becomes(&hub, &practice, |c| c["staleSince"].is_null() && c["lastError"].is_null()).await;
    assert_eq!(hub.number(failures).await, 0);
    hub.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_host_that_is_gone_or_silent_is_no_empty_calendar() {
    let hub = eager().await;
    let practice = hub.practice().await;
    let server = FeedServer::start();
    server.put("/cal.ics", Page::of(calendar(&[("1", practice.slot(9), practice.slot(11))])));
    add(&hub, &practice, &server.url("/cal.ics")).await;
    read(&hub, &practice).await;
    server.stop().await;
    let stale = becomes(&hub, &practice, |c| !c["staleSince"].is_null()).await;
    assert_eq!(stale["lastError"], "no connection");
    assert_eq!(slots(&hub, &practice, 8, 12).await, hours(&practice, &[8, 11]));
    hub.stop().await;
}

#[tokio::test]
async fn what_is_not_public_is_not_asked() {
    let server = FeedServer::start();
    server.put("/cal.ics", Page::of(calendar(&[])));
    let hub = TestHub::start_with(|c| c.import.every = Duration::from_secs(60)).await;
    let practice = hub.practice().await;
    for url in [
        server.url("/cal.ics"),
        server.url("/cal.ics").replace("http:", "https:"),
        "http://example.com/cal.ics".to_owned(),
        "https://169.254.169.254/latest".to_owned(),
        "https://[fd00::1]/cal.ics".to_owned(),
        "https://user:pass@example.com/cal.ics".to_owned(),
        "ftp://example.com/cal.ics".to_owned(),
        "nonsense".to_owned(),
    ] {
        let body = json!({ "name": "x", "url": url });
        practice.person.post(&hub, &path(&practice), body).await.names("url");
    }
    // A name that leads to this machine shows only when it is looked up.
    let port = server.url("").rsplit(':').next().unwrap().to_owned();
    add(&hub, &practice, &format!("https://localhost:{port}/cal.ics")).await;
    let stale = becomes(&hub, &practice, |c| !c["staleSince"].is_null()).await;
    assert_eq!(stale["lastError"], "the name resolves to no public address");
    assert_eq!(server.asked(), []);
    hub.stop().await;

    // A redirect is held to the same.
    let hub = eager().await;
    let practice = hub.practice().await;
    server.put("/moved.ics", Page::redirect("/cal.ics"));
    add(&hub, &practice, &server.url("/moved.ics")).await;
    read(&hub, &practice).await;
    assert!(server.count("/cal.ics") > 0);
    hub.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_file_blocks_until_another_is_put_in_its_place() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let at = |hour| practice.slot(hour);
    let seeker = hub.seeker().await;
    assert_eq!(slots(&hub, &practice, 8, 12).await.len(), 4);
    let file = calendar(&[("1", at(9), at(10)), ("1", at(9), at(10)), ("past", at(-100), at(-99))]);
    let added = upload(&hub, &practice, &file).await.data(201);
    assert_eq!(
        (&added["kind"], &added["host"], &added["name"]),
        (&json!("file"), &json!(null), &json!("File"))
    );
    assert!(added["lastReadAt"].is_string());
    assert_eq!(slots(&hub, &practice, 8, 12).await, hours(&practice, &[8, 10, 11]));
    refused_at(&hub, &seeker, &practice, 9).await;

    let one = format!("{}/{}", path(&practice), id_of(&added));
    let put = async |text: &str| {
        let request = hub.request(Method::PUT, &one).bearer_auth(&practice.person.token);
        answer(request.header("content-type", "text/calendar; charset=utf-8").body(text.to_owned()))
            .await
    };
    put("BEGIN:VCALENDAR").await.names("body");
    assert_eq!(slots(&hub, &practice, 8, 12).await, hours(&practice, &[8, 10, 11]));
    assert_eq!(put(&calendar(&[("2", at(10), at(11))])).await.data(200)["events"], 1);
    assert_eq!(slots(&hub, &practice, 8, 12).await, hours(&practice, &[8, 9, 11]));
    practice.person.post(&hub, &format!("{one}/refresh"), json!({})).await.names("calendarId");

    // Too large, of another kind, or none at all: nothing is kept.
    let before = rows::contents(&hub.database_url).await;
    upload(&hub, &practice, &"x".repeat((1 << 20) + 1)).await.refused(413, "payload_too_large");
    upload(&hub, &practice, "<html>").await.names("body");
    let plain = hub.request(Method::POST, &path(&practice)).bearer_auth(&practice.person.token);
    let plain = answer(plain.header("content-type", "text/plain").body("x")).await;
    plain.refused(415, "unsupported_media_type");
    let json = hub.request(Method::PUT, &one).bearer_auth(&practice.person.token).json(&json!({}));
    answer(json).await.refused(415, "unsupported_media_type");
    for (field, body) in [
        ("name", json!({ "url": "https://example.com/x.ics" })),
        ("url", json!({ "name": "x" })),
        ("name", json!({ "name": " ", "url": "https://example.com/x.ics" })),
        ("name", json!({ "name": "x".repeat(101), "url": "https://example.com/x.ics" })),
        ("colour", json!({ "name": "x", "url": "https://example.com/x.ics", "colour": "red" })),
    ] {
        practice.person.post(&hub, &path(&practice), body).await.names(field);
    }
    assert_eq!(rows::contents(&hub.database_url).await, before);

    // Deleting it frees its times, and forgets it whole.
    practice.person.delete(&hub, &one).await.data(200);
    assert_eq!(slots(&hub, &practice, 8, 12).await.len(), 4);
    assert_eq!(rows::count(&hub.database_url, "blocked_times").await, 0);
    practice.person.delete(&hub, &one).await.refused(404, "not_found");
    seeker.post(&hub, "/v1/bookings", practice.wish(at(10))).await.data(201);
    hub.stop().await;
}

#[tokio::test]
async fn a_key_makes_an_upload_safe_to_repeat() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let send = async |name: &str, text: String| {
        let request = hub.request(Method::POST, &format!("{}?name={name}", path(&practice)));
        let request = request.bearer_auth(&practice.person.token).header("idempotency-key", "k");
        answer(request.header("content-type", "text/calendar").body(text)).await
    };
    let file = calendar(&[("1", practice.slot(9), practice.slot(10))]);
    let first = send("a", file.clone()).await.data(201);
    assert_eq!(send("a", file.clone()).await.data(201), first);
    send("b", file).await.refused(422, "idempotency_conflict");
    send("a", calendar(&[])).await.refused(422, "idempotency_conflict");
    assert_eq!(list(&hub, &practice).await.as_array().unwrap().len(), 1);
    hub.stop().await;
}

#[tokio::test]
async fn a_busy_time_as_far_ahead_as_can_be_booked_is_not_booked_over() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "horizonDays": 730 })).await;
    let seeker = hub.seeker().await;
    let hour = 24 * 720;
    let at = |hour| practice.slot(hour);
    let file = calendar(&[("far", at(hour), at(hour + 1))]);
    upload(&hub, &practice, &file).await.data(201);
    assert_eq!(slots(&hub, &practice, hour, hour + 2).await, hours(&practice, &[hour + 1]));
    refused_at(&hub, &seeker, &practice, hour).await;
    seeker.post(&hub, "/v1/bookings", practice.wish(at(hour + 1))).await.data(201);
    hub.stop().await;
}

#[tokio::test]
async fn a_practice_has_so_many_calendars_and_its_blocks_are_counted_apart() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let at = |hour| practice.slot(hour);
    let file = calendar(&[("1", at(9), at(10))]);
    let requests = (0..8).map(|_| upload(&hub, &practice, &file));
    let answers = futures_util::future::join_all(requests).await;
    let (good, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.status == 201);
    assert_eq!(good.len(), 5);
    refused.iter().for_each(|a| a.names("body"));
    let body = json!({ "name": "x", "url": "https://example.com/x.ics" });
    practice.person.post(&hub, &path(&practice), body).await.names("body");
    // Five of the same: busy until the last of them is gone.
    for calendar in list(&hub, &practice).await.as_array().unwrap() {
        assert_eq!(slots(&hub, &practice, 8, 11).await, hours(&practice, &[8, 10]));
        let one = format!("{}/{}", path(&practice), id_of(calendar));
        practice.person.delete(&hub, &one).await.data(200);
    }
    assert_eq!(slots(&hub, &practice, 8, 11).await.len(), 3);

    // A thousand events do not use up what the practitioner may block.
    let many: Vec<(String, Timestamp, Timestamp)> = (0..1_100)
        .map(|n| (n.to_string(), at(3 * n), at(3 * n) + SignedDuration::from_mins(10)))
        .collect();
    let many: Vec<_> = many.iter().map(|(uid, start, end)| (uid.as_str(), *start, *end)).collect();
    assert_eq!(upload(&hub, &practice, &calendar(&many)).await.data(201)["events"], 1_100);
    let body = json!({ "startsAt": at(1), "endsAt": at(2) });
    practice
        .person
        .post(&hub, &format!("/v1/practitioners/{}/blocks", practice.id), body)
        .await
        .data(201);
    assert_eq!(slots(&hub, &practice, 0, 6).await, hours(&practice, &[2, 4, 5]));
    hub.stop().await;
}

#[tokio::test]
async fn a_watcher_sees_what_a_snapshot_shows() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (hub.practice().await, hub.seeker().await);
    let at = |hour| practice.slot(hour);
    let channel = json!({ "channel": format!("calendar:{}", practice.id) });
    let mut socket = Socket::open(&hub, &seeker).await;
    let first = socket.ok("subscribe", channel.clone()).await;
    let added = upload(&hub, &practice, &calendar(&[("1", at(9), at(11)), ("2", at(13), at(14))]))
        .await
        .data(201);
    let busy = socket.event("availability:changed").await;
    assert_eq!(busy["seq"].as_i64(), first["seq"].as_i64().map(|seq| seq + 1));
    let span = |from, to, state| json!({ "start": at(from), "end": at(to), "state": state });
    assert_eq!(busy["data"]["changes"], json!([span(9, 11, "busy"), span(13, 14, "busy")]));
    let snapshot = async |socket: &mut Socket| {
        socket.ok("unsubscribe", channel.clone()).await;
        socket.ok("subscribe", channel.clone()).await["snapshot"]["busy"].clone()
    };
    let plain = |from, to| json!({ "start": at(from), "end": at(to) });
    assert_eq!(snapshot(&mut socket).await, json!([plain(9, 11), plain(13, 14)]));
    // One of its own time stays busy for another reason.
    let body = json!({ "startsAt": at(10), "endsAt": at(12) });
    practice
        .person
        .post(&hub, &format!("/v1/practitioners/{}/blocks", practice.id), body)
        .await
        .data(201);
    socket.event("availability:changed").await;
    practice.person.delete(&hub, &format!("{}/{}", path(&practice), id_of(&added))).await.data(200);
    let freed = socket.event("availability:changed").await;
    assert_eq!(freed["data"]["changes"], json!([span(9, 10, "free"), span(13, 14, "free")]));
    assert_eq!(snapshot(&mut socket).await, json!([plain(10, 12)]));
    hub.stop().await;
}

#[tokio::test]
async fn nobody_reaches_anothers_calendars() {
    let hub = TestHub::start().await;
    let (practice, rival) = (hub.practice().await, hub.practice().await);
    let (seeker, admin) = (hub.seeker().await, hub.admin().await);
    let file = calendar(&[("1", practice.slot(9), practice.slot(10))]);
    let added = id_of(&upload(&hub, &practice, &file).await.data(201));
    let one = format!("{}/{added}", path(&practice));
    let before = rows::contents(&hub.database_url).await;
    let address = json!({ "name": "x", "url": "https://example.com/x.ics" });
    for other in [&seeker, &rival.person] {
        other.get(&hub, &path(&practice)).await.refused(403, "forbidden");
        other.post(&hub, &path(&practice), address.clone()).await.refused(403, "forbidden");
        other.post(&hub, &format!("{one}/refresh"), json!({})).await.refused(403, "forbidden");
        other.delete(&hub, &one).await.refused(403, "forbidden");
        let put = hub.request(Method::PUT, &one).bearer_auth(&other.token);
        let put = put.header("content-type", "text/calendar").body(calendar(&[]));
        answer(put).await.refused(403, "forbidden");
    }
    // Through one's own practice it is not there.
    let through = format!("{}/{added}", path(&rival));
    rival.person.delete(&hub, &through).await.refused(404, "not_found");
    rival
        .person
        .post(&hub, &format!("{through}/refresh"), json!({}))
        .await
        .refused(404, "not_found");
    let put = hub.request(Method::PUT, &through).bearer_auth(&rival.person.token);
    let put = put.header("content-type", "text/calendar").body(calendar(&[]));
    answer(put).await.refused(404, "not_found");
    assert_eq!(rows::contents(&hub.database_url).await, before);
    // An administrator mends calendars.
    assert_eq!(admin.get(&hub, &path(&practice)).await.data(200)[0]["id"], added);
    hub.stop().await;
}

#[tokio::test]
async fn several_nodes_read_a_feed_once_and_all_know_it() {
    let server = FeedServer::start();
    let slow = Page { delay: Duration::from_secs(3), ..Page::of(calendar(&[])) };
    server.put("/cal.ics", slow);
    let a = TestHub::start_with(|c| every(c, 3_600)).await;
    let b = TestHub::start_over(a.database_url.clone(), |c| every(c, 3_600)).await;
    let practice = a.practice().await;
    let at = |hour| practice.slot(hour);
    for hub in [&a, &b] {
        assert_eq!(slots(hub, &practice, 8, 12).await.len(), 4);
    }
    let added = add(&a, &practice, &server.url("/cal.ics")).await;
    server.waits_for("/cal.ics", 1).await;
    read(&a, &practice).await;
    assert_eq!(server.count("/cal.ics"), 1, "one of the two took it");

    // Asked for again while one is under way: what began later counts, whichever ends first.
    let refresh = format!("{}/{}/refresh", path(&practice), id_of(&added));
    let page = |events: &[_], delay| Page {
        delay: Duration::from_secs(delay),
        etag: None,
        ..Page::of(calendar(events))
    };
    server.put("/cal.ics", page(&[("old", at(8), at(9))], 5));
    practice.person.post(&a, &refresh, json!({})).await.data(200);
    server.waits_for("/cal.ics", 2).await;
    server.put("/cal.ics", page(&[("new", at(10), at(11))], 0));
    rows::run(&a.database_url, "UPDATE external_calendars SET next_read_at = now()").await;
    server.waits_for("/cal.ics", 3).await;
    a.becomes("SELECT count(*) FROM blocked_times", 1).await;
    // The late one comes, and changes nothing.
    server.has_answered("/cal.ics", 3).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rows::count(&a.database_url, "blocked_times").await, 1);
    let start = "SELECT extract(epoch FROM starts_at)::bigint FROM blocked_times";
    assert_eq!(a.number(start).await, at(10).as_second());
    assert_eq!(
        rows::count(&a.database_url, "external_calendars WHERE stale_since IS NULL").await,
        1
    );

    // The node that did not read it has no bus here: it looks for itself, within seconds.
    for hub in [&a, &b] {
        let until = tokio::time::Instant::now() + Duration::from_secs(20);
        while slots(hub, &practice, 8, 12).await != hours(&practice, &[8, 9, 11]) {
            assert!(tokio::time::Instant::now() < until);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    // And whatever it believes, the database refuses.
    let seeker = b.seeker().await;
    refused_at(&b, &seeker, &practice, 10).await;
    a.stop().await;
    b.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_booking_that_comes_back_blocks_nothing_of_its_own() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "instantConfirm": true })).await;
    let seeker = hub.seeker().await;
    let booking =
        seeker.post(&hub, "/v1/bookings", practice.wish(practice.slot(9))).await.data(201);
    let invite = format!("/v1/bookings/{}/invite.ics", id_of(&booking));
    let invite = hub.request(Method::GET, &invite).bearer_auth(&practice.person.token);
    let invite = invite.send().await.unwrap().text().await.unwrap();
    // The practitioner keeps it in a calendar that we read.
    let read = upload(&hub, &practice, &invite).await.data(201);
    assert_eq!((&read["events"], &read["unreadable"]), (&json!(0), &json!(0)));
    seeker.delete(&hub, &format!("/v1/bookings/{}", id_of(&booking))).await.data(200);
    assert_eq!(slots(&hub, &practice, 8, 11).await.len(), 3);
    // The same event under any other UID does block.
    upload(&hub, &practice, &invite.replace("UID:", "UID:x")).await.data(201);
    assert_eq!(slots(&hub, &practice, 8, 11).await, hours(&practice, &[8, 10]));
    hub.stop().await;
}

#[tokio::test]
async fn a_node_that_knows_nothing_of_it_is_refused_by_the_database() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (hub.practice().await, hub.seeker().await);
    assert_eq!(slots(&hub, &practice, 8, 11).await.len(), 3);
    // As another node would, but without the version that lets this one look.
    let (id, at) = (uuid::Uuid::now_v7(), practice.slot(9));
    for sql in [
        format!(
            "INSERT INTO external_calendars (id, practitioner_id, name)
             VALUES ('{id}', '{}', 'x')",
            practice.id
        ),
        format!(
            "INSERT INTO blocked_times (id, practitioner_id, external_calendar_id, starts_at, ends_at)
             VALUES ('{id}', '{}', '{id}', '{at}', '{at}'::timestamptz + interval '1 hour')",
            practice.id
        ),
    ] {
        rows::run(&hub.database_url, &sql).await;
    }
    seeker.post(&hub, "/v1/holds", practice.wish(at)).await.refused(409, "slot_taken");
    // And now it has looked.
    assert_eq!(slots(&hub, &practice, 8, 11).await, hours(&practice, &[8, 10]));
    hub.stop().await;
}

#[tokio::test]
async fn what_a_dead_worker_took_comes_due_again() {
    let hub = TestHub::start_with(|c| every(c, 3_600)).await;
    let practice = hub.practice().await;
    let server = FeedServer::start();
    server.put("/cal.ics", Page::of(calendar(&[("1", practice.slot(9), practice.slot(10))])));
    let added = add(&hub, &practice, &server.url("/cal.ics")).await;
    read(&hub, &practice).await;
    // Whoever took it is given up on in two seconds; until then nobody else takes it.
    let taken = "UPDATE external_calendars SET attempt = attempt + 1, attempted_at = now(),
                    next_read_at = now() + interval '2 seconds', etag = NULL";
    rows::run(&hub.database_url, taken).await;
    let asked = server.count("/cal.ics");
    assert_eq!(asked, 1);
    server.waits_for("/cal.ics", 2).await;
    becomes(&hub, &practice, |c| c["lastReadAt"].as_str() > added["createdAt"].as_str()).await;

    // A day after the last whole reading it is read whole, changed or not: time has moved on.
    let due = "UPDATE external_calendars SET next_read_at = now(), full_read_at = full_read_at";
    rows::run(&hub.database_url, due).await;
    server.waits_for("/cal.ics", 3).await;
    assert!(server.asked()[2].if_none_match.is_some());
    hub.becomes("SELECT count(*) FROM external_calendars WHERE next_read_at > now()", 1).await;
    rows::run(&hub.database_url, &due.replace("= full_read_at", "= now() - interval '25 hours'"))
        .await;
    server.waits_for("/cal.ics", 4).await;
    assert!(server.asked()[3].if_none_match.is_none());
    hub.becomes("SELECT count(*) FROM external_calendars WHERE next_read_at > now() AND full_read_at > now() - interval '1 hour'", 1).await;
    // So does a practice that moves to another zone: its days are others.
    let body = json!({ "timeZone": "Europe/London", "weekly": [] });
    let hours = format!("/v1/practitioners/{}/availability", practice.id);
    practice.person.put(&hub, &hours, body).await.data(200);
    rows::run(&hub.database_url, due).await;
    server.waits_for("/cal.ics", 5).await;
    assert!(server.asked()[4].if_none_match.is_none());
    hub.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_forgotten_while_it_is_read_does_not_come_back() {
    let hub = TestHub::start_with(|c| every(c, 3_600)).await;
    let practice = hub.practice().await;
    let server = FeedServer::start();
    let page = Page::of(calendar(&[("1", practice.slot(9), practice.slot(10))]));
    server.put("/cal.ics", Page { delay: Duration::from_secs(2), ..page.clone() });
    server.put("/other.ics", page);
    let added = add(&hub, &practice, &server.url("/cal.ics")).await;
    server.waits_for("/cal.ics", 1).await;
    practice.person.delete(&hub, &format!("{}/{}", path(&practice), id_of(&added))).await.data(200);
    server.has_answered("/cal.ics", 1).await;
    // One that is read after it is there: the first has had its turn.
    add(&hub, &practice, &server.url("/other.ics")).await;
    read(&hub, &practice).await;
    assert_eq!(list(&hub, &practice).await.as_array().unwrap().len(), 1);
    assert_eq!(rows::count(&hub.database_url, "blocked_times").await, 1);
    hub.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn whole_days_are_the_practitioners_days() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let day = practice.slot(0).to_zoned(jiff::tz::TimeZone::get("Asia/Kolkata").unwrap()).date();
    let day = day.strftime("%Y%m%d");
    let text = format!(
        "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTART;VALUE=DATE:{day}\r\nEND:VEVENT\r\nEND:VCALENDAR"
    );
    upload(&hub, &practice, &text).await.data(201);
    assert_eq!(slots(&hub, &practice, -2, 26).await, hours(&practice, &[-2, -1, 24, 25]));
    hub.stop().await;
}

/// More than anybody wants to hear one by one: whoever watches is told to ask again, in a frame that
/// fits, and all of it keeps its slots closed.
#[tokio::test]
async fn eight_daily_events_without_an_end_block_and_are_told_in_short() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "horizonDays": 730 })).await;
    let seeker = hub.seeker().await;
    let mut socket = Socket::open(&hub, &seeker).await;
    socket.ok("subscribe", json!({ "channel": format!("calendar:{}", practice.id) })).await;
    let event = |n: i64| {
        format!(
            "BEGIN:VEVENT\r\nUID:{n}\r\nDTSTART:{}\r\nDURATION:PT1H\r\nRRULE:FREQ=DAILY\r\n\
             END:VEVENT\r\n",
            stamp(practice.slot(2 * n))
        )
    };
    let events: String = (0..8).map(event).collect();
    let text = format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{events}END:VCALENDAR\r\n");
    upload(&hub, &practice, &text).await.data(201);
    let told = socket.event("availability:changed").await;
    assert_eq!(
        (&told["data"]["hoursChanged"], &told["data"]["changes"]),
        (&json!(true), &json!([]))
    );
    assert!(rows::count(&hub.database_url, "blocked_times").await > 8 * 750);
    for day in [0, 300, 700] {
        refused_at(&hub, &seeker, &practice, 24 * day + 4).await;
    }
    assert_eq!(slots(&hub, &practice, 3, 6).await, hours(&practice, &[3, 5]));
    hub.stop().await;
}
