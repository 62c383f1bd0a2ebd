"""Everything that knows PgQueuer or its tables."""
