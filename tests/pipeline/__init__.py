"""The stages of a batch, each piece of them by itself."""
