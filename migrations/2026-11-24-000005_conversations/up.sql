CREATE TABLE conversations (
    id UUID PRIMARY KEY,
    kind VARCHAR(10) NOT NULL,
    -- For a 1:1 conversation the two user ids in order, so that there is only one of each pair.
    direct_key VARCHAR(80),
    title VARCHAR(120),
    last_seq BIGINT NOT NULL DEFAULT 0,
    created_by UUID REFERENCES users (id) ON DELETE SET NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT conversations_kind_check CHECK (kind IN ('direct', 'group')),
    CONSTRAINT conversations_direct_check CHECK ((kind = 'direct') = (direct_key IS NOT NULL)),
    CONSTRAINT conversations_direct_key_key UNIQUE (direct_key)
);

CREATE TABLE conversation_members (
    conversation_id UUID NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    delivered_seq BIGINT NOT NULL DEFAULT 0,
    read_seq BIGINT NOT NULL DEFAULT 0,
    joined_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, user_id),
    CONSTRAINT conversation_members_watermarks_check CHECK (0 <= read_seq AND read_seq <= delivered_seq)
);
CREATE INDEX idx_conversation_members_user ON conversation_members (user_id);

CREATE TABLE messages (
    id UUID PRIMARY KEY,
    conversation_id UUID NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    seq BIGINT NOT NULL,
    sender_id UUID REFERENCES users (id) ON DELETE SET NULL,
    client_id UUID NOT NULL,
    message_type VARCHAR(10) NOT NULL,
    content TEXT NOT NULL,
    attachments JSONB NOT NULL DEFAULT '[]',
    reply_to UUID REFERENCES messages (id) ON DELETE SET NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT messages_seq_key UNIQUE (conversation_id, seq),
    CONSTRAINT messages_client_id_key UNIQUE (conversation_id, sender_id, client_id),
    CONSTRAINT messages_type_check CHECK (message_type IN ('text', 'image', 'file', 'system')),
    CONSTRAINT messages_seq_check CHECK (seq > 0)
);
