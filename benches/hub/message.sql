-- One row and one commit per transaction, as a hub without anything but this table would do it: the
-- yardstick of `messages`. Conversations and users have the ids that world.rs gives them.
\set conversation random(1, :conversations)
INSERT INTO messages (id, conversation_id, seq, sender_id, client_id, message_type, content)
VALUES (gen_random_uuid(),
    ('e0000000-0000-4000-8000-' || lpad(to_hex(:conversation::int), 12, '0'))::uuid,
    nextval('bench_seq'),
    ('c0000000-0000-4000-8000-' || lpad(to_hex(2 * :conversation::int), 12, '0'))::uuid,
    gen_random_uuid(), 'text', 'A message of some fifty characters, as people write.');
