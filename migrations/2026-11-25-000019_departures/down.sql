DROP TRIGGER conversation_members_departures ON conversation_members;
DROP FUNCTION note_departures();
DROP TABLE member_departures;
