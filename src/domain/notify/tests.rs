use proptest::prelude::*;

use crate::domain::notify::*;
use crate::domain::quiet::QuietText;
use crate::domain::time::parse_zone;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn quiet(from: &str, to: &str) -> Preferences {
    let text = QuietText { from: from.into(), to: to.into(), time_zone: "Asia/Kolkata".to_owned() };
    Preferences { quiet_hours: Some(QuietHours::parse(&text).unwrap()), ..Preferences::default() }
}

#[test]
fn what_was_never_said_is_wanted() {
    let nothing: Preferences = serde_json::from_str("{}").unwrap();
    assert_eq!(nothing, Preferences::default());
    let some: Preferences =
        serde_json::from_str(r#"{"push":{"review":false},"reminders":{"dayBefore":false}}"#)
            .unwrap();
    assert!(some.push.booking && some.push.message && !some.push.review);
    assert!(some.reminders.hour_before && !some.reminders.day_before);
    let back = serde_json::to_value(&some).unwrap();
    assert_eq!(serde_json::from_value::<Preferences>(back).unwrap(), some);
}

#[test]
fn every_notice_is_about_something() {
    let id = Uuid::nil();
    let zone = TimeZone::UTC;
    for (notice, category) in [
        (booking(BookingNews::Requested, id, "Reiki", "x"), Category::Booking),
        (message("Asha", id, 1), Category::Message),
        (reminder(Lead::Day, id, "Reiki", Timestamp::UNIX_EPOCH, &zone), Category::Reminder),
        (reminder(Lead::Hour, id, "Reiki", Timestamp::UNIX_EPOCH, &zone), Category::Reminder),
        (review(None, id, 5), Category::Review),
        (booking(BookingNews::Offered, id, "Reiki", "x"), Category::Offer),
    ] {
        assert_eq!(Category::of(notice.kind), category, "{}", notice.kind);
    }
    assert_eq!(Category::of("payment_made"), Category::Booking);
}

#[test]
fn a_reminder_tells_the_local_time_and_names_the_zone() {
    let start = at("2027-03-14T06:30:00Z");
    let told = |zone: &str| {
        reminder(Lead::Hour, Uuid::nil(), "Reiki", start, &parse_zone(zone).unwrap()).body
    };
    assert_eq!(told("Asia/Kolkata"), "Reiki on Sun 14 Mar 2027, 12:00 (Asia/Kolkata).");
    assert_eq!(told("America/New_York"), "Reiki on Sun 14 Mar 2027, 01:30 (America/New_York).");
    assert_eq!(told("UTC"), "Reiki on Sun 14 Mar 2027, 06:30 (UTC).");
}

#[test]
fn a_late_reminder_still_comes_unless_the_session_began_or_a_nearer_one_is_due() {
    let start = at("2027-03-14T06:30:00Z");
    let ago = |m: i64| shifted(start, -minutes(m));
    let both = ReminderWishes::default();
    assert!(both.remind(Lead::Day, start, ago(1_440)) && both.remind(Lead::Day, start, ago(61)));
    assert!(!both.remind(Lead::Day, start, ago(60)));
    assert!(both.remind(Lead::Hour, start, ago(60)) && both.remind(Lead::Hour, start, ago(1)));
    assert!(!both.remind(Lead::Hour, start, start));
    let day_only = ReminderWishes { hour_before: false, ..both };
    assert!(day_only.remind(Lead::Day, start, ago(60)));
    assert!(!day_only.remind(Lead::Day, start, start));
    assert!(!day_only.remind(Lead::Hour, start, ago(60)));
}

#[test]
fn quiet_hours_hold_back_what_can_wait() {
    let prefs = quiet("22:00", "07:00");
    // 03:00 in Kolkata; the night ends at 01:30 UTC.
    let (now, morning) = (at("2027-03-01T21:30:00Z"), at("2027-03-02T01:30:00Z"));
    let decide = |category, start: Option<&str>| push(category, start.map(at), &prefs, now);
    assert_eq!(decide(Category::Message, None), Push::Waits(morning));
    assert_eq!(decide(Category::Review, None), Push::Waits(morning));
    for category in [Category::Booking, Category::Reminder] {
        assert_eq!(decide(category, Some("2027-03-02T02:00:00Z")), Push::Waits(morning));
        assert_eq!(decide(category, Some("2027-03-02T01:59:59Z")), Push::Now);
        assert_eq!(decide(category, Some("2027-03-01T22:00:00Z")), Push::Now);
    }
    // A missed session is over; its news can wait, its reminder is pointless.
    let over = Some("2027-03-01T20:00:00Z");
    assert_eq!(decide(Category::Booking, over), Push::Waits(morning));
    assert_eq!(decide(Category::Reminder, over), Push::Never);
    // An offer is over in the morning.
    assert_eq!(decide(Category::Offer, Some("2027-03-05T02:00:00Z")), Push::Never);
    let awake = at("2027-03-01T09:00:00Z");
    for category in [Category::Message, Category::Offer] {
        assert_eq!(push(category, None, &prefs, awake), Push::Now);
    }
}

#[test]
fn a_push_service_keeps_a_reminder_until_the_session() {
    let now = at("2027-03-01T00:00:00Z");
    let kept = |category, start: Option<&str>| kept_for(category, start.map(at), now, 86_400);
    assert_eq!(kept(Category::Reminder, Some("2027-03-01T01:00:00Z")), 3_600);
    assert_eq!(kept(Category::Reminder, Some("2027-03-03T00:00:00Z")), 86_400);
    assert_eq!(kept(Category::Reminder, Some("2027-02-28T00:00:00Z")), 0);
    assert_eq!(kept(Category::Booking, Some("2027-03-01T01:00:00Z")), 86_400);
    assert_eq!(kept(Category::Message, None), 86_400);
}

fn preferences() -> impl Strategy<Value = Preferences> {
    let clock = |m: u16| format!("{:02}:{:02}", m / 60, m % 60);
    let zone = proptest::sample::select(vec!["Asia/Kolkata", "America/New_York", "Pacific/Apia"]);
    let hours = (0..1_440_u16, 0..=1_440_u16, zone).prop_filter_map("", move |(from, to, zone)| {
        let (from, to, time_zone) = (clock(from), clock(to), zone.to_owned());
        QuietHours::parse(&QuietText { from, to, time_zone }).ok()
    });
    let push = any::<[bool; 4]>().prop_map(|[booking, message, reminder, review]| PushWishes {
        booking,
        message,
        reminder,
        review,
    });
    let reminders = any::<[bool; 2]>()
        .prop_map(|[day_before, hour_before]| ReminderWishes { day_before, hour_before });
    (push, proptest::option::of(hours), reminders)
        .prop_map(|(push, quiet_hours, reminders)| Preferences { push, quiet_hours, reminders })
}

fn categories() -> impl Strategy<Value = Category> {
    use Category::*;
    proptest::sample::select(vec![Booking, Message, Offer, Reminder, Review])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn a_push_goes_out_unless_it_is_unwanted_or_can_wait(
        prefs in preferences(), category in categories(),
        now in 1_000_000_000..2_000_000_000_i64,
        start in proptest::option::of(-200_000..200_000_i64),
    ) {
        let start = start.map(|s| Timestamp::from_second(now + s).unwrap());
        let now = Timestamp::from_second(now).unwrap();
        let quiet = prefs.quiet_hours.as_ref().and_then(|q| q.end(now));
        match push(category, start, &prefs, now) {
            Push::Never => prop_assert!(
                !prefs.push.want(category)
                    || category == Category::Reminder && start.is_some_and(|s| s <= now)
                    || category == Category::Offer && quiet.is_some()
            ),
            Push::Now => {
                prop_assert!(prefs.push.want(category));
                // Awake, or the session is too near.
                let near = |end| start.is_some_and(|s| now < s && s < end + minutes(30));
                prop_assert!(quiet.is_none_or(near));
            }
            Push::Waits(until) => {
                prop_assert!(prefs.push.want(category));
                prop_assert_eq!(Some(until), quiet);
                prop_assert!(now < until && start.is_none_or(|s| s <= now || until + minutes(30) <= s));
                // Decided on again then, it goes out.
                prop_assert_eq!(push(category, start, &prefs, until), Push::Now);
            }
        }
        // Nothing waits where no hour is quiet.
        let open = Preferences { quiet_hours: None, ..prefs.clone() };
        prop_assert!(!matches!(push(category, start, &open, now), Push::Waits(_)));
    }

    /// Whatever the outage, a user gets one reminder at most of those that are late, and one if
    /// any wanted one is due before the session.
    #[test]
    fn of_late_reminders_one_comes(
        wishes in any::<[bool; 2]>(), late in -3_000..3_000_i64,
    ) {
        let wishes = ReminderWishes { day_before: wishes[0], hour_before: wishes[1] };
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let now = shifted(start, minutes(late));
        let due: Vec<Lead> = Lead::ALL.into_iter().filter(|l| l.before(start) <= now).collect();
        let sent = due.iter().filter(|l| wishes.remind(**l, start, now)).count();
        let wanted = due.iter().any(|l| wishes.want(*l)) && now < start;
        prop_assert_eq!(sent, usize::from(wanted));
    }
}
