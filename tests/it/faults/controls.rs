//! The controls: what stands between hub and devices breaks a promise, and the checks see it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::device::{Device, Phase, Plan};
use super::history::{Kind, check, deliveries};
use super::proxy::{Proxy, Tamper};
use super::run::{Running, come_to_rest, histories};
use super::{database, people, view};
use crate::support::{TestHub, rows};

/// Two devices talk over proxies that tamper with every `nth` message; what the checks say.
async fn talk(tamper: Option<(Tamper, usize)>) -> BTreeSet<Kind> {
    let hub = TestHub::start().await;
    let proxy = async || match tamper {
        Some((tamper, nth)) => Proxy::tampering(tamper, nth).await,
        None => Proxy::start().await,
    };
    let proxies = Arc::new([proxy().await, proxy().await]);
    proxies.iter().for_each(|proxy| proxy.lead_to(Some(hub.address)));
    let users = people::seekers(&hub.database_url, 2).await;
    let both: Vec<_> = users.iter().collect();
    let conversation = people::conversation(&hub.database_url, 1, &both).await;
    let (phase, watched) = watch::channel(Phase::Work);
    let start = |(n, user): (usize, &people::User)| -> Running {
        let plan = Plan {
            name: format!("user {n}"),
            user: user.clone(),
            conversations: vec![conversation.clone()],
            calendars: Vec::new(),
            writes_every: Some(Duration::from_millis(50)),
            slow: false,
            holder: None,
            seed: u64::try_from(n).unwrap(),
        };
        let device = Device::new(plan, proxies.clone(), watched.clone());
        (device.shared(), tokio::spawn(device.run()))
    };
    let devices: Vec<Running> = users.iter().enumerate().map(start).collect();
    // Where frames are dropped each lost answer costs its device ten seconds.
    let until = Instant::now() + Duration::from_secs(120);
    let edits = "conversation_events WHERE data ->> 'change' = 'edit'";
    while rows::count(&hub.database_url, edits).await < 10 {
        assert!(Instant::now() < until, "nobody has second thoughts");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    phase.send_replace(Phase::Rest);
    come_to_rest(&devices, &hub.database_url).await;
    assert!(devices.iter().all(|(d, _)| d.unacknowledged.load(Ordering::Acquire) == 0));
    phase.send_replace(Phase::Stop);
    let stored = database::stored(&hub.database_url).await;
    let messages = database::messages(&hub.database_url).await;
    let histories = histories(devices).await;
    assert!(deliveries(&histories) >= 50);
    let found = [check(&histories, &stored), view::check(&histories, &messages)].concat();
    hub.stop().await;
    found.into_iter().map(|violation| violation.kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_dropped_repeated_or_swapped_are_seen() {
    assert_eq!(talk(None).await, BTreeSet::new());
    assert_eq!(talk(Some((Tamper::Repeat, 5))).await, BTreeSet::from([Kind::Repeat]));
    // Who misses a change, or hears of two in the wrong order, may know a wrong state for good.
    let known_wrongly = BTreeSet::from([Kind::State]);
    let dropped = &talk(Some((Tamper::Drop, 5))).await - &known_wrongly;
    assert_eq!(dropped, BTreeSet::from([Kind::Loss]));
    let swapped = &talk(Some((Tamper::Swap, 5))).await - &known_wrongly;
    assert_eq!(swapped, BTreeSet::from([Kind::Loss, Kind::Disorder]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_that_arrive_as_something_else_are_seen() {
    assert_eq!(talk(Some((Tamper::Garble, 1))).await, BTreeSet::from([Kind::State]));
}
