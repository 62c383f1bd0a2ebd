-- migrate:up
-- Neither wait for a lock behind which requests would queue, nor run for ever: fail, and be tried again.
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

-- What a job is for: the parts of its key, `<stage>:<batch>` or `chunk:<batch>:<number>`, which Job.key in
-- batchd.domain.jobs spells. Generated, because PgQueuer's INSERT names the columns that it fills. The table is
-- rewritten: about ten seconds for a million queued jobs, in which no worker claims one.
ALTER TABLE pgqueuer
    ADD COLUMN stage text GENERATED ALWAYS AS (split_part(dedupe_key, ':', 1)) STORED,
    ADD COLUMN batch uuid GENERATED ALWAYS AS (nullif(split_part(dedupe_key, ':', 2), '')::uuid) STORED,
    ADD COLUMN chunk integer GENERATED ALWAYS AS (nullif(split_part(dedupe_key, ':', 3), '')::integer) STORED;

-- Does a batch, or a chunk, have a job that is queued or running?
CREATE INDEX pgqueuer_batch_chunk ON pgqueuer (batch, chunk) WHERE status IN ('queued', 'picked');
-- The chunks of a batch in the order in which they will run.
CREATE INDEX pgqueuer_batch_turn ON pgqueuer (batch, priority DESC, id)
    WHERE status = 'queued' AND chunk IS NOT NULL;

-- Up to where the supervisor has compared the chunks with the jobs; no row: it begins anew.
CREATE TABLE chunk_sweep (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    batch uuid NOT NULL,
    no integer NOT NULL
);

-- migrate:down
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

DROP TABLE chunk_sweep;
ALTER TABLE pgqueuer DROP COLUMN stage, DROP COLUMN batch, DROP COLUMN chunk;
