-- migrate:up
-- Neither wait for a lock behind which requests would queue, nor run for ever: fail, and be tried again.
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

-- Why a batch ended before its lines ran: the SHA-256 of the upload, if it is not the one given to create_batch,
-- and the invalid lines by code of the validation report. In columns of their own: processes of the previous
-- version expect HTTP statuses in "errors".
ALTER TABLE batches
    ADD COLUMN found_hash text CHECK (found_hash ~ '^[a-f0-9]{64}$'),
    ADD COLUMN report_counts jsonb NOT NULL DEFAULT '{}';

-- migrate:down
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

ALTER TABLE batches
    DROP COLUMN report_counts,
    DROP COLUMN found_hash;
