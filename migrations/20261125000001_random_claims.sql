-- migrate:up
-- Neither wait for a lock behind which requests would queue, nor run for ever: fail, and be tried again.
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

-- A random value for each claim. A counter is no fence: a standby that is promoted, or a backup that is restored,
-- has forgotten its last values and gives them out again. NULL until the first claim of this version.
ALTER TABLE batches ADD COLUMN fencing_token uuid;
ALTER TABLE chunks ADD COLUMN fencing_token uuid;

-- attempt and token go on counting the claims. The processes of the previous version are fenced by them.

-- migrate:down
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

ALTER TABLE chunks DROP COLUMN fencing_token;
ALTER TABLE batches DROP COLUMN fencing_token;
