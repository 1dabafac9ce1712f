//! One way to a Redis server or cluster, and whether it is open.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, FromRedisValue,
    IntoConnectionInfo, Pipeline, ProtocolVersion, PushInfo, RedisError, RedisFuture, RedisResult,
    Value,
};

/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long Redis may take to take what is told; the queue waits meanwhile.
const TELL: Duration = Duration::from_secs(2);
/// How long an answer may take that somebody waits for.
const ANSWER: Duration = Duration::from_millis(300);
/// For so long nothing is asked after an answer that did not come.
const PAUSE: Duration = Duration::from_secs(1);

/// What is at the other end.
#[derive(Debug, Clone)]
pub(super) enum Server {
    Single(Box<ConnectionInfo>),
    Cluster(Vec<ConnectionInfo>),
}

impl Server {
    /// Reads `REDIS_URL`: one URL is a server; several by commas, or one whose scheme is
    /// `redis+cluster`, are nodes of a cluster, which tell of the rest.
    pub(super) fn parse(text: &str) -> RedisResult<Self> {
        let mut is_cluster = false;
        let mut nodes = Vec::new();
        for url in text.split(',').map(str::trim) {
            let url = match url.strip_prefix("redis+cluster://") {
                Some(rest) => {
                    is_cluster = true;
                    format!("redis://{rest}")
                }
                None => url.to_owned(),
            };
            let info = url.into_connection_info()?;
            // Pushes come between answers only in RESP3.
            let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
            nodes.push(info.set_redis_settings(settings));
        }
        match (nodes.len(), nodes.pop()) {
            (1, Some(node)) if !is_cluster => Ok(Self::Single(Box::new(node))),
            (_, Some(last)) => {
                nodes.push(last);
                // Refuses nodes with different passwords, and the like.
                ClusterClient::builder(nodes.clone()).build()?;
                Ok(Self::Cluster(nodes))
            }
            (_, None) => Err((ErrorKind::InvalidClientConfig, "no URL").into()),
        }
    }

    /// Connects. What subscriptions bring is handed to `push`, which must not block.
    pub(super) async fn connect(
        &self,
        push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> RedisResult<Connection> {
        let push = move |info| {
            push(info);
            Ok::<(), std::convert::Infallible>(())
        };
        let connect = async {
            match self {
                Self::Single(info) => {
                    let config = AsyncConnectionConfig::new()
                        .set_connection_timeout(Some(CONNECT))
                        .set_response_timeout(Some(TELL))
                        .set_push_sender(push);
                    let client = Client::open(info.as_ref().clone())?;
                    let connection = client.get_multiplexed_async_connection_with_config(&config);
                    Ok(Connection::Single(connection.await?))
                }
                Self::Cluster(nodes) => {
                    let client = ClusterClientBuilder::new(nodes.clone())
                        .use_protocol(ProtocolVersion::RESP3)
                        .connection_timeout(CONNECT)
                        .response_timeout(TELL)
                        .overall_response_timeout(Some(TELL))
                        .retries(2)
                        .push_sender(push)
                        .build()?;
                    Ok(Connection::Cluster(client.get_async_connection().await?))
                }
            }
        };
        let late = || RedisError::from((ErrorKind::Io, "no connection in time"));
        tokio::time::timeout(CONNECT * 2, connect).await.map_err(|_| late())?
    }
}

/// A connection to either.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// Redis can not be asked now: act on what this node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("redis is away")]
pub struct Away;

/// The way to Redis for everybody on this node. While it is closed everything is refused at once,
/// so that nobody waits for a Redis that is away; after an answer that did not come it closes for
/// a moment by itself.
#[derive(Clone, Default)]
pub(super) struct Link(Arc<Shared>);

struct Shared {
    open: RwLock<Option<Connection>>,
    /// Whether Redis knows sharded pub/sub.
    sharded: AtomicBool,
    /// Until when nothing is asked, in milliseconds after `since`.
    paused_until: AtomicU64,
    since: Instant,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            open: RwLock::default(),
            sharded: AtomicBool::new(true),
            paused_until: AtomicU64::new(0),
            since: Instant::now(),
        }
    }
}

impl Link {
    /// Lets everybody use `connection` from now on.
    pub(super) fn open(&self, connection: Connection) {
        self.0.paused_until.store(0, Ordering::Release);
        *self.0.open.write().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }

    /// Refuses everything from now on.
    pub(super) fn close(&self) {
        *self.0.open.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether others are told by sharded pub/sub.
    pub(super) fn use_sharded(&self, sharded: bool) {
        self.0.sharded.store(sharded, Ordering::Release);
    }

    /// Whether a connection mends itself.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.connection(), Ok(Connection::Cluster(_)))
    }

    /// Whether there is a connection, however slow.
    pub(super) fn is_connected(&self) -> bool {
        self.connection().is_ok()
    }

    fn connection(&self) -> Result<Connection, Away> {
        self.0.open.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Away)
    }

    /// Tells `messages` in `topic`, if it can be done now. What becomes of them if it fails is not
    /// known: they are not told again.
    pub(super) async fn publish(&self, topic: String, messages: &[Vec<u8>]) {
        let Ok(mut connection) = self.connection() else { return };
        let publish = if self.0.sharded.load(Ordering::Acquire) { "SPUBLISH" } else { "PUBLISH" };
        let mut pipe = redis::pipe();
        for message in messages {
            pipe.cmd(publish).arg(&topic).arg(message).ignore();
        }
        if let Err(e) = pipe.query_async::<()>(&mut connection).await {
            tracing::debug!("redis did not take {} messages: {e}", messages.len());
        }
    }

    /// Asks Redis for the hub itself, for which nobody waits: as long as telling may take, and
    /// whatever befell others who asked. That it takes long stops nobody else from asking.
    pub(super) async fn ask_patiently<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, Away> {
        let mut connection = self.connection()?;
        match tokio::time::timeout(TELL, cmd.query_async(&mut connection)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) => {
                tracing::debug!("redis refuses: {e}");
                Err(Away)
            }
            Err(_) => Err(Away),
        }
    }

    /// Asks Redis for somebody who waits; never longer than [`ANSWER`].
    pub(super) async fn ask<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, Away> {
        let mut connection = self.connection()?;
        if self.now() < self.0.paused_until.load(Ordering::Acquire) {
            return Err(Away);
        }
        match tokio::time::timeout(ANSWER, cmd.query_async(&mut connection)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) => {
                tracing::warn!("redis refuses: {e}");
                Err(Away)
            }
            Err(_) => {
                // The next ones need not find out for themselves.
                let pause = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
                self.0.paused_until.store(self.now().saturating_add(pause), Ordering::Release);
                Err(Away)
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_url_is_a_server_and_several_are_a_cluster() {
        for (text, nodes) in [
            ("redis://localhost", None),
            ("redis://user:password@10.0.0.1:6380/", None),
            ("redis://10.0.0.1:1,redis://10.0.0.2:2, redis://10.0.0.3:3", Some(3)),
            ("redis+cluster://10.0.0.1:7000", Some(1)),
        ] {
            match (Server::parse(text).unwrap(), nodes) {
                (Server::Single(_), None) => {}
                (Server::Cluster(seeds), Some(nodes)) => assert_eq!(seeds.len(), nodes),
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
        for bad in ["", "foo", "http://localhost", "redis://a,", "redis://:x@a,redis://:y@b"] {
            assert!(Server::parse(bad).is_err(), "{bad}");
        }
    }
}
