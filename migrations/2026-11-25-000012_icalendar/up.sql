-- The secret address under which a calendar app reads somebody's bookings: of a practice, or of a
-- seeker. There is at most one of each.
CREATE TABLE calendar_feeds (
    id UUID PRIMARY KEY,
    practitioner_id UUID REFERENCES practitioners (id) ON DELETE CASCADE,
    user_id UUID REFERENCES users (id) ON DELETE CASCADE,
    -- SHA-256 of the token: who reads the table can not read the calendars.
    token_hash BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT calendar_feeds_practitioner_id_key UNIQUE (practitioner_id),
    CONSTRAINT calendar_feeds_user_id_key UNIQUE (user_id),
    CONSTRAINT calendar_feeds_token_hash_key UNIQUE (token_hash),
    CONSTRAINT calendar_feeds_owner_check CHECK ((practitioner_id IS NULL) <> (user_id IS NULL))
);

-- Calendars elsewhere whose busy times keep a practitioner's own calendar busy.
CREATE TABLE external_calendars (
    id UUID PRIMARY KEY,
    practitioner_id UUID NOT NULL REFERENCES practitioners (id) ON DELETE CASCADE,
    name VARCHAR(100) NOT NULL,
    -- Where it is read; NULL for a file that was uploaded. Often a secret, and never shown.
    url TEXT,
    host VARCHAR(255),
    -- What the last full reading was answered with, for the next one to be conditional.
    etag VARCHAR(200),
    last_modified VARCHAR(200),
    -- The zone that its all-day events were read in.
    read_zone VARCHAR(64),
    -- SHA-256 of its busy times, so that a reading without news touches nothing else.
    busy_hash BYTEA,
    -- Occurrences that keep busy, and events that made no sense.
    events INTEGER NOT NULL DEFAULT 0,
    unreadable INTEGER NOT NULL DEFAULT 0,
    -- The last reading that succeeded, and the last of them that was not answered "unchanged".
    last_read_at TIMESTAMPTZ,
    full_read_at TIMESTAMPTZ,
    -- Since when readings fail; the busy times are those of last_read_at.
    stale_since TIMESTAMPTZ,
    last_error VARCHAR(200),
    failures INTEGER NOT NULL DEFAULT 0,
    -- Grows with every reading that begins: what an older one brings is not taken.
    attempt BIGINT NOT NULL DEFAULT 0,
    attempted_at TIMESTAMPTZ,
    -- When it is due, or when whoever took it is given up on.
    next_read_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT external_calendars_source_check CHECK (
        (url IS NULL) = (next_read_at IS NULL) AND (url IS NULL) = (host IS NULL)),
    CONSTRAINT external_calendars_error_check CHECK ((stale_since IS NULL) = (last_error IS NULL))
);
CREATE INDEX idx_external_calendars_practitioner ON external_calendars (practitioner_id);
CREATE INDEX idx_external_calendars_due ON external_calendars (next_read_at) WHERE next_read_at IS NOT NULL;

-- NULL: the practitioner's own. The busy times of other calendars are rows here, so that whatever
-- respects blocked times respects them.
ALTER TABLE blocked_times ADD COLUMN external_calendar_id UUID REFERENCES external_calendars (id) ON DELETE CASCADE;
CREATE INDEX idx_blocked_times_external ON blocked_times (external_calendar_id) WHERE external_calendar_id IS NOT NULL;
