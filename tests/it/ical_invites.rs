//! Invites and feeds: what they say, field by field, as an independent parser reads them.

use hub::domain::ics::invite::uid;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use serde_json::{Value, json};

use crate::support::python::IcalOracle;
use crate::support::{Person, Practice, TestHub, rows};

/// A calendar over HTTP: status, content type, ETag, text.
async fn fetch(request: reqwest::RequestBuilder) -> (u16, String, Option<String>, String) {
    let answer = request.send().await.unwrap();
    let header = |name| answer.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
    let (status, kind, etag) =
        (answer.status().as_u16(), header(CONTENT_TYPE).unwrap_or_default(), header(ETAG));
    (status, kind, etag, answer.text().await.unwrap())
}

async fn invite(hub: &TestHub, who: &Person, booking: &str) -> (String, String) {
    let path = format!("/v1/bookings/{booking}/invite.ics");
    let (status, kind, _, text) =
        fetch(hub.request(Method::GET, &path).bearer_auth(&who.token)).await;
    assert_eq!(status, 200, "{text}");
    (kind, text)
}

async fn feed(hub: &TestHub, path: &str) -> (u16, String, Option<String>, String) {
    // No Authorization: calendar apps have none.
    fetch(hub.request(Method::GET, path)).await
}

fn id_of(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

async fn book(hub: &TestHub, who: &Person, practice: &Practice, start: Timestamp) -> Value {
    who.post(hub, "/v1/bookings", practice.wish(start)).await.data(201)
}

async fn put_zone(hub: &TestHub, practice: &Practice, zone: &str) {
    let weekly: Vec<Value> =
        (1..=7).map(|day| json!({ "weekday": day, "start": "00:00", "end": "24:00" })).collect();
    let path = format!("/v1/practitioners/{}/availability", practice.id);
    let body = json!({ "timeZone": zone, "weekly": weekly });
    practice.person.put(hub, &path, body).await.data(200);
}

/// Everything that the parser has to say against it.
fn assert_clean(read: &Value) {
    assert_eq!(read["octets"], json!([]));
    assert_eq!(read["errors"], json!([]));
    assert_eq!(read["version"], "2.0");
    for event in read["events"].as_array().unwrap() {
        assert_eq!(event["errors"], json!([]));
    }
}

fn seconds(value: &Value) -> i64 {
    value.as_str().unwrap().parse::<Timestamp>().unwrap().as_second()
}

fn address(person: &Person) -> String {
    format!("mailto:{}@no-reply.invalid", person.id)
}

/// The attendees as (address, PARTSTAT).
fn sides(event: &Value) -> Vec<(String, Option<&str>)> {
    let attendees = event["attendees"].as_array().unwrap().iter();
    attendees.map(|a| (a["address"].as_str().unwrap().to_owned(), a["partstat"].as_str())).collect()
}

#[tokio::test]
async fn an_invite_says_what_the_booking_is_through_its_life() {
    let Some(mut oracle) = IcalOracle::start() else { return };
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (seeker, admin) = (hub.seeker().await, hub.admin().await);
    let booking = book(&hub, &seeker, &practice, practice.slot(10)).await;
    let id = id_of(&booking);

    let (kind, text) = invite(&hub, &seeker, &id).await;
    assert_eq!(kind, "text/calendar; method=REQUEST; charset=utf-8");
    // Both sides and administrators get the same.
    for who in [&practice.person, &admin] {
        assert_eq!(invite(&hub, who, &id).await, (kind.clone(), text.clone()));
    }
    let read = oracle.parse(&text);
    assert_clean(&read);
    assert_eq!(read["method"], "REQUEST");
    let [event] = &read["events"].as_array().unwrap()[..] else { panic!("{read}") };
    assert_eq!(event["uid"], uid(id.parse().unwrap()));
    assert_eq!(event["start"], seconds(&booking["scheduledAt"]));
    assert_eq!(event["end"], seconds(&booking["endsAt"]));
    assert_eq!(
        (&event["tzid"], &read["zones"]),
        (&json!("Asia/Kolkata"), &json!(["Asia/Kolkata"]))
    );
    assert_eq!(event["status"], "TENTATIVE");
    assert_eq!(event["organizer"]["address"], address(&practice.person));
    let names = format!(
        "SELECT first_name || ' Test' FROM users WHERE id IN ('{}', '{}') ORDER BY created_at",
        practice.person.id, seeker.id
    );
    let names = rows::column(&hub.database_url, &names).await;
    assert_eq!(event["organizer"]["cn"], names[0]);
    assert_eq!(event["summary"], format!("Reiki ({}, {})", names[0], names[1]));
    let both = |a, b| vec![(address(&practice.person), Some(a)), (address(&seeker), Some(b))];
    assert_eq!(sides(event), both("NEEDS-ACTION", "TENTATIVE"));

    practice.person.post(&hub, &format!("/v1/bookings/{id}/confirm"), json!({})).await.data(200);
    let confirmed = oracle.parse(&invite(&hub, &seeker, &id).await.1);
    assert_clean(&confirmed);
    let agreed = &confirmed["events"][0];
    assert_eq!(agreed["status"], "CONFIRMED");
    assert_eq!(sides(agreed), both("ACCEPTED", "ACCEPTED"));
    assert_eq!(agreed["uid"], event["uid"]);
    assert!(agreed["sequence"].as_i64() >= event["sequence"].as_i64());
    assert!(agreed["stamp"].as_i64() >= event["stamp"].as_i64());

    let body = json!({ "reason": "a cold" });
    seeker.post(&hub, &format!("/v1/bookings/{id}/cancel"), body).await.data(200);
    let (kind, text) = invite(&hub, &practice.person, &id).await;
    assert_eq!(kind, "text/calendar; method=CANCEL; charset=utf-8");
    assert!(!text.contains("a cold"), "why is between the two");
    let cancelled = oracle.parse(&text);
    assert_clean(&cancelled);
    assert_eq!(cancelled["method"], "CANCEL");
    let off = &cancelled["events"][0];
    assert_eq!((&off["status"], &off["uid"]), (&json!("CANCELLED"), &event["uid"]));
    assert!(off["sequence"].as_i64() > agreed["sequence"].as_i64());
    assert_eq!(off["start"], event["start"]);
    let who: Vec<String> = sides(off).into_iter().map(|(address, _)| address).collect();
    assert_eq!(who, [address(&practice.person), address(&seeker)]);
    hub.stop().await;
}

#[tokio::test]
async fn a_booking_that_moves_is_the_same_event_at_another_time() {
    let Some(mut oracle) = IcalOracle::start() else { return };
    let hub = TestHub::start().await;
    let (practice, seeker) = (hub.practice().await, hub.seeker().await);
    let first = book(&hub, &seeker, &practice, practice.slot(10)).await;
    let before = oracle.parse(&invite(&hub, &seeker, &id_of(&first)).await.1);
    let mut at = id_of(&first);
    let mut sequence = before["events"][0]["sequence"].as_i64();
    for hour in [12, 14] {
        let body = json!({ "startsAt": practice.slot(hour) });
        let moved = seeker.put(&hub, &format!("/v1/bookings/{at}"), body).await.data(200);
        let old = invite(&hub, &seeker, &at).await;
        assert_eq!(old.0, "text/calendar; method=CANCEL; charset=utf-8");
        at = id_of(&moved);
        let (kind, text) = invite(&hub, &practice.person, &at).await;
        assert_eq!(kind, "text/calendar; method=REQUEST; charset=utf-8");
        let (old, new) = (oracle.parse(&old.1), oracle.parse(&text));
        assert_clean(&new);
        let (old, new) = (&old["events"][0], &new["events"][0]);
        for event in [old, new] {
            assert_eq!(event["uid"], before["events"][0]["uid"]);
        }
        assert_eq!(new["start"], practice.slot(hour).as_second());
        // Whoever has the new one does not take the old one's end for its own.
        assert!(
            new["sequence"].as_i64() > sequence
                && new["sequence"].as_i64() > old["sequence"].as_i64()
        );
        sequence = new["sequence"].as_i64();
    }
    hub.stop().await;
}

#[tokio::test]
async fn the_parser_says_so_when_an_invite_is_not_in_order() {
    let Some(mut oracle) = IcalOracle::start() else { return };
    let hub = TestHub::start().await;
    let (practice, seeker) = (hub.practice().await, hub.seeker().await);
    let booking = book(&hub, &seeker, &practice, practice.slot(10)).await;
    let (_, text) = invite(&hub, &seeker, &id_of(&booking)).await;
    let spoilt = |text: &str, oracle: &mut IcalOracle| oracle.parse(text)["octets"] != json!([]);
    assert!(!spoilt(&text, &mut oracle));
    assert!(spoilt(&text.replace("\r\n", "\n"), &mut oracle));
    assert!(spoilt(&text.replace("\r\n ", ""), &mut oracle), "something was folded");
    let other = oracle.parse(&text.replace("TZOFFSETTO:+0530", "TZOFFSETTO:+0630"));
    assert_ne!(
        other["events"][0]["start"],
        seconds(&booking["scheduledAt"]),
        "the file's own zone counts"
    );
    hub.stop().await;
}

#[tokio::test]
async fn times_are_on_the_practitioners_clock_around_every_change_of_it() {
    let Some(mut oracle) = IcalOracle::start() else { return };
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "horizonDays": 400 })).await;
    let seeker = hub.seeker().await;
    let mut seen = 0;
    for name in ["America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Etc/GMT-3", "UTC"] {
        put_zone(&hub, &practice, name).await;
        let zone = TimeZone::get(name).unwrap();
        // The hour before the next change of the clock, the one after it, and any other.
        let next = zone.following(practice.slot(24)).next().map(|t| t.timestamp());
        let path = format!(
            "/v1/practitioners/{}/availability?serviceId={}&from={}&to={}",
            practice.id,
            practice.service_id,
            next.unwrap_or(practice.slot(24)) - SignedDuration::from_hours(2),
            next.unwrap_or(practice.slot(24)) + SignedDuration::from_hours(3),
        );
        let slots = seeker.get(&hub, &path).await.data(200)["slots"].clone();
        for slot in slots.as_array().unwrap() {
            let start = slot["start"].as_str().unwrap().parse().unwrap();
            let booking = book(&hub, &seeker, &practice, start).await;
            let read = oracle.parse(&invite(&hub, &seeker, &id_of(&booking)).await.1);
            assert_clean(&read);
            let event = &read["events"][0];
            let is_utc = name == "UTC";
            let tzid = if is_utc { json!(null) } else { json!(name) };
            assert_eq!(event["tzid"], tzid, "{name}");
            assert_eq!(read["zones"].as_array().unwrap().len(), usize::from(!is_utc));
            let local = zone.to_datetime(start).strftime("%Y-%m-%dT%H:%M:%S").to_string();
            assert_eq!(event["local"], local, "{name}");
            // A clock reading that comes twice is read as the first, by every reader alike.
            if zone.to_ambiguous_timestamp(zone.to_datetime(start)).compatible().unwrap() == start {
                assert_eq!(event["start"], start.as_second(), "{name} {start}");
                seen += 1;
            }
            let path = format!("/v1/bookings/{}", id_of(&booking));
            seeker.delete(&hub, &path).await.data(200);
        }
    }
    assert!(seen >= 15, "{seen}");
    hub.stop().await;
}

#[tokio::test]
async fn what_is_between_the_two_is_in_no_calendar() {
    let Some(mut oracle) = IcalOracle::start() else { return };
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "instantConfirm": true })).await;
    let seeker = hub.seeker().await;
    let mut wish = practice.wish(practice.slot(10));
    wish["notes"] = json!("my secret ailment");
    let id = id_of(&seeker.post(&hub, "/v1/bookings", wish).await.data(201));
    rows::run(
        &hub.database_url,
        "UPDATE bookings SET status = 'completed', session_notes = 'my secret finding'",
    )
    .await;
    let odd = "UPDATE users SET first_name = E'Zoë \"Q\"; X:, \\\\ \\n नमस्ते 🪷', last_name = repeat('long ', 19)";
    rows::run(&hub.database_url, &format!("{odd} WHERE id = '{}'", seeker.id)).await;
    let own = seeker.post(&hub, "/v1/users/calendar-feed", json!({})).await.data(201);
    let path = format!("/v1/practitioners/{}/calendar-feed", practice.id);
    let theirs = practice.person.post(&hub, &path, json!({})).await.data(201);
    let mut texts =
        vec![invite(&hub, &seeker, &id).await.1, invite(&hub, &practice.person, &id).await.1];
    for made in [&own, &theirs] {
        texts.push(feed(&hub, made["path"].as_str().unwrap()).await.3);
    }
    for text in &texts {
        let unfolded = text.replace("\r\n ", "");
        for secret in ["secret", "example.in", &seeker.email, &practice.person.email] {
            assert!(!unfolded.contains(secret), "{secret}: {unfolded}");
        }
        let read = oracle.parse(text);
        assert_clean(&read);
        assert_eq!(read["events"].as_array().unwrap().len(), 1);
        for property in read["events"][0]["properties"].as_array().unwrap() {
            let known = [
                "ATTENDEE",
                "CLASS",
                "DTEND",
                "DTSTAMP",
                "DTSTART",
                "LAST-MODIFIED",
                "ORGANIZER",
                "SEQUENCE",
                "STATUS",
                "SUMMARY",
                "TRANSP",
                "UID",
            ];
            assert!(known.contains(&property.as_str().unwrap()), "{property}");
        }
    }
    // Any name comes out as it went in.
    let summary = oracle.parse(&texts[0])["events"][0]["summary"].clone();
    assert!(
        summary.as_str().unwrap().contains("Zoë \"Q\"; X:, \\ \n नमस्ते 🪷 long long"),
        "{summary}"
    );
    hub.stop().await;
}

/// Seven bookings of one seeker, most of which are over or off, one elsewhere, and one of somebody
/// else; the ids of the seven.
async fn a_year(
    hub: &TestHub,
    practice: &Practice,
    other: &Practice,
    seeker: &Person,
) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(id_of(&book(hub, seeker, practice, practice.slot(n)).await));
    }
    // London's full hours are not those of Kolkata.
    book(hub, seeker, other, other.slot(30) + SignedDuration::from_mins(30)).await;
    book(hub, &hub.seeker().await, practice, practice.slot(20)).await;
    seeker.post(hub, "/v1/holds", practice.wish(practice.slot(22))).await.data(201);
    // What is over for 89 days is there, for 91 not any more; what does not take place is not.
    let states = [
        ("completed", -89),
        ("completed", -91),
        ("no_show", -1),
        ("cancelled", 3),
        ("declined", 3),
        ("expired", 3),
    ];
    for (id, (status, days)) in ids.iter().zip(states) {
        let hour = "interval '1 hour'";
        let sql = format!(
            "UPDATE bookings SET status = '{status}', scheduled_at = t, ends_at = t + {hour},
                    occupied_from = t, occupied_until = t + {hour}
               FROM (SELECT date_trunc('hour', now()) + interval '{days} days' AS t) AS x
              WHERE id = '{id}'"
        );
        rows::run(&hub.database_url, &sql).await;
    }
    ids
}

fn texts<'a>(read: &'a Value, field: &str) -> Vec<&'a str> {
    read["events"].as_array().unwrap().iter().map(|e| e[field].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_feed_has_what_stands_and_changes_with_it() {
    let Some(mut oracle) = IcalOracle::start() else { return };
    let hub = TestHub::start().await;
    let (practice, other, seeker) =
        (hub.practice().await, hub.practice().await, hub.seeker().await);
    put_zone(&hub, &other, "Europe/London").await;
    let ids = a_year(&hub, &practice, &other, &seeker).await;
    let path = format!("/v1/practitioners/{}/calendar-feed", practice.id);
    let made = practice.person.post(&hub, &path, json!({})).await.data(201);
    let (status, kind, etag, text) = feed(&hub, made["path"].as_str().unwrap()).await;
    assert_eq!((status, kind.as_str()), (200, "text/calendar; method=PUBLISH; charset=utf-8"));
    let read = oracle.parse(&text);
    assert_clean(&read);
    assert_eq!((&read["method"], &read["zones"]), (&json!("PUBLISH"), &json!(["Asia/Kolkata"])));
    let uid_of = |n: usize| uid(ids[n].parse().unwrap());
    let found = texts(&read, "uid");
    assert_eq!(found.len(), 4, "{read:#}");
    assert_eq!(&found[..3], [uid_of(0), uid_of(2), uid_of(6)], "by time");
    for event in read["events"].as_array().unwrap() {
        assert_eq!(event["attendees"], json!([]), "RFC 5546 section 3.2.1");
        assert_eq!(event["organizer"]["address"], address(&practice.person));
    }

    // The seeker's own, with everybody they go to.
    let own = seeker.post(&hub, "/v1/users/calendar-feed", json!({})).await.data(201);
    let mine = oracle.parse(&feed(&hub, own["path"].as_str().unwrap()).await.3);
    assert_clean(&mine);
    assert_eq!(texts(&mine, "uid").len(), 4);
    assert_eq!(mine["zones"], json!(["Asia/Kolkata", "Europe/London"]));

    // The same as long as nothing changes, and a new one then.
    let again = |etag: &str| {
        let request = hub.request(Method::GET, made["path"].as_str().unwrap());
        fetch(request.header(IF_NONE_MATCH, format!("\"x\", W/{etag}")))
    };
    let etag = etag.unwrap();
    let (status, _, same, body) = again(&etag).await;
    assert_eq!((status, same.as_ref(), body.as_str()), (304, Some(&etag), ""));
    practice
        .person
        .post(&hub, &format!("/v1/bookings/{}/confirm", ids[6]), json!({}))
        .await
        .data(200);
    let (status, _, new, body) = again(&etag).await;
    assert_eq!(status, 200);
    assert_ne!(new.unwrap(), etag);
    let confirmed = oracle.parse(&body);
    let statuses = texts(&confirmed, "status");
    assert_eq!(statuses, ["CONFIRMED", "CONFIRMED", "CONFIRMED", "TENTATIVE"]);
    hub.stop().await;
}

#[tokio::test]
async fn a_feed_is_read_by_its_token_and_nothing_else() {
    let hub = TestHub::start().await;
    let (practice, rival) = (hub.practice().await, hub.practice().await);
    let (seeker, stranger, admin) = (hub.seeker().await, hub.seeker().await, hub.admin().await);
    let path = format!("/v1/practitioners/{}/calendar-feed", practice.id);
    // Whose names are in it is not an administrator's to hand out.
    for other in [&seeker, &rival.person, &admin] {
        other.post(&hub, &path, json!({})).await.refused(403, "forbidden");
        other.delete(&hub, &path).await.refused(403, "forbidden");
    }
    practice.person.delete(&hub, &path).await.refused(404, "not_found");
    let first = practice.person.post(&hub, &path, json!({})).await.data(201);
    let token = first["token"].as_str().unwrap();
    assert!(
        token.len() == 43 && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)),
        "{token}"
    );
    let stored = rows::column(
        &hub.database_url,
        "SELECT encode(token_hash, 'escape') || length(token_hash) FROM calendar_feeds",
    )
    .await;
    assert!(stored.len() == 1 && stored[0].ends_with("32") && !stored[0].contains(token));

    let status = async |path: &str| feed(&hub, path).await.0;
    let of = |practice: &Practice, token: &str| {
        format!("/v1/practitioners/{}/calendar.ics?token={token}", practice.id)
    };
    assert_eq!(status(&of(&practice, token)).await, 200);
    assert_eq!(status(&format!("{}&nocache=1", of(&practice, token))).await, 200);
    let wrong = format!("{}{}", &token[..42], if token.ends_with('A') { 'B' } else { 'A' });
    for path in [
        of(&practice, &wrong),
        of(&practice, ""),
        of(&practice, &token[..42]),
        of(&rival, token),
        format!("/v1/practitioners/{}/calendar.ics", practice.id),
        format!("/v1/users/calendar.ics?token={token}"),
        "/v1/users/calendar.ics".to_owned(),
    ] {
        let answer = hub.get(&path).await;
        answer.refused(404, "not_found");
    }
    // The owner's login is no token.
    practice
        .person
        .get(&hub, &format!("/v1/practitioners/{}/calendar.ics", practice.id))
        .await
        .refused(404, "not_found");

    let second = practice.person.post(&hub, &path, json!({})).await.data(201);
    assert_ne!(second["token"], first["token"]);
    assert_eq!(status(first["path"].as_str().unwrap()).await, 404);
    assert_eq!(status(second["path"].as_str().unwrap()).await, 200);
    practice.person.delete(&hub, &path).await.data(200);
    assert_eq!(status(second["path"].as_str().unwrap()).await, 404);

    let own = seeker.post(&hub, "/v1/users/calendar-feed", json!({})).await.data(201);
    stranger.delete(&hub, "/v1/users/calendar-feed").await.refused(404, "not_found");
    let own = own["path"].as_str().unwrap();
    assert_eq!(status(own).await, 200);
    let suspended = format!("UPDATE users SET status = 'suspended' WHERE id = '{}'", seeker.id);
    rows::run(&hub.database_url, &suspended).await;
    assert_eq!(status(own).await, 404);
    hub.stop().await;
}
