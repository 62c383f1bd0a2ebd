"""What a running process tells: its log and its metrics."""
