//! The books: at rest, every message that was taken in has ended in one of the ways there are, and
//! so has the push to each of its recipients.
//!
//! Counters of a node that was killed are gone; those of the nodes that live balance for what came
//! to them. What became of the pushes is in the database, and balances over everything.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::history::{Kind, Violation};
use super::world::World;
use crate::metrics::{read, scrape};
use crate::push::register;
use crate::support::push_receiver::PushReceiver;
use crate::support::{Person, TestHub, rows};

/// How long it may take until nothing waits any more.
const PATIENCE: Duration = Duration::from_secs(90);

/// Under way: neither a push for which the time has not come nor one that a service does not take.
const WAITING: &str = "(SELECT id FROM outbox WHERE state = 'waiting'
                         UNION ALL SELECT id FROM push_deliveries WHERE state = 'waiting') w";
/// One push for each message and each of its readers who has a device.
const EXPECTED: &str = "messages m JOIN conversation_members c USING (conversation_id)
                         WHERE m.sender_id <> c.user_id
                           AND c.user_id IN (SELECT user_id FROM devices)";

/// Gives the person a browser that takes pushes for as long as the run lasts.
pub async fn gets_pushes(hub: &TestHub, person: &Person) {
    let receiver = PushReceiver::start().await.unwrap();
    register(hub, person, &receiver).await;
    tokio::spawn(async move { while receiver.next(Duration::from_secs(3_600)).await.is_some() {} });
}

/// Waits until nothing is under way, and adds up; says what there was.
pub async fn balance(world: &World) -> (String, Vec<Violation>) {
    let (url, until) = (&world.url, Instant::now() + PATIENCE);
    while rows::count(url, WAITING).await > 0 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let expected = rows::count(url, EXPECTED).await;
    let (mut said, mut found) = (format!("{expected} pushes wanted"), Vec::new());
    for n in [0, 1] {
        let text = scrape(world.node(n), "/metrics").await.text().await.unwrap();
        let (line, balances) = add_up(&read(&text), expected);
        if !balances {
            found.push(Violation {
                kind: Kind::Unbalanced,
                device: format!("node {n}"),
                text: line.clone(),
                lines: Vec::new(),
            });
        }
        said = format!("{said}\nnode {n}: {line}");
    }
    (said, found)
}

/// What a node counts, and whether that adds up when `expected` pushes were wanted.
fn add_up(samples: &BTreeMap<String, f64>, expected: usize) -> (String, bool) {
    // Counted are whole things.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let of = |name: String| samples.get(&name).map_or(usize::MAX, |value| *value as usize);
    let [accepted, stored, repeated, refused] = ["accepted", "stored", "repeated", "refused"]
        .map(|stage| of(format!("hub_messages_total{{stage=\"{stage}\"}}")));
    let [waiting, acknowledged, pushed, unwanted, expired] =
        ["waiting", "acknowledged", "pushed", "unwanted", "expired"]
            .map(|state| of(format!("hub_message_pushes{{state=\"{state}\"}}")));
    let line = format!(
        "accepted {accepted} = stored {stored} + repeated {repeated} + refused {refused}; pushes \
         {expected} = acknowledged {acknowledged} + pushed {pushed} + unwanted {unwanted} + \
         expired {expired}, waiting {waiting}"
    );
    let sum = |parts: &[usize]| parts.iter().fold(0, |sum: usize, part| sum.saturating_add(*part));
    let balances = accepted == sum(&[stored, repeated, refused])
        && waiting == 0
        && expected == sum(&[acknowledged, pushed, unwanted, expired]);
    (line, balances)
}

#[test]
fn books_that_do_not_balance_are_seen() {
    let text = "hub_messages_total{stage=\"accepted\"} 9
        hub_messages_total{stage=\"stored\"} 6
        hub_messages_total{stage=\"repeated\"} 2
        hub_messages_total{stage=\"refused\"} 1
        hub_message_pushes{state=\"waiting\"} 0
        hub_message_pushes{state=\"acknowledged\"} 4
        hub_message_pushes{state=\"pushed\"} 3
        hub_message_pushes{state=\"unwanted\"} 2
        hub_message_pushes{state=\"expired\"} 1";
    let good: BTreeMap<String, f64> =
        read(text).into_iter().map(|(name, value)| (name.trim().to_owned(), value)).collect();
    assert!(add_up(&good, 10).1);
    assert!(!add_up(&good, 11).1);
    for name in good.keys() {
        let mut bad = good.clone();
        *bad.get_mut(name).unwrap() += 1.0;
        assert!(!add_up(&bad, 10).1, "one more of {name}");
        bad.remove(name);
        assert!(!add_up(&bad, 10).1, "no {name}");
    }
}
