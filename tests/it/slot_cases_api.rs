//! The cases of `tests/data/slot-cases.json` through the public API: practice, hours, offer and what
//! is taken are made over REST, and the list of slots must be the expected one, in full.
//!
//! A hub reads its own clock, so each case is moved by whole weeks to a time that lies ahead and in
//! which its zone has, hour by hour, the same offsets as in the original: clock changes included.

#![allow(clippy::too_many_lines)]

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::support::{Answer, Person, Practice, TestHub};

/// The cases that the API can not say, and why.
const LEFT_OUT: [(&str, &str); 11] = [
    (
        "calcom-gs-08-own-booking-with-buffers-additive",
        "a booking ends at a second; ours last whole minutes",
    ),
    ("calcom-gs-09-grid-offset", "offers have no offset of the grid"),
    ("calcom-gs-12-pending-that-blocks", "has a request that does not block beside one that does"),
    ("calcom-fl-03-rolling2-first-passed", CLOCK),
    ("calcom-fl-04-rolling2-business-days", CLOCK),
    ("calcom-fl-05-rolling2-first-second-of-day", CLOCK),
    ("calcom-fl-06-rolling2-last-minute-of-day", CLOCK),
    ("calcom-fl-07-window3-full-day-between", CLOCK),
    ("calcom-fl-10-window3-business", CLOCK),
    ("calcom-st-08-overlapping-windows", OVERLAP),
    ("calcom-st-09-unequal-windows-any-order", OVERLAP),
];
const CLOCK: &str = "its horizon counts from a `now` that only a clock of its own could have";
const OVERLAP: &str = "the API refuses windows of a day that overlap";

fn file() -> Value {
    serde_json::from_str(include_str!("../data/slot-cases.json")).unwrap()
}

fn instant(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

fn hours(n: i64) -> SignedDuration {
    SignedDuration::from_hours(n)
}

/// A case, moved by whole weeks.
struct Moved<'a> {
    case: &'a Value,
    weeks: i64,
}

impl<'a> Moved<'a> {
    fn new(case: &'a Value) -> Self {
        let zone = TimeZone::get(case["timezone"].as_str().unwrap()).unwrap();
        let (start, end) = (instant(&case["range_start"]), instant(&case["range_end"]));
        let offsets = |weeks: i64| {
            let by = hours(weeks * 7 * 24);
            let probes = (0..).map(|n| start - hours(8 * 24) + SignedDuration::from_mins(30 * n));
            let probes = probes.take_while(|at| *at < end + hours(48));
            probes.map(|at| zone.to_offset(at + by)).collect::<Vec<_>>()
        };
        let ahead = Timestamp::now() + hours(10 * 24);
        let first = ahead.duration_since(start).as_hours().div_euclid(7 * 24) + 1;
        let same = offsets(0);
        let weeks = (first..first + 12 * 53).find(|weeks| offsets(*weeks) == same);
        Self { case, weeks: weeks.expect("the zone has such a week again") }
    }

    fn at(&self, value: &Value) -> Timestamp {
        instant(value) + hours(self.weeks * 7 * 24)
    }

    fn date(&self, value: &Value) -> String {
        let date: Date = value.as_str().unwrap().parse().unwrap();
        date.checked_add(self.weeks.weeks()).unwrap().to_string()
    }

    fn minutes(&self, field: &str) -> i64 {
        self.case[field].as_i64().unwrap_or(0)
    }

    /// The schedule as the API takes it.
    fn schedule(&self) -> Value {
        let overrides = self.case["overrides"].as_array().into_iter().flatten();
        let overrides: Vec<Value> = overrides
            .map(|day| json!({ "date": self.date(&day["date"]), "windows": day["windows"] }))
            .collect();
        let weekly = self.case.get("weekly_hours").cloned().unwrap_or(json!([]));
        json!({ "timeZone": self.case["timezone"], "weekly": weekly, "overrides": overrides })
    }

    /// The offer that the case asks about.
    fn offer(&self) -> Value {
        let horizon = match self.case["booking_horizon"]["type"].as_str() {
            None => json!({ "kind": "unlimited" }),
            Some("range") => {
                let horizon = &self.case["booking_horizon"];
                let (from, to) = (self.date(&horizon["from"]), self.date(&horizon["to"]));
                json!({ "kind": "range", "from": from, "to": to })
            }
            Some(other) => panic!("{other} is left out"),
        };
        let increment = self.minutes("increment_min");
        let grid = match self.case["slot_grid"]["mode"].as_str() {
            Some("fixed_from_work_window_start") => "window",
            _ => {
                // The API derives the alignment from the increment; the case must mean the same.
                let aligned = [60, 30, 20, 15, 10, 5].into_iter().find(|a| increment % a == 0);
                let said = self.case["slot_grid"]["align_min"].as_i64();
                assert!(
                    said.is_none() || said == Some(aligned.unwrap_or(1)),
                    "{}",
                    self.case["id"]
                );
                assert!(self.case["slot_grid"]["offset_min"].as_i64().unwrap_or(0) == 0);
                "restart"
            }
        };
        json!({
            "price": { "amount": 1, "currency": "INR" }, "horizon": horizon, "slotGrid": grid,
            "durationMinutes": self.minutes("duration_min"), "incrementMinutes": increment,
            "bufferBeforeMinutes": self.minutes("buffer_before_min"),
            "bufferAfterMinutes": self.minutes("buffer_after_min"),
            "minNoticeMinutes": self.minutes("min_notice_min"),
        })
    }

    fn expected(&self) -> Vec<Timestamp> {
        let slots = self.case["expected_slots_utc"].as_array().unwrap();
        slots.iter().map(|slot| self.at(slot)).collect()
    }
}

async fn put_offer(hub: &TestHub, practice: &Practice, offer: Value) {
    let path = format!("/v1/practitioners/{}/services/{}", practice.id, practice.service_id);
    practice.person.put(hub, &path, offer).await.data(200);
}

async fn put_schedule(hub: &TestHub, practice: &Practice, schedule: Value) -> Answer {
    let path = format!("/v1/practitioners/{}/availability", practice.id);
    practice.person.put(hub, &path, schedule).await
}

/// Holds or books a time of any length through another service of the practice, which is open
/// around the clock until the case's own hours are set.
async fn take(
    hub: &TestHub,
    practice: &Practice,
    who: &Person,
    (start, end): (Timestamp, Timestamp),
    (item, path): (&Value, &str),
) -> Answer {
    let other = Practice { service_id: hub.service().await, ..practice.clone() };
    let length = end.duration_since(start);
    assert_eq!(length.as_secs() % 60, 0, "{item} lasts no whole minutes");
    let buffer = |name: &str| item[name].as_i64().unwrap_or(0);
    let offer = json!({
        "price": { "amount": 1, "currency": "INR" }, "durationMinutes": length.as_mins(),
        "incrementMinutes": 1, "slotGrid": "window", "horizon": { "kind": "unlimited" },
        "bufferBeforeMinutes": buffer("buffer_before_min"),
        "bufferAfterMinutes": buffer("buffer_after_min"),
        "instantConfirm": item["status"] == "confirmed",
    });
    put_offer(hub, &other, offer).await;
    who.post(hub, path, other.wish(start)).await
}

/// Makes what is taken in the case, as `owner` or somebody else.
async fn take_all(hub: &TestHub, practice: &Practice, moved: &Moved<'_>, owner: &Person) {
    let somebody = hub.seeker().await;
    for item in moved.case["existing_bookings"].as_array().into_iter().flatten() {
        let time = (moved.at(&item["start"]), moved.at(&item["end"]));
        match item["status"].as_str().unwrap() {
            "confirmed" | "pending_blocking" => {
                take(hub, practice, &somebody, time, (item, "/v1/bookings")).await.data(201);
            }
            "hold" => {
                let who = if item["owner"] == "requester" { owner } else { &somebody };
                take(hub, practice, who, time, (item, "/v1/holds")).await.data(201);
            }
            // Neither has buffers of its own.
            "external_busy" | "blocked" => {
                let block = json!({ "startsAt": time.0, "endsAt": time.1 });
                let path = format!("/v1/practitioners/{}/blocks", practice.id);
                practice.person.post(hub, &path, block).await.data(201);
            }
            other => panic!("{other} is left out"),
        }
    }
}

/// A practice that stands as the case says.
async fn build(hub: &TestHub, moved: &Moved<'_>, owner: &Person) -> Practice {
    let practice = hub.practice().await;
    take_all(hub, &practice, moved, owner).await;
    put_schedule(hub, &practice, moved.schedule()).await.data(200);
    put_offer(hub, &practice, moved.offer()).await;
    practice
}

async fn slots(
    hub: &TestHub,
    practice: &Practice,
    moved: &Moved<'_>,
    who: &Person,
) -> Vec<Timestamp> {
    let path = format!(
        "/v1/practitioners/{}/availability?serviceId={}&from={}&to={}",
        practice.id,
        practice.service_id,
        moved.at(&moved.case["range_start"]),
        moved.at(&moved.case["range_end"])
    );
    let data = who.get(hub, &path).await.data(200);
    data["slots"].as_array().unwrap().iter().map(|slot| instant(&slot["start"])).collect()
}

#[tokio::test]
async fn every_case_that_the_api_can_say_gives_exactly_the_expected_slots() {
    let hub = TestHub::start().await;
    let owner = hub.seeker().await;
    let file = file();
    let cases = file["cases"].as_array().unwrap();
    let ids: BTreeSet<&str> = cases.iter().map(|case| case["id"].as_str().unwrap()).collect();
    assert!(LEFT_OUT.iter().all(|(id, why)| ids.contains(id) && !why.is_empty()));
    let (mut failed, mut done) = (Vec::new(), 0);
    for case in cases {
        let id = case["id"].as_str().unwrap();
        // Its hold has run out; below.
        if LEFT_OUT.iter().any(|(left_out, _)| *left_out == id) || id == EXPIRED {
            continue;
        }
        let moved = Moved::new(case);
        let practice = build(&hub, &moved, &owner).await;
        let found = slots(&hub, &practice, &moved, &owner).await;
        if found != moved.expected() {
            failed.push(format!("{id}\n  expected {:?}\n  found    {found:?}", moved.expected()));
        }
        done += 1;
    }
    assert!(failed.is_empty(), "{} differ\n{}", failed.len(), failed.join("\n"));
    assert_eq!(done + LEFT_OUT.len() + 1, 60);
}

const EXPIRED: &str = "calcom-ss-03-hold-expired";

#[tokio::test]
async fn a_case_whose_hold_has_run_out() {
    let hub = TestHub::start_with(|c| c.booking.hold_ttl = Duration::from_secs(1)).await;
    let owner = hub.seeker().await;
    let file = file();
    let case = file["cases"].as_array().unwrap().iter().find(|case| case["id"] == EXPIRED).unwrap();
    let moved = Moved::new(case);
    let practice = build(&hub, &moved, &owner).await;
    let deadline = Timestamp::now() + SignedDuration::from_secs(10);
    let mut found = slots(&hub, &practice, &moved, &owner).await;
    while found != moved.expected() {
        assert!(Timestamp::now() < deadline, "{found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        found = slots(&hub, &practice, &moved, &owner).await;
    }
}

#[tokio::test]
async fn windows_that_overlap_are_refused() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let mut refused = 0;
    for case in file()["cases"].as_array().unwrap() {
        if LEFT_OUT.iter().any(|(id, why)| case["id"] == *id && *why == OVERLAP) {
            let answer = put_schedule(&hub, &practice, Moved::new(case).schedule()).await;
            let error = answer.refused(422, "validation_failed");
            let field = error["details"][0]["field"].as_str().unwrap();
            assert!(field.starts_with("overrides[0].windows["), "{field}");
            refused += 1;
        }
    }
    assert_eq!(refused, 2);
}

/// The conflict cases: existing reservations are bookings, and the new one is booked or not. Every
/// reservation keeps the case's buffer behind it, as in `slot_cases.rs`.
#[tokio::test]
async fn conflicts_are_refused_and_neighbours_are_not() {
    let hub = TestHub::start().await;
    let file = file();
    let seeker = hub.seeker().await;
    for (id, buffer, conflicts) in
        [("lb-conf-01", 60, true), ("lb-conf-02", 60, false), ("lb-conf-03", 30, false)]
    {
        let mut cases = file["conflict_cases"].as_array().unwrap().iter();
        let case = cases.find(|case| case["id"] == id).unwrap();
        // All lie on one day of 2010; that day's clock, some days ahead.
        let day = (Timestamp::now() + hours(72)).to_string();
        let at = |value: &Value| -> Timestamp {
            format!("{}{}", &day[..10], &value.as_str().unwrap()[10..]).parse().unwrap()
        };
        let practice = hub.practice().await;
        let item = json!({ "buffer_after_min": buffer, "status": "confirmed" });
        for time in case["existing_same_resource"].as_array().unwrap() {
            let time = (at(&time[0]), at(&time[1]));
            take(&hub, &practice, &seeker, time, (&item, "/v1/bookings")).await.data(201);
        }
        let time = (at(&case["new"][0]), at(&case["new"][1]));
        let new = take(&hub, &practice, &seeker, time, (&item, "/v1/bookings")).await;
        if conflicts {
            new.refused(409, "slot_taken");
        } else {
            new.data(201);
        }
    }
    // lb-conf-04 lasts two days, longer than any booking; that touching is no conflict is said by
    // lb-conf-02 with its buffers as well.
}

#[tokio::test]
async fn a_hold_conflicts_with_starts_near_it() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "incrementMinutes": 5 })).await;
    let (seeker, other) = (hub.seeker().await, hub.seeker().await);
    let start = practice.slot(13);
    seeker.post(&hub, "/v1/holds", practice.wish(start)).await.data(201);
    for offset in [15, -15, 10, 0] {
        let wish = practice.wish(start + SignedDuration::from_mins(offset));
        other.post(&hub, "/v1/holds", wish).await.refused(409, "slot_taken");
    }
    for offset in [60, -60] {
        let wish = practice.wish(start + SignedDuration::from_mins(offset));
        other.post(&hub, "/v1/holds", wish).await.data(201);
    }
}
