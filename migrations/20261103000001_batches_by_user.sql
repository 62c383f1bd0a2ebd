-- migrate:up
-- Neither wait for a lock behind which requests would queue, nor run for ever: fail, and be tried again.
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

-- get_batches for a caller who may see its own only; a user is of one account.
CREATE INDEX batches_user_status_created ON batches (user_id, status, created_ts, batch);

-- migrate:down
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

DROP INDEX batches_user_status_created;
