//! The HTTP server: workers, each with its own switchboard.

use std::any::Any;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use actix::Actor;
use actix_web::dev::{Extensions, ServerHandle};
use actix_web::{App, HttpServer, middleware, rt, web};

use super::{Services, StartError, World};
use crate::actors::fanout::Fanout;
use crate::actors::session::SocketRules;
use crate::actors::switchboard::{SharedBoard, Switchboard};
use crate::config::Config;
use crate::http::caller::TrustedProxies;
use crate::http::configure;
use crate::http::front::front;
use crate::http::operations::Readiness;
use crate::http::ws::{AllowedOrigins, Sockets};
use crate::http::ws_ops::Ops;

/// How long the kernel tries to get bytes to a peer that takes none before it ends the connection
/// (TCP_USER_TIMEOUT): a socket's own timers stand still when its peer does not read.
const STALLED: Duration = Duration::from_secs(15);

/// How long a connection may wait for its next request. Longer than balancers (60 s) and clients keep
/// one that they mean to use again: whoever closes first must not be the one who gets the request.
const KEPT_ALIVE: Duration = Duration::from_secs(75);

/// Connections that may be open at one worker.
const CONNECTIONS: usize = 25_000;

thread_local! {
    /// This worker's boards. The server calls its factory once per worker and address, and tests
    /// run several hubs on one thread, so it is a list by fan-out rather than one.
    static BOARDS: RefCell<Vec<(Fanout, SharedBoard)>> = const { RefCell::new(Vec::new()) };
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
    };
    let (fanout, presence) = (world.fanout.clone(), world.presence.clone());
    let (services, pool) = (services.clone(), web::Data::new(world.pool.clone()));
    let ready = web::Data::new(ready.clone());
    let origins = web::Data::new(AllowedOrigins(config.http.allowed_origins.clone()));
    let proxies = TrustedProxies(config.http.trusted_proxies.clone());
    let server = HttpServer::new(move || {
        let sockets = Sockets {
            presence: presence.clone(),
            board: board_of_this_worker(&fanout),
            rules,
            ops: Rc::new(ops(&services)),
        };
        App::new()
            .app_data(sockets)
            .app_data(pool.clone())
            .app_data(ready.clone())
            .app_data(origins.clone())
            .app_data(proxies.clone())
            .app_data(services.auth.clone())
            .app_data(services.users.clone())
            .app_data(services.catalogue.clone())
            .app_data(services.practices.clone())
            .app_data(services.external_calendars.clone())
            .app_data(services.invites.clone())
            .app_data(services.bookings.clone())
            .app_data(services.waitlist.clone())
            .app_data(services.chat.clone())
            .app_data(services.inbox.clone())
            .app_data(services.preferences.clone())
            .app_data(services.reviews.clone())
            .wrap(middleware::from_fn(front))
            .configure(configure)
    })
    .workers(config.http.workers)
    .max_connections(CONNECTIONS)
    .keep_alive(KEPT_ALIVE)
    .shutdown_timeout(config.http.shutdown.as_secs())
    .client_disconnect_timeout(Duration::from_millis(500))
    .on_connect(end_stalled_connections)
    .disable_signals();
    let failed =
        |cause| StartError::Io { what: format!("HUB_LISTEN {}", config.http.listen), cause };
    let server = server.bind(config.http.listen).map_err(failed)?;
    let address = server.addrs().first().copied().unwrap_or(config.http.listen);
    let server = server.run();
    let handle = server.handle();
    actix::spawn(server);
    Ok((handle, address))
}

fn ops(services: &Services) -> Ops {
    Ops {
        auth: services.auth.clone(),
        users: services.users.clone(),
        practices: services.practices.clone(),
        bookings: services.bookings.clone(),
        chat: services.chat.clone(),
        inbox: services.inbox.clone(),
    }
}

/// This worker's board for the hub of `fanout`, with its switchboard, made on the first call.
fn board_of_this_worker(fanout: &Fanout) -> SharedBoard {
    BOARDS.with_borrow_mut(|boards| {
        if let Some((_, board)) = boards.iter().find(|(f, _)| f.is_same(fanout)) {
            return board.clone();
        }
        let board = SharedBoard::default();
        let missed = Arc::new(AtomicBool::new(false));
        let switchboard = Switchboard::new(board.clone(), missed.clone()).start();
        fanout.register(switchboard, missed);
        boards.push((fanout.clone(), board.clone()));
        board
    })
}

fn end_stalled_connections(io: &dyn Any, _: &mut Extensions) {
    if let Some(tcp) = io.downcast_ref::<rt::net::TcpStream>() {
        let socket = socket2::SockRef::from(tcp);
        // A kernel that knows neither option serves as well, only less promptly.
        let _ = socket.set_tcp_user_timeout(Some(STALLED));
        let _ = socket.set_tcp_nodelay(true);
    }
}
