-- A horizon that can not be said in days becomes the usual one.
ALTER TABLE practitioner_services
    DROP CONSTRAINT practitioner_services_horizon_check,
    DROP CONSTRAINT practitioner_services_durations_check,
    DROP CONSTRAINT practitioner_services_limits_check;
UPDATE practitioner_services SET horizon_days = 90 WHERE horizon_days IS NULL;
ALTER TABLE practitioner_services
    DROP COLUMN other_durations,
    DROP COLUMN horizon_kind,
    DROP COLUMN horizon_business_days,
    DROP COLUMN horizon_from,
    DROP COLUMN horizon_to,
    DROP COLUMN max_per_day,
    DROP COLUMN max_per_week,
    ALTER COLUMN horizon_days SET DEFAULT 90,
    ALTER COLUMN horizon_days SET NOT NULL,
    ADD CONSTRAINT practitioner_services_horizon_check CHECK (horizon_days BETWEEN 1 AND 730);
