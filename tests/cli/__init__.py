"""The command `batchd`, as a separate process."""
