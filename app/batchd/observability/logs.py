"""The log: one JSON object per line on standard error, and the trace of the current task."""

import json
import logging
import random
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

AUDIT = "batchd.audit"
"""The logger of the audit records."""

trace: ContextVar[str | None] = ContextVar("trace", default=None)
"""Identifies the request, or the line of a batch, that this task is processing."""

_UNSAFE = re.compile(
    "[\x7f-\x9f"  # DEL and the C1 control characters, one of which begins terminal commands
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks and overrides of the direction
    "\u200b\u2028\u2029\ufeff"  # invisible, or line breaks to some readers
    "\ud800-\udfff]"  # halves of a pair, which UTF-8 can't encode
)
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}


def new_trace() -> str:
    """Set a new trace for the current task."""
    new = f"{random.getrandbits(128):032x}"  # an identifier, not a secret
    trace.set(new)
    return new


def clear_trace() -> None:
    """Clear the trace; a new one is created on demand, which most lines never need."""
    trace.set(None)


def current_trace() -> str:
    """Return the trace of the current task, creating one if it has none."""
    return trace.get() or new_trace()


class JsonFormatter(logging.Formatter):
    """Writes time, level, logger and message, then the fields of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {
            name: value for name, value in vars(record).items() if name not in _STANDARD_FIELDS
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return _escape(json.dumps(entry, default=str, ensure_ascii=False))


def _escape(text: str) -> str:
    """Escape in JSON what acts on a terminal, or shows a line otherwise than it is.

    JSON itself escapes the control characters up to U+001F only.
    """
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def configure(level: str) -> None:
    """Log to standard error; libraries log warnings and errors only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("batchd").setLevel(level)
    # Audit records are written whatever the level.
    logging.getLogger(AUDIT).setLevel(logging.INFO)
