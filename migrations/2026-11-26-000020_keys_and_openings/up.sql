-- A keyed request finds what it made, even when its answer was lost: a booking or hold that it
-- makes has the key's id, a series has it as series_id, a hold that it books as booked_under.
ALTER TABLE idempotency_keys ADD COLUMN id UUID NOT NULL DEFAULT gen_random_uuid();
ALTER TABLE bookings ADD COLUMN booked_under UUID;
