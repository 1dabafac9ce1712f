use crate::domain::presence::*;
use proptest::prelude::*;

const GRACE: Duration = Duration::from_secs(15);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn state(presence: &Presence, second: i64) -> State {
    presence.view(at(second)).state
}

fn seen(state: State) -> View {
    View { state, last_seen: None }
}

#[test]
fn a_reconnect_inside_the_grace_is_invisible() {
    let mut p = Presence::default();
    assert_eq!(state(&p, 0), State::Offline);
    p.connect(1, at(0));
    assert_eq!(state(&p, 0), State::Online);
    p.disconnect(1, at(10), GRACE);
    assert_eq!((state(&p, 24), p.due(at(24))), (State::Online, Some(at(25))));
    p.connect(2, at(24));
    assert_eq!((state(&p, 100), p.due(at(100))), (State::Online, None));
    p.disconnect(2, at(100), GRACE);
    assert_eq!(state(&p, 114), State::Online);
    assert_eq!(state(&p, 115), State::Offline);
    assert!(p.is_idle(at(115)) && !p.is_idle(at(114)));
    assert_eq!(p.view(at(115)).last_seen, Some(at(100)));
}

#[test]
fn away_is_when_all_devices_are() {
    let mut p = Presence::default();
    p.connect(1, at(0));
    p.connect(2, at(0));
    assert!(p.say(1, true, at(1)));
    assert_eq!(state(&p, 1), State::Online);
    assert!(p.say(2, true, at(2)));
    assert_eq!(state(&p, 2), State::Away);
    assert!(p.say(2, false, at(3)));
    assert_eq!(state(&p, 3), State::Online);
    assert!(!p.say(9, false, at(3)), "there is no such socket");
    // The one in use leaves: away only after the grace.
    p.disconnect(2, at(4), GRACE);
    assert_eq!((state(&p, 18), state(&p, 19)), (State::Online, State::Away));
}

#[test]
fn a_change_that_is_taken_back_in_time_is_not_told() {
    let mut pacer = Pacer::default();
    let online = seen(State::Online);
    assert_eq!(pacer.offer(None, online, Duration::ZERO), Pace::Tell(online));
    let soon = Duration::from_millis(500);
    assert_eq!(pacer.offer(None, seen(State::Away), soon), Pace::Wait(PACE - soon));
    assert!(matches!(pacer.offer(None, online, soon), Pace::Wait(_)));
    assert_eq!(pacer.due(soon), None);
    assert_eq!(pacer.due(PACE), None);
    assert_eq!(pacer.offer(None, online, PACE * 3), Pace::Old);
}

/// What a device does, as a step of a test.
#[derive(Debug, Clone, Copy)]
enum Step {
    Connect(u64),
    Disconnect(u64),
    Say(u64, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u64..4).prop_map(Step::Connect),
        (0u64..4).prop_map(Step::Disconnect),
        (0u64..4, any::<bool>()).prop_map(|(socket, away)| Step::Say(socket, away)),
    ]
}

proptest! {
    /// Whatever devices do: online as long as one of them is; never offline while one is there or
    /// left less than the grace ago; and what it is after the grace follows from open sockets alone.
    #[test]
    fn what_others_see_follows_from_the_devices(
        steps in proptest::collection::vec((step(), 0i64..20), 0..60),
    ) {
        let mut p = Presence::default();
        let mut open = BTreeMap::new();
        let (mut now, mut left) = (0, None::<i64>);
        for (step, wait) in steps {
            now += wait;
            match step {
                Step::Connect(socket) => {
                    open.insert(socket, false);
                    p.connect(socket, at(now));
                }
                Step::Disconnect(socket) => {
                    if open.remove(&socket).is_some() {
                        left = Some(now);
                    }
                    p.disconnect(socket, at(now), GRACE);
                }
                Step::Say(socket, away) => {
                    prop_assert_eq!(p.say(socket, away, at(now)), open.contains_key(&socket));
                    open.entry(socket).and_modify(|said| *said = away);
                }
            }
            let state = state(&p, now);
            if open.values().any(|away| !away) {
                prop_assert_eq!(state, State::Online);
            } else if !open.is_empty() {
                prop_assert!(state >= State::Away);
            } else {
                let lingers = left.is_some_and(|at| now < at + 15);
                prop_assert_eq!(state != State::Offline, lingers);
            }
            prop_assert_eq!(p.sockets.len(), open.len());
            prop_assert!(p.due(at(now)).is_none_or(|due| due <= at(now + 15)));
        }
        let end = match (open.is_empty(), open.values().all(|away| *away)) {
            (true, _) => State::Offline,
            (false, true) => State::Away,
            (false, false) => State::Online,
        };
        prop_assert_eq!(self::state(&p, now + 15), end);
        prop_assert_eq!(p.is_idle(at(now + 15)), open.is_empty());
    }

    /// However changes come, also late and twice: never two events within the pace, never one that
    /// says the same as the last or is older than what was known, and in the end the newest is what
    /// watchers know.
    #[test]
    fn watchers_hear_seldom_and_always_the_last(
        changes in proptest::collection::vec((0u64..1_500, 0i64..40, 0u8..3), 1..80),
    ) {
        let mut pacer = Pacer::default();
        let mut told: Vec<(Duration, State)> = Vec::new();
        let (mut now, mut newest) = (Duration::ZERO, (0, State::Offline));
        let states = [State::Offline, State::Away, State::Online];
        for (wait, version, state) in changes {
            let next = now + Duration::from_millis(wait);
            // The timer of the caller, which is late or in time.
            while now < next {
                now = next.min(now + Duration::from_millis(100));
                told.extend(pacer.due(now).map(|view| (now, view.state)));
            }
            let view = seen(states[usize::from(state)]);
            if version > newest.0 {
                newest = (version, view.state);
            }
            match pacer.offer(Some(version), view, now) {
                Pace::Tell(view) => told.push((now, view.state)),
                Pace::Wait(left) => prop_assert!(left <= PACE),
                Pace::Old => {}
            }
        }
        told.extend(pacer.due(now + PACE).map(|view| (now + PACE, view.state)));
        for pair in told.windows(2) {
            prop_assert!(pair[1].0 >= pair[0].0 + PACE, "{:?}", told);
            prop_assert_ne!(pair[1].1, pair[0].1);
        }
        // Nothing was ever told only if nothing was ever heard of.
        let last = told.last().map(|(_, state)| *state);
        prop_assert_eq!(last, (newest.0 > 0).then_some(newest.1));
        prop_assert!(pacer.is_over(now + PACE * 2, PACE));
    }
}
