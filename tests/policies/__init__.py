"""Tests of the shipped policies."""
