-- Who left a conversation lately, however that came about: every node with open sockets asks once a
-- second (jobs/revoke.rs). No foreign keys: it outlives the conversation.
CREATE TABLE member_departures (
    conversation_id UUID NOT NULL,
    user_id UUID NOT NULL,
    left_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (conversation_id, user_id)
);
CREATE INDEX idx_member_departures_left ON member_departures (left_at, conversation_id, user_id);

CREATE FUNCTION note_departures() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO member_departures (conversation_id, user_id, left_at)
    SELECT conversation_id, user_id, statement_timestamp() FROM gone
    ON CONFLICT (conversation_id, user_id) DO UPDATE SET left_at = excluded.left_at;
    RETURN NULL;
END
$$;
CREATE TRIGGER conversation_members_departures AFTER DELETE ON conversation_members
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION note_departures();
