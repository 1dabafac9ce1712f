//! What comes back when a booking is called off, by who calls it off and when.

use serde_json::{Value, json};

use crate::support::{Person, Practice, TestHub, rows};

/// A confirmed booking of 1,500 rupees whose session begins in so many seconds.
async fn begins_in(
    hub: &TestHub,
    practice: &Practice,
    seeker: &Person,
    slot: i64,
    seconds: i64,
) -> String {
    let wish = practice.wish(practice.slot(slot));
    let booking = seeker.post(hub, "/v1/bookings", wish).await.data(201);
    let id = booking["id"].as_str().unwrap().to_owned();
    let from = format!("now() + make_interval(secs => {seconds})");
    let until = format!("{from} + interval '1 minute'");
    let sql = format!(
        "UPDATE bookings SET scheduled_at = {from}, occupied_from = {from}, ends_at = {until},
                occupied_until = {until} WHERE id = '{id}'"
    );
    assert_eq!(rows::run(&hub.database_url, &sql).await, 1);
    format!("/v1/bookings/{id}")
}

fn share(booking: &Value) -> (i64, i64) {
    let percent = booking["refundPercent"].as_i64().unwrap();
    (percent, booking["refundAmount"]["amount"].as_i64().unwrap())
}

/// The clock is the database's: two seconds to either side of a border are certain to be there when
/// the request arrives; the borders to the second are `domain::cancellation`'s tests.
#[tokio::test]
async fn the_seeker_gets_back_what_the_tier_says() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "instantConfirm": true })).await;
    let seeker = hub.seeker().await;
    let (day, four) = (86_400, 4 * 3_600);
    let cases = [
        (day + 30, (100, 150_000)),
        (day - 1, (50, 75_000)),
        (four + 30, (50, 75_000)),
        (four - 1, (0, 0)),
        (60, (0, 0)),
    ];
    for (n, (seconds, expected)) in cases.into_iter().enumerate() {
        let path = begins_in(&hub, &practice, &seeker, i64::try_from(n).unwrap(), seconds).await;
        let cancelled = seeker.delete(&hub, &path).await.data(200);
        assert_eq!(share(&cancelled), expected, "{seconds} s before");
        assert_eq!(share(&practice.person.get(&hub, &path).await.data(200)), expected);
    }
}

#[tokio::test]
async fn the_practitioner_always_gives_back_all_of_it() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "instantConfirm": true })).await;
    let (seeker, admin) = (hub.seeker().await, hub.admin().await);
    for (n, who) in [(1, &practice.person), (2, &admin)] {
        let path = begins_in(&hub, &practice, &seeker, n, 60).await;
        assert_eq!(share(&who.delete(&hub, &path).await.data(200)).0, 100);
    }
    // A request that was never agreed costs nothing, whoever ends it.
    let asked = hub.practice().await;
    let path = begins_in(&hub, &asked, &seeker, 1, 60).await;
    assert_eq!(share(&seeker.delete(&hub, &path).await.data(200)).0, 100);
    let path = begins_in(&hub, &asked, &seeker, 2, 60).await;
    let declined = asked.person.post(&hub, &format!("{path}/decline"), json!({})).await.data(200);
    assert_eq!(share(&declined).0, 100);
    // Nobody came: nothing comes back.
    let path = begins_in(&hub, &practice, &seeker, 3, -30).await;
    let missed = practice.person.post(&hub, &format!("{path}/no-show"), json!({})).await;
    assert_eq!(share(&missed.data(200)).0, 0);
}

/// The policy is the one of the day of booking.
#[tokio::test]
async fn a_service_has_its_own_tiers() {
    let hub = TestHub::start().await;
    let strict = json!([{ "minutesBefore": 2_880, "refundPercent": 30 }]);
    let offer = json!({ "instantConfirm": true, "cancellationPolicy": strict });
    let practice = hub.practice_with(offer).await;
    let seeker = hub.seeker().await;
    let path = begins_in(&hub, &practice, &seeker, 1, 3 * 86_400).await;
    let late = begins_in(&hub, &practice, &seeker, 2, 86_400).await;
    let service = format!("/v1/practitioners/{}/services/{}", practice.id, practice.service_id);
    let mut offer = json!({ "price": { "amount": 150_000, "currency": "INR" },
        "durationMinutes": 60, "cancellationPolicy": [] });
    practice.person.put(&hub, &service, offer.clone()).await.data(200);
    assert_eq!(share(&seeker.delete(&hub, &path).await.data(200)), (30, 45_000));
    assert_eq!(share(&seeker.delete(&hub, &late).await.data(200)), (0, 0));
    for (tiers, field) in [
        (json!([{ "minutesBefore": 1, "refundPercent": 101 }]), "cancellationPolicy[0]"),
        (
            json!([{ "minutesBefore": 1, "refundPercent": 1 }, { "minutesBefore": 2, "refundPercent": 0 }]),
            "cancellationPolicy[1]",
        ),
    ] {
        offer["cancellationPolicy"] = tiers;
        practice.person.put(&hub, &service, offer.clone()).await.names(field);
    }
}

/// Who moves a session when little would come back does not get more by cancelling it there.
#[tokio::test]
async fn moving_first_does_not_bring_more_back() {
    let hub = TestHub::start().await;
    let practice = hub.practice_with(json!({ "instantConfirm": true })).await;
    let seeker = hub.seeker().await;
    let path = begins_in(&hub, &practice, &seeker, 1, 6 * 3_600).await;
    let to = json!({ "startsAt": practice.slot(30) });
    let moved = seeker.put(&hub, &path, to).await.data(200);
    let path = format!("/v1/bookings/{}", moved["id"].as_str().unwrap());
    assert_eq!(share(&seeker.delete(&hub, &path).await.data(200)), (50, 75_000));
    // The control: the practitioner's move takes nothing away.
    let path = begins_in(&hub, &practice, &seeker, 2, 6 * 3_600).await;
    let to = json!({ "startsAt": practice.slot(31) });
    let moved = practice.person.put(&hub, &path, to).await.data(200);
    let path = format!("/v1/bookings/{}", moved["id"].as_str().unwrap());
    assert_eq!(share(&seeker.delete(&hub, &path).await.data(200)), (100, 150_000));
}
