//! `calendar:`: a snapshot and the deltas after it equal a fresh snapshot, always.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Person, Practice, Socket, TestHub, rows};

/// Busy minutes: as coarse as what the tests do, and with no notion of intervals to be wrong about.
type Minutes = BTreeMap<i64, ()>;

/// What a watcher knows: the busy minutes as of a version.
#[derive(Debug, Clone, PartialEq)]
struct View {
    version: i64,
    busy: Minutes,
}

fn minutes_of(span: &Value) -> std::ops::Range<i64> {
    let minute = |v: &Value| v.as_str().unwrap().parse::<Timestamp>().unwrap().as_second() / 60;
    minute(&span["start"])..minute(&span["end"])
}

impl View {
    fn of(answer: &Value) -> Self {
        let snapshot = &answer["snapshot"];
        assert_eq!(snapshot["version"], answer["seq"]);
        let spans = snapshot["busy"].as_array().unwrap().iter();
        let busy = spans.flat_map(minutes_of).map(|m| (m, ())).collect();
        Self { version: answer["seq"].as_i64().unwrap(), busy }
    }

    fn apply(&mut self, event: &Value) {
        // Dense: no gap, no repeat.
        assert_eq!(event["seq"].as_i64(), Some(self.version + 1), "{event:#}");
        assert_eq!(event["data"]["version"], event["seq"]);
        self.version += 1;
        for change in event["data"]["changes"].as_array().unwrap() {
            let keys: Vec<&str> = change.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(keys, ["end", "start", "state"], "real time and no names");
            for minute in minutes_of(change) {
                match change["state"].as_str().unwrap() {
                    "busy" => self.busy.insert(minute, ()),
                    "free" => self.busy.remove(&minute),
                    other => panic!("{other}"),
                };
            }
        }
    }
}

fn channel(practice: &Practice) -> String {
    format!("calendar:{}", practice.id)
}

/// A socket that watches, and what it saw first.
async fn watch(hub: &TestHub, practice: &Practice) -> (Socket, View) {
    let mut socket = Socket::open(hub, &hub.seeker().await).await;
    let answer = socket.ok("subscribe", json!({ "channel": channel(practice) })).await;
    (socket, View::of(&answer))
}

/// Applies deltas until `view` is at `version`.
async fn follow(socket: &mut Socket, view: &mut View, version: i64) {
    while view.version < version {
        view.apply(&socket.event("availability:changed").await);
    }
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

/// Does random things to a calendar through the API.
struct Monkey<'a> {
    hub: &'a TestHub,
    practice: &'a Practice,
    seekers: Vec<Person>,
    dice: Dice,
    holds: Vec<(usize, String)>,
    bookings: Vec<(usize, String)>,
    blocks: Vec<String>,
}

impl Monkey<'_> {
    /// One step; which kind, and whether the hub did it.
    async fn step(&mut self) -> (&'static str, bool) {
        let who = usize::try_from(self.dice.roll(2)).unwrap();
        let start = self.practice.slot(0) + SignedDuration::from_mins(30 * self.dice.roll(24));
        match self.dice.roll(12) {
            0..=3 => ("hold", self.hold(who, start).await),
            4 | 5 => ("book", self.book(who, start).await),
            6 => ("book hold", self.book_hold().await),
            7 => ("release", self.release().await),
            8 => ("cancel", self.end_booking("cancel").await),
            9 => ("decline", self.end_booking("decline").await),
            10 => ("block", self.block(start).await),
            _ => ("unblock", self.unblock().await),
        }
    }

    async fn hold(&mut self, who: usize, start: Timestamp) -> bool {
        let wish = self.practice.wish(start);
        let answer = self.seekers[who].post(self.hub, "/v1/holds", wish).await;
        self.holds.extend(id(&answer).map(|id| (who, id)));
        answer.status == 201
    }

    async fn book(&mut self, who: usize, start: Timestamp) -> bool {
        let wish = self.practice.wish(start);
        let answer = self.seekers[who].post(self.hub, "/v1/bookings", wish).await;
        self.bookings.extend(id(&answer).map(|id| (who, id)));
        answer.status == 201
    }

    fn any<T>(dice: &mut Dice, of: &mut Vec<T>) -> Option<T> {
        let count = i64::try_from(of.len()).unwrap();
        (count > 0).then(|| of.swap_remove(usize::try_from(dice.roll(count)).unwrap()))
    }

    async fn book_hold(&mut self) -> bool {
        let Some((who, hold)) = Self::any(&mut self.dice, &mut self.holds) else { return false };
        let body = json!({ "holdId": hold });
        let answer = self.seekers[who].post(self.hub, "/v1/bookings", body).await;
        self.bookings.extend(id(&answer).map(|id| (who, id)));
        answer.status == 201
    }

    async fn release(&mut self) -> bool {
        let Some((who, hold)) = Self::any(&mut self.dice, &mut self.holds) else { return false };
        self.seekers[who].delete(self.hub, &format!("/v1/holds/{hold}")).await.status == 200
    }

    async fn end_booking(&mut self, how: &str) -> bool {
        let Some((who, id)) = Self::any(&mut self.dice, &mut self.bookings) else { return false };
        let by = if how == "cancel" { &self.seekers[who] } else { &self.practice.person };
        by.post(self.hub, &format!("/v1/bookings/{id}/{how}"), json!({})).await.status == 200
    }

    async fn block(&mut self, start: Timestamp) -> bool {
        let end = start + SignedDuration::from_mins(15 * (1 + self.dice.roll(12)));
        let body = json!({ "startsAt": start, "endsAt": end });
        let path = format!("/v1/practitioners/{}/blocks", self.practice.id);
        let answer = self.practice.person.post(self.hub, &path, body).await;
        self.blocks.extend(id(&answer));
        answer.status == 201
    }

    async fn unblock(&mut self) -> bool {
        let Some(id) = Self::any(&mut self.dice, &mut self.blocks) else { return false };
        let path = format!("/v1/practitioners/{}/blocks/{id}", self.practice.id);
        self.practice.person.delete(self.hub, &path).await.status == 200
    }
}

fn id(answer: &crate::support::Answer) -> Option<String> {
    assert!(!answer.status.is_server_error(), "{:#}", answer.body);
    (answer.status == 201).then(|| answer.body["data"]["id"].as_str().unwrap().to_owned())
}

/// Many random steps; the watcher's view equals a fresh snapshot at random points and at the end.
async fn snapshot_and_deltas(seed: u64, hold_ttl: Duration) {
    let hub = TestHub::start_with(move |c| c.booking.hold_ttl = hold_ttl).await;
    let practice = hub
        .practice_with(json!({
            "incrementMinutes": 30, "bufferBeforeMinutes": 5, "bufferAfterMinutes": 10,
            "slotGrid": "window",
        }))
        .await;
    let seekers = vec![hub.seeker().await, hub.seeker().await];
    let (mut socket, mut view) = watch(&hub, &practice).await;
    let mut fresh = Socket::open(&hub, &seekers[0]).await;
    let first = view.version;
    let mut monkey = Monkey {
        hub: &hub,
        practice: &practice,
        seekers,
        dice: Dice(seed),
        holds: Vec::new(),
        bookings: Vec::new(),
        blocks: Vec::new(),
    };
    let mut done: BTreeMap<&str, usize> = BTreeMap::new();
    let mut busiest = 0;
    for _ in 0..150 {
        let (kind, happened) = monkey.step().await;
        *done.entry(kind).or_default() += usize::from(happened);
        if monkey.dice.roll(10) == 0 {
            agree(&mut fresh, &practice, &mut socket, &mut view).await;
            busiest = busiest.max(view.busy.len());
        }
    }
    // Every hold that is left runs out before the last look.
    if hold_ttl < Duration::from_secs(60) {
        while rows::count(&hub.database_url, "bookings WHERE status = 'held'").await > 0 {
            view.apply(&socket.event("availability:changed").await);
        }
        let lapsed = rows::count(&hub.database_url, "bookings WHERE status = 'lapsed'").await;
        assert!(lapsed > 0);
    } else {
        let never: Vec<_> = done.iter().filter(|(_, n)| **n == 0).collect();
        assert!(never.is_empty() && done.len() == 8, "the dice do too little: {done:?}");
    }
    agree(&mut fresh, &practice, &mut socket, &mut view).await;
    assert!(view.version >= first + 50, "{done:?}");
    assert!(busiest > 60, "{busiest}");
}

/// A fresh snapshot equals the view at its version.
async fn agree(fresh: &mut Socket, practice: &Practice, socket: &mut Socket, view: &mut View) {
    let answer = fresh.ok("subscribe", json!({ "channel": channel(practice) })).await;
    let snapshot = View::of(&answer);
    follow(socket, view, snapshot.version).await;
    if view.version == snapshot.version {
        assert_eq!(*view, snapshot);
    }
    fresh.ok("unsubscribe", json!({ "channel": channel(practice) })).await;
    fresh.events.clear();
}

#[tokio::test]
async fn snapshot_and_deltas_equal_a_fresh_snapshot() {
    for seed in [1, 2, 3] {
        snapshot_and_deltas(seed, Duration::from_secs(300)).await;
    }
}

#[tokio::test]
async fn the_same_while_holds_run_out() {
    for seed in [4, 5] {
        snapshot_and_deltas(seed, Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn what_is_free_again_stays_busy_where_something_else_is() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let (mut socket, mut view) = watch(&hub, &practice).await;
    let at = |hour: i64, minute: i64| practice.slot(hour) + SignedDuration::from_mins(minute);
    let booking = seeker.post(&hub, "/v1/bookings", practice.wish(at(9, 0))).await.data(201);
    let blocks = format!("/v1/practitioners/{}/blocks", practice.id);
    let mut ids = Vec::new();
    for (start, end) in [(at(9, 30), at(10, 30)), (at(10, 0), at(12, 0))] {
        let body = json!({ "startsAt": start, "endsAt": end });
        let block = practice.person.post(&hub, &blocks, body).await.data(201);
        ids.push(block["id"].as_str().unwrap().to_owned());
    }
    let busy = |from: Timestamp, until: Timestamp| -> Minutes {
        (from.as_second() / 60..until.as_second() / 60).map(|m| (m, ())).collect()
    };
    follow(&mut socket, &mut view, 4).await;
    assert_eq!(view.busy, busy(at(9, 0), at(12, 0)));
    let path = format!("/v1/bookings/{}", booking["id"].as_str().unwrap());
    seeker.delete(&hub, &path).await.data(200);
    follow(&mut socket, &mut view, 5).await;
    assert_eq!(view.busy, busy(at(9, 30), at(12, 0)));
    practice.person.delete(&hub, &format!("{blocks}/{}", ids[0])).await.data(200);
    follow(&mut socket, &mut view, 6).await;
    assert_eq!(view.busy, busy(at(10, 0), at(12, 0)));
    practice.person.delete(&hub, &format!("{blocks}/{}", ids[1])).await.data(200);
    follow(&mut socket, &mut view, 7).await;
    assert_eq!(view.busy, Minutes::new());
}

#[tokio::test]
async fn a_watcher_who_was_away_gets_exactly_what_it_missed() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    let watcher = hub.seeker().await;
    let hold = async |hub: &TestHub, n| {
        seeker.post(hub, "/v1/holds", practice.wish(practice.slot(n))).await.data(201);
    };
    let mut socket = Socket::open(&hub, &watcher).await;
    let answer = socket.ok("subscribe", json!({ "channel": channel(&practice) })).await;
    let mut view = View::of(&answer);
    hold(&hub, 1).await;
    view.apply(&socket.event("availability:changed").await);
    socket.close().await;
    for n in [3, 5] {
        hold(&hub, n).await;
    }
    // More while it resumes: what comes live must not come before or beside what is replayed.
    let mut socket = Socket::open(&hub, &watcher).await;
    let since = json!({ "channels": { channel(&practice): view.version } });
    let resume = socket.command("resume", since).await;
    tokio::join!(hold(&hub, 7), hold(&hub, 9));
    let answer = socket.answer(resume).await;
    assert_eq!(answer["data"]["channels"][channel(&practice)].get("snapshot"), None);
    // Two holds that come together may be one commit, and then they are one version.
    let head = watch(&hub, &practice).await.1.version;
    assert!((view.version + 3..=view.version + 4).contains(&head), "{head}");
    follow(&mut socket, &mut view, head).await;
    agree_at(&hub, &practice, &view).await;
    assert_eq!(socket.ok("ping", json!({})).await["heads"][channel(&practice)], head);
    assert!(socket.events.is_empty(), "{:?}", socket.events);

    // The same over a restart, with `subscribe` and `since`.
    hold(&hub, 11).await;
    let database_url = hub.database_url.clone();
    hub.stop().await;
    let hub = TestHub::start_over(database_url, |_| {}).await;
    let mut socket = Socket::open(&hub, &watcher).await;
    let since = json!({ "channel": channel(&practice), "since": view.version });
    let answer = socket.ok("subscribe", since).await;
    assert_eq!((answer["seq"].as_i64(), answer.get("snapshot")), (Some(head + 1), None));
    hold(&hub, 13).await;
    follow(&mut socket, &mut view, head + 2).await;
    agree_at(&hub, &practice, &view).await;
    // A seq from the future starts at the head.
    let future = json!({ "channel": channel(&practice), "since": 1_000 });
    assert_eq!(socket.ok("subscribe", future).await["seq"], head + 2);
    hold(&hub, 15).await;
    let next = socket.event("availability:changed").await;
    assert_eq!(next["seq"], head + 3);
}

async fn agree_at(hub: &TestHub, practice: &Practice, view: &View) {
    assert_eq!(watch(hub, practice).await.1, *view);
}

/// A client that asks for what it missed as soon as its socket is open, while the hub is still
/// opening the same channel by itself, loses nothing.
#[tokio::test]
async fn a_second_subscription_is_not_ended_by_the_first() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let seeker = hub.seeker().await;
    for n in [1, 3] {
        seeker.post(&hub, "/v1/bookings", practice.wish(practice.slot(n))).await.data(201);
    }
    let own = format!("user:{}", practice.person.id);
    for round in 0..20 {
        let mut socket = Socket::try_open(&hub, Some(&practice.person.token)).await.unwrap();
        for _ in 0..round % 3 {
            socket.command("subscribe", json!({ "channel": own })).await;
        }
        socket.command("resume", json!({ "channels": { own.clone(): 0 } })).await;
        let mut seqs = Vec::new();
        for name in ["booking:created", "notification:new", "booking:created", "notification:new"] {
            let event = socket.event(name).await;
            seqs.push(event["seq"].as_i64().unwrap());
        }
        assert_eq!(seqs, [1, 2, 3, 4], "round {round}");
    }
}

#[tokio::test]
async fn new_hours_and_new_offers_are_told() {
    let hub = TestHub::start().await;
    let practice = hub.practice().await;
    let (mut socket, view) = watch(&hub, &practice).await;
    let hours = json!({ "timeZone": "Europe/Lisbon",
        "weekly": [{ "weekday": 1, "start": "09:00", "end": "12:00" }] });
    let availability = format!("/v1/practitioners/{}/availability", practice.id);
    practice.person.put(&hub, &availability, hours).await.data(200);
    let offer = json!({ "price": { "amount": 5, "currency": "INR" }, "durationMinutes": 90 });
    let service = format!("/v1/practitioners/{}/services/{}", practice.id, practice.service_id);
    practice.person.put(&hub, &service, offer).await.data(200);
    for n in 1..=2 {
        let told = socket.event("availability:changed").await;
        assert_eq!(told["seq"], view.version + n);
        assert_eq!(
            (&told["data"]["hoursChanged"], &told["data"]["changes"]),
            (&json!(true), &json!([]))
        );
    }
    let block = json!({ "startsAt": practice.slot(1), "endsAt": practice.slot(2) });
    let blocks = format!("/v1/practitioners/{}/blocks", practice.id);
    practice.person.post(&hub, &blocks, block).await.data(201);
    let told = socket.event("availability:changed").await;
    assert_eq!(told["data"]["hoursChanged"], false);
}

#[tokio::test]
async fn there_is_no_channel_of_a_practice_that_is_not_there() {
    let hub = TestHub::start().await;
    let seeker = hub.seeker().await;
    let mut socket = Socket::open(&hub, &seeker).await;
    let nowhere = json!({ "channel": format!("calendar:{}", seeker.id) });
    socket.refused("subscribe", nowhere, "not_found").await;
    let path = format!(
        "/v1/practitioners/{}/availability?serviceId={}&from=2027-01-01&to=2027-01-02",
        seeker.id, seeker.id
    );
    let answer = hub.call(Method::GET, &path, None, None).await;
    answer.refused(404, "not_found");
}
