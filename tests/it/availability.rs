//! Slots, hours, blocked times, offers.

use futures_util::future::join_all;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::hub::answer;
use crate::support::{Answer, Practice, Socket, TestHub, rows};

impl Practice {
    fn path(&self, tail: &str) -> String {
        format!("/v1/practitioners/{}/{tail}", self.id)
    }

    /// The slots between two instants or dates, with more parameters.
    async fn slots(&self, hub: &TestHub, from: &str, to: &str, more: &str) -> Answer {
        let service = &self.service_id;
        let query = format!("availability?serviceId={service}&from={from}&to={to}{more}");
        hub.get(&self.path(&query)).await
    }

    async fn put_hours(&self, hub: &TestHub, zone: &str, weekly: Value) -> Answer {
        let body = json!({ "timeZone": zone, "weekly": weekly });
        self.person.put(hub, &self.path("availability"), body).await
    }
}

fn starts(data: &Value) -> Vec<Timestamp> {
    let slots = data["slots"].as_array().unwrap().iter();
    slots.map(|s| s["start"].as_str().unwrap().parse().unwrap()).collect()
}

fn every_day(start: &str, end: &str) -> Value {
    (1..=7).map(|day| json!({ "weekday": day, "start": start, "end": end })).collect()
}

#[tokio::test]
async fn rest_and_socket_list_the_same_slots() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    seeker.post(&hub, "/v1/bookings", practice.wish(practice.slot(9))).await.data(201);
    let mut socket = Socket::open(&hub, &seeker).await;
    let (from, to) = (practice.slot(0).to_string(), practice.slot(24).to_string());
    for zone in [None, Some("America/New_York")] {
        let more = zone.map(|z| format!("&timeZone={z}")).unwrap_or_default();
        let over_rest = practice.slots(&hub, &from, &to, &more).await.data(200);
        let mut asked = json!({ "practitionerId": practice.id, "serviceId": practice.service_id,
            "from": from, "to": to });
        if let Some(zone) = zone {
            asked["timeZone"] = json!(zone);
        }
        assert_eq!(socket.ok("availability:get", asked).await, over_rest);
        let wanted: Vec<Timestamp> =
            (0..24).filter(|n| *n != 9).map(|n| practice.slot(n)).collect();
        assert_eq!(starts(&over_rest), wanted);
    }
    let nothing = json!({ "practitionerId": practice.id, "serviceId": practice.id,
        "from": from, "to": to });
    socket.refused("availability:get", nothing, "not_found").await;
}

#[tokio::test]
async fn the_viewers_zone_moves_no_slot() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (from, to) = (practice.slot(0).to_string(), practice.slot(48).to_string());
    let plain = practice.slots(&hub, &from, &to, "").await.data(200);
    assert_eq!(starts(&plain).len(), 48);
    assert_eq!(plain["slots"][0].get("localStart"), None);
    for zone in ["UTC", "Asia/Kolkata", "Pacific/Apia", "America/St_Johns", "Asia/Kathmandu"] {
        let seen = practice.slots(&hub, &from, &to, &format!("&timeZone={zone}")).await.data(200);
        assert_eq!(starts(&seen), starts(&plain), "{zone}");
        let tz = TimeZone::get(zone).unwrap();
        for slot in seen["slots"].as_array().unwrap() {
            let local = slot["localStart"].as_str().unwrap();
            let instant: Timestamp = slot["start"].as_str().unwrap().parse().unwrap();
            assert_eq!(local.parse::<Timestamp>().unwrap(), instant, "{zone}");
            let clock = instant.to_zoned(tz.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
            assert_eq!(local, clock, "{zone}");
        }
    }
}

#[tokio::test]
async fn dates_are_those_of_the_zone_that_is_named() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    for zone in ["UTC", "Asia/Kolkata", "America/New_York"] {
        let tz = TimeZone::get(zone).unwrap();
        let day = practice.slot(30).to_zoned(tz.clone()).date();
        let midnight = |date: Date| date.to_zoned(tz.clone()).unwrap().timestamp();
        let [first, last] = [day, day.checked_add(1.day()).unwrap()];
        let more = format!("&timeZone={zone}");
        let by_date =
            practice.slots(&hub, &first.to_string(), &last.to_string(), &more).await.data(200);
        let from = midnight(first).to_string();
        let to = midnight(last.checked_add(1.day()).unwrap()).to_string();
        let by_instant = practice.slots(&hub, &from, &to, &more).await.data(200);
        assert_eq!(by_date, by_instant, "{zone}");
        // Sessions are on full hours of Kolkata: one does not fit where midnight cuts it.
        assert!((46..=48).contains(&starts(&by_date).len()), "{zone}");
        assert!(starts(&by_date).iter().all(|s| *s >= midnight(first)));
    }
    let (from, to) = (practice.slot(0).to_string(), practice.slot(5).to_string());
    practice.slots(&hub, "soon", &to, "").await.names("from");
    practice.slots(&hub, &from, "2027-02-30", "").await.names("to");
    practice.slots(&hub, &to, &from, "").await.names("to");
    practice.slots(&hub, &from, &from, "").await.names("to");
    practice.slots(&hub, "2027-01-01", "2027-06-01", "").await.names("to");
    practice.slots(&hub, &from, &to, "&timeZone=Mars/Olympus").await.names("timeZone");
    practice.slots(&hub, &from, &to, "&colour=blue").await.refused(422, "validation_failed");
}

#[tokio::test]
async fn the_version_grows_with_every_change() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let (from, to) = (practice.slot(0).to_string(), practice.slot(24).to_string());
    let mut last = -1;
    for change in 0..5 {
        let answer = match change {
            1 => seeker.post(&hub, "/v1/holds", practice.wish(practice.slot(9))).await,
            2 => seeker.post(&hub, "/v1/bookings", practice.wish(practice.slot(12))).await,
            3 => practice.put_hours(&hub, "Asia/Kolkata", every_day("00:00", "24:00")).await,
            4 => {
                let block = json!({ "startsAt": practice.slot(3), "endsAt": practice.slot(4) });
                practice.person.post(&hub, &practice.path("blocks"), block).await
            }
            _ => practice.slots(&hub, &from, &to, "").await,
        };
        assert!(answer.status.is_success(), "{:#}", answer.body);
        let version = practice.slots(&hub, &from, &to, "").await.data(200)["version"].clone();
        let version = version.as_i64().unwrap();
        assert!(version > last, "after change {change}");
        let stored =
            format!("calendars WHERE practitioner_id = '{}' AND version = {version}", practice.id);
        assert_eq!(rows::count(&hub.database_url, &stored).await, 1);
        last = version;
    }
}

#[tokio::test]
async fn new_hours_are_checked_guarded_and_in_force_at_once() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let path = practice.path("availability");
    let weekly = every_day("10:00", "12:00");
    for (field, body) in [
        ("timeZone", json!({ "timeZone": "Mars/Olympus", "weekly": [] })),
        ("timeZone", json!({ "weekly": [] })),
        (
            "weekly[0].end",
            json!({ "timeZone": "UTC",
            "weekly": [{ "weekday": 1, "start": "10:00", "end": "09:00" }] }),
        ),
        (
            "weekly[0].weekday",
            json!({ "timeZone": "UTC",
            "weekly": [{ "weekday": 8, "start": "10:00", "end": "19:00" }] }),
        ),
        (
            "overrides[0].date",
            json!({ "timeZone": "UTC",
            "overrides": [{ "date": "2027-02-30", "windows": [] }] }),
        ),
        ("colour", json!({ "timeZone": "UTC", "colour": "blue" })),
    ] {
        practice.person.put(&hub, &path, body).await.names(field);
    }
    let body = json!({ "timeZone": "UTC", "weekly": weekly });
    for other in [&hub.seeker().await, &hub.practice().await.person] {
        other.put(&hub, &path, body.clone()).await.refused(403, "forbidden");
    }

    let first = practice.put_hours(&hub, "Asia/Kolkata", weekly.clone()).await;
    let version = first.data(200)["version"].as_i64().unwrap();
    assert_eq!(first.headers["etag"].to_str().unwrap(), format!("\"{version}\""));
    let mut stale = body.clone();
    stale["version"] = json!(version - 1);
    let conflict = practice.person.put(&hub, &path, stale).await.refused(409, "version_conflict");
    assert_eq!(conflict["details"], json!({ "version": version }));
    let (from, to) = (practice.slot(0), practice.slot(24));
    let slots = async || {
        starts(&practice.slots(&hub, &from.to_string(), &to.to_string(), "").await.data(200))
    };
    assert_eq!(slots().await, [practice.slot(10), practice.slot(11)]);
    // The same clock in another zone is another time.
    let put = hub.request(Method::PUT, &path).bearer_auth(&practice.person.token);
    let put = put.header("If-Match", format!("\"{version}\"")).json(&body);
    assert_eq!(answer(put).await.data(200)["version"], version + 1);
    let offset = SignedDuration::from_mins(330);
    assert_eq!(slots().await, [practice.slot(10) + offset, practice.slot(11) + offset]);
}

#[tokio::test]
async fn blocked_time_is_closed_until_it_is_opened() {
    let hub = TestHub::start().await;
    let (practice, rival) = (hub.practice().await, hub.practice().await);
    let seeker = hub.seeker().await;
    let booking = practice.wish(practice.slot(9));
    seeker.post(&hub, "/v1/bookings", booking).await.data(201);
    let path = practice.path("blocks");
    let wanted = json!({ "startsAt": practice.slot(9), "endsAt": practice.slot(12),
        "reason": "dentist" });
    let block = practice.person.post(&hub, &path, wanted.clone()).await.data(201);
    assert_eq!((&block["reason"], &block["count"]), (&json!("dentist"), &json!(1)));
    assert_eq!(block["seriesId"], Value::Null);
    let mut listed = block.clone();
    listed.as_object_mut().unwrap().remove("count");
    assert_eq!(practice.person.get(&hub, &path).await.data(200), json!([listed]));

    // Not told apart from a booking: why a practitioner is busy is nobody's business.
    for path in ["/v1/bookings", "/v1/holds"] {
        let refused = seeker.post(&hub, path, practice.wish(practice.slot(11))).await;
        refused.refused(409, "slot_taken");
    }
    let (from, to) = (practice.slot(8).to_string(), practice.slot(13).to_string());
    let slots = async || starts(&practice.slots(&hub, &from, &to, "").await.data(200));
    assert_eq!(slots().await, [practice.slot(8), practice.slot(12)]);
    // What was booked before stays.
    assert_eq!(rows::count(&hub.database_url, "bookings WHERE status = 'pending'").await, 1);

    let one = format!("{path}/{}", block["id"].as_str().unwrap());
    for other in [&seeker, &rival.person] {
        other.get(&hub, &path).await.refused(403, "forbidden");
        other.post(&hub, &path, wanted.clone()).await.refused(403, "forbidden");
        other.delete(&hub, &one).await.refused(403, "forbidden");
    }
    let through_theirs = rival.path(&format!("blocks/{}", block["id"].as_str().unwrap()));
    rival.person.delete(&hub, &through_theirs).await.refused(404, "not_found");
    assert_eq!(practice.person.delete(&hub, &one).await.data(200), block);
    practice.person.delete(&hub, &one).await.refused(404, "not_found");
    assert_eq!(slots().await, [8, 10, 11, 12].map(|n| practice.slot(n)));
    seeker.post(&hub, "/v1/bookings", practice.wish(practice.slot(11))).await.data(201);

    for (starts_at, ends_at) in [(12, 12), (12, 11), (-24 * 9, -24 * 8), (0, 24 * 400)] {
        let odd = json!({ "startsAt": practice.slot(starts_at), "endsAt": practice.slot(ends_at) });
        practice.person.post(&hub, &path, odd).await.names("endsAt");
    }
}

#[tokio::test]
async fn an_offers_change_is_in_force_at_once() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    practice.put_hours(&hub, "Asia/Kolkata", every_day("09:00", "12:00")).await.data(200);
    let (from, to) = (practice.slot(0).to_string(), practice.slot(24).to_string());
    let slots = async || practice.slots(&hub, &from, &to, "").await.data(200);
    assert_eq!(starts(&slots().await), [9, 10, 11].map(|n| practice.slot(n)));
    let service = practice.path(&format!("services/{}", practice.service_id));
    let offer = json!({ "price": { "amount": 7, "currency": "EUR" }, "durationMinutes": 90 });
    practice.person.put(&hub, &service, offer.clone()).await.data(200);
    let now = slots().await;
    assert_eq!(now["durationMinutes"], 90);
    let half_past = practice.slot(10) + SignedDuration::from_mins(30);
    assert_eq!(starts(&now), [practice.slot(9), half_past]);
    let booking = seeker.post(&hub, "/v1/bookings", practice.wish(half_past)).await.data(201);
    assert_eq!(booking["totalAmount"], json!({ "amount": 7, "currency": "EUR" }));
    assert_eq!(booking["endsAt"], practice.slot(12).to_string());

    let nowhere = practice.path(&format!("services/{}", practice.id));
    practice.person.put(&hub, &nowhere, offer.clone()).await.names("serviceId");
    for other in [&seeker, &hub.practice().await.person] {
        other.put(&hub, &service, offer.clone()).await.refused(403, "forbidden");
    }
}

#[tokio::test]
async fn hours_that_close_while_others_book_close() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    for round in 0..5 {
        practice.put_hours(&hub, "Asia/Kolkata", every_day("00:00", "24:00")).await.data(200);
        let first = 24 * round;
        let bookings =
            join_all((0..12).map(|n| {
                seeker.post(&hub, "/v1/bookings", practice.wish(practice.slot(first + n)))
            }));
        let close = practice.put_hours(&hub, "Asia/Kolkata", json!([]));
        let (answers, closed) = tokio::join!(bookings, close);
        closed.data(200);
        for refused in answers.iter().filter(|a| a.status != 201) {
            let error = refused.refused(409, "slot_unavailable");
            assert_eq!(error["details"]["rule"], "hours");
        }
        let late =
            seeker.post(&hub, "/v1/bookings", practice.wish(practice.slot(first + 20))).await;
        late.refused(409, "slot_unavailable");
    }
}

/// The next days of 23 and 25 hours in `zone`.
fn odd_days(zone: &TimeZone) -> [Date; 2] {
    let today = Zoned::now().with_time_zone(zone.clone()).date();
    let hours = |date: Date| {
        let midnight = |d: Date| d.to_zoned(zone.clone()).unwrap().timestamp();
        midnight(date.checked_add(1.day()).unwrap()).duration_since(midnight(date)).as_hours()
    };
    let of = |length| {
        let mut dates = (2..364).map(|n| today.checked_add(n.days()).unwrap());
        dates.find(|date| hours(*date) == length)
    };
    [of(23).expect("a short day"), of(25).expect("a long day")]
}

#[tokio::test]
async fn a_day_of_25_hours_has_25_hourly_slots() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "horizonDays": 366 })).await;
    let seeker = hub.seeker().await;
    practice.put_hours(&hub, "Europe/Lisbon", every_day("00:00", "24:00")).await.data(200);
    let [short, long] = odd_days(&TimeZone::get("Europe/Lisbon").unwrap());
    for (day, hours) in [(short, 23), (long, 25)] {
        let date = day.to_string();
        let data = practice.slots(&hub, &date, &date, "&timeZone=Europe/Lisbon").await.data(200);
        let slots = starts(&data);
        assert_eq!(slots.len(), hours, "{day}");
        assert!(slots.windows(2).all(|w| w[1].duration_since(w[0]).as_secs() == 3_600));
    }
    // Each of the two hours that read the same is a slot of its own.
    let date = long.to_string();
    let data = practice.slots(&hub, &date, &date, "&timeZone=Europe/Lisbon").await.data(200);
    let one_o_clock: Vec<&Value> = data["slots"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|s| s["localStart"].as_str().unwrap().contains("T01:00"))
        .collect();
    assert_eq!(one_o_clock.len(), 2);
    for slot in one_o_clock {
        let wish = practice.wish(slot["start"].as_str().unwrap().parse().unwrap());
        seeker.post(&hub, "/v1/bookings", wish).await.data(201);
    }
    let left = practice.slots(&hub, &date, &date, "&timeZone=Europe/Lisbon").await.data(200);
    assert_eq!(starts(&left).len(), 23);
}
