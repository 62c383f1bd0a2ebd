"""The embedded PostgreSQL and S3 server for `batchd dev` and the tests."""
