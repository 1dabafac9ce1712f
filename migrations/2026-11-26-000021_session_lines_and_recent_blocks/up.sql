-- Which blocks came lately: every node with open sockets asks once a second (jobs/revoke.rs).
CREATE INDEX idx_user_blocks_created ON user_blocks (created_at, blocker_id, blocked_id);

-- Conversations hear of the session, too: that it began, ended, was missed.
CREATE OR REPLACE FUNCTION note_booking_lines() RETURNS trigger LANGUAGE plpgsql
    SET enable_seqscan = off AS $$
BEGIN
    INSERT INTO booking_lines (booking_id, version, conversation_id, action)
    SELECT e.booking_id, e.version, c.id, e.action
      FROM added e
      JOIN bookings b ON b.id = e.booking_id
      JOIN practitioners p ON p.id = b.practitioner_id
      JOIN conversations c
        ON c.direct_key = LEAST(b.seeker_id, p.user_id)::text || ':' || GREATEST(b.seeker_id, p.user_id)::text
     WHERE e.action IN ('book', 'confirm', 'decline', 'cancel', 'expire', 'start', 'end', 'no_show')
        -- Of the two rows of a move, the new one.
        OR (e.action = 'reschedule' AND e.from_status IS NULL);
    RETURN NULL;
END
$$;
