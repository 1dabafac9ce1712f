DROP TABLE booking_events;
DROP TABLE bookings;
DROP TABLE blocked_times;
DROP TABLE calendar_changes;
DROP TABLE calendars;
