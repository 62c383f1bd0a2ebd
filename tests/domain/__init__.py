"""The domain's rules, without input or output."""
