-- Files of conversations. The file itself lies in the store under the row's id; the row comes
-- before the file and goes after it, so that no file is without a row.
CREATE TABLE attachments (
    id UUID PRIMARY KEY,
    conversation_id UUID REFERENCES conversations (id) ON DELETE SET NULL,
    uploader_id UUID REFERENCES users (id) ON DELETE SET NULL,
    -- Null until it is sent.
    message_id UUID REFERENCES messages (id) ON DELETE SET NULL,
    content_type VARCHAR(60) NOT NULL,
    name VARCHAR(120) NOT NULL,
    bytes BIGINT NOT NULL DEFAULT 0,
    width INTEGER,
    height INTEGER,
    -- Null until the file is stored whole.
    sha256 BYTEA,
    -- To be taken away.
    doomed_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT attachments_bytes_check CHECK (bytes >= 0),
    CONSTRAINT attachments_picture_check CHECK ((width IS NULL) = (height IS NULL))
);
CREATE INDEX idx_attachments_conversation ON attachments (conversation_id);
CREATE INDEX idx_attachments_uploader ON attachments (uploader_id);
CREATE INDEX idx_attachments_message ON attachments (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX idx_attachments_unsent ON attachments (created_at) WHERE message_id IS NULL;
CREATE INDEX idx_attachments_doomed ON attachments (doomed_at) WHERE doomed_at IS NOT NULL;

-- What each user uploaded on a day (UTC); it stays when the files go.
CREATE TABLE upload_days (
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    day DATE NOT NULL,
    files INTEGER NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (user_id, day)
);
CREATE INDEX idx_upload_days_day ON upload_days (day);

-- A message that is taken away takes its files along: the sweep works them off.
CREATE FUNCTION doom_attachments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE attachments SET doomed_at = statement_timestamp()
     WHERE message_id = NEW.id AND doomed_at IS NULL;
    RETURN NULL;
END
$$;
CREATE TRIGGER messages_attachments AFTER UPDATE OF deleted_at ON messages FOR EACH ROW
    WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL)
    EXECUTE FUNCTION doom_attachments();

-- Who wants nothing to do with whom. It works both ways, and nobody is told of it.
CREATE TABLE user_blocks (
    blocker_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    blocked_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- The key of their 1:1 conversation.
    pair_key VARCHAR(80) NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (blocker_id, blocked_id),
    CONSTRAINT user_blocks_self_check CHECK (blocker_id <> blocked_id)
);
CREATE INDEX idx_user_blocks_blocked ON user_blocks (blocked_id);
CREATE INDEX idx_user_blocks_pair ON user_blocks (pair_key);
-- Whether one of the two blocks the other. On the row that every message locks, so that none is
-- stored once the block is.
ALTER TABLE conversations
    ADD COLUMN blocked BOOLEAN NOT NULL DEFAULT FALSE,
    ADD CONSTRAINT conversations_blocked_check CHECK (kind = 'direct' OR NOT blocked);

-- What users tell administrators of. The evidence is a copy: it outlives what it was copied from.
CREATE TABLE reports (
    id UUID PRIMARY KEY,
    reporter_id UUID REFERENCES users (id) ON DELETE SET NULL,
    user_id UUID REFERENCES users (id) ON DELETE SET NULL,
    conversation_id UUID REFERENCES conversations (id) ON DELETE SET NULL,
    message_id UUID REFERENCES messages (id) ON DELETE SET NULL,
    reason VARCHAR(20) NOT NULL,
    details TEXT NOT NULL,
    evidence JSONB NOT NULL,
    status VARCHAR(10) NOT NULL DEFAULT 'open',
    note TEXT,
    resolved_by UUID REFERENCES users (id) ON DELETE SET NULL,
    resolved_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT reports_reason_check CHECK (
        reason IN ('spam', 'harassment', 'threat', 'sexual', 'fraud', 'health_claim', 'other')),
    CONSTRAINT reports_status_check CHECK (status IN ('open', 'upheld', 'dismissed')),
    CONSTRAINT reports_resolved_check CHECK ((status = 'open') = (resolved_at IS NULL))
);
CREATE INDEX idx_reports_status ON reports (status, created_at);
CREATE INDEX idx_reports_reporter ON reports (reporter_id, created_at);
CREATE INDEX idx_reports_user ON reports (user_id);
CREATE INDEX idx_reports_conversation ON reports (conversation_id);
CREATE INDEX idx_reports_message ON reports (message_id);
-- Files that are evidence stay until then.
ALTER TABLE attachments ADD COLUMN held_until TIMESTAMPTZ;

-- Full-text search in some conversations: the index knows both which and what. No dictionary:
-- people write in many languages, and mix them.
CREATE EXTENSION IF NOT EXISTS btree_gin;
CREATE INDEX idx_messages_search ON messages
    USING gin (conversation_id, to_tsvector('simple', content)) WHERE deleted_at IS NULL;
