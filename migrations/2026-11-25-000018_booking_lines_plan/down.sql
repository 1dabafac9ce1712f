ALTER FUNCTION note_booking_lines() RESET enable_seqscan;
