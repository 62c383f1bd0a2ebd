"""What a running process reports: its log and its metrics."""
