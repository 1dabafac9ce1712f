-- Which sessions ended lately: every node with open sockets asks once a second (jobs/revoke.rs).
CREATE INDEX idx_sessions_revoked ON sessions (revoked_at, id) WHERE revoked_at IS NOT NULL;

-- An account that is not active any more loses its sessions, whoever changes it.
CREATE FUNCTION revoke_sessions_of_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sessions SET revoked_at = statement_timestamp(), revoked_reason = NEW.status
     WHERE user_id = NEW.id AND revoked_at IS NULL;
    RETURN NULL;
END
$$;
CREATE TRIGGER users_revoke AFTER UPDATE OF status ON users
    FOR EACH ROW WHEN (OLD.status = 'active' AND NEW.status <> 'active')
    EXECUTE FUNCTION revoke_sessions_of_account();
