DROP TABLE push_deliveries;
DROP TABLE outbox;
DROP TABLE devices;
DROP TABLE notifications;
DROP TABLE user_events;
DROP TABLE user_channels;
