"""`python -m batchd.cli` is `batchd`."""

from batchd.cli import main

main()
