DROP INDEX idx_blocked_times_series;
ALTER TABLE blocked_times DROP COLUMN series_id;
