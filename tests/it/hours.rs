//! Hours of a practice beyond the weekly ones: travel, public holidays, and reading them back.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::hub::answer;
use crate::support::{Practice, TestHub, rows};

fn path(practice: &Practice, tail: &str) -> String {
    format!("/v1/practitioners/{}/{tail}", practice.id)
}

fn every_day(start: &str, end: &str) -> Value {
    (1..=7).map(|day| json!({ "weekday": day, "start": start, "end": end })).collect()
}

/// The clock times in `zone` at which slots start on `date` there.
async fn clocks(hub: &TestHub, practice: &Practice, date: Date, zone: &str) -> Vec<String> {
    let query = format!(
        "availability?serviceId={}&from={date}&to={date}&timeZone={zone}",
        practice.service_id
    );
    let data = hub.get(&path(practice, &query)).await.data(200);
    let clock = |slot: &Value| slot["localStart"].as_str().unwrap()[11..16].to_owned();
    data["slots"].as_array().unwrap().iter().map(clock).collect()
}

fn in_days(days: i64) -> Date {
    let zone = TimeZone::get("Asia/Kolkata").unwrap();
    Zoned::now().with_time_zone(zone).date().checked_add(days.days()).unwrap()
}

#[tokio::test]
async fn a_practitioner_who_travels_works_by_the_clock_there() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (hub.practice().await, hub.seeker().await);
    let (first, last) = (in_days(10), in_days(12));
    let body = json!({ "timeZone": "Asia/Kolkata", "weekly": every_day("10:00", "12:00"),
        "travel": [{ "from": first.to_string(), "to": last.to_string(), "timeZone": "Asia/Tokyo" }] });
    practice.person.put(&hub, &path(&practice, "availability"), body).await.data(200);
    for (date, zone) in [
        (in_days(9), "Asia/Kolkata"),
        (first, "Asia/Tokyo"),
        (last, "Asia/Tokyo"),
        (in_days(13), "Asia/Kolkata"),
    ] {
        assert_eq!(clocks(&hub, &practice, date, zone).await, ["10:00", "11:00"], "{date}");
    }
    assert_eq!(clocks(&hub, &practice, first, "Asia/Kolkata").await, ["06:30", "07:30"]);
    let ten = |zone| first.at(10, 0, 0, 0).in_tz(zone).unwrap().timestamp();
    let home = seeker.post(&hub, "/v1/bookings", practice.wish(ten("Asia/Kolkata"))).await;
    assert_eq!(home.refused(409, "slot_unavailable")["details"]["rule"], "hours");
    let there = practice.wish(ten("Asia/Tokyo"));
    seeker.post(&hub, "/v1/bookings", there).await.data(201);
    hub.stop().await;
}

#[tokio::test]
async fn wrong_travel_and_holidays_are_refused_by_field_and_change_nothing() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let before = rows::contents(&hub.database_url).await;
    let stay =
        |from: &str, to: &str, zone: &str| json!({ "from": from, "to": to, "timeZone": zone });
    let good = stay("2027-01-01", "2027-01-05", "Asia/Tokyo");
    let many: Vec<Value> = (0..101).map(|_| good.clone()).collect();
    for (field, more) in [
        ("travel[0].from", json!({ "travel": [stay("x", "2027-01-05", "Asia/Tokyo")] })),
        ("travel[0].to", json!({ "travel": [stay("2027-01-05", "2027-01-04", "Asia/Tokyo")] })),
        ("travel[0].to", json!({ "travel": [stay("2027-01-05", "2029-01-04", "Asia/Tokyo")] })),
        ("travel[0].timeZone", json!({ "travel": [stay("2027-01-01", "2027-01-05", "Mars")] })),
        ("travel[1]", json!({ "travel": [good, stay("2027-01-05", "2027-01-06", "UTC")] })),
        ("travel", json!({ "travel": many })),
        ("travel[0].colour", json!({ "travel": [{ "colour": "blue" }] })),
        ("holidays.country", json!({ "holidays": {} })),
        ("holidays.country", json!({ "holidays": { "country": "Bharat" } })),
        ("holidays.region", json!({ "holidays": { "country": "IN", "region": "BW" } })),
        ("holidays.except[0]", json!({ "holidays": { "country": "IN", "except": ["soon"] } })),
        (
            "holidays.except[0]",
            json!({ "holidays": { "country": "IN", "except": ["2027-01-27"] } }),
        ),
        ("holidays.colour", json!({ "holidays": { "country": "IN", "colour": "blue" } })),
    ] {
        let mut body = json!({ "timeZone": "Asia/Kolkata", "weekly": [] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let put = practice.person.put(&hub, &path(&practice, "availability"), body.clone()).await;
        put.names(field);
        let other = hub.register("practitioner").await;
        let new = json!({ "availability": body });
        other.post(&hub, "/v1/practitioners", new).await.names(&format!("availability.{field}"));
    }
    let mut after = rows::contents(&hub.database_url).await;
    for table in ["users", "sessions", "refresh_tokens", "audit_log", "user_channels"] {
        after.insert(table.to_owned(), before[table].clone());
    }
    assert_eq!(after, before);
    hub.stop().await;
}

#[tokio::test]
async fn what_was_put_can_be_read_edited_and_put_back() {
    let hub = TestHub::start().await;
    let (practice, admin) = (hub.practice().await, hub.admin().await);
    let (put, get) = (path(&practice, "availability"), path(&practice, "schedule"));
    let plain = practice.person.get(&hub, &get).await;
    assert_eq!(plain.data(200)["travel"], json!([]));
    assert_eq!(plain.data(200)["holidays"], Value::Null);
    let mut body = json!({ "timeZone": "Europe/London", "weekly": every_day("09:00", "17:00"),
        "overrides": [{ "date": "2027-01-04", "windows": [{ "start": "10:00", "end": "11:00" }] }],
        "travel": [{ "from": "2027-02-01", "to": "2027-02-03", "timeZone": "Asia/Kolkata" }],
        "holidays": { "country": "GB", "region": "SCT", "except": ["2027-01-04"] },
        "limits": { "perDay": 3, "perWeek": 9 } });
    let version = practice.person.put(&hub, &put, body.clone()).await.data(200)["version"].clone();
    body["version"] = version.clone();
    for who in [&practice.person, &admin] {
        let found = who.get(&hub, &get).await;
        assert_eq!(found.data(200), body);
        assert_eq!(found.headers["etag"].to_str().unwrap(), format!("\"{version}\""));
    }
    // As it is, it can be put back; with the version that was read, once.
    let again = practice.person.put(&hub, &put, body.clone()).await.data(200);
    assert_eq!(again["version"], version.as_i64().unwrap() + 1);
    practice.person.put(&hub, &put, body.clone()).await.refused(409, "version_conflict");
    let etag = practice.person.get(&hub, &get).await.headers["etag"].clone();
    body.as_object_mut().unwrap().remove("version");
    for status in [200, 409] {
        let put = hub.request(Method::PUT, &put).bearer_auth(&practice.person.token);
        let put = answer(put.header("If-Match", etag.clone()).json(&body)).await;
        assert_eq!(put.status, status, "{:#}", put.body);
    }
    for other in [&hub.seeker().await, &hub.practice().await.person] {
        other.get(&hub, &get).await.refused(403, "forbidden");
    }
    // Everybody sees the hours, and nobody where the practitioner will be.
    let public = hub.get(&format!("/v1/practitioners/{}", practice.id)).await.data(200);
    assert_eq!(public["availability"]["weekly"], body["weekly"]);
    assert_eq!(public["availability"]["holidays"], body["holidays"]);
    assert_eq!(public["availability"].get("travel"), None);
    let list = hub.get("/v1/practitioners").await;
    assert!(!list.body.to_string().contains("2027-02-01"), "{:#}", list.body);
    let nobody = format!("/v1/practitioners/{}/schedule", uuid::Uuid::now_v7());
    practice.person.get(&hub, &nobody).await.refused(404, "not_found");
    hub.stop().await;
}

#[tokio::test]
async fn holidays_are_listed_for_everybody() {
    let hub = TestHub::start().await;
    let india = hub.get("/v1/holidays?country=IN&year=2026").await.data(200);
    assert_eq!((&india["country"], &india["year"]), (&json!("IN"), &json!(2026)));
    assert!(india["regions"].as_array().unwrap().contains(&json!("TN")));
    let days = india["holidays"].as_array().unwrap();
    for (date, name) in [
        ("2026-01-26", "Republic Day"),
        ("2026-08-15", "Independence Day"),
        ("2026-10-02", "Mahatma Gandhi's Jayanti"),
    ] {
        assert!(days.contains(&json!({ "date": date, "name": name })), "{india:#}");
    }
    assert!(days.iter().all(|day| day["date"].as_str().unwrap().starts_with("2026-")));
    assert!(days.is_sorted_by_key(|day| day["date"].as_str().unwrap()));
    let tamil = hub.get("/v1/holidays?country=IN&region=TN&year=2025").await.data(200);
    let pongal = json!({ "date": "2025-01-14", "name": "Pongal" });
    assert!(tamil["holidays"].as_array().unwrap().contains(&pongal), "{tamil:#}");
    for (query, field) in [
        ("year=2026", "country"),
        ("country=IN", "year"),
        ("country=XX&year=2026", "country"),
        ("country=in&year=2026", "country"),
        ("country=IN&year=2023", "year"),
        ("country=IN&year=2036", "year"),
        ("country=IN&year=soon", "year"),
        ("country=IN&year=99999", "year"),
        ("country=IN&year=2026&region=BW", "region"),
        ("country=SG&year=2026&region=TN", "region"),
        ("country=IN&year=2026&colour=blue", "colour"),
    ] {
        hub.get(&format!("/v1/holidays?{query}")).await.names(field);
    }
    hub.stop().await;
}

/// A holiday of India that can be booked soon, but not too soon.
async fn a_holiday(hub: &TestHub) -> Date {
    let today = in_days(0);
    for year in [today.year(), today.year() + 1] {
        let listed = hub.get(&format!("/v1/holidays?country=IN&year={year}")).await.data(200);
        let days = listed["holidays"].as_array().unwrap().iter();
        let mut dates = days.map(|day| day["date"].as_str().unwrap().parse::<Date>().unwrap());
        if let Some(date) = dates.find(|date| *date > in_days(3)) {
            return date;
        }
    }
    panic!("no holiday ahead: the table has run out");
}

#[tokio::test]
async fn a_practice_is_closed_on_holidays_unless_it_opted_out() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "horizonDays": 365 })).await;
    let seeker = hub.seeker().await;
    let holiday = a_holiday(&hub).await;
    let noon: Timestamp = holiday.at(12, 0, 0, 0).in_tz("Asia/Kolkata").unwrap().timestamp();
    let hours = json!({ "timeZone": "Asia/Kolkata", "weekly": every_day("10:00", "15:00") });
    let put = async |holidays: Value, overrides: Value| {
        let mut body = hours.clone();
        body["holidays"] = holidays;
        body["overrides"] = overrides;
        practice.person.put(&hub, &path(&practice, "availability"), body).await.data(200);
        clocks(&hub, &practice, holiday, "Asia/Kolkata").await.len()
    };
    assert_eq!(put(Value::Null, json!([])).await, 5, "the control");
    assert_eq!(put(json!({ "country": "IN" }), json!([])).await, 0);
    for path in ["/v1/holds", "/v1/bookings"] {
        let refused = seeker.post(&hub, path, practice.wish(noon)).await;
        assert_eq!(refused.refused(409, "slot_unavailable")["details"]["rule"], "holiday");
    }
    let evening = practice.wish(noon + 8.hours());
    let refused = seeker.post(&hub, "/v1/bookings", evening).await;
    assert_eq!(refused.refused(409, "slot_unavailable")["details"]["rule"], "hours");
    // A day of its own wins over the holiday, and so does the opt-out.
    let own =
        json!([{ "date": holiday.to_string(), "windows": [{ "start": "10:00", "end": "11:00" }] }]);
    assert_eq!(put(json!({ "country": "IN" }), own).await, 1);
    let opted_out = json!({ "country": "IN", "except": [holiday.to_string()] });
    assert_eq!(put(opted_out, json!([])).await, 5);
    seeker.post(&hub, "/v1/bookings", practice.wish(noon)).await.data(201);
    hub.stop().await;
}

#[tokio::test]
async fn the_whole_schedule_survives_being_read_and_put_back() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (availability, schedule) = (path(&practice, "availability"), path(&practice, "schedule"));
    let all = json!({
        "timeZone": "Asia/Kolkata",
        "weekly": every_day("10:00", "12:00"),
        "overrides": [{ "date": in_days(20).to_string(), "windows": [{ "start": "08:00", "end": "09:00" }] }],
        "travel": [{ "from": in_days(30).to_string(), "to": in_days(32).to_string(), "timeZone": "Asia/Tokyo" }],
        "holidays": { "country": "IN", "except": [] },
        "limits": { "perDay": 3, "perWeek": 9 },
    });
    practice.person.put(&hub, &availability, all.clone()).await.data(200);
    let mut read = practice.person.get(&hub, &schedule).await.data(200);
    for (field, value) in all.as_object().unwrap() {
        assert!(!read[field].is_null(), "{field} is not read");
        if field != "holidays" {
            assert_eq!(&read[field], value, "{field}");
        }
    }
    practice.person.put(&hub, &availability, read.clone()).await.data(200);
    let mut again = practice.person.get(&hub, &schedule).await.data(200);
    assert_eq!(again["version"], read["version"].as_i64().unwrap() + 1);
    (read["version"], again["version"]) = (json!(0), json!(0));
    assert_eq!(again, read);

    // Null is none, for both.
    let none = json!({ "timeZone": "Asia/Kolkata", "holidays": null, "limits": null });
    practice.person.put(&hub, &availability, none).await.data(200);
    let read = practice.person.get(&hub, &schedule).await.data(200);
    assert_eq!((&read["holidays"], &read["limits"]), (&Value::Null, &json!({})));
    practice.person.put(&hub, &availability, read).await.data(200);
    hub.stop().await;
}
