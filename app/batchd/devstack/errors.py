"""What the dev stack tells people when it can't run."""


class StackFailed(Exception):
    """The stack can't start or can't go on; the message says why, for people."""
