-- migrate:up
-- Neither wait for a lock behind which requests would queue, nor run for ever: fail, and be tried again.
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

-- The bounds on calls that all workers share. A bound that was changed has a row of its own.
CREATE TABLE rates (
    name text NOT NULL,
    per_s double precision NOT NULL CHECK (per_s > 0),
    -- Up to this moment the time is handed out: who asks next gets what follows it.
    used_until timestamptz NOT NULL,
    PRIMARY KEY (name, per_s)
);

-- migrate:down
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

DROP TABLE rates;
