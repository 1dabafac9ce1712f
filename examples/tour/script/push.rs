//! Going away, and a push that arrives all the same.

use std::time::{Duration, Instant};

use serde_json::json;

use super::api::{Request, list, number, text};
use super::people::Person;
use super::screen;
use super::wrong::{Wrong, ensure};
use super::{PushReceiver, Socket, Tour};

/// The longest window before a push that a hub can be configured with is 300 s; the tour waits
/// for one that is a little longer than usual.
const PUSH_PATIENCE: Duration = Duration::from_secs(30);
/// Longer than the longest grace that a hub can be configured with.
const OFFLINE_PATIENCE: Duration = Duration::from_secs(125);

/// A device that gets pushes.
pub struct Device {
    id: String,
    /// The key that the hub must sign with.
    hub_key: String,
}

impl Tour<'_> {
    /// Subscribes a browser of `who` at the tour's own push service.
    pub(super) async fn register_device(
        &mut self,
        who: &Person,
        receiver: &PushReceiver,
    ) -> Result<Device, Wrong> {
        self.screen.step(&format!("{}'s phone subscribes to pushes", who.name));
        self.screen.note(&format!(
            "The tour plays the push service too, on {}: it checks, decrypts and shows.",
            receiver.origin()
        ));
        let request = Request::get("/v1/notifications/vapid-public-key");
        let reply = self.ask(Some(who), request, 200).await?;
        let hub_key = reply.text("/publicKey")?.to_owned();
        self.screen.back(&format!("200 the hub signs with {}", screen::id(&hub_key)), reply.took);
        let subscription = receiver.subscription();
        let body = json!({
            "label": "phone",
            "webPush": {
                "endpoint": subscription.endpoint,
                "keys": { "p256dh": subscription.p256dh, "auth": subscription.auth },
            },
        });
        let request = Request::post("/v1/notifications/devices", body);
        let reply = self.ask(Some(who), request, 201).await.map_err(|wrong| {
            match wrong.mentions("validation_failed") && wrong.mentions("endpoint") {
                true => wrong.advise(
                    "this hub sends pushes to public addresses only; for a tour, start it with \
                     PUSH_ALLOW_PRIVATE_ENDPOINTS=true, or with `hub serve --demo` on loopback",
                ),
                false => wrong,
            }
        })?;
        let id = reply.text("/id")?.to_owned();
        self.screen.back(&format!("201 device {}", screen::id(&id)), reply.took);
        Ok(Device { id, hub_key })
    }

    /// Closes the only socket of `who`.
    pub(super) async fn leave(
        &mut self,
        socket: Socket,
        who: &Person,
        other: &mut Socket,
    ) -> Result<(), Wrong> {
        self.screen.step(&format!("{} puts the phone away", who.name));
        self.screen.out(&format!("{}'s socket: close", who.name));
        let started = Instant::now();
        let code = socket.close().await?;
        ensure(code == 1000, || format!("the hub said goodbye with {code}"))?;
        self.screen.back(&format!("closed with {code}"), started.elapsed());
        if self.look_after(other, who).await? == "online" {
            self.screen.note("A reconnect within the grace would be invisible to others.");
        }
        Ok(())
    }

    /// Waits for the push, checked and decrypted by the receiver.
    pub(super) async fn receive_push(
        &mut self,
        receiver: &PushReceiver,
        device: &Device,
        message_id: &str,
    ) -> Result<(), Wrong> {
        self.screen.step("Nobody acknowledged the message, so a push goes out");
        let waited = Instant::now();
        let push = receiver.next(PUSH_PATIENCE).await.ok_or_else(|| {
            let refused = receiver.refused();
            Wrong::new(match refused.is_empty() {
                true => format!("no push within {} s", PUSH_PATIENCE.as_secs()),
                false => format!("the hub sent pushes that are not in order: {refused:?}"),
            })
            .advise("look into the hub's log, and at PUSH_WINDOW_SECONDS")
        })?;
        let after = waited.elapsed();
        ensure(push.vapid_key == device.hub_key, || "signed with another key".to_owned())?;
        let topic = push.topic.clone().ok_or_else(|| Wrong::new("no Topic"))?;
        let (title, body) = (text(&push.plaintext, "/title")?, text(&push.plaintext, "/body")?);
        ensure(!body.contains("ten minutes"), || "the push holds what was written".to_owned())?;
        ensure(text(&push.plaintext, "/id")? == message_id, || "about something else".to_owned())?;
        let size = push.body.len();
        self.screen.appears(
            "push service",
            &format!("{size} encrypted bytes, urgency {}, TTL {} s", push.urgency, push.ttl),
            after,
        );
        self.screen.note(&format!("Topic  {topic} (another attempt would replace this one)"));
        let claims = &push.vapid_claims;
        let until = jiff::Timestamp::from_second(number(claims, "/exp")?);
        self.screen.note(&format!(
            "VAPID  signature verified: for {} from {}, until {}",
            text(claims, "/aud")?,
            text(claims, "/sub")?,
            until.map_err(|e| Wrong::new(e.to_string()))?
        ));
        self.screen.note(&format!("Text   “{title}”: {body}"));
        self.screen.note("       It tells who wrote, not what: pushes show on locked screens.");
        let (sent, refused) = (receiver.requests(), receiver.refused());
        ensure(sent == 1 && refused.is_empty(), || format!("{sent} pushes came: {refused:?}"))?;
        self.seen.pushes = sent;
        Ok(())
    }

    /// Waits until the grace is over.
    pub(super) async fn wait_for_offline(
        &mut self,
        who: &Person,
        other: &mut Socket,
    ) -> Result<(), Wrong> {
        self.screen.step(&format!("{} waits until {} counts as offline", other.who(), who.name));
        let waited = Instant::now();
        let with = [("/userId", json!(who.id))];
        let event = other.event_within(OFFLINE_PATIENCE, "user:offline", &with).await?;
        let event = event.ok_or_else(|| Wrong::new("no user:offline, though the socket closed"))?;
        let seen = text(&event.data, "/lastSeen")?;
        self.screen.appears(
            other.who(),
            &format!("user:offline, last seen {seen}"),
            event.at.saturating_duration_since(waited),
        );
        Ok(())
    }

    /// Takes the device away, since its push service ends with the tour.
    pub(super) async fn forget_device(
        &mut self,
        who: &Person,
        device: &Device,
        receiver: &PushReceiver,
    ) -> Result<(), Wrong> {
        self.screen.step(&format!("{} unsubscribes from pushes", who.name));
        let path = format!("/v1/notifications/devices/{}", device.id);
        let reply = self.ask(Some(who), Request::delete(path), 200).await?;
        self.screen.back("200", reply.took);
        let reply = self.ask(Some(who), Request::get("/v1/notifications/devices"), 200).await?;
        let left = list(&reply.data, "")?.len();
        ensure(left == 0, || format!("{left} devices are left"))?;
        let sent = receiver.requests();
        ensure(sent == 1, || format!("{sent} pushes were sent instead of one"))?;
        self.screen.back(&format!("200 {left} devices left; {sent} push came in all"), reply.took);
        Ok(())
    }
}
