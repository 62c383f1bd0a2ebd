"""batchd: the Batch API that a company runs itself."""
