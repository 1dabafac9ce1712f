ALTER TABLE waitlist_looks ALTER COLUMN wanted SET DEFAULT 1;
DROP SEQUENCE waitlist_looks_wanted;
