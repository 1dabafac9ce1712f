DROP TRIGGER booking_events_lines ON booking_events;
DROP FUNCTION note_booking_lines();
DROP TABLE booking_lines;
ALTER TABLE users DROP COLUMN read_receipts;
ALTER TABLE conversation_members
    DROP CONSTRAINT conversation_members_received_check,
    DROP CONSTRAINT conversation_members_role_check,
    DROP COLUMN received_seq,
    DROP COLUMN muted_until,
    DROP COLUMN role;
ALTER TABLE conversations DROP COLUMN members_seq;
DROP TABLE conversation_events;
DROP TABLE message_reactions;
DROP TABLE message_versions;
DROP INDEX idx_messages_system_client_id;
DROP INDEX idx_messages_reply_to;
DROP INDEX idx_messages_booking;
UPDATE messages SET message_type = 'system' WHERE message_type = 'booking';
ALTER TABLE messages
    DROP CONSTRAINT messages_deleted_check,
    DROP CONSTRAINT messages_type_check,
    ADD CONSTRAINT messages_type_check CHECK (message_type IN ('text', 'image', 'file', 'system')),
    DROP COLUMN system_event,
    DROP COLUMN booking_id,
    DROP COLUMN deleted_at,
    DROP COLUMN edited_at;
