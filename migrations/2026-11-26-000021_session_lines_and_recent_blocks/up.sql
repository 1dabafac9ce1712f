-- Which blocks came lately: every node with open sockets asks once a second (jobs/revoke.rs).
CREATE INDEX idx_user_blocks_created ON user_blocks (created_at, blocker_id, blocked_id);
