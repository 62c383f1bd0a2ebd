-- migrate:up
-- Neither wait for a lock behind which requests would queue, nor run for ever: fail, and be tried again.
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

CREATE TABLE batches (
    batch uuid PRIMARY KEY,
    account uuid NOT NULL,
    user_id uuid NOT NULL REFERENCES users,
    handler uuid NOT NULL UNIQUE,
    -- SHA-256 of what create_batch was asked for: tells a repeated call from another one.
    request_hash bytea NOT NULL,
    operation text NOT NULL,
    status text COLLATE "C" NOT NULL CHECK (status IN (
        'new', 'copying', 'copied', 'hash_mismatch', 'validating', 'validation_failed', 'processing',
        'processed', 'writing_results', 'completed', 'cancel', 'cancelling', 'cancelled', 'deleting')),
    created_ts timestamptz(3) NOT NULL,
    updated_ts timestamptz(3) NOT NULL,
    hash text CHECK (hash ~ '^[a-f0-9]{64}$'),
    -- json, not jsonb: the caller gets its own text back.
    batch_dict json,
    -- Raised when a worker takes up a stage: a write with an older number comes from one that was replaced.
    attempt integer NOT NULL DEFAULT 0,
    -- The copy that is checked and run; NULL before it is made and when it is no longer needed.
    input_key text,
    -- Why the copy can't be run as a whole, found while copying.
    input_problem text,
    -- Lines to run; NULL until they are validated.
    lines integer,
    -- The tally at the end. While lines run it is the sum over the chunks.
    succeeded integer NOT NULL DEFAULT 0,
    failed integer NOT NULL DEFAULT 0,
    cancelled integer NOT NULL DEFAULT 0,
    errors jsonb NOT NULL DEFAULT '{}',
    -- What can be downloaded: the results or the validation report.
    download_key text,
    results_size bigint,
    results_lines integer,
    results_sha256 text
);

-- get_batches: newest or oldest first, by keyset, without a filter …
CREATE INDEX batches_account_created ON batches (account, created_ts, batch);
-- … and with one, where each wanted status is a range of its own. Also counts an account's open batches.
CREATE INDEX batches_account_status_created ON batches (account, status, created_ts, batch);
-- The supervisor looks at what is not at an end: few of very many.
CREATE INDEX batches_live ON batches (batch)
    WHERE status NOT IN ('hash_mismatch', 'validation_failed', 'completed', 'cancelled');

-- The lines of a batch, cut into pieces that workers take one by one.
CREATE TABLE chunks (
    batch uuid NOT NULL REFERENCES batches ON DELETE CASCADE,
    no integer NOT NULL,
    -- Where the piece begins in the copy, in bytes, and its length.
    start bigint NOT NULL,
    size integer NOT NULL,
    first_line integer NOT NULL,
    -- Without the blank ones.
    lines integer NOT NULL,
    -- Raised when a worker takes the piece: only the last taker's results count.
    token integer NOT NULL DEFAULT 0,
    -- Until when its worker is believed alive; NULL: nobody has it.
    leased_until timestamptz,
    -- The results of the piece; NULL: not done.
    part_key text,
    succeeded integer NOT NULL DEFAULT 0,
    failed integer NOT NULL DEFAULT 0,
    cancelled integer NOT NULL DEFAULT 0,
    errors jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (batch, no)
);

-- Is anything left to do? Asked after each piece.
CREATE INDEX chunks_todo ON chunks (batch, no) WHERE part_key IS NULL;

-- What create_batch answered under an Idempotency-Key.
CREATE TABLE idempotency_keys (
    account uuid NOT NULL,
    key text NOT NULL,
    request_hash bytea NOT NULL,
    batch uuid NOT NULL,
    created_ts timestamptz(3) NOT NULL,
    PRIMARY KEY (account, key)
);

CREATE INDEX idempotency_keys_created_ts ON idempotency_keys (created_ts);

-- migrate:down
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

DROP TABLE idempotency_keys, chunks, batches;
