"""The components, without HTTP where that is not the point."""
