//! `calendar:` while calendars elsewhere change: a snapshot and the deltas after it equal a fresh
//! snapshot, whatever overlaps whatever.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::hub::answer;
use crate::support::{Practice, Socket, TestHub};

/// Busy minutes: as coarse as what the test does.
type Minutes = BTreeSet<i64>;

fn minutes_of(span: &Value) -> std::ops::Range<i64> {
    let minute = |v: &Value| v.as_str().unwrap().parse::<Timestamp>().unwrap().as_second() / 60;
    minute(&span["start"])..minute(&span["end"])
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: i64) -> i64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.0 >> 33).unwrap() % sides
    }
}

fn stamp(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// A file with some events of the same few hours.
fn file(dice: &mut Dice, practice: &Practice) -> String {
    let events: String = (0..dice.roll(6))
        .map(|n| {
            let start = practice.slot(0) + SignedDuration::from_mins(15 * dice.roll(40));
            let end = start + SignedDuration::from_mins(15 * (1 + dice.roll(9)));
            let (start, end) = (stamp(start), stamp(end));
            format!("BEGIN:VEVENT\r\nUID:{n}\r\nDTSTART:{start}\r\nDTEND:{end}\r\nEND:VEVENT\r\n")
        })
        .collect();
    format!("BEGIN:VCALENDAR\r\n{events}END:VCALENDAR\r\n")
}

struct Owner<'a> {
    hub: &'a TestHub,
    practice: &'a Practice,
    calendars: Vec<String>,
    blocks: Vec<String>,
}

impl Owner<'_> {
    fn path(&self, rest: &str) -> String {
        format!("/v1/practitioners/{}/{rest}", self.practice.id)
    }

    async fn send(&self, method: Method, path: &str, text: String) -> Value {
        let request = self.hub.request(method, path).bearer_auth(&self.practice.person.token);
        let answer = answer(request.header("content-type", "text/calendar").body(text)).await;
        assert!(answer.status.is_success(), "{:#}", answer.body);
        answer.body["data"].clone()
    }

    async fn step(&mut self, dice: &mut Dice) {
        let id_of = |data: Value| data["id"].as_str().unwrap().to_owned();
        let pick = |dice: &mut Dice, n: usize| {
            usize::try_from(dice.roll(i64::try_from(n).unwrap())).unwrap()
        };
        match dice.roll(8) {
            0 if self.calendars.len() < 3 => {
                let path = self.path("external-calendars");
                let text = file(dice, self.practice);
                self.calendars.push(id_of(self.send(Method::POST, &path, text).await));
            }
            1 if self.calendars.len() > 1 => {
                let id = self.calendars.swap_remove(pick(dice, self.calendars.len()));
                let path = self.path(&format!("external-calendars/{id}"));
                self.practice.person.delete(self.hub, &path).await.data(200);
            }
            2 if !self.blocks.is_empty() => {
                let id = self.blocks.swap_remove(pick(dice, self.blocks.len()));
                let path = self.path(&format!("blocks/{id}"));
                self.practice.person.delete(self.hub, &path).await.data(200);
            }
            2 | 3 => {
                let start = self.practice.slot(0) + SignedDuration::from_mins(15 * dice.roll(40));
                let end = start + SignedDuration::from_mins(15 * (1 + dice.roll(9)));
                let body = json!({ "startsAt": start, "endsAt": end });
                let path = self.path("blocks");
                let made = self.practice.person.post(self.hub, &path, body).await.data(201);
                self.blocks.push(id_of(made));
            }
            _ if self.calendars.is_empty() => {}
            _ => {
                let id = &self.calendars[pick(dice, self.calendars.len())];
                let path = self.path(&format!("external-calendars/{id}"));
                self.send(Method::PUT, &path, file(dice, self.practice)).await;
            }
        }
    }
}

/// The busy minutes of an answer to `subscribe`, and the version that they are of.
fn snapshot(answer: &Value) -> (i64, Minutes) {
    let busy = answer["snapshot"]["busy"].as_array().unwrap().iter().flat_map(minutes_of);
    (answer["seq"].as_i64().unwrap(), busy.collect())
}

#[tokio::test]
async fn deltas_of_calendars_elsewhere_equal_a_fresh_snapshot() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let channel = json!({ "channel": format!("calendar:{}", practice.id) });
    let mut watcher = Socket::open(&hub, &hub.seeker().await).await;
    let looker = hub.seeker().await;
    let mut fresh = Socket::open(&hub, &looker).await;
    let (mut version, mut busy) = snapshot(&watcher.ok("subscribe", channel.clone()).await);
    let mut owner =
        Owner { hub: &hub, practice: &practice, calendars: Vec::new(), blocks: Vec::new() };
    let (mut dice, mut busiest) = (Dice(3), 0);
    for step in 0..120 {
        // Two commands a step: a socket may send a hundred at once, and a new one begins afresh.
        if step % 40 == 39 {
            fresh.close().await;
            fresh = Socket::open(&hub, &looker).await;
        }
        owner.step(&mut dice).await;
        let (head, wanted) = snapshot(&fresh.ok("subscribe", channel.clone()).await);
        while version < head {
            let event = watcher.event("availability:changed").await;
            version += 1;
            assert_eq!(event["seq"], version);
            for change in event["data"]["changes"].as_array().unwrap() {
                for minute in minutes_of(change) {
                    // Only differences are told: what is told free was busy.
                    match change["state"] == "busy" {
                        true => busy.insert(minute),
                        false => {
                            assert!(busy.remove(&minute), "step {step}: {change}");
                            true
                        }
                    };
                }
            }
        }
        assert_eq!(busy, wanted, "step {step}");
        busiest = busiest.max(busy.len());
        fresh.ok("unsubscribe", channel.clone()).await;
        fresh.events.clear();
    }
    assert!(version > 60 && busiest > 200, "{version} versions, {busiest} minutes");
    hub.stop().await;
}
