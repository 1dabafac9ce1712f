-- Events are stored and told as they were written: nothing searches in them, and to take them apart
-- cost more than to store them.
ALTER TABLE user_events ALTER COLUMN data TYPE JSON USING data::json;

DROP TRIGGER booking_events_append_only ON booking_events;
ALTER TABLE booking_events
    ALTER COLUMN data DROP DEFAULT,
    ALTER COLUMN data TYPE JSON USING data::json,
    ALTER COLUMN data SET DEFAULT '{}';
CREATE TRIGGER booking_events_append_only
    BEFORE UPDATE OF version, action, from_status, to_status, reason, created_at, data
    ON booking_events FOR EACH ROW EXECUTE FUNCTION refuse_update();

-- Who appends an event holds the head of the user's channel, which refers to the user: to look for the
-- user again for each event proves nothing. What goes with the user goes with the channel.
ALTER TABLE user_events DROP CONSTRAINT user_events_user_id_fkey;
CREATE FUNCTION forget_user_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM user_events WHERE user_id = OLD.user_id;
    RETURN NULL;
END $$;
CREATE TRIGGER user_channels_events AFTER DELETE ON user_channels
    FOR EACH ROW EXECUTE FUNCTION forget_user_events();
