"""The rules that need nothing but themselves."""
