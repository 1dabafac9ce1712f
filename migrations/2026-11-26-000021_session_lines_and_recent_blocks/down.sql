DROP INDEX idx_user_blocks_created;
