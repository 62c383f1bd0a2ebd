-- migrate:up
-- Neither wait for a lock behind which requests would queue, nor run for ever: fail, and be tried again.
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

-- The results of the lines that a worker had finished when it stopped; NULL: none are kept.
ALTER TABLE chunks ADD COLUMN checkpoint_key text;

-- migrate:down
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

ALTER TABLE chunks DROP COLUMN checkpoint_key;
