"""The log: one JSON object a line on standard error, and the trace of what is being done."""

import json
import logging
import random
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

AUDIT = "batchd.audit"
"""The logger of who was let do what, and who was not."""

trace: ContextVar[str | None] = ContextVar("trace", default=None)
"""Names the request, or the line of a batch, that this task is at."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}


def new_trace() -> str:
    """Begin something that has a trace of its own."""
    made = f"{random.getrandbits(128):032x}"  # it names, and opens nothing
    trace.set(made)
    return made


def no_trace() -> None:
    """Begin something that gets a trace once it has something to tell: most lines never have."""
    trace.set(None)


def current_trace() -> str:
    """Return the trace of what is being done, and give it one if it has none yet."""
    return trace.get() or new_trace()


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, then whatever `extra` named."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


def configure(level: str) -> None:
    """Log to standard error; the libraries speak only when something is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("batchd").setLevel(level)
    # Written whatever the level: it is no news of the program's, but a record.
    logging.getLogger(AUDIT).setLevel(logging.INFO)
