"""What batchd is about, without input or output: batches, callers, errors, operations, ports."""
