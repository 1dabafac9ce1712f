//! Takes away files that nobody sent and files of messages that are gone; empties messages that are
//! older than they are kept.

use std::time::Duration;

use actix_web::web;
use tokio::sync::watch;
use uuid::Uuid;

use crate::services::archive::Archive;
use crate::services::attachments::Attachments;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(30);
/// Transactions of one round: then it is the files' turn again.
const STEPS: usize = 100;

/// Works until told to stop.
pub async fn run(
    attachments: web::Data<Attachments>,
    archive: web::Data<Archive>,
    mut stop: watch::Receiver<bool>,
) {
    // Older ones are emptied already; after a start it looks through them once.
    let mut emptied = Uuid::nil();
    while super::pause(&mut stop, EVERY).await {
        empty_old(&archive, &mut emptied).await;
        match attachments.sweep().await {
            Ok(0) => {}
            Ok(files) => tracing::debug!(files, "files were taken away"),
            Err(e) => tracing::warn!("files were not taken away and are tried again: {e:?}"),
        }
    }
}

async fn empty_old(archive: &Archive, emptied: &mut Uuid) {
    for _ in 0..STEPS {
        match archive.empty_old(*emptied).await {
            Ok(Some(last)) => *emptied = last,
            Ok(None) => return,
            Err(e) => {
                tracing::warn!("old messages were not emptied and are tried again: {e:?}");
                return;
            }
        }
    }
}
