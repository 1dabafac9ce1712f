CREATE TABLE practitioners (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    bio TEXT,
    experience_years INTEGER,
    hourly_rate BIGINT,
    currency VARCHAR(3) NOT NULL DEFAULT 'INR',
    languages TEXT[] NOT NULL DEFAULT '{}',
    certifications JSONB NOT NULL DEFAULT '[]',
    specializations TEXT[] NOT NULL DEFAULT '{}',
    availability JSONB NOT NULL,
    schedule_version BIGINT NOT NULL DEFAULT 0,
    verification_status VARCHAR(20) NOT NULL DEFAULT 'pending',
    verification_documents JSONB NOT NULL DEFAULT '[]',
    rating DECIMAL(3,2) NOT NULL DEFAULT 0.00,
    total_sessions INTEGER NOT NULL DEFAULT 0,
    version BIGINT NOT NULL DEFAULT 0,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT practitioners_user_id_key UNIQUE (user_id),
    CONSTRAINT practitioners_experience_check CHECK (experience_years BETWEEN 0 AND 100),
    CONSTRAINT practitioners_hourly_rate_check CHECK (hourly_rate >= 0),
    CONSTRAINT practitioners_verification_status_check CHECK (verification_status IN ('pending', 'verified', 'rejected')),
    CONSTRAINT practitioners_rating_check CHECK (rating BETWEEN 0 AND 5),
    CONSTRAINT practitioners_total_sessions_check CHECK (total_sessions >= 0)
);
CREATE INDEX idx_practitioners_user_id ON practitioners (user_id);
CREATE INDEX idx_practitioners_verification ON practitioners (verification_status);
CREATE INDEX idx_practitioners_rating_sessions ON practitioners (rating DESC, total_sessions DESC);
CREATE TRIGGER practitioners_updated_at BEFORE UPDATE ON practitioners FOR EACH ROW EXECUTE FUNCTION set_updated_at();

CREATE TABLE service_categories (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    name VARCHAR(100) NOT NULL,
    slug VARCHAR(100) NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT service_categories_slug_key UNIQUE (slug)
);

CREATE TABLE services (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    name VARCHAR(255) NOT NULL,
    description TEXT,
    category_id UUID REFERENCES service_categories (id),
    duration_minutes INTEGER NOT NULL,
    base_price BIGINT,
    currency VARCHAR(3) NOT NULL DEFAULT 'INR',
    status VARCHAR(20) NOT NULL DEFAULT 'active',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT services_duration_check CHECK (duration_minutes BETWEEN 1 AND 1440),
    CONSTRAINT services_base_price_check CHECK (base_price >= 0),
    CONSTRAINT services_status_check CHECK (status IN ('active', 'inactive'))
);
CREATE INDEX idx_services_category ON services (category_id);
CREATE TRIGGER services_updated_at BEFORE UPDATE ON services FOR EACH ROW EXECUTE FUNCTION set_updated_at();

-- What a practitioner offers, at what price and under which booking rules.
CREATE TABLE practitioner_services (
    practitioner_id UUID NOT NULL REFERENCES practitioners (id) ON DELETE CASCADE,
    service_id UUID NOT NULL REFERENCES services (id) ON DELETE CASCADE,
    price BIGINT NOT NULL,
    currency VARCHAR(3) NOT NULL DEFAULT 'INR',
    duration_minutes INTEGER NOT NULL,
    buffer_before_minutes INTEGER NOT NULL DEFAULT 0,
    buffer_after_minutes INTEGER NOT NULL DEFAULT 0,
    increment_minutes INTEGER NOT NULL,
    min_notice_minutes INTEGER NOT NULL DEFAULT 0,
    horizon_days INTEGER NOT NULL DEFAULT 90,
    slot_grid VARCHAR(20) NOT NULL DEFAULT 'restart',
    instant_confirm BOOLEAN NOT NULL DEFAULT FALSE,
    status VARCHAR(20) NOT NULL DEFAULT 'active',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (practitioner_id, service_id),
    CONSTRAINT practitioner_services_price_check CHECK (price >= 0),
    CONSTRAINT practitioner_services_duration_check CHECK (duration_minutes BETWEEN 1 AND 1440),
    CONSTRAINT practitioner_services_buffers_check CHECK (buffer_before_minutes BETWEEN 0 AND 1440 AND buffer_after_minutes BETWEEN 0 AND 1440),
    CONSTRAINT practitioner_services_increment_check CHECK (increment_minutes BETWEEN 1 AND 1440),
    CONSTRAINT practitioner_services_notice_check CHECK (min_notice_minutes BETWEEN 0 AND 525600),
    CONSTRAINT practitioner_services_horizon_check CHECK (horizon_days BETWEEN 1 AND 730),
    CONSTRAINT practitioner_services_grid_check CHECK (slot_grid IN ('restart', 'window')),
    CONSTRAINT practitioner_services_status_check CHECK (status IN ('active', 'inactive'))
);
CREATE INDEX idx_practitioner_services_service ON practitioner_services (service_id);
CREATE TRIGGER practitioner_services_updated_at BEFORE UPDATE ON practitioner_services FOR EACH ROW EXECUTE FUNCTION set_updated_at();
