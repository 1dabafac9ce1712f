-- A booking is reviewed once, and once is once: a review that is taken away leaves its row behind,
-- without its words, so that nobody writes another in its place. The hub wrote no reviews before;
-- of several of one booking that something else wrote, the first stays.
DELETE FROM reviews r USING reviews o
 WHERE o.booking_id = r.booking_id AND (o.created_at, o.id) < (r.created_at, r.id);
ALTER TABLE reviews
    ADD COLUMN removed_at TIMESTAMPTZ,
    ADD CONSTRAINT reviews_booking_key UNIQUE (booking_id),
    ADD CONSTRAINT reviews_removed_check CHECK (removed_at IS NULL OR comment IS NULL);
CREATE INDEX idx_reviews_newest ON reviews (reviewee_id, created_at DESC, id DESC) WHERE removed_at IS NULL;
CREATE INDEX idx_reviews_stars ON reviews (reviewee_id, rating) WHERE removed_at IS NULL;
CREATE INDEX idx_reviews_reviewer ON reviews (reviewer_id, created_at DESC, id DESC);

-- Whole numbers from which the rating follows; it is never computed from an older rating.
ALTER TABLE practitioners
    ADD COLUMN review_count INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN rating_sum INTEGER NOT NULL DEFAULT 0;
UPDATE practitioners p
   SET review_count = r.n, rating_sum = r.stars, rating = round(r.stars::numeric / r.n, 2)
  FROM (SELECT reviewee_id, count(*) AS n, sum(rating) AS stars FROM reviews GROUP BY reviewee_id) r
 WHERE r.reviewee_id = p.user_id;
UPDATE practitioners SET rating = 0 WHERE review_count = 0 AND rating <> 0;
ALTER TABLE practitioners
    ADD CONSTRAINT practitioners_stars_check CHECK (
        review_count >= 0 AND rating_sum BETWEEN review_count AND 5 * review_count),
    ADD CONSTRAINT practitioners_rating_is_the_mean CHECK (rating =
        CASE review_count WHEN 0 THEN 0 ELSE round(rating_sum::numeric / review_count, 2) END);

-- Counts a review into its practice, whoever changes it: an account whose bookings go takes its
-- reviews with it, and no code of the hub sees those. The row lock of the practice makes it exact.
CREATE FUNCTION count_review() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    more INTEGER := 0;
    stars INTEGER := 0;
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.removed_at IS NULL THEN
        more := more - 1;
        stars := stars - OLD.rating;
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.removed_at IS NULL THEN
        more := more + 1;
        stars := stars + NEW.rating;
    END IF;
    IF more <> 0 OR stars <> 0 THEN
        UPDATE practitioners
           SET review_count = review_count + more,
               rating_sum = rating_sum + stars,
               rating = CASE review_count + more WHEN 0 THEN 0
                        ELSE round((rating_sum + stars)::numeric / (review_count + more), 2) END
         WHERE user_id = CASE TG_OP WHEN 'DELETE' THEN OLD.reviewee_id ELSE NEW.reviewee_id END;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER reviews_counted AFTER INSERT OR DELETE OR UPDATE OF rating, removed_at
    ON reviews FOR EACH ROW EXECUTE FUNCTION count_review();

-- What a user wants to hear and when, as the API has it; no row: everything, at any hour.
CREATE TABLE notification_preferences (
    user_id UUID PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    preferences JSONB NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE TRIGGER notification_preferences_updated_at BEFORE UPDATE ON notification_preferences
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

-- Due, and kept back by nothing but its user's quiet hours.
ALTER TABLE outbox ADD COLUMN held BOOLEAN NOT NULL DEFAULT FALSE;

-- Reminders of agreed sessions, written with the agreement and called off with it.
CREATE TABLE reminders (
    booking_id UUID NOT NULL REFERENCES bookings (id) ON DELETE CASCADE,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    lead_minutes INTEGER NOT NULL,
    due_at TIMESTAMPTZ NOT NULL,
    state VARCHAR(10) NOT NULL DEFAULT 'waiting',
    -- What it became; its push can then be called off.
    notification_id UUID,
    PRIMARY KEY (booking_id, user_id, lead_minutes),
    CONSTRAINT reminders_state_check CHECK (state IN ('waiting', 'sent', 'dropped', 'cancelled')),
    CONSTRAINT reminders_lead_check CHECK (lead_minutes > 0)
);
CREATE INDEX idx_reminders_due ON reminders (due_at) WHERE state = 'waiting';
CREATE INDEX idx_reminders_notification ON reminders (notification_id) WHERE notification_id IS NOT NULL;
CREATE INDEX idx_reminders_settled ON reminders (due_at) WHERE state <> 'waiting';
INSERT INTO reminders (booking_id, user_id, lead_minutes, due_at)
SELECT b.id, side.user_id, lead.minutes, b.scheduled_at - make_interval(mins => lead.minutes)
  FROM bookings b JOIN practitioners p ON p.id = b.practitioner_id
       CROSS JOIN LATERAL (VALUES (b.seeker_id), (p.user_id)) AS side (user_id)
       CROSS JOIN (VALUES (1440), (60)) AS lead (minutes)
 WHERE b.status = 'confirmed' AND b.scheduled_at - make_interval(mins => lead.minutes) > now();
