"""The database: its schema, and how its queries are answered."""
