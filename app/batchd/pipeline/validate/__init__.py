"""Validation of every line of a batch file before any line runs."""
