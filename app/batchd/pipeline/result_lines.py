"""The lines of the results file, and the count of their outcomes."""

import logging
from typing import Literal

import msgspec

from batchd.domain.batches import MAX_SAMPLE_LINES, ErrorCount, LineCounts
from batchd.domain.errors import BatchdError, General, help_url
from batchd.domain.operations import OperationResult, error_result
from batchd.observability import logs
from batchd.pipeline.json_lines import escape_line_separators

logger = logging.getLogger(__name__)

CANCELLED = None
"""Takes the place of the result of a line that was not run."""


def encode(number: int, line_id: str | None, result: OperationResult | None) -> bytes:
    """Return the line of the results file, with its line break."""
    id_attribute = b"" if line_id is None else b'"id":%b,' % msgspec.json.encode(line_id)
    if result is CANCELLED:
        line = b'{"line":%d,%b"outcome":"cancelled"}\n' % (number, id_attribute)
        return escape_line_separators(line)
    outcome = b"succeeded" if result.succeeded else b"failed"
    line = b'{"line":%d,%b"outcome":"%b","status":%d,"body":%b}\n' % (
        number,
        id_attribute,
        outcome,
        result.status,
        result.body,
    )
    return escape_line_separators(line)


class _ResultLine(msgspec.Struct):
    line: int
    outcome: Literal["succeeded", "failed"]
    status: int


_decoder = msgspec.json.Decoder(_ResultLine)


def decode(line: bytes) -> tuple[int, OperationResult]:
    """Return the number and, without its body, the result of a line that was run.

    Raises msgspec.MsgspecError, also for a cancelled line.
    """
    decoded = _decoder.decode(line)
    succeeded = decoded.outcome == "succeeded"
    return decoded.line, OperationResult(status=decoded.status, body=b"", success=succeeded)


def failed_result(
    error: Exception, *, line_key: str, help_base: str | None = None
) -> OperationResult:
    """Return and log the error as the result of a line, the same as a direct call would return.

    `help_base` is the setting `help_url`.
    """
    trace = logs.current_trace()
    if isinstance(error, BatchdError):
        logger.info("line %s failed: %s", line_key, error.name, extra={"trace": trace})
    else:
        logger.error("line %s failed", line_key, extra={"trace": trace}, exc_info=error)
        error = General("The line could not be run because of a defect of the service.")
    return error_result(error, trace, help_url=help_url(error, help_base))


class OutcomeCounter:
    """Counts the outcomes of one chunk's lines, which complete in any order."""

    def __init__(self) -> None:
        self._succeeded = 0
        self._cancelled = 0
        self._failed_lines: dict[int, list[int]] = {}
        """Line numbers by status code."""

    def add(self, number: int, result: OperationResult | None) -> None:
        if result is CANCELLED:
            self._cancelled += 1
        elif result.succeeded:
            self._succeeded += 1
        else:
            self._failed_lines.setdefault(result.status, []).append(number)

    def counts(self) -> LineCounts:
        return LineCounts(
            succeeded=self._succeeded,
            failed=sum(map(len, self._failed_lines.values())),
            cancelled=self._cancelled,
            errors={
                status: ErrorCount(count=len(lines), lines=tuple(sorted(lines)[:MAX_SAMPLE_LINES]))
                for status, lines in sorted(self._failed_lines.items())
            },
        )
