//! `GET /v1/ws`: the upgrade. The operations that its sockets can ask for are in `ws_ops`.

use std::rc::Rc;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};

use super::caller::MaybeCaller;
use super::operations::Readiness;
use super::ws_ops::Ops;
use crate::actors::connections::Connections;
use crate::actors::openings::Openings;
use crate::actors::presence::PresenceBook;
use crate::actors::protocol;
use crate::actors::roster::SharedRoster;
use crate::actors::session::{self, SocketWorld};
use crate::actors::socket_machine::{Identity, SocketRules};
use crate::actors::switchboard::SharedBoard;
use crate::actors::wire::Tap;
use crate::domain::refusal::Refusal;
use crate::error::Error;
use crate::models::pool::Pool;

use super::error::ApiResult;

/// Origins whose pages may open sockets, besides the hub's own.
#[derive(Debug, Clone, Default)]
pub struct AllowedOrigins(pub Vec<String>);

/// What a worker needs to serve sockets.
#[derive(Clone)]
pub struct Sockets {
    pub presence: PresenceBook,
    pub board: SharedBoard,
    pub roster: SharedRoster,
    pub connections: Connections,
    pub openings: Openings,
    pub rules: SocketRules,
    pub ops: Rc<Ops>,
}

/// Opens a WebSocket; docs/websocket.md says what goes over it.
#[utoipa::path(get, path = "/v1/ws", tag = "socket", responses((status = 101), (status = 403)))]
pub async fn upgrade(
    req: HttpRequest,
    payload: web::Payload,
    caller: MaybeCaller,
    pool: web::Data<Pool>,
    ready: web::Data<Readiness>,
) -> ApiResult<HttpResponse> {
    ready.admit()?;
    if !origin_is_allowed(&req) {
        return Err(Refusal::Forbidden.into());
    }
    let sockets = req
        .app_data::<Sockets>()
        .ok_or_else(|| Error::Fault("no socket world".to_owned()))?
        .clone();
    if !sockets.openings.has_room() {
        return Err(Refusal::Overloaded(protocol::reconnect_after()).into());
    }
    let identity = caller.0.map(|c| Identity {
        user_id: c.user_id,
        session_id: c.session_id,
        role: c.role,
        expires_at: c.expires_at,
    });
    let tap = tap_of(&req)?;
    session::upgrade(sockets.world(&pool), tap, identity, &req, payload)
        .map_err(|_| Refusal::field("Upgrade", "this path speaks WebSocket only").into())
}

fn tap_of(req: &HttpRequest) -> Result<Rc<Tap>, Error> {
    let tap = req.conn_data::<Rc<Tap>>().cloned();
    let tap = tap.ok_or_else(|| Error::Fault("a connection without its wire".to_owned()))?;
    match tap.is_free() {
        true => Ok(tap),
        // What the dispatcher does not take for one: other protocols beside it, or a body.
        false => Err(Refusal::field("Upgrade", "must be websocket, without a body").into()),
    }
}

/// For the Autobahn test suite (`make autobahn`): the transport of every socket, with a machine that
/// sends each message back instead of carrying out commands.
#[cfg(feature = "autobahn")]
pub async fn echo(
    req: HttpRequest,
    payload: web::Payload,
    pool: web::Data<Pool>,
) -> ApiResult<HttpResponse> {
    use std::time::Duration;
    let sockets = req
        .app_data::<Sockets>()
        .ok_or_else(|| Error::Fault("no socket world".to_owned()))?
        .clone();
    let hour = Duration::from_secs(3_600);
    // The suite sends messages of up to 16 MiB.
    let max_message = 17 * 1024 * 1024;
    let rules = SocketRules { heartbeat: hour, auth_timeout: hour, max_message, echo: true };
    let world = SocketWorld { rules, ..sockets.world(&pool) };
    session::upgrade(world, tap_of(&req)?, None, &req, payload)
        .map_err(|_| Refusal::field("Upgrade", "this path speaks WebSocket only").into())
}

impl Sockets {
    fn world(self, pool: &Pool) -> SocketWorld {
        SocketWorld {
            pool: pool.clone(),
            presence: self.presence,
            board: self.board,
            roster: self.roster,
            connections: self.connections,
            openings: self.openings,
            ops: self.ops,
            rules: self.rules,
        }
    }
}

/// Pages of other sites must not open sockets with a visitor's credentials. Native apps send no
/// `Origin`.
fn origin_is_allowed(req: &HttpRequest) -> bool {
    let Some(origin) = req.headers().get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let host = req.headers().get(header::HOST).and_then(|h| h.to_str().ok());
    let own = origin.split_once("://").map(|(_, host)| host);
    let listed = req
        .app_data::<web::Data<AllowedOrigins>>()
        .is_some_and(|allowed| allowed.0.iter().any(|o| o == origin));
    listed || (own.is_some() && own == host)
}
