-- Blocked times that came of one recurrence, so that they can be opened again together. Each is a
-- row of its own: what is busy never depends on a rule that would have to be unrolled.
ALTER TABLE blocked_times ADD COLUMN series_id UUID;
CREATE INDEX idx_blocked_times_series ON blocked_times (series_id) WHERE series_id IS NOT NULL;
