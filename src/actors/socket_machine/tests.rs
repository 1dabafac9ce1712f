use std::collections::HashMap;

use bytes::Bytes;
use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use crate::actors::connections::UserLimits;
use crate::actors::socket_machine::*;
use crate::domain::access::Role;

const RULES: SocketRules = SocketRules {
    heartbeat: Duration::from_secs(10),
    auth_timeout: Duration::from_secs(5),
    max_message: 1_000,
    #[cfg(feature = "autobahn")]
    echo: false,
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn user(n: u128) -> Identity {
    Identity {
        user_id: Uuid::from_u128(n),
        session_id: Uuid::from_u128(n + 100),
        role: Role::Seeker,
        expires_at: Timestamp::UNIX_EPOCH,
    }
}

fn known(n: u128, left: u64) -> Input {
    Input::Verified(Ok(Known { identity: user(n), left: at(left), allowance: None }))
}

fn command(id: u64, op: &str) -> Input {
    Input::Text(json!({ "id": id, "op": op }).to_string().into())
}

fn auth(id: u64) -> Input {
    Input::Text(json!({ "id": id, "op": "auth", "data": { "token": "t" } }).to_string().into())
}

/// A socket of user 1, opened at 0, whose token is good for `left` seconds.
fn live(left: u64) -> Machine {
    let mut machine = Machine::new(0, at(0), RULES, true);
    assert!(matches!(machine.on(at(0), known(1, left))[..], [Effect::Adopt(_)]));
    machine
}

/// The effects in short.
fn told(effects: &[Effect]) -> Vec<String> {
    let word = |effect: &Effect| match effect {
        Effect::Verify(_) => "verify".to_owned(),
        Effect::Adopt(who) => format!("adopt {}", who.user_id.as_u128()),
        Effect::Start(Op::Call(_, op, _)) => format!("start {op}"),
        Effect::Start(op) => format!("start {op:?}").split('(').next().unwrap().to_lowercase(),
        Effect::Answer { id, result: Ok(_), .. } => format!("{id} ok"),
        Effect::Answer { id, result: Err(Error::Refused(why)), .. } => {
            format!("{id} {}", format!("{why:?}").split(['(', ' ']).next().unwrap())
        }
        Effect::Answer { id, .. } => format!("{id} fault"),
        Effect::Ping => "ping".to_owned(),
        Effect::Pong(_) => "pong".to_owned(),
        #[cfg(feature = "autobahn")]
        Effect::Send(_) => "send".to_owned(),
        Effect::Close(why) => format!("close {}", why.code()),
    };
    effects.iter().map(word).collect()
}

#[test]
fn a_stranger_says_who_they_are_before_anything_else() {
    let mut machine = Machine::new(1, at(0), RULES, false);
    assert_eq!(told(&machine.on(at(1), auth(1))), ["verify"]);
    // What comes meanwhile waits, and is not refused.
    assert_eq!(told(&machine.on(at(1), command(2, "message:send"))), [""; 0]);
    assert_eq!(told(&machine.on(at(2), known(7, 60))), ["1 ok", "adopt 7", "start message:send"]);
    assert_eq!(told(&machine.on(at(2), Input::Finished(Ok(json!({}))))), ["2 ok"]);

    let mut hasty = Machine::new(1, at(0), RULES, false);
    assert_eq!(told(&hasty.on(at(1), command(1, "ping"))), ["1 Unauthenticated", "close 4500"]);
    let mut forger = Machine::new(1, at(0), RULES, false);
    forger.on(at(1), auth(1));
    let refused = Input::Verified(Err(Refusal::Unauthenticated.into()));
    assert_eq!(told(&forger.on(at(1), refused)), ["1 Unauthenticated", "close 4500"]);
    // Whom the hub could not look at is not told to log in anew.
    for why in [Error::overloaded(), Error::Unavailable("gone".to_owned())] {
        let mut unlucky = Machine::new(1, at(0), RULES, false);
        unlucky.on(at(1), auth(1));
        let effects = told(&unlucky.on(at(1), Input::Verified(Err(why))));
        assert_eq!(effects.last().unwrap(), "close 4004");
    }
    let mut waiting = Machine::new(1, at(0), RULES, false);
    waiting.on(at(1), auth(1));
    assert_eq!(told(&waiting.on(at(5), Input::Tick)), ["close 4004"]);
    let mut silent = Machine::new(1, at(0), RULES, false);
    assert_eq!(told(&silent.on(at(4), Input::Tick)), [""; 0]);
    assert_eq!(silent.due(), at(5));
    assert_eq!(told(&silent.on(at(5), Input::Tick)), ["close 4500"]);
}

#[test]
fn a_token_is_renewed_by_its_user_or_runs_out() {
    let mut machine = live(20);
    machine.on(at(15), auth(1));
    assert_eq!(told(&machine.on(at(15), known(2, 60))), ["1 Forbidden"]);
    machine.on(at(16), auth(2));
    let forged = Input::Verified(Err(Refusal::Unauthenticated.into()));
    assert_eq!(told(&machine.on(at(16), forged)), ["2 Unauthenticated"], "it stays open");
    machine.on(at(17), auth(3));
    assert_eq!(told(&machine.on(at(17), known(1, 4))), ["3 ok"], "adopted once");
    assert_eq!(machine.due(), at(10), "the ping");
    assert_eq!(told(&machine.on(at(20), Input::Tick)), ["ping"]);
    assert_eq!(told(&machine.on(at(21), Input::Tick)), ["close 4003"]);
}

#[test]
fn silence_for_two_heartbeats_ends_it_and_any_frame_is_a_sign_of_life() {
    let mut machine = live(1_000);
    assert_eq!(told(&machine.on(at(10), Input::Tick)), ["ping"]);
    assert_eq!(told(&machine.on(at(11), Input::Pong)), [""; 0]);
    assert_eq!(told(&machine.on(at(20), Input::Tick)), ["ping"]);
    assert_eq!(told(&machine.on(at(29), Input::Ping(Bytes::new()))), ["pong"]);
    assert_eq!(told(&machine.on(at(48), Input::Tick)), ["ping"]);
    assert_eq!(machine.due(), at(49));
    assert_eq!(told(&machine.on(at(49), Input::Tick)), ["close 4002"]);
    assert_eq!(machine.due(), Duration::MAX);
}

#[test]
fn a_drain_waits_for_the_command_under_way_and_starts_no_other() {
    let mut machine = live(1_000);
    machine.on(at(1), Input::Drain(at(3)));
    machine.on(at(2), command(1, "message:send"));
    machine.on(at(2), command(2, "message:send"));
    assert_eq!(told(&machine.on(at(3), Input::Tick)), [""; 0]);
    let done = Input::Finished(Ok(json!({})));
    assert_eq!(told(&machine.on(at(4), done)), ["1 ok", "close 4000"]);
    let mut idle = live(1_000);
    idle.on(at(1), Input::Drain(at(3)));
    assert_eq!(idle.due(), at(3));
    assert_eq!(told(&idle.on(at(3), Input::Tick)), ["close 4000"]);
    let mut stuck = live(1_000);
    stuck.on(at(1), Input::Drain(at(3)));
    stuck.on(at(2), command(1, "message:send"));
    assert_eq!(stuck.due(), at(8));
    assert_eq!(told(&stuck.on(at(8), Input::Tick)), ["close 4000"]);
}

#[test]
fn fragments_are_one_message_and_hopeless_text_is_refused_before_its_end() {
    let mut machine = live(100);
    let whole = r#"{"id":1,"op":"é"}"#.as_bytes();
    let piece = |range: std::ops::Range<usize>| Bytes::copy_from_slice(&whole[range]);
    machine.on(at(1), Input::Fragment(Piece::FirstText(piece(0..15))));
    machine.on(at(1), Input::Fragment(Piece::More(Bytes::new())));
    let last = Input::Fragment(Piece::Last(piece(15..whole.len())));
    assert_eq!(told(&machine.on(at(1), last)), ["start é"]);
    machine.on(at(1), Input::Fragment(Piece::FirstText(piece(0..15))));
    let bad = Input::Fragment(Piece::More(Bytes::from_static(b"(")));
    assert_eq!(told(&machine.on(at(1), bad)), ["close 1007"]);

    let mut cut = live(100);
    cut.on(at(1), Input::Fragment(Piece::FirstText(Bytes::from_static(b"\xc3"))));
    let end = Input::Fragment(Piece::Last(Bytes::new()));
    assert_eq!(told(&cut.on(at(1), end)), ["close 1007"]);
    let mut big = live(100);
    let half = || Bytes::from(vec![b' '; 501]);
    big.on(at(1), Input::Fragment(Piece::FirstText(half())));
    assert_eq!(told(&big.on(at(1), Input::Fragment(Piece::More(half())))), ["close 1009"]);
    let mut binary = live(100);
    let first = Input::Fragment(Piece::FirstBinary(Bytes::new()));
    assert_eq!(told(&binary.on(at(1), first)), ["close 4502"]);
}

#[test]
fn a_user_who_floods_over_many_sockets_is_slowed_down() {
    let limits = UserLimits { connections: 2, per_second: 2, burst: 3 };
    let shared = Arc::new(Allowance::new(limits));
    let mut sockets = [0, 1].map(|id| {
        let mut machine = Machine::new(id, at(0), RULES, true);
        let allowance = Some(shared.clone());
        machine
            .on(at(0), Input::Verified(Ok(Known { identity: user(1), left: at(99), allowance })));
        machine
    });
    let mut refused = Vec::new();
    for n in 0..6 {
        let effects = sockets[n % 2].on(at(0), command(n as u64, "ping"));
        if let [Effect::Answer { result: Err(Error::Refused(Refusal::RateLimited(wait))), .. }] =
            effects[..]
        {
            refused.push((n, wait));
        }
    }
    let wait = Duration::from_millis(500);
    assert_eq!(refused, [(3, wait), (4, wait), (5, wait)]);
}

/// Anything that can happen to a socket.
fn any_input() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Command),
        2 => Just(Step::Auth),
        6 => Just(Step::Finish),
        3 => (1u128..3, any::<bool>()).prop_map(|(who, good)| Step::Verified(who, good)),
        4 => Just(Step::Tick),
        2 => Just(Step::Pong),
        1 => Just(Step::Drain),
        1 => prop_oneof![
            Just(Step::Goodbye), Just(Step::Revoked), Just(Step::Binary), Just(Step::Nonsense)
        ],
    ]
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Command,
    Auth,
    Finish,
    Verified(u128, bool),
    Tick,
    Pong,
    Drain,
    Goodbye,
    Revoked,
    Binary,
    Nonsense,
}

fn input(step: Step, id: u64, now: Duration) -> Input {
    match step {
        Step::Command => command(id, "message:send"),
        Step::Auth => auth(id),
        Step::Finish => Input::Finished(Ok(json!({}))),
        Step::Verified(who, true) => known(who, 40),
        Step::Verified(_, false) => Input::Verified(Err(Refusal::Unauthenticated.into())),
        Step::Tick => Input::Tick,
        Step::Pong => Input::Pong,
        Step::Drain => Input::Drain(now + at(7)),
        Step::Goodbye => Input::Goodbye,
        Step::Revoked => Input::Revoked,
        Step::Binary => Input::Binary(Bytes::new()),
        Step::Nonsense => Input::Text("nonsense".into()),
    }
}

/// What a watcher of one socket's effects knows.
#[derive(Default)]
struct Watcher {
    answered: HashMap<u64, u32>,
    carried_out: Vec<u64>,
    adopted: bool,
    closed: bool,
}

impl Watcher {
    fn see(&mut self, effects: &[Effect]) {
        for effect in effects {
            assert!(!self.closed, "{effect:?} after the close");
            match effect {
                Effect::Answer { id, result, .. } => {
                    let id = id.as_u64().unwrap();
                    *self.answered.entry(id).or_default() += 1;
                    assert_eq!(self.answered[&id], 1, "{id} is answered twice");
                    if result.is_ok() {
                        self.carried_out.push(id);
                    }
                }
                Effect::Start(_) => assert!(self.adopted, "nobody is served before auth"),
                Effect::Adopt(_) => {
                    assert!(!self.adopted, "adopted twice");
                    self.adopted = true;
                }
                Effect::Close(_) => self.closed = true,
                _ => {}
            }
        }
        assert!(self.carried_out.is_sorted(), "{:?}", self.carried_out);
    }
}

proptest! {
    /// Whatever happens in whatever order: one answer at most, in order, none after the close, and
    /// none before a valid token; bounded queues; a time to look again that is not missed.
    #[test]
    fn the_promises_hold(
        expected in any::<bool>(),
        steps in proptest::collection::vec((any_input(), 0u64..4), 0..300),
    ) {
        let mut machine = Machine::new(3, at(0), RULES, expected);
        let mut watcher = Watcher::default();
        let mut now = at(0);
        for (id, (step, pause)) in steps.into_iter().enumerate() {
            now += at(pause);
            let effects = machine.on(now, input(step, id as u64, now));
            watcher.see(&effects);
            prop_assert!(machine.queue.len() <= protocol::MAX_QUEUED);
            prop_assert!(machine.pieces.len() <= RULES.max_message);
            prop_assert_eq!(watcher.closed, machine.due() == Duration::MAX);
            // Who is silent and without a token does not last, however often they are looked at.
            if matches!(step, Step::Tick) && !watcher.closed {
                prop_assert!(machine.due() > now, "{:?} at {now:?}", machine.due());
            }
        }
    }

    /// A flood is answered in full: by what it asked for, or by a refusal.
    #[test]
    fn a_flood_gets_one_answer_each(n in 1u64..400) {
        let mut machine = live(100);
        let mut watcher = Watcher { adopted: true, ..Watcher::default() };
        for id in 0..n {
            watcher.see(&machine.on(at(1), command(id, "message:send")));
        }
        while !matches!(machine.running, Running::Nothing) {
            watcher.see(&machine.on(at(1), Input::Finished(Ok(json!({})))));
        }
        prop_assert_eq!(watcher.answered.len() as u64, n);
        prop_assert!(watcher.carried_out.len() <= protocol::COMMAND_BURST as usize);
    }
}
