-- How a service is offered: how many may come, whether a request keeps the slot, what comes back.
ALTER TABLE practitioner_services
    ADD COLUMN capacity INTEGER NOT NULL DEFAULT 1,
    ADD COLUMN pending_blocks BOOLEAN NOT NULL DEFAULT TRUE,
    ADD COLUMN cancellation_policy JSONB NOT NULL
        DEFAULT '[{"minutesBefore": 1440, "refundPercent": 100}, {"minutesBefore": 240, "refundPercent": 50}]',
    ADD CONSTRAINT practitioner_services_capacity_check CHECK (capacity BETWEEN 1 AND 500);

-- One session of a service with seats. The trigger below counts them, so that whoever writes a
-- booking, and however, never sells more than there are.
CREATE TABLE group_sessions (
    id UUID PRIMARY KEY,
    practitioner_id UUID NOT NULL REFERENCES practitioners (id) ON DELETE CASCADE,
    service_id UUID NOT NULL REFERENCES services (id),
    starts_at TIMESTAMPTZ NOT NULL,
    duration_minutes INTEGER NOT NULL,
    capacity INTEGER NOT NULL,
    taken INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT group_sessions_time_key UNIQUE (practitioner_id, service_id, starts_at, duration_minutes),
    CONSTRAINT group_sessions_seats_check CHECK (taken BETWEEN 0 AND capacity)
);

ALTER TABLE bookings DROP CONSTRAINT bookings_status_check;
ALTER TABLE bookings DROP CONSTRAINT bookings_no_overlap;
ALTER TABLE bookings
    ADD COLUMN seats INTEGER NOT NULL DEFAULT 1,
    ADD COLUMN group_session_id UUID REFERENCES group_sessions (id) ON DELETE CASCADE,
    -- Copied from the offer: whether the row keeps others out while it waits for an answer.
    ADD COLUMN pending_blocks BOOLEAN NOT NULL DEFAULT TRUE,
    ADD COLUMN rescheduled_from UUID REFERENCES bookings (id) ON DELETE SET NULL,
    -- The first booking of a chain of reschedules; NULL for that one itself.
    ADD COLUMN chain_id UUID,
    -- RFC 5545 SEQUENCE: grows along the chain with what a calendar must take notice of.
    ADD COLUMN ical_sequence INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN series_id UUID,
    -- Copied from the offer, and what came of it.
    ADD COLUMN cancellation_policy JSONB NOT NULL DEFAULT '[]',
    ADD COLUMN refund_percent SMALLINT,
    ADD CONSTRAINT bookings_status_check CHECK (status IN (
        'held', 'released', 'lapsed', 'pending', 'confirmed', 'declined', 'expired', 'in_session',
        'completed', 'no_show', 'cancelled', 'rescheduled')),
    ADD CONSTRAINT bookings_seats_check CHECK (seats BETWEEN 1 AND 500),
    ADD CONSTRAINT bookings_refund_check CHECK (refund_percent BETWEEN 0 AND 100),
    ADD CONSTRAINT bookings_rescheduled_from_key UNIQUE (rescheduled_from);
ALTER TABLE bookings
    ADD COLUMN blocks BOOLEAN NOT NULL GENERATED ALWAYS AS (
        status IN ('held', 'confirmed', 'in_session') OR (status = 'pending' AND pending_blocks)) STORED;
-- Seats of one session do not exclude each other; everything else does.
ALTER TABLE bookings ADD CONSTRAINT bookings_no_overlap EXCLUDE USING gist (
    practitioner_id WITH =, occupied WITH &&, (COALESCE(group_session_id, id)) WITH <>) WHERE (blocks);
CREATE UNIQUE INDEX bookings_seat_of_seeker_key ON bookings (group_session_id, seeker_id)
    WHERE blocks AND group_session_id IS NOT NULL;
-- What every commit looks for: holds and requests of a practitioner that are over.
CREATE INDEX idx_bookings_held ON bookings (practitioner_id, hold_expires_at) WHERE status = 'held';
CREATE INDEX idx_bookings_pending ON bookings (practitioner_id, scheduled_at) WHERE status = 'pending';
CREATE INDEX idx_bookings_series ON bookings (series_id) WHERE series_id IS NOT NULL;

CREATE FUNCTION count_seats() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before INTEGER := 0;
    after INTEGER := 0;
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.blocks THEN before := OLD.seats; END IF;
    IF TG_OP <> 'DELETE' AND NEW.blocks THEN after := NEW.seats; END IF;
    IF before <> after THEN
        UPDATE group_sessions SET taken = taken + after - before
         WHERE id = CASE TG_OP WHEN 'DELETE' THEN OLD.group_session_id ELSE NEW.group_session_id END;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER bookings_seats_in AFTER INSERT ON bookings FOR EACH ROW
    WHEN (NEW.group_session_id IS NOT NULL) EXECUTE FUNCTION count_seats();
CREATE TRIGGER bookings_seats_change AFTER UPDATE ON bookings FOR EACH ROW
    WHEN (NEW.group_session_id IS NOT NULL) EXECUTE FUNCTION count_seats();
CREATE TRIGGER bookings_seats_out AFTER DELETE ON bookings FOR EACH ROW
    WHEN (OLD.group_session_id IS NOT NULL) EXECUTE FUNCTION count_seats();

-- What the change was, so that a booking can be rebuilt from its events. Not shown to anybody.
ALTER TABLE booking_events ADD COLUMN data JSONB NOT NULL DEFAULT '{}';
DROP TRIGGER booking_events_append_only ON booking_events;
CREATE TRIGGER booking_events_append_only
    BEFORE UPDATE OF version, action, from_status, to_status, reason, created_at, data
    ON booking_events FOR EACH ROW EXECUTE FUNCTION refuse_update();

-- Who waits for a slot of a service to become free, first come first served.
CREATE TABLE waitlist (
    id UUID PRIMARY KEY,
    seeker_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    practitioner_id UUID NOT NULL REFERENCES practitioners (id) ON DELETE CASCADE,
    service_id UUID NOT NULL REFERENCES services (id),
    -- The session has to lie between these.
    from_at TIMESTAMPTZ NOT NULL,
    until_at TIMESTAMPTZ NOT NULL,
    status VARCHAR(10) NOT NULL DEFAULT 'waiting',
    -- The hold that was offered.
    hold_id UUID REFERENCES bookings (id) ON DELETE SET NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT waitlist_order_check CHECK (from_at < until_at),
    CONSTRAINT waitlist_status_check CHECK (status IN ('waiting', 'offered', 'booked', 'missed', 'left')),
    CONSTRAINT waitlist_hold_key UNIQUE (hold_id)
);
CREATE INDEX idx_waitlist_waiting ON waitlist (practitioner_id, service_id, created_at, id) WHERE status = 'waiting';
CREATE INDEX idx_waitlist_seeker ON waitlist (seeker_id);
