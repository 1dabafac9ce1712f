//! The HTTP server: workers, each with its own switchboard.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use actix_codec::Framed;
use actix_http::body::{BoxBody, MessageBody};
use actix_http::error::DispatchError;
use actix_http::h1::Codec;
use actix_http::{Extensions, HttpService, Request, Response};
use actix_server::Server;
use actix_service::{
    Service, ServiceFactory, ServiceFactoryExt as _, apply_fn_factory, fn_service, map_config,
};
use actix_web::dev::{AppConfig, ServerHandle, ServiceRequest, ServiceResponse};
use actix_web::rt::net::TcpStream;
use actix_web::{App, middleware, web};
use socket2::{Domain, Socket, Type};

use super::{Services, StartError, World};
use crate::actors::connections::{Alone, ConnectionCount, Connections, UserLimits};
use crate::actors::elsewhere::OtherNodes;
use crate::actors::fanout::Fanout;
use crate::actors::healing::Missed;
use crate::actors::openings::Openings;
use crate::actors::presence::PresenceBook;
use crate::actors::protocol;
use crate::actors::roster::SharedRoster;
use crate::actors::socket_machine::SocketRules;
use crate::actors::switchboard::{SharedBoard, Switchboard};
use crate::actors::takeover::Taken;
use crate::actors::wire::Wire;
use crate::config::Config;
use crate::http::caller::TrustedProxies;
use crate::http::configure;
use crate::http::cors::cors;
use crate::http::front::front;
use crate::http::operations::Readiness;
use crate::http::ws::{AllowedOrigins, Sockets};
use crate::http::ws_ops::Ops;
use crate::models::pool::Pool;

/// How long the kernel tries to get bytes to a peer that takes none before it ends the connection
/// (TCP_USER_TIMEOUT).
const STALLED: Duration = Duration::from_secs(15);

/// Connections that the kernel may hold until they are accepted.
const BACKLOG: i32 = 4_096;
/// How long a connection may wait for its first or next request. Longer than balancers (60 s) and
/// clients keep one that they mean to use: whoever closes first must not be the one who gets the
/// request. Browsers and pools open some ahead of need.
const KEPT_ALIVE: Duration = Duration::from_secs(75);

/// Connections that may be open at one worker.
const CONNECTIONS: usize = 25_000;

thread_local! {
    /// This worker's boards and rosters. The server calls its factory once per worker and address, and tests
    /// run several hubs on one thread, so it is a list by fan-out rather than one.
    static BOARDS: RefCell<Vec<(Fanout, SharedBoard, SharedRoster)>> = const { RefCell::new(Vec::new()) };
}

/// Starts to listen; returns the server's handle and where it listens.
pub(super) fn start(
    config: &Config,
    world: &World,
    services: &Services,
    ready: &Readiness,
) -> Result<(ServerHandle, SocketAddr), StartError> {
    let rules = SocketRules {
        heartbeat: config.sockets.heartbeat,
        auth_timeout: config.sockets.auth_timeout,
        max_message: protocol::MAX_FRAME,
        #[cfg(feature = "autobahn")]
        echo: false,
    };
    let kitchen = Kitchen {
        fanout: world.fanout.clone(),
        presence: world.presence.clone(),
        connections: world.connections.clone(),
        openings: Openings::start(&world.pool),
        rules,
        services: services.clone(),
        pool: web::Data::new(world.pool.clone()),
        ready: web::Data::new(ready.clone()),
        origins: web::Data::new(AllowedOrigins(config.http.allowed_origins.clone())),
        proxies: TrustedProxies(config.http.trusted_proxies.clone()),
    };
    let failed =
        |cause| StartError::Io { what: format!("HUB_LISTEN {}", config.http.listen), cause };
    let builder = Server::build()
        .workers(config.http.workers)
        .max_concurrent_connections(CONNECTIONS)
        .shutdown_timeout(config.http.shutdown.as_secs())
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let listener = listen(config.http.listen).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    // As actix-web's HttpServer does it, but over connections that sockets can write to.
    let server = builder.listen("hub", listener, move || {
        let stopping = stopping.clone();
        let app = || map_config(kitchen.app(), |()| AppConfig::default());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(KEPT_ALIVE)
            .client_request_timeout(KEPT_ALIVE)
            .client_disconnect_timeout(Duration::from_millis(500))
            .local_addr(address)
            .on_connect_ext(|wire: &Wire, data: &mut Extensions| {
                data.insert(wire.tap().clone());
            })
            .upgrade(apply_fn_factory(app(), take_over))
            .h1(app());
        fn_service(|stream| std::future::ready(Ok::<_, DispatchError>(accepted(stream))))
            .and_then(http)
    });
    let server = server.map_err(failed)?.run();
    let handle = server.handle();
    actix::spawn(server);
    Ok((handle, address))
}

/// Serves a connection from the request on that asks for a WebSocket; the dispatcher is done with it.
fn take_over<S>(
    (request, framed): (Request, Framed<Wire, Codec>),
    app: &S,
) -> impl Future<Output = Result<(), actix_web::Error>> + use<S>
where
    S: Service<Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error>,
{
    let parts = framed.into_parts();
    let buffers = (parts.read_buf, parts.write_buf);
    let (taken, request) = Taken::new(request, &parts.io, parts.codec, buffers);
    let answer = app.call(request);
    // In a box, which is gone once the head is written: a socket idles for hours.
    let head = Box::pin(async move {
        taken.begin(answer.await.map_or_else(Response::from, Response::from)).await
    });
    async move {
        match head.await {
            Ok(begun) => begun.serve().await,
            Err(e) => tracing::debug!("a connection ended before its answer: {e}"),
        }
        Ok(())
    }
}

/// What every worker's application is made of.
#[derive(Clone)]
struct Kitchen {
    fanout: Fanout,
    presence: PresenceBook,
    connections: Connections,
    openings: Openings,
    rules: SocketRules,
    services: Services,
    pool: web::Data<Pool>,
    ready: web::Data<Readiness>,
    origins: web::Data<AllowedOrigins>,
    proxies: TrustedProxies,
}

impl Kitchen {
    fn app(
        &self,
    ) -> App<
        impl ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse<BoxBody>,
            Error = actix_web::Error,
            InitError = (),
        > + use<>,
    > {
        let services = &self.services;
        let (board, roster) = of_this_worker(&self.fanout);
        let sockets = Sockets {
            presence: self.presence.clone(),
            board,
            roster,
            connections: self.connections.clone(),
            openings: self.openings.clone(),
            rules: self.rules,
            ops: Rc::new(ops(services)),
        };
        App::new()
            .app_data(sockets)
            .app_data(self.pool.clone())
            .app_data(self.ready.clone())
            .app_data(self.origins.clone())
            .app_data(self.proxies.clone())
            .app_data(services.auth.clone())
            .app_data(services.users.clone())
            .app_data(services.catalogue.clone())
            .app_data(services.practices.clone())
            .app_data(services.external_calendars.clone())
            .app_data(services.invites.clone())
            .app_data(services.bookings.clone())
            .app_data(services.waitlist.clone())
            .app_data(services.chat.clone())
            .app_data(services.attachments.clone())
            .app_data(services.archive.clone())
            .app_data(services.safety.clone())
            .app_data(services.inbox.clone())
            .app_data(services.preferences.clone())
            .app_data(services.reviews.clone())
            .wrap(middleware::from_fn(front))
            .wrap(cors(&self.origins))
            .wrap(middleware::from_fn(boxed))
            .configure(configure)
    }
}

/// Gives answers a body of one type, whoever made them.
async fn boxed(
    req: ServiceRequest,
    next: middleware::Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    Ok(next.call(req).await?.map_into_boxed_body())
}

/// The users who have sockets here, and how many they have on other nodes.
pub(super) fn connections(config: &Config, fanout: &Fanout) -> Connections {
    let limits = UserLimits {
        connections: config.sockets.connections_per_user,
        per_second: config.sockets.user_commands,
        burst: config.sockets.user_commands.saturating_mul(2),
    };
    let elsewhere: Arc<dyn ConnectionCount> = match fanout.bus().members() {
        Some(members) => Arc::new(OtherNodes(members)),
        None => Arc::new(Alone),
    };
    Connections::new(limits, elsewhere)
}

fn ops(services: &Services) -> Ops {
    Ops {
        auth: services.auth.clone(),
        practices: services.practices.clone(),
        bookings: services.bookings.clone(),
        chat: services.chat.clone(),
        inbox: services.inbox.clone(),
    }
}

/// This worker's board for the hub of `fanout`, with its switchboard, and its roster, made on the
/// first call.
fn of_this_worker(fanout: &Fanout) -> (SharedBoard, SharedRoster) {
    BOARDS.with_borrow_mut(|boards| {
        if let Some((_, board, roster)) = boards.iter().find(|(f, ..)| f.is_same(fanout)) {
            return (board.clone(), roster.clone());
        }
        let board = SharedBoard::default();
        let missed = Arc::new(Missed::default());
        let switchboard = Switchboard::new(board.clone(), missed.clone()).start();
        fanout.register(switchboard, missed, board.borrow().interest().clone());
        let roster = fanout.rosters().start(board.clone());
        boards.push((fanout.clone(), board.clone(), roster.clone()));
        (board, roster)
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn accepted(stream: TcpStream) -> (Wire, Option<SocketAddr>) {
    end_when_stalled(&stream);
    let wire = Wire::new(stream);
    let peer = wire.peer();
    (wire, peer)
}

fn end_when_stalled(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    // A kernel that knows neither option serves as well, only less promptly.
    let _ = socket.set_tcp_user_timeout(Some(STALLED));
    let _ = socket.set_tcp_nodelay(true);
}
