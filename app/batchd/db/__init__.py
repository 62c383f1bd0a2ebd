"""The database: SQL statements, each with the function that runs it."""
