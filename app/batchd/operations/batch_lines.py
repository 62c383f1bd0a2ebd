"""The API without HTTP: how batchd's own operations are run in batches."""

import logging
from collections.abc import Sequence

from batchd.domain.errors import BatchdError, ProcessingTimeout, RequestFormat
from batchd.domain.operations import (
    OperationRequest,
    OperationResult,
    ValidationIssue,
    error_answer,
)
from batchd.domain.users import Caller
from batchd.observability import logs
from batchd.operations.parsing import InvalidRequest, encode
from batchd.operations.table import BY_NAME
from batchd.services.container import ApiServices

logger = logging.getLogger(__name__)


class LocalApi:
    """Implements `domain.operations.Api`."""

    def __init__(self, services: ApiServices) -> None:
        self._services = services

    def check(self, operation: str, parts: OperationRequest) -> Sequence[ValidationIssue]:
        """Return what the operation's endpoint would refuse these parts for."""
        endpoint = BY_NAME[operation]
        problems = []
        if endpoint.body_form is None and parts.body is not None:
            message = "This operation takes no body."
            problems.append(
                ValidationIssue(code=RequestFormat.name, pointer="/body", message=message)
            )
        try:
            endpoint.form(parts)
        except InvalidRequest as error:
            problems.append(
                ValidationIssue(code=error.name, pointer=error.pointer, message=error.message)
            )
        return problems

    async def call(
        self, operation: str, caller: Caller, parts: OperationRequest
    ) -> OperationResult:
        """Answer as the endpoint would; only ProcessingTimeout is raised."""
        endpoint = BY_NAME[operation]
        try:
            answer = await endpoint.act(self._services, caller, parts)
        except ProcessingTimeout:
            raise
        except BatchdError as error:
            trace = logs.current_trace()
            logger.info("%s: %s", operation, error.name, extra={"trace": trace})
            return error_answer(error, trace)
        return OperationResult(status=endpoint.success, body=encode(answer))
