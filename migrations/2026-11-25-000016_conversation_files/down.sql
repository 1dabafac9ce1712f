DROP INDEX idx_messages_search;
DROP EXTENSION btree_gin;
DROP TABLE reports;
ALTER TABLE conversations DROP CONSTRAINT conversations_blocked_check, DROP COLUMN blocked;
DROP TABLE user_blocks;
DROP TRIGGER messages_attachments ON messages;
DROP FUNCTION doom_attachments;
DROP TABLE upload_days;
DROP TABLE attachments;
