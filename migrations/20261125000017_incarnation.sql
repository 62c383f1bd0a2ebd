-- migrate:up
-- Neither wait for a lock behind which requests would queue, nor run for ever: fail, and be tried again.
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

-- The incarnation of the database in which the upload was copied. While it is the current one, nothing that was
-- committed since then has been forgotten. NULL: not known.
ALTER TABLE batches ADD COLUMN incarnation text;

-- migrate:down
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

ALTER TABLE batches DROP COLUMN incarnation;
