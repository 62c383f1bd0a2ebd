"""Running one chunk of a batch: leased, read, run and stored."""
