//! How much of a node uploads take: in all, and of it each user.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};

/// Uploads under way at once on this node: what they hold in memory is bounded by this.
const UPLOADS: usize = 16;
/// Of these, of one user.
const OF_ONE: usize = 3;
/// Who has so many under way waits for so long before it is worth to try again.
const PAUSE: Duration = Duration::from_secs(5);
/// Pictures that are decoded at once, and how long one waits for its turn.
const DECODING: usize = 2;
const TURN: Duration = Duration::from_secs(20);

type Counts = Arc<Mutex<HashMap<Uuid, usize>>>;

/// Uploads under way.
pub(super) struct Uploads {
    room: Arc<Semaphore>,
    of_each: Counts,
}

/// The place of one upload, until it is dropped.
pub(super) struct Place {
    _room: OwnedSemaphorePermit,
    user_id: Uuid,
    of_each: Counts,
}

impl Uploads {
    pub fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(UPLOADS)), of_each: Counts::default() }
    }

    /// A place for an upload of `user_id`; `RateLimited` when they have as many as one may have,
    /// `Overloaded` when all of them together do.
    pub fn enter(&self, user_id: Uuid) -> Result<Place> {
        let mut of_each = self.of_each.lock().unwrap_or_else(PoisonError::into_inner);
        let count = of_each.get(&user_id).copied().unwrap_or(0);
        if count >= OF_ONE {
            return Err(Refusal::RateLimited(PAUSE).into());
        }
        let room = self.room.clone().try_acquire_owned().map_err(|_| Error::overloaded())?;
        of_each.insert(user_id, count + 1);
        Ok(Place { _room: room, user_id, of_each: self.of_each.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of_each = self.of_each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = of_each.get_mut(&self.user_id).filter(|count| **count > 1) {
            *count -= 1;
        } else {
            of_each.remove(&self.user_id);
        }
    }
}

/// Threads that decode pictures.
pub(super) struct Decoders(Arc<Semaphore>);

impl Decoders {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(DECODING)))
    }

    /// Does `work` on a thread where it may take its time; `None` when it panicked. Whoever asked may
    /// be gone before it is done: it has its turn until then, since nobody can stop it.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>> {
        let turn = tokio::time::timeout(TURN, self.0.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| Error::overloaded())?;
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        Ok(done.await.ok())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn who_hangs_up_frees_no_decoder() {
        let decoders = Arc::new(Decoders::new());
        let mut releases = Vec::new();
        for _ in 0..DECODING {
            let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
            let (tell, begun) = oneshot::channel();
            releases.push(release);
            let asked = decoders.clone();
            let asker = tokio::spawn(async move {
                let work = move || {
                    let _ = tell.send(());
                    let _ = released.recv();
                };
                asked.run(work).await.is_ok()
            });
            begun.await.unwrap();
            asker.abort();
            assert!(asker.await.unwrap_err().is_cancelled());
        }
        assert_eq!(decoders.0.available_permits(), 0);
        releases.clear();
        // Their work ends, and with it their turns.
        assert_eq!(decoders.run(|| 1).await.unwrap(), Some(1));
    }

    #[test]
    fn a_user_has_a_share() {
        let (uploads, user) = (Uploads::new(), Uuid::from_u128(1));
        let places: Vec<_> = (0..OF_ONE).map(|_| uploads.enter(user).unwrap()).collect();
        let refused =
            |result: Result<Place>| matches!(result, Err(Error::Refused(Refusal::RateLimited(_))));
        assert!(refused(uploads.enter(user)));
        let others: Vec<_> = (0..UPLOADS - OF_ONE)
            .map(|n| uploads.enter(Uuid::from_u128(2 + n as u128)).unwrap())
            .collect();
        let last = uploads.enter(Uuid::nil());
        assert!(last.is_err() && !refused(last));
        drop((places, others));
        assert!(uploads.of_each.lock().unwrap().is_empty());
        uploads.enter(user).unwrap();
    }
}
