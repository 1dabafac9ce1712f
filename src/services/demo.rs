//! Demo data: what `make run` loads on the first start. Made through the services, so that it
//! obeys every rule that users obey.

use diesel_async::AsyncConnection;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use uuid::Uuid;

use super::auth::{Auth, Caller, Origin, Passwords, Registration};
use super::practices::{PracticeInput, Practices};
use crate::domain::rules::{CountedDays, Horizon};
use crate::domain::schedule::{Schedule, WeeklyRange};
use crate::error::Result;
use crate::models::catalogue::{self, Offer, Service};
use crate::models::offer_rules::OtherDurations;
use crate::models::pool::Pool;
use crate::models::users::{self, NewUser};

/// The password of every demo account. Public: the demo listens on loopback.
pub const PASSWORD: &str = "namaste-demo";

/// An account of the demo.
#[derive(Debug)]
pub struct Login {
    pub email: &'static str,
    pub role: &'static str,
    pub what: &'static str,
}

struct Practitioner {
    login: Login,
    name: (&'static str, &'static str),
    bio: &'static str,
    years: i32,
    zone: &'static str,
    specialization: &'static str,
    languages: &'static [&'static str],
    /// (weekdays, start, end)
    hours: &'static [(&'static [i64], &'static str, &'static str)],
    /// (index into `SERVICES`, price in paise, buffer after, instant)
    offers: &'static [(usize, i64, i32, bool)],
}

const SERVICES: &[(&str, &str, &str, i32, i64)] = &[
    ("Abhyanga massage", "Ayurveda", "Warm-oil massage of the whole body.", 60, 250_000),
    ("Pranayama session", "Yoga", "Guided breathing, one to one.", 45, 120_000),
    ("Reiki session", "Energy healing", "Hands-on relaxation.", 60, 180_000),
    ("Sound bath", "Energy healing", "Singing bowls and gongs.", 30, 90_000),
];

const WEEKDAYS: &[i64] = &[1, 2, 3, 4, 5];

const PRACTITIONERS: &[Practitioner] = &[
    Practitioner {
        login: Login {
            email: "meera@demo.klearkarma.in",
            role: "practitioner",
            what: "Ayurveda and reiki in Kochi, weekdays; 15 minutes of rest after each session",
        },
        name: ("Meera", "Nair"),
        bio: "Ayurvedic practitioner from Kochi.",
        years: 12,
        zone: "Asia/Kolkata",
        specialization: "ayurveda",
        languages: &["en", "hi", "ml"],
        hours: &[(WEEKDAYS, "09:00", "13:00"), (WEEKDAYS, "14:00", "18:00")],
        offers: &[(0, 250_000, 15, false), (2, 200_000, 15, true)],
    },
    Practitioner {
        login: Login {
            email: "arjun@demo.klearkarma.in",
            role: "practitioner",
            what: "Yoga in Rishikesh, every day from dawn; books at once",
        },
        name: ("Arjun", "Rawat"),
        bio: "Teaches breathing in Rishikesh.",
        years: 8,
        zone: "Asia/Kolkata",
        specialization: "yoga",
        languages: &["en", "hi"],
        hours: &[(&[1, 2, 3, 4, 5, 6, 7], "05:30", "20:30")],
        offers: &[(1, 120_000, 0, true), (3, 80_000, 0, true)],
    },
    Practitioner {
        login: Login {
            email: "clara@demo.klearkarma.in",
            role: "practitioner",
            what: "Sound healing from Lisbon: a zone with summer time, and hours past midnight",
        },
        name: ("Clara", "Fonseca"),
        bio: "Sound healer; online from Lisbon.",
        years: 5,
        zone: "Europe/Lisbon",
        specialization: "sound healing",
        languages: &["en", "pt"],
        hours: &[(&[2, 4, 6], "18:00", "24:00"), (&[3, 5, 7], "00:00", "02:00")],
        offers: &[(3, 110_000, 10, false), (2, 220_000, 10, false)],
    },
];

const SEEKERS: &[(Login, (&str, &str))] = &[
    (
        Login { email: "asha@demo.klearkarma.in", role: "seeker", what: "looks for a session" },
        ("Asha", "Verma"),
    ),
    (
        Login { email: "kabir@demo.klearkarma.in", role: "seeker", what: "wants the same slots" },
        ("Kabir", "Singh"),
    ),
];

const ADMIN: Login =
    Login { email: "admin@demo.klearkarma.in", role: "admin", what: "sees every booking" };

/// The demo's accounts, to be printed.
pub fn logins() -> impl Iterator<Item = &'static Login> {
    let practitioners = PRACTITIONERS.iter().map(|p| &p.login);
    practitioners.chain(SEEKERS.iter().map(|(login, _)| login)).chain([&ADMIN])
}

/// Loads the demo.
pub struct Demo<'a> {
    pub pool: &'a Pool,
    pub auth: &'a Auth,
    pub passwords: &'a Passwords,
    pub practices: &'a Practices,
}

impl Demo<'_> {
    /// Loads everything unless the administrator of the demo exists; false then. The
    /// administrator is written last: a load that was cut short is taken up where it ended.
    pub async fn load(&self) -> Result<bool> {
        let mut conn = self.pool.get().await?;
        if users::find_with_password(&mut conn, ADMIN.email).await?.is_some() {
            return Ok(false);
        }
        drop(conn);
        let services = self.services().await?;
        for practitioner in PRACTITIONERS {
            self.practitioner(practitioner, &services).await?;
        }
        for (login, name) in SEEKERS {
            if !self.exists(login).await? {
                self.account(login, *name).await?;
            }
        }
        self.admin().await?;
        Ok(true)
    }

    async fn exists(&self, login: &Login) -> Result<bool> {
        let mut conn = self.pool.get().await?;
        Ok(users::find_with_password(&mut conn, login.email).await?.is_some())
    }

    async fn services(&self) -> Result<Vec<Uuid>> {
        let mut conn = self.pool.get().await?;
        let (there, _) = catalogue::list_services(&mut conn, 100, 0).await?;
        let mut ids = Vec::with_capacity(SERVICES.len());
        for (name, category, description, duration_minutes, price) in SERVICES {
            if let Some(service) = there.iter().find(|s| s.name == *name) {
                ids.push(service.id);
                continue;
            }
            let slug = category.to_lowercase().replace(' ', "-");
            let category =
                catalogue::ensure_category(&mut conn, Uuid::now_v7(), category, &slug).await?;
            let service = Service {
                id: Uuid::now_v7(),
                name: (*name).to_owned(),
                description: Some((*description).to_owned()),
                category_id: Some(category),
                duration_minutes: *duration_minutes,
                base_price: Some(*price),
                currency: "INR".to_owned(),
            };
            catalogue::insert_service(&mut conn, &service).await?;
            ids.push(service.id);
        }
        Ok(ids)
    }

    async fn account(&self, login: &Login, name: (&str, &str)) -> Result<Caller> {
        let new = Registration {
            email: login.email.to_owned(),
            password: SecretString::from(PASSWORD),
            first_name: name.0.to_owned(),
            last_name: name.1.to_owned(),
            phone: None,
            user_type: login.role.to_owned(),
        };
        let issued = self.auth.register(new, &Origin::default()).await?;
        self.auth.verify(issued.access_token.expose_secret()).await
    }

    async fn practitioner(&self, p: &Practitioner, services: &[Uuid]) -> Result<()> {
        if self.exists(&p.login).await? {
            return Ok(());
        }
        let caller = self.account(&p.login, p.name).await?;
        let words = |words: &[&str]| Some(words.iter().map(|w| (*w).to_owned()).collect());
        let input = PracticeInput {
            bio: Some(p.bio.to_owned()),
            experience_years: Some(p.years),
            hourly_rate: p.offers.first().map(|(_, price, ..)| *price),
            currency: Some("INR".to_owned()),
            languages: words(p.languages),
            specializations: words(&[p.specialization]),
            certifications: Some(vec![json!({ "name": "Demo certificate" })]),
        };
        let practice = self.practices.create(&caller, &input, &schedule(p)).await?;
        for (service, price, buffer_after, instant_confirm) in p.offers {
            let Some((id, minutes)) =
                services.get(*service).zip(SERVICES.get(*service).map(|s| s.3))
            else {
                continue;
            };
            let offer = Offer {
                practitioner_id: practice.id,
                service_id: *id,
                price: *price,
                currency: "INR".to_owned(),
                duration_minutes: minutes,
                buffer_before_minutes: 0,
                buffer_after_minutes: *buffer_after,
                increment_minutes: 30,
                min_notice_minutes: 60,
                slot_grid: "restart".to_owned(),
                instant_confirm: *instant_confirm,
                status: "active".to_owned(),
                capacity: 1,
                pending_blocks: true,
                cancellation_policy: json!([
                    { "minutesBefore": 1_440, "refundPercent": 100 },
                    { "minutesBefore": 240, "refundPercent": 50 },
                ]),
                horizon: Horizon::Rolling { days: 90, count: CountedDays::Calendar }.into(),
                other_durations: OtherDurations::default(),
                max_per_day: None,
                max_per_week: None,
            };
            self.practices.put_offer(&caller, &offer).await?;
        }
        Ok(())
    }

    async fn admin(&self) -> Result<()> {
        let hash = self.passwords.hash(&SecretString::from(PASSWORD)).await?;
        let mut conn = self.pool.get().await?;
        let user = NewUser {
            id: Uuid::now_v7(),
            email: ADMIN.email,
            password_hash: &hash,
            first_name: "Demo",
            last_name: "Admin",
            phone: None,
            user_type: ADMIN.role,
        };
        conn.transaction(async |conn| users::insert(conn, &user).await).await?;
        Ok(())
    }
}

fn schedule(p: &Practitioner) -> Schedule {
    let ranges = p.hours.iter().flat_map(|(days, start, end)| {
        days.iter().map(|weekday| WeeklyRange {
            weekday: *weekday,
            start: (*start).to_owned(),
            end: (*end).to_owned(),
        })
    });
    Schedule { time_zone: p.zone.to_owned(), weekly: ranges.collect(), ..Schedule::default() }
}
