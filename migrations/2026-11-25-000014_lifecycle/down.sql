DROP TABLE waitlist;
DROP TRIGGER booking_events_append_only ON booking_events;
ALTER TABLE booking_events DROP COLUMN data;
CREATE TRIGGER booking_events_append_only BEFORE UPDATE OF version, action, from_status, to_status, reason, created_at
    ON booking_events FOR EACH ROW EXECUTE FUNCTION refuse_update();
DROP TRIGGER bookings_seats_out ON bookings;
DROP TRIGGER bookings_seats_change ON bookings;
DROP TRIGGER bookings_seats_in ON bookings;
DROP FUNCTION count_seats();
DROP INDEX idx_bookings_series;
DROP INDEX idx_bookings_pending;
DROP INDEX idx_bookings_held;
DROP INDEX bookings_seat_of_seeker_key;
ALTER TABLE bookings DROP CONSTRAINT bookings_no_overlap;
ALTER TABLE bookings DROP CONSTRAINT bookings_status_check;
ALTER TABLE bookings DROP COLUMN blocks;
-- What the older schema has no words for.
DELETE FROM bookings WHERE group_session_id IS NOT NULL OR (status = 'pending' AND NOT pending_blocks);
UPDATE bookings SET status = 'cancelled' WHERE status = 'rescheduled';
ALTER TABLE bookings
    DROP CONSTRAINT bookings_rescheduled_from_key,
    DROP COLUMN seats,
    DROP COLUMN group_session_id,
    DROP COLUMN pending_blocks,
    DROP COLUMN rescheduled_from,
    DROP COLUMN chain_id,
    DROP COLUMN ical_sequence,
    DROP COLUMN series_id,
    DROP COLUMN cancellation_policy,
    DROP COLUMN refund_percent,
    ADD CONSTRAINT bookings_status_check CHECK (status IN (
        'held', 'released', 'lapsed',
        'pending', 'confirmed', 'declined', 'expired', 'in_session', 'completed', 'no_show', 'cancelled'));
ALTER TABLE bookings ADD CONSTRAINT bookings_no_overlap EXCLUDE USING gist (practitioner_id WITH =, occupied WITH &&)
    WHERE (status IN ('held', 'pending', 'confirmed', 'in_session'));
DROP TABLE group_sessions;
ALTER TABLE practitioner_services
    DROP COLUMN capacity, DROP COLUMN pending_blocks, DROP COLUMN cancellation_policy;
