"""The command `batchd`, as a process of its own."""
