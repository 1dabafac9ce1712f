-- The head of each practitioner's calendar channel. Every change of what is busy or open takes
-- the next version, under the practitioner's advisory lock.
CREATE TABLE calendars (
    practitioner_id UUID PRIMARY KEY REFERENCES practitioners (id) ON DELETE CASCADE,
    version BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE calendar_changes (
    practitioner_id UUID NOT NULL REFERENCES practitioners (id) ON DELETE CASCADE,
    version BIGINT NOT NULL,
    changes JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (practitioner_id, version)
);

CREATE TABLE blocked_times (
    id UUID PRIMARY KEY,
    practitioner_id UUID NOT NULL REFERENCES practitioners (id) ON DELETE CASCADE,
    starts_at TIMESTAMPTZ NOT NULL,
    ends_at TIMESTAMPTZ NOT NULL,
    reason VARCHAR(200),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT blocked_times_order_check CHECK (starts_at < ends_at)
);
CREATE INDEX idx_blocked_times_practitioner ON blocked_times (practitioner_id, ends_at);

-- Holds and bookings are one table, so that one constraint guards both: a hold is a row in
-- status 'held', and booking it is a change of status, not a second row.
CREATE TABLE bookings (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    seeker_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    practitioner_id UUID NOT NULL REFERENCES practitioners (id) ON DELETE CASCADE,
    service_id UUID NOT NULL REFERENCES services (id),
    scheduled_at TIMESTAMPTZ NOT NULL,
    duration_minutes INTEGER NOT NULL,
    ends_at TIMESTAMPTZ NOT NULL,
    occupied_from TIMESTAMPTZ NOT NULL,
    occupied_until TIMESTAMPTZ NOT NULL,
    occupied TSTZRANGE NOT NULL GENERATED ALWAYS AS (tstzrange(occupied_from, occupied_until, '[)')) STORED,
    total_amount BIGINT NOT NULL,
    commission_amount BIGINT NOT NULL,
    currency VARCHAR(3) NOT NULL DEFAULT 'INR',
    status VARCHAR(20) NOT NULL DEFAULT 'pending',
    hold_expires_at TIMESTAMPTZ,
    hold_extended BOOLEAN NOT NULL DEFAULT FALSE,
    cancellation_reason TEXT,
    notes TEXT,
    -- What the practitioner wrote down at the end; the seeker does not see it.
    session_notes TEXT,
    version BIGINT NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT bookings_status_check CHECK (status IN (
        'held', 'released', 'lapsed',
        'pending', 'confirmed', 'declined', 'expired', 'in_session', 'completed', 'no_show', 'cancelled')),
    CONSTRAINT bookings_duration_check CHECK (duration_minutes BETWEEN 1 AND 1440),
    CONSTRAINT bookings_times_check CHECK (
        occupied_from <= scheduled_at AND scheduled_at < ends_at AND ends_at <= occupied_until),
    CONSTRAINT bookings_amounts_check CHECK (total_amount >= 0 AND commission_amount BETWEEN 0 AND total_amount),
    CONSTRAINT bookings_hold_check CHECK (status <> 'held' OR hold_expires_at IS NOT NULL),
    CONSTRAINT bookings_no_overlap EXCLUDE USING gist (practitioner_id WITH =, occupied WITH &&)
        WHERE (status IN ('held', 'pending', 'confirmed', 'in_session'))
);
CREATE INDEX idx_bookings_seeker ON bookings (seeker_id);
CREATE INDEX idx_bookings_practitioner ON bookings (practitioner_id);
CREATE INDEX idx_bookings_scheduled ON bookings (scheduled_at);
CREATE INDEX idx_bookings_status ON bookings (status);
CREATE INDEX idx_bookings_practitioner_date ON bookings (practitioner_id, scheduled_at);
CREATE INDEX idx_bookings_hold_expiry ON bookings (hold_expires_at) WHERE status = 'held';
CREATE TRIGGER bookings_updated_at BEFORE UPDATE ON bookings FOR EACH ROW EXECUTE FUNCTION set_updated_at();

-- Who did what to a booking, when and why; written in the transaction that changed it.
CREATE TABLE booking_events (
    booking_id UUID NOT NULL REFERENCES bookings (id) ON DELETE CASCADE,
    version BIGINT NOT NULL,
    action VARCHAR(20) NOT NULL,
    from_status VARCHAR(20),
    to_status VARCHAR(20) NOT NULL,
    actor_id UUID REFERENCES users (id) ON DELETE SET NULL,
    reason TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (booking_id, version)
);
-- actor_id alone may change: a deleted account is forgotten, what happened is not.
CREATE TRIGGER booking_events_append_only BEFORE UPDATE OF version, action, from_status, to_status, reason, created_at
    ON booking_events FOR EACH ROW EXECUTE FUNCTION refuse_update();
