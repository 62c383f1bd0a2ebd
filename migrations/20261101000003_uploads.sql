-- migrate:up
-- Neither wait for a lock behind which requests would queue, nor run for ever: fail, and be tried again.
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

CREATE TABLE uploads (
    handler uuid PRIMARY KEY,
    account uuid NOT NULL,
    user_id uuid NOT NULL,
    created_ts timestamptz(3) NOT NULL,
    -- When the URL stops working.
    validity_ts timestamptz(3) NOT NULL,
    invalidated_ts timestamptz(3),
    -- The batch that took the file, also after that batch was deleted: one file makes one batch.
    batch uuid
);

CREATE INDEX uploads_validity_ts ON uploads (validity_ts);

-- migrate:down
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

DROP TABLE uploads;
