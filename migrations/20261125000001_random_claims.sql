-- migrate:up
-- Neither wait for a lock behind which requests would queue, nor run for ever: fail, and be tried again.
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

-- A random value for each claim. A counter is no fence: a standby that is promoted, or a backup that is restored,
-- has forgotten its last values and gives them out again. NULL until the first claim of this version.
ALTER TABLE batches ADD COLUMN fencing_token uuid;
ALTER TABLE chunks ADD COLUMN fencing_token uuid;

-- attempt and token go on counting the claims. The processes of the previous version are fenced by them.

-- Batches with files that nobody needs any more, unless a failover or a restored backup turns back time. The row stays
-- until the files are deleted, also when that of the batch is gone.
CREATE TABLE graveyard (
    batch uuid PRIMARY KEY,
    account uuid NOT NULL,
    handler uuid NOT NULL,
    -- When to delete the files.
    due timestamptz NOT NULL
);

CREATE INDEX graveyard_due ON graveyard (due);

-- The uploads that no batch has taken expire first; those of batches stay for as long as the graveyard keeps files.
CREATE INDEX uploads_unused ON uploads (validity_ts) WHERE batch IS NULL;

-- migrate:down
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

-- The previous version deletes the files by a job each.
INSERT INTO pgqueuer (priority, status, entrypoint, execute_after, dedupe_key, payload)
SELECT 0, 'queued', 'stages', due, 'tidy:' || batch,
    convert_to(json_build_object('stage', 'tidy', 'batch', batch, 'chunk', NULL)::text, 'UTF8')
FROM graveyard JOIN batches USING (batch)
ON CONFLICT DO NOTHING;

DROP INDEX uploads_unused;
DROP TABLE graveyard;
ALTER TABLE chunks DROP COLUMN fencing_token;
ALTER TABLE batches DROP COLUMN fencing_token;
