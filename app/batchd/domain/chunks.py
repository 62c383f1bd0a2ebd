"""A chunk: the range of a batch's lines that one worker runs at a time."""

from dataclasses import dataclass, field
from uuid import UUID

from batchd.domain.batches import LineCounts

NO_PART = ""
"""The part key of a chunk whose lines have all failed without being run: it has no file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A byte range of the input file, in whole lines, and the state of running it."""

    number: int
    """Position within the batch, from 0."""
    start: int
    """Byte offset in the input file."""
    size: int
    """Bytes."""
    first_line: int
    lines: int
    """Number of lines, blank ones excluded."""
    fencing_token: UUID | None = None
    """Random value of the latest claim; writes with another one are rejected."""
    claims: int = 0
    """How often a worker has claimed it; not used for fencing."""
    releases: int = 0
    """Claims that were released; the others, except the current one, ended with a death."""
    checkpoint_key: str | None = None
    """Storage key of the results of the lines that earlier claims finished; None without any."""
    part_key: str | None = None
    """Storage key of the chunk's results, or NO_PART; None until it is completed."""
    part_size: int = 0
    """Bytes of the results so far."""
    counts: LineCounts = field(default_factory=LineCounts)
    """Outcomes of its lines so far."""
