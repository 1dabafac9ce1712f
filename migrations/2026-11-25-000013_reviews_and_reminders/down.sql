DROP TABLE reminders;
ALTER TABLE outbox DROP COLUMN held;
DROP TABLE notification_preferences;
DROP TRIGGER reviews_counted ON reviews;
DROP FUNCTION count_review();
ALTER TABLE practitioners
    DROP CONSTRAINT practitioners_rating_is_the_mean,
    DROP CONSTRAINT practitioners_stars_check,
    DROP COLUMN rating_sum,
    DROP COLUMN review_count;
DROP INDEX idx_reviews_reviewer;
DROP INDEX idx_reviews_stars;
DROP INDEX idx_reviews_newest;
-- Whoever does not know of removals would show them.
DELETE FROM reviews WHERE removed_at IS NOT NULL;
ALTER TABLE reviews
    DROP CONSTRAINT reviews_removed_check,
    DROP CONSTRAINT reviews_booking_key,
    DROP COLUMN removed_at;
