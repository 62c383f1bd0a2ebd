"""Policies that are kept in files, for the authorizers that are made of them."""
