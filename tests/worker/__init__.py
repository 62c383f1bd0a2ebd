"""Batches taken through their lives by real workers."""
