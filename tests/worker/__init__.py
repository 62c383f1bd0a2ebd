"""Batches processed from beginning to end, by workers or stage by stage."""
