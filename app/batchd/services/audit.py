"""The audit record of each denial, and of each permission to change something."""

import logging
from uuid import UUID

from batchd.domain.permission import Decision
from batchd.domain.users import Caller
from batchd.observability import logs

logger = logging.getLogger(logs.AUDIT)


def record(
    caller: Caller,
    operation: str,
    decision: Decision | None,
    *,
    batch: UUID | None = None,
    handler: UUID | None = None,
) -> None:
    """Write one record; `decision` is None where the authorizer gave none, which denies.

    `batch` or `handler` identifies the object, if it is known.
    """
    verdict = "allow" if decision is not None and decision.allowed else "deny"
    logger.info(
        "%s %s",
        verdict,
        operation,
        extra={
            "trace": logs.current_trace(),
            "account": caller.account,
            "user": caller.user,
            "role": caller.role,
            "operation": operation,
            "batch": batch,
            "handler": handler,
            "decision": verdict,
            "revision": None if decision is None else decision.revision,
            "rule": None if decision is None else decision.rule,
        },
    )
