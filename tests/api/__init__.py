"""The API as a caller sees it."""
