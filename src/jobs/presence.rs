//! Keeps what all nodes know of their users true: this node lives, dead ones do not, and what Redis
//! forgot is told again.

use std::time::Duration;

use tokio::sync::watch;

use crate::actors::presence::PresenceBook;

/// Between two beats.
const EVERY: Duration = Duration::from_secs(5);
/// Beats after which everything is reported anew.
const ROUND: u32 = 12;

/// Beats until told to stop.
pub async fn run(presence: PresenceBook, mut stop: watch::Receiver<bool>) {
    let mut beats = 0;
    while super::pause(&mut stop, EVERY).await {
        beats = (beats + 1) % ROUND;
        presence.keep(beats == 0).await;
    }
}
