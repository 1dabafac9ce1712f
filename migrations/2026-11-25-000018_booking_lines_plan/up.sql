-- A session keeps the plan of its first batch, whose tables may be empty: it then reads all bookings
-- for every batch until they are analyzed.
ALTER FUNCTION note_booking_lines() SET enable_seqscan = off;
