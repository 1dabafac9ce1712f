DROP TABLE audit_log;
DROP TABLE refresh_tokens;
DROP TABLE sessions;
DROP TABLE users;
DROP FUNCTION refuse_update();
DROP FUNCTION set_updated_at();
DROP EXTENSION btree_gist;
