"""The parts that can be exchanged, loaded by entry point: authorizer, storage, operations."""
