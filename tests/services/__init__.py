"""The services, without HTTP where it is irrelevant."""
