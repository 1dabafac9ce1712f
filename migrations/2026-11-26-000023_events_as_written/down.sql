DROP TRIGGER user_channels_events ON user_channels;
DROP FUNCTION forget_user_events();
ALTER TABLE user_events
    ALTER COLUMN data TYPE JSONB USING data::jsonb,
    ADD CONSTRAINT user_events_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE;

DROP TRIGGER booking_events_append_only ON booking_events;
ALTER TABLE booking_events
    ALTER COLUMN data DROP DEFAULT,
    ALTER COLUMN data TYPE JSONB USING data::jsonb,
    ALTER COLUMN data SET DEFAULT '{}';
CREATE TRIGGER booking_events_append_only
    BEFORE UPDATE OF version, action, from_status, to_status, reason, created_at, data
    ON booking_events FOR EACH ROW EXECUTE FUNCTION refuse_update();
