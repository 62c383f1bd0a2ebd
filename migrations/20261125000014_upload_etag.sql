-- migrate:up
-- Neither wait for a lock behind which requests would queue, nor run for ever: fail, and be tried again.
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

-- The entity tag of the file that create_batch saw, which is what will be copied; NULL: not known.
ALTER TABLE uploads ADD COLUMN etag text;

-- migrate:down
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

ALTER TABLE uploads DROP COLUMN etag;
