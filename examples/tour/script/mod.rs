//! The tour itself: what happens, in order. `main` runs it from the command line and
//! `tests/it/tour.rs` as a test; whoever includes it has `push_receiver` beside it.
//!
//! Every line that is printed comes from an answer of the hub that was checked first, so a tour
//! that reaches its last line has shown that the hub works.

mod api;
mod booking;
mod chat;
mod people;
mod practice;
mod push;
mod screen;
mod socket;
mod wrong;

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::push_receiver::PushReceiver;
use api::{Api, Reply, Request};
use people::Person;
use screen::Screen;
use socket::Socket;
pub use wrong::Wrong;

/// What the tour is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Scheme, host and port of the hub.
    pub base_url: String,
    /// Whether to wait for what takes long.
    pub full: bool,
    /// Whether to print with ANSI colours.
    pub colour: bool,
}

/// What the tour saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Steps that were printed.
    pub steps: u32,
    /// Versions of the calendar, as the watcher was told of them: the snapshot's, then one by
    /// each delta.
    pub versions: Vec<i64>,
    /// Seqs of the conversation's messages, as their senders were answered.
    pub messages: Vec<i64>,
    /// Pushes that were verified and decrypted.
    pub pushes: usize,
}

/// A tour under way.
struct Tour<'a> {
    screen: Screen<'a>,
    api: Api,
    full: bool,
    seen: Seen,
}

/// Walks the whole tour and prints it to `out`; the error says at which step it ended and why.
pub async fn run(options: &Options, out: &mut dyn Write) -> Result<Seen, Wrong> {
    let started = Instant::now();
    let mut tour = Tour {
        screen: Screen::new(out, options.colour),
        api: Api::new(&options.base_url)?,
        full: options.full,
        seen: Seen::default(),
    };
    let walked = tour.walk().await;
    tour.seen.steps = tour.screen.steps();
    if let Err(wrong) = walked {
        return Err(wrong.at(tour.seen.steps));
    }
    let seen = tour.seen;
    tour.screen.heading(&format!(
        "Done: {} steps as expected, {} calendar deltas, {} messages, {} push, in {:.1} s.",
        seen.steps,
        seen.versions.len().saturating_sub(1),
        seen.messages.len(),
        seen.pushes,
        started.elapsed().as_secs_f64()
    ));
    tour.screen.finish()?;
    Ok(seen)
}

impl Tour<'_> {
    async fn walk(&mut self) -> Result<(), Wrong> {
        self.screen.heading(&format!("A tour of the hub at {}", self.api.base_url()));
        self.screen
            .note("Meera gives sessions, Asha looks for one, Kabir watches the same calendar.");
        self.screen.note("→ what somebody sends   ← the answer   ◆ what appears on a live socket");
        self.knock().await?;

        self.screen.heading("A practice");
        let meera = self.sign_up("Meera", "practitioner").await?;
        let practice = self.open_practice(&meera).await?;

        self.screen.heading("A booking, watched live");
        let asha = self.sign_up("Asha", "seeker").await?;
        let kabir = self.sign_up("Kabir", "seeker").await?;
        let slot = self.find_slot(&asha, &practice).await?;
        let mut watcher = self.watch(&kabir, &practice).await?;
        let mut meeras = self.open_socket(&meera).await?;
        let mut ashas = self.open_socket(&asha).await?;
        let hold = self.hold(&asha, &slot, &mut watcher).await?;
        self.be_too_late(&slot, &mut watcher).await?;
        let booking = self.book(&asha, &hold, &mut meeras).await?;
        self.confirm(&meera, &booking, &mut ashas).await?;

        self.screen.heading("A chat over sockets");
        let chat = self.open_conversation(&asha, &meera).await?;
        self.follow(&chat, &asha, &mut ashas, &mut meeras).await?;
        self.type_and_send(&chat, &mut ashas, &mut meeras).await?;
        self.acknowledge(&chat, &mut ashas, &mut meeras).await?;
        self.reply_and_read(&chat, &mut ashas, &mut meeras).await?;

        self.screen.heading("A push for somebody who is away");
        let receiver = PushReceiver::start().await?;
        let device = self.register_device(&asha, &receiver).await?;
        self.leave(ashas, &asha, &mut meeras).await?;
        let message_id = self.write_to_the_absent(&chat, &mut meeras).await?;
        self.receive_push(&receiver, &device, &message_id).await?;
        if self.full {
            self.wait_for_offline(&asha, &mut meeras).await?;
        }
        let mut ashas = self.come_back(&asha, &chat).await?;

        self.screen.heading("Tidying up");
        self.cancel(&mut ashas, &booking, &mut watcher).await?;
        self.compare_snapshot(&practice, &mut watcher).await?;
        self.forget_device(&asha, &device, &receiver).await?;
        receiver.stop().await;
        for socket in [ashas, meeras, watcher] {
            socket.close().await?;
        }
        Ok(())
    }

    async fn knock(&mut self) -> Result<(), Wrong> {
        self.screen.step("Is the hub there, and its database?");
        let reply = self.ask(None, Request::get("/readyz"), 200).await.map_err(|wrong| {
            wrong.advise("start a hub with `make run`, or name another one with --base-url")
        })?;
        self.screen.back(&format!("200 {}", reply.text("/status")?), reply.took);
        Ok(())
    }

    /// Prints and sends a request of `who`; any other status than `status` is wrong.
    async fn ask(
        &mut self,
        who: Option<&Person>,
        request: Request,
        status: u16,
    ) -> Result<Reply, Wrong> {
        self.screen.out(&request.in_short());
        self.api.send(who.map(|person| person.token.as_str()), request, status).await
    }

    /// Prints and sends a command that must succeed; returns its data and how long it took.
    async fn call(
        &mut self,
        socket: &mut Socket,
        op: &str,
        data: Value,
    ) -> Result<(Value, Duration), Wrong> {
        self.screen.out(&format!("{}'s socket: {op} {}", socket.who(), screen::in_short(&data)));
        let (result, took) = socket.call(op, data).await?;
        match result {
            Ok(data) => Ok((data, took)),
            Err(error) => Err(Wrong::new(format!("{op} was refused: {error}"))),
        }
    }
}
