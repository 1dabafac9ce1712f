-- The durable part of each user's own channel. The head is locked, in user order, by every
-- transaction that appends, which is what makes seq dense.
CREATE TABLE user_channels (
    user_id UUID PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    last_seq BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE user_events (
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    seq BIGINT NOT NULL,
    event VARCHAR(40) NOT NULL,
    data JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, seq)
);

CREATE TABLE notifications (
    id UUID PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind VARCHAR(40) NOT NULL,
    title VARCHAR(200) NOT NULL,
    body TEXT NOT NULL,
    data JSONB NOT NULL DEFAULT '{}',
    read_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX idx_notifications_user ON notifications (user_id, id);
CREATE INDEX idx_notifications_unread ON notifications (user_id) WHERE read_at IS NULL;

CREATE TABLE devices (
    id UUID PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind VARCHAR(10) NOT NULL,
    -- A Web Push endpoint or an FCM registration token: where the device is reached.
    address TEXT NOT NULL,
    p256dh VARCHAR(120),
    auth VARCHAR(40),
    label VARCHAR(100),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT devices_address_key UNIQUE (address),
    CONSTRAINT devices_kind_check CHECK (kind IN ('web_push', 'fcm')),
    CONSTRAINT devices_web_push_check CHECK ((kind = 'web_push') = (p256dh IS NOT NULL AND auth IS NOT NULL))
);
CREATE INDEX idx_devices_user ON devices (user_id);

-- Side effects that were decided in a transaction and are carried out after it.
CREATE TABLE outbox (
    id UUID PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- What an acknowledgement names to cancel the row: 'conversation:<id>' with the message's
    -- seq, or 'notifications' with none (then dedupe_key names the notification).
    topic VARCHAR(80) NOT NULL,
    topic_seq BIGINT,
    dedupe_key VARCHAR(80) NOT NULL,
    payload JSONB NOT NULL,
    state VARCHAR(10) NOT NULL DEFAULT 'waiting',
    not_before TIMESTAMPTZ NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT outbox_dedupe_key UNIQUE (user_id, dedupe_key),
    CONSTRAINT outbox_state_check CHECK (state IN ('waiting', 'sent', 'cancelled'))
);
CREATE INDEX idx_outbox_due ON outbox (not_before) WHERE state = 'waiting';
CREATE INDEX idx_outbox_waiting ON outbox (user_id, topic, topic_seq) WHERE state = 'waiting';
CREATE INDEX idx_outbox_created ON outbox (created_at);

-- One per outbox row and device, so that devices fail and are retried independently.
CREATE TABLE push_deliveries (
    id UUID PRIMARY KEY,
    outbox_id UUID NOT NULL REFERENCES outbox (id) ON DELETE CASCADE,
    device_id UUID NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    dedupe_key VARCHAR(80) NOT NULL,
    state VARCHAR(10) NOT NULL DEFAULT 'waiting',
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at TIMESTAMPTZ NOT NULL,
    last_error VARCHAR(200),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT push_deliveries_dedupe_key UNIQUE (device_id, dedupe_key),
    CONSTRAINT push_deliveries_state_check CHECK (state IN ('waiting', 'delivered', 'failed', 'cancelled'))
);
CREATE INDEX idx_push_deliveries_due ON push_deliveries (next_attempt_at) WHERE state = 'waiting';
CREATE INDEX idx_push_deliveries_outbox ON push_deliveries (outbox_id);
