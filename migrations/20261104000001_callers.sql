-- migrate:up
-- Neither wait for a lock behind which requests would queue, nor run for ever: fail, and be tried again.
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

-- Processes remember who holds a secret. Whatever changes that, also by hand, they hear of it.
CREATE FUNCTION tell_caller_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('batchd_callers', OLD.user_id::text);
    RETURN NULL;
END
$$;

CREATE TRIGGER tell_changed AFTER UPDATE OR DELETE ON users
FOR EACH ROW EXECUTE FUNCTION tell_caller_changed();

CREATE TRIGGER tell_changed AFTER UPDATE OR DELETE ON secrets
FOR EACH ROW EXECUTE FUNCTION tell_caller_changed();

-- migrate:down
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';

DROP TRIGGER tell_changed ON secrets;
DROP TRIGGER tell_changed ON users;
DROP FUNCTION tell_caller_changed();
