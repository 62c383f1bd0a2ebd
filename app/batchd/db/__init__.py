"""The database: SQL, and nothing that knows of HTTP or files."""
