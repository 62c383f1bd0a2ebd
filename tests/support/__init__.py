"""What the tests stand on: the real stack, a clock that can be moved, and a caller's eyes."""
