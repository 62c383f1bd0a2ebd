-- migrate:up
-- Neither wait for a lock behind which requests would queue, nor run for ever: fail, and be tried again.
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

-- How the accounts share the fleet: start-time fair queueing (Goyal, Vin, Cheng 1996). Time is
-- virtual, and counted in lines: what an account queues is tagged from here on.
CREATE TABLE shares (
    lane text NOT NULL,
    account uuid NOT NULL,
    tag bigint NOT NULL,
    PRIMARY KEY (lane, account)
);

-- The latest tag of a lane, when nothing waits in it.
CREATE INDEX shares_tag ON shares (lane, tag);

-- Accounts that have another part of the fleet than the usual one.
CREATE TABLE weights (
    account uuid PRIMARY KEY,
    weight double precision NOT NULL CHECK (weight BETWEEN 0.01 AND 1000)
);

ALTER TABLE batches
    -- Among the batches of its account, higher ones run first.
    ADD COLUMN priority smallint NOT NULL DEFAULT 0,
    -- Bytes of the upload, then of the lines as they will be run.
    ADD COLUMN input_size bigint NOT NULL DEFAULT 0;

ALTER TABLE chunks
    -- Bytes of its results.
    ADD COLUMN part_size bigint NOT NULL DEFAULT 0,
    -- How often a worker gave it back alive: what is left of token is how many died of it.
    ADD COLUMN returned integer NOT NULL DEFAULT 0;

-- Work that fails, for as long as its job is there: why a batch does not go on.
CREATE TABLE troubles (
    -- The job's dedupe_key.
    job text PRIMARY KEY,
    batch uuid NOT NULL REFERENCES batches ON DELETE CASCADE,
    since timestamptz NOT NULL DEFAULT now(),
    tries integer NOT NULL,
    -- Those that another try would probably not help; an outage does not count.
    defects integer NOT NULL,
    reason text NOT NULL
);

CREATE INDEX troubles_batch ON troubles (batch);

-- migrate:down
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

ALTER TABLE chunks DROP COLUMN part_size, DROP COLUMN returned;
ALTER TABLE batches DROP COLUMN priority, DROP COLUMN input_size;
DROP TABLE troubles, weights, shares;
