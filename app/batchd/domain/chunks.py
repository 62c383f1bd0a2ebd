"""A chunk: the part of a batch that one worker runs at a time."""

from dataclasses import dataclass, field

from batchd.domain.batches import LineCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of the copy that one worker runs."""

    no: int
    start: int
    """Bytes before it."""
    size: int
    """Bytes."""
    first_line: int
    lines: int
    """Without the blank ones."""
    token: int = 0
    """Raised by each taker; what an older one writes is refused."""
    returned: int = 0
    """Takers that gave it back; the others died of it."""
    part_key: str | None = None
    """Its results; None: not done."""
    part_size: int = 0
    """Bytes of them."""
    tally: LineCounts = field(default_factory=LineCounts)
    """What became of its lines so far."""
