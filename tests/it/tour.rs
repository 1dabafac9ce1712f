//! `make tour` against a hub of the tests: what newcomers see first must work.

use crate::support::{TestHub, push_receiver};

#[path = "../../examples/tour/script/mod.rs"]
mod script;

use script::{Options, Seen, Wrong};

/// Takes the tour; returns what it saw, or why it ended, and what it printed.
async fn take(base_url: String) -> (Result<Seen, Wrong>, String) {
    let mut out = Vec::new();
    let options = Options { base_url, full: false, colour: false };
    let seen = script::run(&options, &mut out).await;
    (seen, String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn the_tour_reaches_its_end_and_prints_what_happened() {
    let hub = TestHub::start().await;
    hub.service().await;
    let (seen, printed) = take(hub.url("")).await;
    let seen = seen.unwrap_or_else(|wrong| panic!("{printed}\n{wrong}"));

    // The snapshot, the hold, the cancellation.
    let first = seen.versions[0];
    assert_eq!(seen.versions, [first, first + 1, first + 2]);
    assert_eq!((seen.messages, seen.pushes), (vec![1, 2, 3], 1));
    let is_step = |line: &&str| {
        let (number, _) = line.trim_start().split_once(". ").unwrap_or_default();
        number.parse::<u32>().is_ok()
    };
    assert_eq!(printed.lines().filter(is_step).count(), usize::try_from(seen.steps).unwrap());
    for line in [
        &format!("availability:changed, version {}: ", first + 1),
        "← slot_taken: ",
        "message:new, seq 1: “Namaste! ",
        "message:read by Meera, up to seq 1",
        "typing:start by Asha",
        "VAPID  signature verified: for http://127.0.0.1:",
        "Text   “New message”: Meera sent you a message.",
        "message:new, seq 3: “One more thing",
        &format!("Done: {} steps as expected, 2 calendar deltas, 3 messages, 1 push", seen.steps),
    ] {
        assert!(printed.contains(line), "{line} is not in\n{printed}");
    }
    for secret in ["\"tour ", "eyJ", "\u{1b}"] {
        assert!(!printed.contains(secret), "{secret} is in\n{printed}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_tour_that_can_not_go_on_says_what_to_do() {
    let (seen, _) = take("http://127.0.0.1:1".to_owned()).await;
    let wrong = seen.unwrap_err().to_string();
    assert!(wrong.contains("stopped in step 1") && wrong.contains("make run"), "{wrong}");

    let hub = TestHub::start_with(|config| config.push.allow_private_endpoints = false).await;
    let (seen, _) = take(hub.url("")).await;
    let wrong = seen.unwrap_err().to_string();
    assert!(wrong.contains("catalogue is empty") && wrong.contains("--demo"), "{wrong}");

    hub.service().await;
    let (seen, _) = take(hub.url("")).await;
    let wrong = seen.unwrap_err().to_string();
    assert!(wrong.contains("PUSH_ALLOW_PRIVATE_ENDPOINTS=true"), "{wrong}");
    hub.stop().await;
}
