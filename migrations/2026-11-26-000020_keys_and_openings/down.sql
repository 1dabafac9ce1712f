DROP TABLE waitlist_looks;
ALTER TABLE bookings DROP COLUMN booked_under;
ALTER TABLE idempotency_keys DROP COLUMN id;
