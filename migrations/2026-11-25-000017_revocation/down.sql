DROP TRIGGER users_revoke ON users;
DROP FUNCTION revoke_sessions_of_account();
DROP INDEX idx_sessions_revoked;
