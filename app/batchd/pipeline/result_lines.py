"""One line of the results file, and how many of a chunk's came out how."""

import logging

import msgspec

from batchd.domain.batches import MAX_SAMPLE_LINES, ErrorCount, LineCounts
from batchd.domain.errors import BatchdError, General
from batchd.domain.operations import OperationResult, error_result
from batchd.observability import logs

logger = logging.getLogger(__name__)

CANCELLED = None
"""Stands for the answer of a line that was not run."""


def encode(number: int, line_id: str | None, answer: OperationResult | None) -> bytes:
    """Return the line of the results file, with its line break."""
    named = b"" if line_id is None else b'"id":%b,' % msgspec.json.encode(line_id)
    if answer is CANCELLED:
        return b'{"line":%d,%b"outcome":"cancelled"}\n' % (number, named)
    outcome = b"succeeded" if answer.succeeded else b"failed"
    return b'{"line":%d,%b"outcome":"%b","status":%d,"body":%b}\n' % (
        number,
        named,
        outcome,
        answer.status,
        answer.body,
    )


def failure(error: Exception, *, line: str) -> OperationResult:
    """Return what a direct call that failed like this would have answered; a defect is logged."""
    trace = logs.current_trace()
    if isinstance(error, BatchdError):
        logger.info("line %s failed: %s", line, error.name, extra={"trace": trace})
    else:
        logger.error("line %s failed", line, extra={"trace": trace}, exc_info=error)
        error = General("The line could not be run because of a defect of the service.")
    return error_result(error, trace)


class Counter:
    """Counts what becomes of the lines of one chunk, which do not end in their order."""

    def __init__(self) -> None:
        self._succeeded = 0
        self._cancelled = 0
        self._failed: dict[int, list[int]] = {}

    def add(self, number: int, answer: OperationResult | None) -> None:
        if answer is CANCELLED:
            self._cancelled += 1
        elif answer.succeeded:
            self._succeeded += 1
        else:
            self._failed.setdefault(answer.status, []).append(number)

    def tally(self) -> LineCounts:
        return LineCounts(
            succeeded=self._succeeded,
            failed=sum(map(len, self._failed.values())),
            cancelled=self._cancelled,
            errors={
                status: ErrorCount(count=len(lines), lines=tuple(sorted(lines)[:MAX_SAMPLE_LINES]))
                for status, lines in sorted(self._failed.items())
            },
        )
