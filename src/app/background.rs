//! The jobs, started with what they need.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Services, StartError, World};
use crate::config::Config;
use crate::jobs::announce::Announcer;
use crate::jobs::deliver::Deliverer;
use crate::jobs::import::Importer;
use crate::jobs::remind::Reminder;
use crate::jobs::{announce, deliver, heads, import, presence, remind, revoke, sweep, tidy};
use crate::outbound::FeedReader;
use crate::push::SetupError;

/// Starts all work that no request waits for.
pub(super) fn start(
    config: &Config,
    world: &World,
    services: &Services,
    stop: &watch::Receiver<bool>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let deliverer = Deliverer {
        pool: world.pool.clone(),
        push: world.push.clone(),
        endpoints: world.endpoints,
    };
    let importer = Importer {
        pool: world.pool.clone(),
        calendars: world.calendars.clone(),
        reader: Arc::new(FeedReader::new(world.feeds).map_err(|_| SetupError::HttpClient)?),
        sources: world.feeds,
        every: config.import.every,
    };
    let reminder = Reminder {
        pool: world.pool.clone(),
        fanout: world.fanout.clone(),
        push_window: config.push.window,
    };
    let announcer = Announcer::new(world.pool.clone(), world.conversations.clone());
    let (files, archive) = (services.attachments.clone(), services.archive.clone());
    Ok(vec![
        tokio::spawn(announce::run(announcer, stop.clone())),
        tokio::spawn(tidy::run(files, archive, stop.clone())),
        tokio::spawn(remind::run(reminder, stop.clone())),
        tokio::spawn(presence::run(world.presence.clone(), stop.clone())),
        tokio::spawn(deliver::run(deliverer, stop.clone())),
        tokio::spawn(import::run(importer, stop.clone())),
        tokio::spawn(revoke::run(world.pool.clone(), world.fanout.clone(), stop.clone())),
        tokio::spawn(heads::run(world.pool.clone(), world.fanout.clone(), stop.clone())),
        tokio::spawn(sweep::run(world.pool.clone(), world.calendars.clone(), stop.clone())),
    ])
}
