//! Accounts and sockets.

use serde_json::json;
use uuid::Uuid;

use super::api::{Request, text};
use super::socket::Socket;
use super::wrong::{Wrong, ensure};
use super::{Tour, screen};

/// Somebody with an account.
pub struct Person {
    pub name: &'static str,
    pub id: String,
    pub token: String,
}

impl Tour<'_> {
    /// Opens an account with a new e-mail address.
    pub(super) async fn sign_up(
        &mut self,
        name: &'static str,
        user_type: &str,
    ) -> Result<Person, Wrong> {
        self.screen.step(&format!("{name} signs up as a {user_type}"));
        let random = Uuid::new_v4().simple().to_string();
        let suffix = random.get(..12).unwrap_or_default();
        let email = format!("{}.{suffix}@tour.example", name.to_lowercase());
        let body = json!({
            "email": email, "password": format!("tour {random}"), "firstName": name,
            "lastName": "Tour", "userType": user_type,
        });
        let reply = self.ask(None, Request::post("/v1/auth/register", body), 201).await;
        let reply = reply.map_err(|wrong| match wrong.mentions("rate_limited") {
            true => wrong.advise(
                "the hub takes a bounded number of sign-ups from one address; wait a quarter of \
                 an hour, or restart it",
            ),
            false => wrong,
        })?;
        ensure(reply.text("/user/email")? == email, || "another e-mail came back".to_owned())?;
        ensure(reply.text("/user/userType")? == user_type, || "another role".to_owned())?;
        let id = reply.text("/user/id")?.to_owned();
        self.screen.back(
            &format!("201 user {}, logged in until {}", screen::id(&id), reply.text("/expiresAt")?),
            reply.took,
        );
        Ok(Person { name, id, token: reply.text("/accessToken")?.to_owned() })
    }

    /// Opens a socket as a native app does, and waits until the user's own channel is open.
    pub(super) async fn open_socket(&mut self, who: &Person) -> Result<Socket, Wrong> {
        self.screen.step(&format!("{}'s app opens a socket", who.name));
        self.screen.out("GET /v1/ws, upgraded, with the token as Authorization: Bearer");
        let url = self.api.socket_url();
        let (mut socket, took) = Socket::open(&url, who.name, Some(&who.token)).await?;
        self.screen.back("101 switching protocols", took);
        let channel = format!("user:{}", who.id);
        let (data, took) =
            self.call(&mut socket, "subscribe", json!({ "channel": channel })).await?;
        let seq = super::api::number(&data, "/seq")?;
        self.screen.back(&format!("ok: {}'s own channel stands at seq {seq}", who.name), took);
        Ok(socket)
    }

    /// Opens a socket as a browser does: no header can be set, so the token is the first frame.
    pub(super) async fn open_socket_in_browser(&mut self, who: &Person) -> Result<Socket, Wrong> {
        self.screen.out("GET /v1/ws, upgraded, without a token: a browser can not set headers");
        let url = self.api.socket_url();
        let (mut socket, took) = Socket::open(&url, who.name, None).await?;
        self.screen.back("101 switching protocols", took);
        let (data, took) = self.call(&mut socket, "auth", json!({ "token": who.token })).await?;
        ensure(text(&data, "/userId")? == who.id, || format!("auth as somebody else: {data}"))?;
        let heartbeat = super::api::number(&data, "/heartbeatMs")?;
        let subscriptions = super::api::number(&data, "/limits/subscriptions")?;
        self.screen.back(
            &format!(
                "ok: you are {}, heartbeat {heartbeat} ms, at most {subscriptions} channels",
                screen::id(&who.id)
            ),
            took,
        );
        Ok(socket)
    }
}
