//! A practice with hours, an offer and free slots.

use jiff::{ToSpan, Zoned};
use serde_json::{Value, json};

use super::api::{Request, list, number, text};
use super::people::Person;
use super::wrong::{Wrong, ensure};
use super::{Tour, screen};

const ZONE: &str = "Asia/Kolkata";

/// Meera's practice.
pub struct Practice {
    pub id: String,
    pub service_id: String,
}

impl Practice {
    /// The channel of its calendar.
    pub fn channel(&self) -> String {
        format!("calendar:{}", self.id)
    }
}

/// A start that can be booked.
pub struct Slot {
    /// What a hold asks for.
    pub wish: Value,
    pub start: String,
    pub end: String,
}

impl Tour<'_> {
    /// Opens the practice of `who` with one service.
    pub(super) async fn open_practice(&mut self, who: &Person) -> Result<Practice, Wrong> {
        let service = self.choose_service(who).await?;
        let service_id = text(&service, "/id")?.to_owned();
        self.screen.step(&format!("{} opens a practice: every day, 09:00 to 18:00", who.name));
        let weekly: Vec<Value> = (1..=7)
            .map(|day| json!({ "weekday": day, "start": "09:00", "end": "18:00" }))
            .collect();
        let body = json!({
            "bio": "Met on a tour.", "availability": { "timeZone": ZONE, "weekly": weekly },
        });
        let reply = self.ask(Some(who), Request::post("/v1/practitioners", body), 201).await?;
        let id = reply.text("/id")?.to_owned();
        let zone = reply.text("/timeZone")?;
        ensure(zone == ZONE, || format!("the practice is in {zone}"))?;
        self.screen.back(&format!("201 practice {} in {zone}", screen::id(&id)), reply.took);

        self.screen.step(&format!("{} offers {}", who.name, text(&service, "/name")?));
        let offer = json!({
            "price": { "amount": 150_000, "currency": "INR" },
            "durationMinutes": number(&service, "/durationMinutes")?,
            "bufferAfterMinutes": 15,
        });
        let path = format!("/v1/practitioners/{id}/services/{service_id}");
        let reply = self.ask(Some(who), Request::put(path, offer), 200).await?;
        let offers = list(&reply.data, "")?;
        ensure(offers.len() == 1, || format!("there are {} offers", offers.len()))?;
        let minutes = number(&reply.data, "/0/durationMinutes")?;
        let rest = number(&reply.data, "/0/bufferAfterMinutes")?;
        let rupees = number(&reply.data, "/0/price/amount")? / 100;
        self.screen.back(
            &format!("200 {minutes} minutes for {rupees} rupees, then {rest} minutes of rest"),
            reply.took,
        );
        Ok(Practice { id, service_id })
    }

    /// The first service of the catalogue: only administrators add to it.
    async fn choose_service(&mut self, who: &Person) -> Result<Value, Wrong> {
        self.screen.step(&format!("{} looks at the catalogue of services", who.name));
        let reply = self.ask(Some(who), Request::get("/v1/services"), 200).await?;
        let services = list(&reply.data, "")?;
        let first = services.first().cloned().ok_or_else(|| {
            Wrong::new("the catalogue is empty, so nothing can be offered")
                .advise("start the hub with its demo data: `make run`, or `hub serve --demo`")
        })?;
        let name = text(&first, "/name")?;
        self.screen.back(
            &format!("200 {} services; {} takes “{name}”", services.len(), who.name),
            reply.took,
        );
        Ok(first)
    }

    /// Looks for slots of tomorrow, in the practice's zone.
    pub(super) async fn find_slot(
        &mut self,
        who: &Person,
        practice: &Practice,
    ) -> Result<Slot, Wrong> {
        self.screen.step(&format!("{} asks what is free tomorrow", who.name));
        let today = Zoned::now().in_tz(ZONE).map_err(|e| Wrong::new(e.to_string()))?;
        let day = today.date().checked_add(1.day()).map_err(|e| Wrong::new(e.to_string()))?;
        let path = format!(
            "/v1/practitioners/{}/availability?serviceId={}&from={day}&to={day}&timeZone={ZONE}",
            practice.id, practice.service_id
        );
        let reply = self.ask(Some(who), Request::get(path), 200).await?;
        let slots = list(&reply.data, "/slots")?;
        ensure(!slots.is_empty(), || "there is no slot, though nothing is booked".to_owned())?;
        let local = reply.text("/slots/0/localStart")?;
        ensure(local == format!("{day}T09:00:00+05:30"), || format!("the first is at {local}"))?;
        let start = reply.text("/slots/0/start")?.to_owned();
        self.screen.back(
            &format!("200 {} slots; the first at {local}, which is {start}", slots.len()),
            reply.took,
        );
        let wish = json!({
            "practitionerId": practice.id, "serviceId": practice.service_id, "startsAt": start,
        });
        let end = reply.text("/slots/0/end")?.to_owned();
        Ok(Slot { wish, start, end })
    }
}
