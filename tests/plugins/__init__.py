"""The plugins against what they talk to."""
