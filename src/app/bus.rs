//! The bus, and what is done with what comes over it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::web::Data;
use secrecy::ExposeSecret;
use tokio::sync::Notify;

use super::StartError;
use crate::actors::calendar::Calendars;
use crate::actors::conversation::Conversations;
use crate::actors::fanout::Fanout;
use crate::actors::presence::PresenceBook;
use crate::bus::{Bus, Envelope, Incoming, RedisBus};
use crate::config::Config;
use crate::domain::channel::Channel;
use crate::services::auth::Auth;

/// Between two rounds of catching up: a loss that shows in many places at once costs one.
const PAUSE: Duration = Duration::from_millis(500);

/// Who hears of other nodes besides the sockets; known once they are there.
#[derive(Clone, Default)]
pub(super) struct Listeners {
    pub(super) calendars: Arc<OnceLock<Calendars>>,
    pub(super) conversations: Arc<OnceLock<Conversations>>,
    pub(super) presence: Arc<OnceLock<PresenceBook>>,
    pub(super) auth: Arc<OnceLock<Data<Auth>>>,
}

/// The fan-out over the configured bus, and who listens to that.
pub(super) fn connect(config: &Config) -> Result<(Fanout, Listeners), StartError> {
    let fanout = Fanout::new(Bus::InProcess);
    let listeners = Listeners::default();
    let Some(url) = &config.redis_url else { return Ok((fanout, listeners)) };
    let missed = Arc::new(Notify::new());
    tokio::spawn(catch_up(missed.clone(), fanout.clone(), listeners.clone()));
    let (local, known) = (fanout.clone(), listeners.clone());
    let bus = RedisBus::start(url.expose_secret(), move |incoming| match incoming {
        Incoming::Told(envelope) => known.take(envelope, &local),
        Incoming::Missed => missed.notify_one(),
    })?;
    Ok((fanout.with_bus(Bus::Redis(bus)), listeners))
}

impl Listeners {
    fn take(&self, envelope: Envelope, local: &Fanout) {
        match envelope {
            Envelope::Event { channel, seq, text } => {
                local.deliver(channel, seq, &text);
                if let (Channel::Calendar(id), Some(calendars)) = (channel, self.calendars.get()) {
                    calendars.refresh_soon(id);
                }
            }
            Envelope::Revoke { sessions, .. } => local.rosters().revoke(sessions),
            Envelope::Expel { channel, user_id } => {
                local.expel_here(channel, user_id);
                if let (Channel::Conversation(id), Some(all)) = (channel, self.conversations.get())
                {
                    all.refresh_soon(id);
                }
            }
            Envelope::Read { conversation_id, user_id, seq } => {
                if let Some(all) = self.conversations.get() {
                    all.read_elsewhere(conversation_id, user_id, seq);
                }
            }
            Envelope::Login { email, address, failed } => {
                if let Some(auth) = self.auth.get() {
                    auth.tried_elsewhere(&email, address, failed);
                }
            }
            Envelope::Presence { user_id, version, view } => {
                if let Some(presence) = self.presence.get() {
                    presence.told(user_id, version, view);
                }
            }
        }
    }
}

/// Lets this node's sockets read what they missed, whenever something may not have come.
async fn catch_up(missed: Arc<Notify>, local: Fanout, listeners: Listeners) {
    loop {
        missed.notified().await;
        tracing::debug!("something of another node may be missing");
        local.catch_up_here();
        if let Some(presence) = listeners.presence.get() {
            presence.tell_again().await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
