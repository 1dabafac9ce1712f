-- A number that comes twice, once the row was deleted in between, lets a look that read the first one
-- delete the row of a later change.
CREATE SEQUENCE waitlist_looks_wanted OWNED BY waitlist_looks.wanted;
ALTER TABLE waitlist_looks ALTER COLUMN wanted SET DEFAULT nextval('waitlist_looks_wanted');
UPDATE waitlist_looks SET wanted = DEFAULT;
