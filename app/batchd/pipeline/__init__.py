"""The life of a batch: each stage takes it from one status to the next, once, whoever runs it."""
