use crate::domain::booking::*;

const SEEKER: Relation = Relation { owner: true, practitioner: false };
const PRACTICE: Relation = Relation { owner: false, practitioner: true };

fn facts(status: Status) -> Facts {
    Facts { status, version: 3, starts_at: Timestamp::from_second(1_000).unwrap() }
}

fn start() -> Timestamp {
    Timestamp::from_second(1_000).unwrap()
}

fn before() -> Timestamp {
    Timestamp::from_second(999).unwrap()
}

#[test]
fn words_read_back() {
    for status in Status::ALL {
        assert_eq!(Status::parse(status.as_str()), Some(status));
    }
    assert_eq!(Status::parse("bogus"), None);
}

/// The whole table: every step from every state, spelt out.
#[test]
fn only_the_listed_steps_are_allowed() {
    use Status::*;
    let allowed = [
        (Step::Release, Held, Released),
        (Step::Confirm, Pending, Confirmed),
        (Step::Decline, Pending, Declined),
        (Step::Cancel, Pending, Cancelled),
        (Step::Cancel, Confirmed, Cancelled),
        (Step::Reschedule, Pending, Rescheduled),
        (Step::Reschedule, Confirmed, Rescheduled),
        (Step::Start, Confirmed, InSession),
        (Step::End, InSession, Completed),
        (Step::NoShow, Confirmed, NoShow),
    ];
    let steps = [
        Step::Release,
        Step::Confirm,
        Step::Decline,
        Step::Cancel,
        Step::Reschedule,
        Step::Start,
        Step::End,
        Step::NoShow,
    ];
    for step in steps {
        for status in Status::ALL {
            let (role, relation) = match step {
                Step::Release | Step::Cancel | Step::Reschedule => (Role::Seeker, SEEKER),
                _ => (Role::Practitioner, PRACTICE),
            };
            let at = match step {
                Step::NoShow | Step::End => start(),
                _ => before(),
            };
            let got = decide(facts(status), step, role, relation, at);
            match allowed.iter().find(|(s, from, _)| *s == step && *from == status) {
                Some((_, _, to)) => assert_eq!(got, Ok(*to)),
                None => assert_eq!(
                    got,
                    Err(Refusal::InvalidTransition { state: status.as_str(), version: 3 })
                ),
            }
        }
    }
}

/// Who calls off what, and what of the price comes back.
#[test]
fn the_share_depends_on_who_calls_off_and_when() {
    use crate::domain::cancellation::Tier;
    let policy = Policy::new(vec![Tier { minutes_before: 10, refund_percent: 60 }]).unwrap();
    let facts =
        Facts { starts_at: Timestamp::from_second(10_000).unwrap(), ..facts(Status::Confirmed) };
    let late = Timestamp::from_second(9_999).unwrap();
    let early = Timestamp::from_second(9_400).unwrap();
    let share = |facts, relation, now| cancel_percent(facts, &policy, relation, now);
    assert_eq!([share(facts, SEEKER, early), share(facts, SEEKER, late)], [60, 0]);
    assert_eq!(share(facts, PRACTICE, late), 100);
    // An administrator acts for the platform.
    assert_eq!(share(facts, Relation::default(), late), 100);
    // What was never agreed costs nothing.
    assert_eq!(share(Facts { status: Status::Pending, ..facts }, SEEKER, late), 100);
}

#[test]
fn each_side_has_its_own_steps() {
    let pending = facts(Status::Pending);
    let go = |step, role, relation| decide(pending, step, role, relation, before());
    assert_eq!(go(Step::Confirm, Role::Seeker, SEEKER), Err(Refusal::Forbidden));
    assert_eq!(go(Step::Confirm, Role::Admin, Relation::default()), Ok(Status::Confirmed));
    assert_eq!(go(Step::Cancel, Role::Practitioner, PRACTICE), Ok(Status::Cancelled));
    let stranger = Relation::default();
    assert_eq!(go(Step::Cancel, Role::Seeker, stranger), Err(Refusal::NotFound("booking")));
    assert_eq!(go(Step::Cancel, Role::Practitioner, stranger), Err(Refusal::NotFound("booking")));
}

#[test]
fn a_session_starts_at_most_a_quarter_of_an_hour_early_and_is_ended_or_missed_at_its_time() {
    let facts =
        Facts { starts_at: Timestamp::from_second(10_000).unwrap(), ..facts(Status::Confirmed) };
    let at = |second| Timestamp::from_second(second).unwrap();
    let go = |step, now| decide(facts, step, Role::Practitioner, PRACTICE, now).is_ok();
    assert!(!go(Step::Start, at(10_000 - 15 * 60 - 1)) && go(Step::Start, at(10_000 - 15 * 60)));
    assert!(!go(Step::NoShow, at(9_999)) && go(Step::NoShow, at(10_000)));
    let running = Facts { status: Status::InSession, ..facts };
    let end = |now| decide(running, Step::End, Role::Practitioner, PRACTICE, now);
    let early = Refusal::Untimely { state: "in_session", version: 3, early: true, at: at(10_000) };
    assert_eq!(end(at(9_999)), Err(early));
    assert_eq!(end(at(10_000)), Ok(Status::Completed));
}

#[test]
fn a_session_that_began_is_neither_confirmed_nor_cancelled() {
    let start = start();
    for (step, status) in [(Step::Cancel, Status::Confirmed), (Step::Confirm, Status::Pending)] {
        assert!(decide(facts(status), step, Role::Practitioner, PRACTICE, before()).is_ok());
        let late =
            Refusal::Untimely { state: status.as_str(), version: 3, early: false, at: start };
        let refused = decide(facts(status), step, Role::Practitioner, PRACTICE, start);
        assert_eq!(refused, Err(late));
    }
    // A request that was never answered can still be put away.
    assert!(
        decide(facts(Status::Pending), Step::Decline, Role::Practitioner, PRACTICE, start).is_ok()
    );
}
