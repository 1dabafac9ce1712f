//! Background work: lines about bookings, reminding, delivering pushes, reading calendars elsewhere,
//! ending sockets, sweeping what is over.
//! Nothing that a user waits for, and nothing that bookings or messages depend on.

pub mod announce;
pub mod deliver;
pub mod heads;
pub mod import;
pub mod presence;
pub mod remind;
pub mod revoke;
pub mod sweep;
pub mod tidy;

use std::time::Duration;

use tokio::sync::watch;

/// Waits for `pause`, or less when the hub stops; false then.
async fn pause(stop: &mut watch::Receiver<bool>, pause: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(pause) => !*stop.borrow(),
        _ = stop.changed() => false,
    }
}
