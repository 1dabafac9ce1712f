-- Sessions of other lengths at prices of their own; how far ahead can be booked; how many sessions
-- of the service may begin in a day or a week.
ALTER TABLE practitioner_services
    -- A list of {"durationMinutes", "price"} beside the row's own, in its currency.
    ADD COLUMN other_durations JSONB NOT NULL DEFAULT '[]',
    ADD COLUMN horizon_kind VARCHAR(20) NOT NULL DEFAULT 'rolling',
    ADD COLUMN horizon_business_days BOOLEAN NOT NULL DEFAULT FALSE,
    ADD COLUMN horizon_from DATE,
    ADD COLUMN horizon_to DATE,
    ADD COLUMN max_per_day INTEGER,
    ADD COLUMN max_per_week INTEGER,
    ALTER COLUMN horizon_days DROP NOT NULL,
    ALTER COLUMN horizon_days DROP DEFAULT,
    DROP CONSTRAINT practitioner_services_horizon_check;
ALTER TABLE practitioner_services
    -- Each kind has what it needs and nothing else. A NULL would let a plain comparison pass.
    ADD CONSTRAINT practitioner_services_horizon_check CHECK (COALESCE(
        CASE horizon_kind
            WHEN 'rolling' THEN horizon_days BETWEEN 1 AND 730
            WHEN 'rolling_window' THEN horizon_days BETWEEN 1 AND 366
            WHEN 'range' THEN horizon_from <= horizon_to
            WHEN 'unlimited' THEN TRUE
        END
        AND (horizon_days IS NOT NULL) = (horizon_kind IN ('rolling', 'rolling_window'))
        AND (horizon_kind IN ('rolling', 'rolling_window') OR NOT horizon_business_days)
        AND (horizon_from IS NOT NULL) = (horizon_kind = 'range')
        AND (horizon_to IS NOT NULL) = (horizon_kind = 'range'), FALSE)),
    ADD CONSTRAINT practitioner_services_durations_check CHECK (
        CASE jsonb_typeof(other_durations)
            WHEN 'array' THEN jsonb_array_length(other_durations) <= 10
                AND NOT jsonb_path_exists(other_durations, '$[*] ? (!(
                    exists(@.durationMinutes ? (@ >= 1 && @ <= 1440)) && exists(@.price ? (@ >= 0))))')
            ELSE FALSE
        END),
    ADD CONSTRAINT practitioner_services_limits_check CHECK (
        max_per_day BETWEEN 1 AND 1000 AND max_per_week BETWEEN 1 AND 1000);
