"""The services, without HTTP where that is not the point."""
