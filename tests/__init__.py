"""The tests: scenarios on the real PostgreSQL and the real S3 server."""
