//! What all nodes know of their users together: who is there, and with how many sockets.
//!
//! | key | what | life |
//! |---|---|---|
//! | `klearkarma:user:<id>` | per node the state and the number of sockets; when last seen; the version of the last change | 10 min while somebody is there, renewed each minute; else 7 days |
//! | `klearkarma:nodes` | when each node was last heard | a day |
//! | `klearkarma:node:<id>:users` | whom a node has told of | an hour, renewed |
//! | `klearkarma:sweep:<id>` | which node forgets a dead one | 10 s |
//!
//! Each change of a user is one script, so that of two nodes that change it at once exactly one
//! sees what others see change, and tells it. A node that was not heard for 20 s is dead: another
//! one takes its entries away, user by user, and tells what that changes.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::{join_all, try_join};
use jiff::Timestamp;
use redis::{Cmd, cmd};
use uuid::Uuid;

use super::link::{Away, Link};
use super::{RedisBus, Shared};
use crate::domain::presence::{State, View};

/// A node that was not heard for so long is dead.
const DEAD: Duration = Duration::from_secs(20);
/// Life of an entry while somebody is there.
const PRESENT: Duration = Duration::from_secs(600);
/// Life of an entry that only says when somebody was last seen.
const ABSENT: Duration = Duration::from_secs(7 * 86_400);
/// The number of sockets of a dead node, after everything it said itself.
const LAST: Option<(u32, u64)> = Some((0, 1 << 52));
/// Users of a dead node that are looked at together.
const SWEPT: usize = 100;

/// KEYS: the user. ARGV: node; state of it (0 offline, 1 away, 2 online, -1 as before); seen in ms
/// (0 unknown); sockets (-1 as before); life while present; life while absent; the stamp of the
/// number of sockets, since reports of a node may overtake each other.
/// Returns what the state was over all nodes and what it is, seen, version, sockets elsewhere.
const REPORT: &str = r"
local all = redis.call('HGETALL', KEYS[1])
local node, state, seen, sockets = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local stamp = tonumber(ARGV[7])
local before, after, version, elsewhere, own = 0, 0, 0, 0, 0
for i = 1, #all, 2 do
  local field, value = all[i], tonumber(all[i + 1])
  local kind, of = string.sub(field, 1, 2), string.sub(field, 3)
  if field == 'seen' then seen = math.max(seen, value)
  elseif field == 'version' then version = value
  elseif kind == 's:' then
    before = math.max(before, value)
    if of == node then own = value else after = math.max(after, value) end
  elseif kind == 'c:' and of ~= node then elsewhere = elsewhere + value
  elseif kind == 't:' and of == node and value >= stamp then sockets = -1 end
end
if state >= 0 then own = state end
after = math.max(after, own)
if own > 0 then redis.call('HSET', KEYS[1], 's:' .. node, own) else redis.call('HDEL', KEYS[1], 's:' .. node) end
if sockets > 0 then redis.call('HSET', KEYS[1], 'c:' .. node, sockets, 't:' .. node, ARGV[7])
elseif sockets == 0 then redis.call('HDEL', KEYS[1], 'c:' .. node, own == 0 and 't:' .. node or '') end
if before ~= after or version == 0 then
  local time = redis.call('TIME')
  version = math.max(version + 1, time[1] * 1000000 + time[2])
end
redis.call('HSET', KEYS[1], 'seen', string.format('%.0f', seen), 'version', string.format('%.0f', version))
redis.call('PEXPIRE', KEYS[1], (after > 0 or elsewhere > 0 or sockets > 0) and ARGV[5] or ARGV[6])
return {before, after, seen, version, elsewhere}";

/// KEYS: the nodes. ARGV: node, ms after which one is dead. Returns 1 when this node counts as
/// dead itself, 2 when it was not known, else 0; then who is dead.
const BEAT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local border = now - tonumber(ARGV[2])
local last = redis.call('ZSCORE', KEYS[1], ARGV[1])
if last and tonumber(last) <= border then return {'1'} end
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('PEXPIRE', KEYS[1], 86400000)
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', border), 'LIMIT', 0, 16)
table.insert(dead, 1, last and '0' or '2')
return dead";

/// What a report has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Over all nodes.
    pub view: View,
    /// Orders the changes of one user.
    pub version: i64,
    /// Whether others see something else than before.
    pub changed: bool,
    /// Sockets on other nodes.
    pub elsewhere: u32,
}

/// What a beat has found out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Nobody knew of this node, or it counts as dead and has a new name now: all its users have
    /// to be reported again.
    pub is_new: bool,
    /// Nodes that are dead, and have users left.
    pub dead: Vec<Uuid>,
}

/// The users of all nodes, as one of the nodes sees and tells them.
#[derive(Clone)]
pub struct Members {
    shared: Arc<Shared>,
}

impl RedisBus {
    /// What all nodes know of their users together.
    pub(in crate::bus) fn members(&self) -> Members {
        Members { shared: self.shared.clone() }
    }
}

impl Members {
    /// Whether Redis can be asked now.
    pub fn is_there(&self) -> bool {
        self.shared.link.is_open()
    }

    /// This node's part of what `user_id` is: none leaves it as it is; likewise the number of its
    /// sockets.
    pub async fn report(
        &self,
        user_id: Uuid,
        view: Option<View>,
        sockets: Option<u32>,
    ) -> Result<Told, Away> {
        let me = self.me();
        let stamp = self.shared.stamp.fetch_add(1, Ordering::AcqRel) + 1;
        let told = report(me, user_id, view, sockets.map(|sockets| (sockets, stamp)));
        let users = users_of(me);
        let user = user_id.simple().to_string();
        if view.is_some_and(|view| view.state == State::Offline) {
            let told = self.ask(&told).await?;
            self.shared.link.ask::<()>(cmd("SREM").arg(&users).arg(&user)).await?;
            return Ok(told);
        }
        // Known as this node's before it counts, so that it is taken away with the node. Both
        // leave in this order on one connection.
        let mut add = cmd("SADD");
        add.arg(&users).arg(&user);
        let (_, told) = try_join(self.shared.link.ask::<()>(&add), self.ask(&told)).await?;
        Ok(told)
    }

    async fn ask(&self, report: &Cmd) -> Result<Told, Away> {
        let (before, after, seen, version, elsewhere) =
            self.shared.link.ask::<(u8, u8, i64, i64, u32)>(report).await?;
        let view = View { state: state_of(after), last_seen: instant(seen) };
        Ok(Told { view, version, changed: before != after, elsewhere })
    }

    /// `user_id` as the other nodes have them.
    pub async fn elsewhere(&self, user_id: Uuid) -> Result<View, Away> {
        let fields: Vec<(String, i64)> =
            self.shared.link.ask(cmd("HGETALL").arg(user_key(user_id))).await?;
        let own = format!("s:{}", self.me().simple());
        let mut view = View::default();
        for (field, value) in fields {
            if field == "seen" {
                view.last_seen = instant(value);
            } else if field.starts_with("s:") && field != own {
                view.state = view.state.max(state_of(u8::try_from(value).unwrap_or_default()));
            }
        }
        Ok(view)
    }

    /// Says that this node lives, and finds out who does not.
    pub async fn beat(&self) -> Result<Seen, Away> {
        let mut seen = self.beat_once().await?;
        if seen.is_none() {
            *self.shared.member.write().unwrap_or_else(PoisonError::into_inner) = Uuid::now_v7();
            seen = self.beat_once().await?;
        }
        let hour = 3_600_000;
        self.shared.link.ask::<()>(cmd("PEXPIRE").arg(users_of(self.me())).arg(hour)).await?;
        seen.ok_or(Away)
    }

    /// None when this node counts as dead.
    async fn beat_once(&self) -> Result<Option<Seen>, Away> {
        let mut script = cmd("EVAL");
        script.arg(BEAT).arg(1).arg("klearkarma:nodes");
        script.arg(self.me().simple().to_string()).arg(millis(DEAD));
        let mut answer: Vec<String> = self.shared.link.ask(&script).await?;
        if answer.is_empty() {
            return Err(Away);
        }
        let status = answer.remove(0);
        let dead = answer.iter().filter_map(|id| Uuid::try_parse(id).ok()).collect();
        Ok((status != "1").then_some(Seen { is_new: status == "2", dead }))
    }

    /// Takes away what the dead `node` has told, unless another node is at it, and hands each user
    /// whom others now see differently to `changed`. What is left when Redis goes away meanwhile
    /// is for the next sweep.
    pub async fn sweep(&self, node: Uuid, changed: impl Fn(Uuid, Told)) -> Result<(), Away> {
        let link = &self.shared.link;
        let claim = format!("klearkarma:sweep:{}", node.simple());
        let mut take = cmd("SET");
        take.arg(&claim).arg(self.me().simple().to_string()).arg("NX").arg("PX").arg(10_000);
        if link.ask::<Option<String>>(&take).await?.is_none() {
            return Ok(());
        }
        loop {
            let mut some = cmd("SRANDMEMBER");
            let names: Vec<String> = link.ask(some.arg(users_of(node)).arg(SWEPT)).await?;
            if names.is_empty() {
                break;
            }
            let users: Vec<Uuid> = names.iter().filter_map(|n| Uuid::try_parse(n).ok()).collect();
            let gone = Some(View::default());
            let reports: Vec<Cmd> = users.iter().map(|u| report(node, *u, gone, LAST)).collect();
            let told = join_all(reports.iter().map(|report| self.ask(report))).await;
            for (user_id, told) in users.into_iter().zip(told) {
                let told = told?;
                if told.changed {
                    changed(user_id, told);
                }
            }
            link.ask::<()>(cmd("SREM").arg(users_of(node)).arg(names)).await?;
            link.ask::<()>(cmd("PEXPIRE").arg(&claim).arg(10_000)).await?;
        }
        let name = node.simple().to_string();
        link.ask::<()>(cmd("ZREM").arg("klearkarma:nodes").arg(name)).await?;
        link.ask::<()>(cmd("DEL").arg(&claim)).await
    }

    pub(super) fn link(&self) -> &Link {
        &self.shared.link
    }

    fn me(&self) -> Uuid {
        *self.shared.member.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn report(node: Uuid, user_id: Uuid, view: Option<View>, sockets: Option<(u32, u64)>) -> Cmd {
    let state = match view.map(|view| view.state) {
        None => -1,
        Some(State::Offline) => 0,
        Some(State::Away) => 1,
        Some(State::Online) => 2,
    };
    let seen = view.and_then(|view| view.last_seen).map_or(0, Timestamp::as_millisecond);
    let mut script = cmd("EVAL");
    script.arg(REPORT).arg(1).arg(user_key(user_id));
    script.arg(node.simple().to_string()).arg(state).arg(seen);
    let (sockets, stamp) = sockets.map_or((-1, 0), |(sockets, stamp)| (i64::from(sockets), stamp));
    script.arg(sockets).arg(millis(PRESENT)).arg(millis(ABSENT)).arg(stamp);
    script
}

fn state_of(number: u8) -> State {
    match number {
        0 => State::Offline,
        1 => State::Away,
        _ => State::Online,
    }
}

fn instant(millisecond: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(millisecond).ok().filter(|_| millisecond > 0)
}

fn user_key(user_id: Uuid) -> String {
    format!("klearkarma:user:{}", user_id.simple())
}

fn users_of(node: Uuid) -> String {
    format!("klearkarma:node:{}:users", node.simple())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
