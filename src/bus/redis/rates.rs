//! What one user may do in a second, over all nodes.
//!
//! A node lets its users spend from a bucket of its own and says afterwards what they have spent,
//! so that nobody waits for Redis. Over all nodes that is one bucket in the key
//! `klearkarma:rate:<user>`, which lives until it is full again; when it is empty, the node is told
//! for how long.

use std::time::Duration;

use redis::cmd;
use uuid::Uuid;

use super::link::Away;
use super::presence::Members;

/// KEYS: the bucket. ARGV: spent, tokens per second, most tokens. Returns how many milliseconds
/// there is nothing to spend. What was spent beyond the bucket is owed, up to one bucket.
const SPEND: &str = r"
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local spent, rate, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local known = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(known[1] or most), tonumber(known[2] or now)
tokens = math.min(most, tokens + math.max(0, now - at) * rate)
tokens = math.max(-most, tokens - spent)
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil((most - tokens) / rate * 1000) + 1)
if tokens >= 1 then return 0 end
return math.ceil((1 - tokens) / rate * 1000)";

impl Members {
    /// `user_id` has spent `spent` of `per_second` tokens a second, of which a pause earns at most
    /// `burst`. Returns for how long there is nothing left to spend, over all nodes.
    pub async fn spend(
        &self,
        user_id: Uuid,
        spent: u32,
        (per_second, burst): (u32, u32),
    ) -> Result<Duration, Away> {
        let mut script = cmd("EVAL");
        script.arg(SPEND).arg(1).arg(format!("klearkarma:rate:{}", user_id.simple()));
        script.arg(spent).arg(per_second.max(1)).arg(burst.max(1));
        Ok(Duration::from_millis(self.link().ask(&script).await?))
    }
}
