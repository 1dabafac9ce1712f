-- The first answer to a POST with an Idempotency-Key, kept for 24 hours.
CREATE TABLE idempotency_keys (
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key VARCHAR(100) NOT NULL,
    -- SHA-256 over method, path and body: the same key with another request is a conflict.
    request_hash BYTEA NOT NULL,
    status SMALLINT,
    body JSONB,
    -- While in flight: until when the first request is believed to be still running.
    locked_until TIMESTAMPTZ NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, key),
    CONSTRAINT idempotency_keys_answer_check CHECK ((status IS NULL) = (body IS NULL))
);
CREATE INDEX idx_idempotency_keys_created ON idempotency_keys (created_at);
