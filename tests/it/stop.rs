//! Stopping a hub: sockets are told, and those that have not said who they are wait no longer.

use std::time::{Duration, Instant};

use crate::support::{Socket, TestHub};

#[tokio::test]
async fn a_stop_closes_every_socket_at_once() {
    let hub = TestHub::start().await;
    let mut known = Socket::open(&hub, &hub.seeker().await).await;
    let mut stranger = Socket::try_open(&hub, None).await.unwrap();
    // The actor of a socket starts after the upgrade was answered.
    tokio::time::sleep(Duration::from_millis(200)).await;

    let started = Instant::now();
    let ((), (draining, of_known, of_stranger)) = tokio::join!(hub.stop(), async {
        let draining = known.event("server:draining").await;
        (draining, known.close_code().await, stranger.close_code().await)
    });
    assert!(draining["data"]["reconnectAfterMs"].is_u64(), "{draining}");
    assert_eq!((of_known, of_stranger), (Some(4000), Some(4000)));
    // A stranger has 5 s to say who it is; a stop does not wait for that.
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}
