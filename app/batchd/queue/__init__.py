"""The job queue: PgQueuer and its table stop here."""
