-- migrate:up
-- Neither wait for a lock behind which requests would queue, nor run for ever: fail, and be tried again.
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

ALTER TABLE troubles
    -- An attempt was started and has not ended: if another one starts, the worker of this one has died.
    ADD COLUMN running boolean NOT NULL DEFAULT false,
    ADD COLUMN deaths integer NOT NULL DEFAULT 0,
    -- Failures by a time limit of ours, which an overload causes as well.
    ADD COLUMN time_limits integer NOT NULL DEFAULT 0,
    -- Failures by an outage that nothing else noticed.
    ADD COLUMN lone_outages integer NOT NULL DEFAULT 0,
    -- When the job was given up; the row stays for a while, to say why.
    ADD COLUMN dead_lettered_ts timestamptz,
    -- The files of a batch are deleted after its row, and that may fail, too.
    DROP CONSTRAINT troubles_batch_fkey;

-- migrate:down
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

DELETE FROM troubles t WHERE NOT EXISTS (SELECT FROM batches b WHERE b.batch = t.batch);
ALTER TABLE troubles
    DROP COLUMN running, DROP COLUMN deaths, DROP COLUMN time_limits, DROP COLUMN lone_outages,
    DROP COLUMN dead_lettered_ts,
    ADD CONSTRAINT troubles_batch_fkey FOREIGN KEY (batch) REFERENCES batches ON DELETE CASCADE;
