"""The embedded PostgreSQL and S3 server for `batchd dev`, the tests and the benchmarks."""
