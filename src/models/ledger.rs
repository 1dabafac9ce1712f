//! What became of the pushes about messages: one row of the outbox per message and recipient, so
//! that over all states they add up to what was stored.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;

use super::Conn;

/// The states, in the order of a push's life.
pub const STATES: [&str; 5] = ["waiting", "acknowledged", "pushed", "unwanted", "expired"];

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// How many pushes about messages are in each of [`STATES`]: `waiting` for the window, for quiet
/// hours or for a push service; `acknowledged` by a device or read; `pushed` to at least one device;
/// `unwanted` by the recipient's preferences; `expired`: no device, or none took it. Settled ones are
/// forgotten after days (`jobs/sweep.rs`).
pub async fn count(conn: &mut Conn) -> QueryResult<[i64; STATES.len()]> {
    let counts: Vec<Count> = diesel::sql_query(
        "SELECT state, count(*) AS count FROM (
            SELECT CASE
                     WHEN o.state = 'waiting' OR d.waits THEN 'waiting'
                     WHEN d.came THEN 'pushed'
                     WHEN o.topic_seq <= m.delivered_seq THEN 'acknowledged'
                     WHEN o.state = 'cancelled' THEN 'unwanted'
                     ELSE 'expired' END AS state
              FROM outbox o
              LEFT JOIN (SELECT outbox_id, bool_or(state = 'waiting') AS waits,
                                bool_or(state = 'delivered') AS came
                           FROM push_deliveries GROUP BY outbox_id) d ON d.outbox_id = o.id
              LEFT JOIN conversation_members m ON m.user_id = o.user_id
                    AND m.conversation_id = substring(o.topic FROM 14)::uuid
             WHERE o.topic_seq IS NOT NULL AND o.topic LIKE 'conversation:%') settled
          GROUP BY state",
    )
    .load(conn)
    .await?;
    let of = |state| counts.iter().find(|c| c.state == state).map_or(0, |c| c.count);
    Ok(STATES.map(of))
}
