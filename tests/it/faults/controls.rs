//! The controls: what stands between hub and devices breaks a promise, and the checks see it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::device::{Device, Phase, Plan};
use super::history::{Kind, check, deliveries};
use super::people;
use super::proxy::{Proxy, Tamper};
use super::run::{Running, come_to_rest, histories, stored};
use crate::support::{TestHub, rows};

/// Two devices talk over proxies that tamper with every fifth message; what the checks say.
async fn talk(tamper: Option<Tamper>) -> BTreeSet<Kind> {
    let hub = TestHub::start().await;
    let proxy = async || match tamper {
        Some(tamper) => Proxy::tampering(tamper, 5).await,
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
    let until = Instant::now() + Duration::from_secs(30);
    while rows::count(&hub.database_url, "messages").await < 20 {
        assert!(Instant::now() < until, "nobody says anything");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    phase.send_replace(Phase::Rest);
    come_to_rest(&devices, &hub.database_url).await;
    assert!(devices.iter().all(|(d, _)| d.unacknowledged.load(Ordering::Acquire) == 0));
    phase.send_replace(Phase::Stop);
    let (stored, histories) = (stored(&hub.database_url).await, histories(devices).await);
    assert!(deliveries(&histories) >= 32);
    let found = check(&histories, &stored);
    hub.stop().await;
    found.into_iter().map(|violation| violation.kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_dropped_repeated_or_swapped_are_seen() {
    assert_eq!(talk(None).await, BTreeSet::new());
    assert_eq!(talk(Some(Tamper::Drop)).await, BTreeSet::from([Kind::Loss]));
    assert_eq!(talk(Some(Tamper::Repeat)).await, BTreeSet::from([Kind::Repeat]));
    let swapped = BTreeSet::from([Kind::Loss, Kind::Disorder]);
    assert_eq!(talk(Some(Tamper::Swap)).await, swapped);
}
