//! What all nodes know of their users together: who is there, and with how many sockets.
//!
//! | key | what | life |
//! |---|---|---|
//! | `klearkarma:user:<id>` | per node the state and the number of sockets, each with the stamp of what told it; when last seen; the version of the last change | 10 min while somebody is there, renewed each minute; else 7 days |
//! | `klearkarma:nodes` | when each node was last heard | a day |
//! | `klearkarma:node:<id>:present` | whom a node has told of, by stamp | an hour, renewed |
//! | `klearkarma:sweep:<id>` | which node forgets a dead one | 10 s |
//!
//! Each change of a user is one script, so that of two nodes that change it at once exactly one
//! sees what others see change, and tells it. A node that was not heard for 20 s is dead: another
//! one takes its entries away, user by user, and tells what that changes. The sockets of one that
//! was not heard for 9 s do not count any more: its users have to be let in elsewhere.

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
/// One that was not heard for so long is late; nodes say that they live every 5 s.
const LATE: Duration = Duration::from_secs(9);
/// Life of an entry while somebody is there.
const PRESENT: Duration = Duration::from_secs(600);
/// Life of an entry that only says when somebody was last seen.
const ABSENT: Duration = Duration::from_secs(7 * 86_400);
/// The stamp of what is said of a dead node, after everything it said itself.
const LAST: u64 = 1 << 52;
/// Users of a dead node that are looked at together.
const SWEPT: usize = 100;

/// KEYS: the user. ARGV: node; state of it (0 offline, 1 away, 2 online, -1 as before); seen in ms
/// (0 unknown); sockets (-1 as before); life while present; life while absent; the stamp of what is
/// told; nodes whose sockets do not count. A stamp that is not above the known one is of the past:
/// after a silence Redis may read an old connection after a new one.
/// Returns what the state was over all nodes and what it is, seen, version, sockets elsewhere.
const REPORT: &str = r"
local all = redis.call('HGETALL', KEYS[1])
local node, state, seen, sockets = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local stamp = tonumber(ARGV[7])
local before, after, version, elsewhere, own, here, others = 0, 0, 0, 0, 0, {}, {}
for i = 1, #all, 2 do
  local field, value = all[i], tonumber(all[i + 1])
  local kind, of = string.sub(field, 1, 2), string.sub(field, 3)
  if field == 'seen' then seen = math.max(seen, value)
  elseif field == 'version' then version = value
  elseif kind == 's:' then
    here[of], before = true, math.max(before, value)
    if of == node then own = value else after = math.max(after, value) end
  elseif kind == 'c:' and of ~= node then
    here[of] = true
    if not string.find(ARGV[8], of, 1, true) then elsewhere = elsewhere + value end
  elseif kind == 't:' and of == node then if value >= stamp then sockets = -1 end
  elseif kind == 'u:' and of == node then if value >= stamp then state = -1 end
  elseif kind == 'u:' then table.insert(others, of) end
end
if state >= 0 then own = state redis.call('HSET', KEYS[1], 'u:' .. node, ARGV[7]) end
after = math.max(after, own)
if own > 0 then redis.call('HSET', KEYS[1], 's:' .. node, own) else redis.call('HDEL', KEYS[1], 's:' .. node) end
if sockets >= 0 then redis.call('HSET', KEYS[1], 't:' .. node, ARGV[7]) end
if sockets > 0 then redis.call('HSET', KEYS[1], 'c:' .. node, sockets)
elseif sockets == 0 then redis.call('HDEL', KEYS[1], 'c:' .. node) end
if #others > 8 then
  for _, of in ipairs(others) do
    if not here[of] then redis.call('HDEL', KEYS[1], 'u:' .. of, 't:' .. of) end
  end
end
if before ~= after or version == 0 then
  local time = redis.call('TIME')
  version = math.max(version + 1, time[1] * 1000000 + time[2])
end
redis.call('HSET', KEYS[1], 'seen', string.format('%.0f', seen), 'version', string.format('%.0f', version))
redis.call('PEXPIRE', KEYS[1], (after > 0 or elsewhere > 0 or sockets > 0) and ARGV[5] or ARGV[6])
return {before, after, seen, version, elsewhere}";

/// KEYS: whom a node has told of. ARGV: the user; the stamp. Takes the user out unless they were told
/// of after that stamp.
const GONE: &str = r"
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
if known and tonumber(known) <= tonumber(ARGV[2]) then redis.call('ZREM', KEYS[1], ARGV[1]) end";

/// KEYS: the nodes. ARGV: node. Makes it known, so that what it tells is taken away with it even if
/// it dies before its first beat.
const ENTER: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', now), ARGV[1])";

/// KEYS: the nodes. ARGV: node, ms after which one is dead, and after which it is late. Returns 1
/// when this node counts as dead itself, 2 when it was not known, else 0; then who is dead; then an
/// empty word and who is late.
const BEAT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local border, late = now - tonumber(ARGV[2]), now - tonumber(ARGV[3])
local last = redis.call('ZSCORE', KEYS[1], ARGV[1])
if last and tonumber(last) <= border then return {'1'} end
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('PEXPIRE', KEYS[1], 86400000)
local answer = {last and '0' or '2'}
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', border), 'LIMIT', 0, 16)) do
  table.insert(answer, node)
end
table.insert(answer, '')
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', late), 'LIMIT', 0, 64)) do
  table.insert(answer, node)
end
return answer";

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

impl Told {
    /// What [`REPORT`] has answered.
    fn read((before, after, seen, version, elsewhere): (u8, u8, i64, i64, u32)) -> Self {
        let view = View { state: state_of(after), last_seen: instant(seen) };
        Self { view, version, changed: before != after, elsewhere }
    }
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
        self.shared.link.is_connected()
    }

    /// This node's part of what `user_id` is: none leaves it as it is; likewise the number of its
    /// sockets. Nobody waits for it. Of two reports the one that was called later counts.
    pub fn report(
        &self,
        user_id: Uuid,
        view: Option<View>,
        sockets: Option<u32>,
    ) -> impl Future<Output = Result<Told, Away>> + Send + use<> {
        let (link, me, stamp) = (self.shared.link.clone(), self.me(), self.stamp());
        let told = self.told(me, user_id, (view, sockets), stamp);
        let leaves = view.is_some_and(|view| view.state == State::Offline);
        let enter = self.enter(me);
        async move {
            if let Some(enter) = enter {
                link.ask_patiently::<()>(&enter).await?;
            }
            if leaves {
                let told = Told::read(link.ask_patiently(&told).await?);
                let user = user_id.simple().to_string();
                let mut gone = cmd("EVAL");
                gone.arg(GONE).arg(1).arg(users_of(me)).arg(user).arg(stamp);
                link.ask_patiently::<()>(&gone).await?;
                return Ok(told);
            }
            let add = known_here(me, user_id, stamp);
            let both = try_join(link.ask_patiently::<()>(&add), link.ask_patiently(&told));
            Ok(Told::read(both.await?.1))
        }
    }

    /// One more socket of `user_id` opened on this node, which makes it `here` of them; returns how
    /// many there are on other nodes. The socket waits for it. Ordered like reports.
    pub fn opened(
        &self,
        user_id: Uuid,
        here: u32,
    ) -> impl Future<Output = Result<u32, Away>> + Send + use<> {
        let (link, me, stamp) = (self.shared.link.clone(), self.me(), self.stamp());
        let told = self.told(me, user_id, (None, Some(here)), stamp);
        let add = known_here(me, user_id, stamp);
        let enter = self.enter(me);
        async move {
            if let Some(enter) = enter {
                link.ask::<()>(&enter).await?;
            }
            let (_, told) = try_join(link.ask::<()>(&add), link.ask(&told)).await?;
            Ok(Told::read(told).elsewhere)
        }
    }

    /// The command by which this node becomes known, until a beat has done so.
    fn enter(&self, me: Uuid) -> Option<Cmd> {
        let mut enter = cmd("EVAL");
        enter.arg(ENTER).arg(1).arg("klearkarma:nodes").arg(me.simple().to_string());
        (!self.shared.is_known.load(Ordering::Acquire)).then_some(enter)
    }

    /// The command that tells what `user_id` is on `node`, and how many sockets they have there.
    fn told(
        &self,
        node: Uuid,
        user_id: Uuid,
        (view, sockets): (Option<View>, Option<u32>),
        stamp: u64,
    ) -> Cmd {
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
        script.arg(sockets.map_or(-1, i64::from)).arg(millis(PRESENT)).arg(millis(ABSENT));
        script.arg(stamp);
        script.arg(&*self.shared.late.read().unwrap_or_else(PoisonError::into_inner));
        script
    }

    fn stamp(&self) -> u64 {
        self.shared.stamp.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// `user_id` as the other nodes have them, and the version of the last change, if there is one.
    pub async fn elsewhere(&self, user_id: Uuid) -> Result<(View, Option<i64>), Away> {
        let fields: Vec<(String, i64)> =
            self.shared.link.ask(cmd("HGETALL").arg(user_key(user_id))).await?;
        let own = format!("s:{}", self.me().simple());
        let (mut view, mut version) = (View::default(), None);
        for (field, value) in fields {
            if field == "seen" {
                view.last_seen = instant(value);
            } else if field == "version" {
                version = Some(value);
            } else if field.starts_with("s:") && field != own {
                view.state = view.state.max(state_of(u8::try_from(value).unwrap_or_default()));
            }
        }
        Ok((view, version))
    }

    /// Says that this node lives, and finds out who does not.
    pub async fn beat(&self) -> Result<Seen, Away> {
        // One whose last beat was not answered may be new without knowing it.
        let was_known = self.shared.is_known.load(Ordering::Acquire);
        let mut seen = self.beat_once().await?;
        // One that was known and is not any more was taken for dead, too, and taken away.
        if seen.as_ref().is_none_or(|seen| seen.is_new && was_known) {
            self.shared.is_known.store(false, Ordering::Release);
            *self.shared.member.write().unwrap_or_else(PoisonError::into_inner) = Uuid::now_v7();
            seen = self.beat_once().await?;
        }
        let hour = 3_600_000;
        self.shared
            .link
            .ask_patiently::<()>(cmd("PEXPIRE").arg(users_of(self.me())).arg(hour))
            .await?;
        self.shared.is_known.store(true, Ordering::Release);
        seen.map(|seen| Seen { is_new: seen.is_new || !was_known, ..seen }).ok_or(Away)
    }

    /// None when this node counts as dead.
    async fn beat_once(&self) -> Result<Option<Seen>, Away> {
        let mut script = cmd("EVAL");
        script.arg(BEAT).arg(1).arg("klearkarma:nodes");
        script.arg(self.me().simple().to_string()).arg(millis(DEAD)).arg(millis(LATE));
        let mut answer: Vec<String> = self.shared.link.ask_patiently(&script).await?;
        if answer.is_empty() {
            return Err(Away);
        }
        let status = answer.remove(0);
        let mut parts = answer.split(String::is_empty);
        let mut part = || parts.next().unwrap_or_default();
        let dead = part().iter().filter_map(|id| Uuid::try_parse(id).ok()).collect();
        *self.shared.late.write().unwrap_or_else(PoisonError::into_inner) = part().join(",");
        Ok((status != "1").then_some(Seen { is_new: status == "2", dead }))
    }

    /// Takes away what the dead `node` has told, unless another node is at it, and hands `tell` what
    /// each of its users is now: also those who are as before, since an earlier sweep may have ended
    /// before it told. What is left when Redis goes away meanwhile is for the next sweep.
    pub async fn sweep(&self, node: Uuid, tell: impl Fn(Uuid, Told)) -> Result<(), Away> {
        let link = &self.shared.link;
        let claim = format!("klearkarma:sweep:{}", node.simple());
        let mut take = cmd("SET");
        take.arg(&claim).arg(self.me().simple().to_string()).arg("NX").arg("PX").arg(10_000);
        if link.ask_patiently::<Option<String>>(&take).await?.is_none() {
            return Ok(());
        }
        loop {
            let mut some = cmd("ZRANGE");
            some.arg(users_of(node)).arg(0).arg(SWEPT);
            let names: Vec<String> = link.ask_patiently(&some).await?;
            if names.is_empty() {
                break;
            }
            let users: Vec<Uuid> = names.iter().filter_map(|n| Uuid::try_parse(n).ok()).collect();
            let gone = (Some(View::default()), Some(0));
            let reports: Vec<Cmd> =
                users.iter().map(|user| self.told(node, *user, gone, LAST)).collect();
            let told = join_all(reports.iter().map(|report| link.ask_patiently(report))).await;
            let mut all = Ok(());
            for (user_id, told) in users.into_iter().zip(told) {
                match told {
                    Ok(told) => tell(user_id, Told::read(told)),
                    Err(e) => all = Err(e),
                }
            }
            all?;
            link.ask_patiently::<()>(cmd("ZREM").arg(users_of(node)).arg(names)).await?;
            link.ask_patiently::<()>(cmd("PEXPIRE").arg(&claim).arg(10_000)).await?;
        }
        let name = node.simple().to_string();
        link.ask_patiently::<()>(cmd("ZREM").arg("klearkarma:nodes").arg(name)).await?;
        link.ask_patiently::<()>(cmd("DEL").arg(&claim)).await
    }

    pub(super) fn link(&self) -> &Link {
        &self.shared.link
    }

    fn me(&self) -> Uuid {
        *self.shared.member.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `user_id` as one whom the node has told of, which takes them away with itself: before what it
/// tells counts. Both leave in this order on one connection.
fn known_here(node: Uuid, user_id: Uuid, stamp: u64) -> Cmd {
    let mut add = cmd("ZADD");
    add.arg(users_of(node)).arg("GT").arg(stamp).arg(user_id.simple().to_string());
    add
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
    format!("klearkarma:node:{}:present", node.simple())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
