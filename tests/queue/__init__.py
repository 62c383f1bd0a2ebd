"""Tests of the job queue: its engine and its order."""
