-- Messages can be changed and taken away. What was taken away leaves its row, empty: its seq stays.
ALTER TABLE messages
    ADD COLUMN edited_at TIMESTAMPTZ,
    ADD COLUMN deleted_at TIMESTAMPTZ,
    -- What a card shows, and what a line of the platform is about.
    ADD COLUMN booking_id UUID REFERENCES bookings (id) ON DELETE SET NULL,
    -- Of the platform's own lines: what happened, for machines.
    ADD COLUMN system_event VARCHAR(40),
    DROP CONSTRAINT messages_type_check,
    ADD CONSTRAINT messages_type_check CHECK (message_type IN ('text', 'image', 'file', 'booking', 'system')),
    ADD CONSTRAINT messages_deleted_check CHECK (deleted_at IS NULL OR (content = '' AND attachments = '[]'));
CREATE INDEX idx_messages_booking ON messages (booking_id) WHERE booking_id IS NOT NULL;
CREATE INDEX idx_messages_reply_to ON messages (reply_to) WHERE reply_to IS NOT NULL;
-- The platform has no sender, so messages_client_id_key does not keep its lines apart.
CREATE UNIQUE INDEX idx_messages_system_client_id ON messages (conversation_id, client_id)
    WHERE message_type = 'system';

-- What a message said before, as evidence: members do not see it.
CREATE TABLE message_versions (
    message_id UUID NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    content TEXT NOT NULL,
    attachments JSONB NOT NULL,
    -- Who replaced it, and when.
    actor_id UUID REFERENCES users (id) ON DELETE SET NULL,
    replaced_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (message_id, version)
);

CREATE TABLE message_reactions (
    message_id UUID NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    emoji VARCHAR(64) NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (message_id, user_id, emoji)
);
CREATE INDEX idx_message_reactions_user ON message_reactions (user_id);

-- Changes of a conversation. They share its seq with the messages: every seq up to last_seq is
-- either a message or one of these. The row of the conversation is locked by whoever takes one.
CREATE TABLE conversation_events (
    conversation_id UUID NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    seq BIGINT NOT NULL,
    event VARCHAR(40) NOT NULL,
    -- The message that was changed: it is told in its present state.
    message_id UUID REFERENCES messages (id) ON DELETE CASCADE,
    actor_id UUID REFERENCES users (id) ON DELETE SET NULL,
    data JSONB NOT NULL DEFAULT '{}',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, seq),
    CONSTRAINT conversation_events_event_check CHECK (
        event IN ('message:updated', 'message:deleted', 'conversation:updated')),
    CONSTRAINT conversation_events_message_check CHECK (
        (event = 'conversation:updated') = (message_id IS NULL)),
    CONSTRAINT conversation_events_seq_check CHECK (seq > 0)
);
CREATE INDEX idx_conversation_events_message ON conversation_events (message_id) WHERE message_id IS NOT NULL;

-- Who was taken out has no row. members_seq is the seq of the newest change of members: a node
-- that knows an older one must not write for them.
ALTER TABLE conversations ADD COLUMN members_seq BIGINT NOT NULL DEFAULT 0;
ALTER TABLE conversation_members
    ADD COLUMN role VARCHAR(10) NOT NULL DEFAULT 'member',
    ADD COLUMN muted_until TIMESTAMPTZ,
    -- Delivered as others may know it: of those who keep their reading to themselves, reading
    -- does not move it.
    ADD COLUMN received_seq BIGINT NOT NULL DEFAULT 0,
    ADD CONSTRAINT conversation_members_role_check CHECK (role IN ('owner', 'admin', 'member')),
    ADD CONSTRAINT conversation_members_received_check CHECK (
        0 <= received_seq AND received_seq <= delivered_seq);
UPDATE conversation_members SET received_seq = delivered_seq;

-- Whether others learn how far the user has read.
ALTER TABLE users ADD COLUMN read_receipts BOOLEAN NOT NULL DEFAULT TRUE;

-- Changes of bookings that the conversation of the two is still to be told, as a line of the
-- platform. Written in the transaction of the change, if the two have a conversation by then.
-- conversation_id is no foreign key: checking one would lock the conversation, for which whoever
-- writes there and names a booking may be waiting.
CREATE TABLE booking_lines (
    booking_id UUID NOT NULL REFERENCES bookings (id) ON DELETE CASCADE,
    version BIGINT NOT NULL,
    conversation_id UUID NOT NULL,
    action VARCHAR(20) NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (booking_id, version)
);
CREATE INDEX idx_booking_lines_created ON booking_lines (created_at);

CREATE FUNCTION note_booking_lines() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO booking_lines (booking_id, version, conversation_id, action)
    SELECT e.booking_id, e.version, c.id, e.action
      FROM added e
      JOIN bookings b ON b.id = e.booking_id
      JOIN practitioners p ON p.id = b.practitioner_id
      JOIN conversations c
        ON c.direct_key = LEAST(b.seeker_id, p.user_id)::text || ':' || GREATEST(b.seeker_id, p.user_id)::text
     WHERE e.action IN ('book', 'confirm', 'decline', 'cancel', 'expire')
        -- Of the two rows of a move, the new one.
        OR (e.action = 'reschedule' AND e.from_status IS NULL);
    RETURN NULL;
END
$$;
CREATE TRIGGER booking_events_lines AFTER INSERT ON booking_events
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION note_booking_lines();
