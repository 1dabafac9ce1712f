DELETE FROM blocked_times WHERE external_calendar_id IS NOT NULL;
ALTER TABLE blocked_times DROP COLUMN external_calendar_id;
DROP TABLE external_calendars;
DROP TABLE calendar_feeds;
