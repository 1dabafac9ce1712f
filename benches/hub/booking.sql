-- One row and one commit per transaction, as a hub without anything but this table would do it: the
-- yardstick of `bookings`. Practices and seekers have the ids that world.rs gives them.
\set practice random(1, :practices)
\set seeker random(1, :seekers)
\set hour random(0, 1000000)
INSERT INTO bookings (seeker_id, practitioner_id, service_id, scheduled_at, duration_minutes,
    ends_at, occupied_from, occupied_until, total_amount, commission_amount, currency, status)
VALUES (('c0000000-0000-4000-8000-' || lpad(to_hex(:seeker::int), 12, '0'))::uuid,
    ('b0000000-0000-4000-8000-' || lpad(to_hex(:practice::int), 12, '0'))::uuid,
    :service::uuid,
    timestamptz '2030-01-01' + :hour::int * interval '1 hour', 60,
    timestamptz '2030-01-01' + (:hour::int + 1) * interval '1 hour',
    timestamptz '2030-01-01' + :hour::int * interval '1 hour',
    timestamptz '2030-01-01' + (:hour::int + 1) * interval '1 hour',
    150000, 22500, 'INR', 'pending')
ON CONFLICT DO NOTHING;
