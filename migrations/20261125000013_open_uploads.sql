-- migrate:up
-- Neither wait for a lock behind which requests would queue, nor run for ever: fail, and be tried again.
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

-- How many URLs of an account still take a file?
CREATE INDEX uploads_open ON uploads (account, validity_ts) WHERE batch IS NULL;

-- migrate:down
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

DROP INDEX uploads_open;
