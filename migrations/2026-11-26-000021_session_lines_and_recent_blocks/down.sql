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
     WHERE e.action IN ('book', 'confirm', 'decline', 'cancel', 'expire')
        -- Of the two rows of a move, the new one.
        OR (e.action = 'reschedule' AND e.from_status IS NULL);
    RETURN NULL;
END
$$;
DROP INDEX idx_user_blocks_created;
