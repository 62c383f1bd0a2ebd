"""The operation that does nothing, for whoever measures what a batch costs."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from batchd.domain.operations import Answer, Call, Operation, OperationContext, Parts, Problem

_DONE = Answer(status=200, body=b"{}")


class NoOp:
    """Takes any line, and succeeds."""

    name = "no_op"

    def check(self, parts: Parts) -> Sequence[Problem]:  # noqa: ARG002  # any parts are good
        return ()

    async def run(self, call: Call) -> Answer:  # noqa: ARG002  # it does nothing
        return _DONE


@asynccontextmanager
async def no_op(_: OperationContext) -> AsyncIterator[Operation]:
    yield NoOp()
