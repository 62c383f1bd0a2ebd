"""Policies kept in files, for the authorizers that read them."""
