//! Watching a calendar, holding, booking, confirming, cancelling.

use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::api::{Request, list, number, text};
use super::people::Person;
use super::practice::{Practice, Slot};
use super::screen;
use super::wrong::{Wrong, ensure};
use super::{Socket, Tour};

/// A hold, then the booking that it became.
pub struct Booking {
    pub id: String,
    version: String,
}

impl Tour<'_> {
    /// Subscribes to the calendar of a practice from a browser.
    pub(super) async fn watch(
        &mut self,
        who: &Person,
        practice: &Practice,
    ) -> Result<Socket, Wrong> {
        self.screen.step(&format!("{} watches the calendar in a browser", who.name));
        let mut socket = self.open_socket_in_browser(who).await?;
        let (seq, busy) = self.subscribe_to_calendar(&mut socket, &practice.channel()).await?;
        ensure(busy.is_empty(), || format!("a new calendar is busy: {busy:?}"))?;
        self.seen.versions.push(seq);
        Ok(socket)
    }

    /// Subscribes; returns the version and the busy intervals of the snapshot.
    async fn subscribe_to_calendar(
        &mut self,
        socket: &mut Socket,
        channel: &str,
    ) -> Result<(i64, Vec<Value>), Wrong> {
        let (data, took) = self.call(socket, "subscribe", json!({ "channel": channel })).await?;
        let version = number(&data, "/snapshot/version")?;
        ensure(number(&data, "/seq")? == version, || format!("seq is not the version: {data}"))?;
        let busy = list(&data, "/snapshot/busy")?.to_vec();
        let what = if busy.is_empty() { "nothing is busy".to_owned() } else { spans(&busy)? };
        self.screen.back(&format!("ok: snapshot of version {version}, {what}"), took);
        Ok((version, busy))
    }

    /// Waits for the delta after the last version, prints it, and checks what it covers.
    async fn see_delta(
        &mut self,
        socket: &mut Socket,
        state: &str,
        slot: Option<&Slot>,
        since: Instant,
    ) -> Result<(), Wrong> {
        let delta = socket.event("availability:changed", &[]).await?;
        let version = number(&delta.data, "/version")?;
        let before = self.seen.versions.last().copied().unwrap_or_default();
        ensure(version == before + 1 && delta.seq == Some(version), || {
            format!("the delta after version {before} has version {version}, seq {:?}", delta.seq)
        })?;
        let changes = list(&delta.data, "/changes")?;
        ensure(changes.len() == 1 && text(&delta.data, "/changes/0/state")? == state, || {
            format!("one {state} interval was expected: {changes:?}")
        })?;
        if let Some(slot) = slot {
            let covers = instant(text(&delta.data, "/changes/0/start")?)? <= instant(&slot.start)?
                && instant(text(&delta.data, "/changes/0/end")?)? >= instant(&slot.end)?;
            ensure(covers, || format!("the delta does not cover the slot: {changes:?}"))?;
        }
        self.seen.versions.push(version);
        let what = format!("availability:changed, version {version}: {} {state}", spans(changes)?);
        self.screen.appears(socket.who(), &what, delta.at.saturating_duration_since(since));
        Ok(())
    }

    /// Holds the slot; the watcher sees it become busy.
    pub(super) async fn hold(
        &mut self,
        who: &Person,
        slot: &Slot,
        watcher: &mut Socket,
    ) -> Result<String, Wrong> {
        self.screen.step(&format!("{} holds the first slot while deciding", who.name));
        let reply = self.ask(Some(who), Request::post("/v1/holds", slot.wish.clone()), 201).await?;
        let id = reply.text("/id")?.to_owned();
        ensure(reply.text("/startsAt")? == slot.start, || "another start is held".to_owned())?;
        let left = instant(reply.text("/expiresAt")?)?.duration_since(Timestamp::now());
        ensure(left.is_positive(), || "the hold is over already".to_owned())?;
        self.screen.back(
            &format!("201 hold {}, good for {} s", screen::id(&id), left.as_secs() + 1),
            reply.took,
        );
        self.see_delta(watcher, "busy", Some(slot), reply.sent_at).await?;
        Ok(id)
    }

    /// The watcher wants the same slot.
    pub(super) async fn be_too_late(
        &mut self,
        slot: &Slot,
        watcher: &mut Socket,
    ) -> Result<(), Wrong> {
        self.screen.step(&format!("{} wants the same slot, and is too late", watcher.who()));
        let wish = screen::in_short(&slot.wish);
        self.screen.out(&format!("{}'s socket: hold:create {wish}", watcher.who()));
        let (answer, took) = watcher.call("hold:create", slot.wish.clone()).await?;
        let Err(error) = answer else {
            return Err(Wrong::new("two people hold the same slot"));
        };
        ensure(text(&error, "/code")? == "slot_taken", || format!("refused by {error}"))?;
        self.screen.back(&format!("slot_taken: {}", text(&error, "/message")?), took);
        Ok(())
    }

    /// Books the hold, twice with the same key; the practitioner is told once.
    pub(super) async fn book(
        &mut self,
        who: &Person,
        hold_id: &str,
        practitioner: &mut Socket,
    ) -> Result<Booking, Wrong> {
        self.screen.step(&format!("{} books the held slot", who.name));
        let key = Uuid::new_v4().to_string();
        let request = Request::post("/v1/bookings", json!({ "holdId": hold_id }))
            .with_header("Idempotency-Key", key);
        let reply = self.ask(Some(who), request.clone(), 201).await?;
        let id = reply.text("/id")?.to_owned();
        let status = reply.text("/status")?;
        ensure(status == "pending", || format!("the booking is {status}"))?;
        let version = reply.version.clone().ok_or_else(|| Wrong::new("no ETag"))?;
        self.screen.back(
            &format!("201 booking {} is {status}, ETag {version}", screen::id(&id)),
            reply.took,
        );
        self.see_booking(practitioner, "booking:created", &id, status, reply.sent_at).await?;
        self.see_notification(practitioner, "booking_requested", reply.sent_at).await?;

        self.screen.step(&format!("{}'s network stutters: the same request again", who.name));
        let again = self.ask(Some(who), request, 201).await?;
        ensure(again.data == reply.data, || format!("another answer: {}", again.data))?;
        self.screen.back(
            &format!("201 booking {} again: the first answer, replayed", screen::id(&id)),
            again.took,
        );
        Ok(Booking { id, version })
    }

    /// The practitioner agrees; the seeker's app is told.
    pub(super) async fn confirm(
        &mut self,
        who: &Person,
        booking: &Booking,
        seeker: &mut Socket,
    ) -> Result<(), Wrong> {
        self.screen.step(&format!("{} confirms", who.name));
        let path = format!("/v1/bookings/{}/confirm", booking.id);
        let request = Request::post(path, json!({})).with_header("If-Match", &booking.version);
        let reply = self.ask(Some(who), request, 200).await?;
        let status = reply.text("/status")?;
        ensure(status == "confirmed", || format!("the booking is {status}"))?;
        let commission = number(&reply.data, "/commissionAmount/amount")? / 100;
        self.screen.back(
            &format!("200 {status}; the platform's share is {commission} rupees"),
            reply.took,
        );
        let id = &booking.id;
        self.see_booking(seeker, "booking:updated", id, status, reply.sent_at).await?;
        self.see_notification(seeker, "booking_confirmed", reply.sent_at).await
    }

    async fn see_booking(
        &mut self,
        socket: &mut Socket,
        name: &str,
        id: &str,
        status: &str,
        since: Instant,
    ) -> Result<(), Wrong> {
        let with = [("/booking/id", json!(id)), ("/booking/status", json!(status))];
        let event = socket.event(name, &with).await?;
        let seq = event.seq.ok_or_else(|| Wrong::new(format!("{name} has no seq")))?;
        let text = format!("{name}, seq {seq}: {} is {status}", screen::id(id));
        self.screen.appears(socket.who(), &text, event.at.saturating_duration_since(since));
        Ok(())
    }

    /// A notification appears; the app acknowledges it, so that no push is needed.
    async fn see_notification(
        &mut self,
        socket: &mut Socket,
        kind: &str,
        since: Instant,
    ) -> Result<(), Wrong> {
        let event = socket.event("notification:new", &[("/kind", json!(kind))]).await?;
        let what = format!("notification:new, “{}”", text(&event.data, "/title")?);
        self.screen.appears(socket.who(), &what, event.at.saturating_duration_since(since));
        let id = text(&event.data, "/notificationId")?;
        let (_, took) =
            self.call(socket, "notification:received", json!({ "notificationId": id })).await?;
        self.screen.back("ok: it was shown, so no push goes out", took);
        Ok(())
    }

    /// The seeker cancels over the socket; the watcher sees the slot come back.
    pub(super) async fn cancel(
        &mut self,
        seeker: &mut Socket,
        booking: &Booking,
        watcher: &mut Socket,
    ) -> Result<(), Wrong> {
        self.screen.step(&format!("{} cancels, over the socket", seeker.who()));
        let started = Instant::now();
        let cancel = json!({ "bookingId": booking.id, "reason": "It was only a tour." });
        let (data, took) = self.call(seeker, "booking:cancel", cancel).await?;
        let status = text(&data, "/status")?;
        ensure(status == "cancelled", || format!("the booking is {status}"))?;
        let version = number(&data, "/version")?;
        self.screen.back(&format!("ok: {status}, version {version}"), took);
        self.see_delta(watcher, "free", None, started).await
    }

    /// A snapshot and the deltas after it equal a fresh snapshot.
    pub(super) async fn compare_snapshot(
        &mut self,
        practice: &Practice,
        watcher: &mut Socket,
    ) -> Result<(), Wrong> {
        self.screen.step(&format!("{} compares with a fresh snapshot", watcher.who()));
        let channel = practice.channel();
        let (_, took) = self.call(watcher, "unsubscribe", json!({ "channel": channel })).await?;
        self.screen.back("ok", took);
        let (version, busy) = self.subscribe_to_calendar(watcher, &channel).await?;
        let last = self.seen.versions.last().copied();
        ensure(last == Some(version) && busy.is_empty(), || {
            format!("deltas led to version {last:?} and nothing busy, the snapshot disagrees")
        })
    }
}

/// Intervals for people.
fn spans(intervals: &[Value]) -> Result<String, Wrong> {
    let span = |i: &Value| Ok(format!("{} to {}", text(i, "/start")?, text(i, "/end")?));
    Ok(intervals.iter().map(span).collect::<Result<Vec<_>, Wrong>>()?.join(", "))
}

fn instant(text: &str) -> Result<Timestamp, Wrong> {
    text.parse().map_err(|_| Wrong::new(format!("{text} is no instant")))
}
