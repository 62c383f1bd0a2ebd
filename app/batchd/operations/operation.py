"""An operation of the API: its route, and how requests are parsed, served and presented."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from batchd.domain.commands import Parsed
from batchd.domain.errors import BatchdError
from batchd.domain.operations import OperationRequest
from batchd.domain.permission import Permission
from batchd.domain.users import Caller
from batchd.operations.request_schemas import NoQuery
from batchd.services.container import Services

C = TypeVar("C")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiOperation(Generic[C, R]):
    """A row of the table, from which routes, batch lines, permissions and OpenAPI are generated.

    `C` is the command that a request is parsed to, `R` what the service returns.
    """

    name: str
    """Also the name of its permission."""
    summary: str
    method: str
    path: str
    owned: bool
    """Whether it acts on batches or uploads, which belong to the user that created them."""
    read_only: bool
    """Whether it changes nothing."""
    runs_in_batches: bool
    """Whether the lines of a batch may call it."""
    path_schema: type[msgspec.Struct] | None = None
    query_schema: type[msgspec.Struct] = NoQuery
    body_schema: type[msgspec.Struct] | None = None
    takes_idempotency_key: bool = False
    success: int = 200
    """The HTTP status of a success."""
    response: type[msgspec.Struct]
    errors: tuple[type[BatchdError], ...]
    """Its own errors, besides those of every call (401, 429, 500, 503)."""
    parser: Callable[[OperationRequest], C]
    """Raises RequestFormat, NotAValidJson, InvalidCharacters or QuotaViolation."""
    service: Callable[[Services], Callable[[Caller, Parsed[C]], Awaitable[R]]]
    """Returns the method that serves it, which authorizes first, then raises the parser's error."""
    presenter: Callable[[R], msgspec.Struct]

    @property
    def permission(self) -> Permission:
        return Permission(name=self.name, owned=self.owned, read_only=self.read_only)

    def parse(self, request: OperationRequest) -> Parsed[C]:
        """Return the command, or the error as a value: the permission is checked before it."""
        try:
            return self.parser(request)
        except BatchdError as error:
            return error

    async def call(
        self, services: Services, caller: Caller, request: OperationRequest
    ) -> msgspec.Struct:
        """Serve one request, from HTTP or from the line of a batch. Raises BatchdError."""
        result = await self.service(services)(caller, self.parse(request))
        return self.presenter(result)
