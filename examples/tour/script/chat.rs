//! A conversation over two sockets.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::api::{Request, list, number, text};
use super::people::Person;
use super::wrong::{Wrong, ensure};
use super::{Socket, Tour, screen};

/// A conversation of two people.
pub struct Chat {
    id: String,
    /// Who opened it.
    seeker_id: String,
    practitioner_id: String,
}

impl Chat {
    fn channel(&self) -> String {
        format!("conversation:{}", self.id)
    }

    fn message(&self, content: &str) -> Value {
        json!({
            "conversationId": self.id, "clientId": Uuid::new_v4(), "type": "text",
            "content": content,
        })
    }

    fn up_to(&self, seq: i64) -> Value {
        json!({ "conversationId": self.id, "seq": seq })
    }
}

impl Tour<'_> {
    pub(super) async fn open_conversation(
        &mut self,
        who: &Person,
        with: &Person,
    ) -> Result<Chat, Wrong> {
        self.screen.step(&format!("{} opens a conversation with {}", who.name, with.name));
        let body = json!({ "userId": with.id });
        let reply = self.ask(Some(who), Request::post("/v1/conversations", body), 201).await?;
        let id = reply.text("/id")?.to_owned();
        let members = list(&reply.data, "/members")?.len();
        ensure(members == 2, || format!("it has {members} members"))?;
        self.screen.back(
            &format!("201 conversation {} of {members} members", screen::id(&id)),
            reply.took,
        );
        Ok(Chat { id, seeker_id: who.id.clone(), practitioner_id: with.id.clone() })
    }

    /// Both subscribe to the conversation, and the practitioner to the seeker's presence.
    pub(super) async fn follow(
        &mut self,
        chat: &Chat,
        watched: &Person,
        seeker: &mut Socket,
        practitioner: &mut Socket,
    ) -> Result<(), Wrong> {
        self.screen.step("Both apps show the conversation, and Meera's whether Asha is there");
        for socket in [&mut *seeker, &mut *practitioner] {
            let channel = json!({ "channel": chat.channel() });
            let (data, took) = self.call(socket, "subscribe", channel).await?;
            self.screen.back(&format!("ok: it stands at seq {}", number(&data, "/seq")?), took);
        }
        let state = self.look_after(practitioner, watched).await?;
        ensure(state == "online", || format!("Asha has an open socket and is {state}"))
    }

    /// Subscribes to somebody's presence; returns what it is.
    pub(super) async fn look_after(
        &mut self,
        socket: &mut Socket,
        watched: &Person,
    ) -> Result<String, Wrong> {
        let channel = json!({ "channel": format!("presence:{}", watched.id) });
        let (data, took) = self.call(socket, "subscribe", channel).await?;
        let state = text(&data, "/snapshot/state")?.to_owned();
        self.screen.back(&format!("ok: {} is {state}", watched.name), took);
        Ok(state)
    }

    /// Types, sends, and sends again as after a lost answer.
    pub(super) async fn type_and_send(
        &mut self,
        chat: &Chat,
        seeker: &mut Socket,
        practitioner: &mut Socket,
    ) -> Result<(), Wrong> {
        self.screen.step(&format!("{} starts to type", seeker.who()));
        let started = Instant::now();
        let conversation = json!({ "conversationId": chat.id });
        let (_, took) = self.call(seeker, "typing:start", conversation).await?;
        self.screen.back("ok", took);
        let by_seeker = [("/userId", json!(chat.seeker_id))];
        let event = practitioner.event("typing:start", &by_seeker).await?;
        ensure(event.seq.is_none(), || "typing is not for keeps, yet has a seq".to_owned())?;
        let after = event.at.saturating_duration_since(started);
        self.screen.appears(practitioner.who(), "typing:start by Asha", after);

        self.screen.step(&format!("{} sends a message", seeker.who()));
        let message = chat.message("Namaste! Shall I bring a mat?");
        let first = self.send(seeker, Some(practitioner), &message).await?;

        self.screen.step(&format!("{}'s app lost the answer and sends it again", seeker.who()));
        let (again, took) = self.call(seeker, "message:send", message).await?;
        ensure(again == first, || format!("another answer: {again}"))?;
        let seq = number(&again, "/seq")?;
        self.screen.back(&format!("ok: the same seq {seq}; it was not stored twice"), took);
        Ok(())
    }

    /// Sends a message; returns the answer. `to` sees it arrive with the answered seq.
    async fn send(
        &mut self,
        from: &mut Socket,
        to: Option<&mut Socket>,
        message: &Value,
    ) -> Result<Value, Wrong> {
        let started = Instant::now();
        let (answer, took) = self.call(from, "message:send", message.clone()).await?;
        let seq = number(&answer, "/seq")?;
        let expected = self.seen.messages.last().copied().unwrap_or_default() + 1;
        ensure(seq == expected, || format!("seq {seq} comes where {expected} should"))?;
        self.seen.messages.push(seq);
        self.screen.back(&format!("ok: stored as seq {seq}"), took);
        if let Some(to) = to {
            let with = [("/message/id", text(&answer, "/messageId")?.into())];
            let event = to.event("message:new", &with).await?;
            ensure(event.seq == Some(seq), || format!("it arrived as seq {:?}", event.seq))?;
            let content = text(&event.data, "/message/content")?;
            ensure(message.get("content") == Some(&json!(content)), || content.to_owned())?;
            let what = format!("message:new, seq {seq}: “{content}”");
            self.screen.appears(to.who(), &what, event.at.saturating_duration_since(started));
        }
        Ok(answer)
    }

    /// One tick, then two: the sender sees that the message arrived, and that it was read.
    pub(super) async fn acknowledge(
        &mut self,
        chat: &Chat,
        seeker: &mut Socket,
        practitioner: &mut Socket,
    ) -> Result<(), Wrong> {
        for (what, op, event) in [
            ("has received it", "message:received", "message:delivered"),
            ("has read it", "message:read", "message:read"),
        ] {
            self.screen.step(&format!("{}'s app tells that it {what}", practitioner.who()));
            let (data, after) =
                self.mark(practitioner, seeker, op, event, chat, &chat.practitioner_id).await?;
            self.screen.appears(
                seeker.who(),
                &format!("{event} by Meera, up to seq {}", number(&data, "/upTo")?),
                after,
            );
        }
        Ok(())
    }

    /// Acknowledges everything that was sent; returns the event that `to` gets, and how soon.
    async fn mark(
        &mut self,
        by: &mut Socket,
        to: &mut Socket,
        op: &str,
        event: &str,
        chat: &Chat,
        by_id: &str,
    ) -> Result<(Value, Duration), Wrong> {
        let seq = self.seen.messages.last().copied().unwrap_or_default();
        let started = Instant::now();
        let (data, took) = self.call(by, op, chat.up_to(seq)).await?;
        let unread = number(&data, "/unread")?;
        ensure(op != "message:read" || unread == 0, || format!("{unread} are unread"))?;
        self.screen.back(&format!("ok: {unread} unread"), took);
        let with = [("/userId", json!(by_id)), ("/upTo", json!(seq))];
        let told = to.event(event, &with).await?;
        Ok((told.data, told.at.saturating_duration_since(started)))
    }

    /// The practitioner answers, the seeker reads.
    pub(super) async fn reply_and_read(
        &mut self,
        chat: &Chat,
        seeker: &mut Socket,
        practitioner: &mut Socket,
    ) -> Result<(), Wrong> {
        self.screen.step(&format!("{} replies, {} reads", practitioner.who(), seeker.who()));
        let message = chat.message("Just yourself. See you tomorrow!");
        self.send(practitioner, Some(seeker), &message).await?;
        let (data, after) = self
            .mark(seeker, practitioner, "message:read", "message:read", chat, &chat.seeker_id)
            .await?;
        let up_to = number(&data, "/upTo")?;
        self.screen.appears(
            practitioner.who(),
            &format!("message:read by Asha, up to seq {up_to}"),
            after,
        );
        Ok(())
    }

    /// Writes while nobody acknowledges; returns the message's id.
    pub(super) async fn write_to_the_absent(
        &mut self,
        chat: &Chat,
        practitioner: &mut Socket,
    ) -> Result<String, Wrong> {
        self.screen.step(&format!("{} writes, and no device of Asha is there", practitioner.who()));
        let message = chat.message("One more thing: please come ten minutes early.");
        let sent = self.send(practitioner, None, &message).await?;
        Ok(text(&sent, "/messageId")?.to_owned())
    }

    /// A new socket resumes from the last seq that the old one saw, and gets what it missed.
    pub(super) async fn come_back(&mut self, who: &Person, chat: &Chat) -> Result<Socket, Wrong> {
        let mut socket = self.open_socket(who).await?;
        let head = self.seen.messages.last().copied().unwrap_or_default();
        self.screen.step(&format!("{} asks for what was missed", who.name));
        let asked = Instant::now();
        let since = json!({ "channel": chat.channel(), "since": head - 1 });
        let (data, took) = self.call(&mut socket, "subscribe", since).await?;
        ensure(number(&data, "/seq")? == head, || format!("the head is not {head}: {data}"))?;
        self.screen.back(&format!("ok: it stands at seq {head}"), took);
        let event = socket.event("message:new", &[]).await?;
        ensure(event.seq == Some(head), || format!("seq {:?} was not missed", event.seq))?;
        let content = text(&event.data, "/message/content")?;
        let what = format!("message:new, seq {head}: “{content}”");
        self.screen.appears(who.name, &what, event.at.saturating_duration_since(asked));
        let (data, took) = self.call(&mut socket, "message:read", chat.up_to(head)).await?;
        let unread = number(&data, "/unread")?;
        ensure(unread == 0, || format!("{unread} are unread"))?;
        self.screen.back(&format!("ok: {unread} unread"), took);
        Ok(socket)
    }
}
