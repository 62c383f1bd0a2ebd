"""What workers do with a batch: each stage advances it to its next status exactly once."""
