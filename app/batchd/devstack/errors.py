"""The error of a dev stack that can't run."""


class StackFailed(Exception):
    """The stack can't start or can't continue; the message is written for people."""
