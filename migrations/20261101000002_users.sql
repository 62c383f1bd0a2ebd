-- migrate:up
-- Neither wait for a lock behind which requests would queue, nor run for ever: fail, and be tried again.
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

CREATE TABLE users (
    user_id uuid PRIMARY KEY,
    account uuid NOT NULL,
    role text NOT NULL,
    name text NOT NULL,
    created_ts timestamptz(3) NOT NULL,
    disabled_ts timestamptz(3)
);

CREATE INDEX users_account ON users (account);

-- A user has one secret at a time, and for a moment two, while it is being rotated.
CREATE TABLE secrets (
    -- SHA-256. The secret is 64 random characters: nothing a slow hash would protect better.
    hash bytea PRIMARY KEY CHECK (length(hash) = 32),
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    created_ts timestamptz(3) NOT NULL,
    -- When it stops working; NULL: never.
    validity_ts timestamptz(3)
);

CREATE INDEX secrets_user_id ON secrets (user_id);

-- migrate:down
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

DROP TABLE secrets, users;
