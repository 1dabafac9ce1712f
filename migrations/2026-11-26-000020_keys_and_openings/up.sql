-- A keyed request finds what it made, even when its answer was lost: a booking or hold that it
-- makes has the key's id, a series has it as series_id, a hold that it books as booked_under.
ALTER TABLE idempotency_keys ADD COLUMN id UUID NOT NULL DEFAULT gen_random_uuid();
ALTER TABLE bookings ADD COLUMN booked_under UUID;

-- Calendars in which time opened, other than what a booking gave up, while somebody waits for a slot:
-- written in the transaction that opened it, gone with the one that offered what there is.
CREATE TABLE waitlist_looks (
    practitioner_id UUID PRIMARY KEY REFERENCES practitioners (id) ON DELETE CASCADE,
    -- Grows when time opens again before it was offered.
    wanted BIGINT NOT NULL DEFAULT 1
);
