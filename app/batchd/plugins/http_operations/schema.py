"""The schema of the operations file, with the default of each key."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from batchd.plugins.http_operations.fields import (
    Body,
    Headers,
    Name,
    Query,
    Rate,
    Seconds,
    Statuses,
    Url,
)
from batchd.plugins.http_operations.parameter_types import ParameterType


class _Table(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True
    )


class Retry(_Table):
    """Which calls are retried, and after what delay."""

    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """Maximum number of calls, the first one included."""
    statuses: Statuses = frozenset({429, 502, 503, 504})
    unanswered: bool = True
    """Retry also without a response: connection failed, connection closed, timeout."""
    backoff_s: Seconds = 0.5
    max_backoff_s: Seconds = 30.0
    max_retry_after_s: Seconds = 60.0
    give_up_after_s: Annotated[float, Field(gt=0, le=30 * 86400, allow_inf_nan=False)] = 3600.0
    """Time without an answer of the upstream after which lines fail instead of waiting."""


class Breaker(_Table):
    """When the upstream of the operation is taken to answer nobody."""

    failures: Annotated[int, Field(ge=0, le=10_000)] = 10
    """Number of calls in a row without an answer that open the breaker; 0 turns it off."""
    statuses: Statuses = frozenset(range(500, 600))
    """The statuses that are no answer, as a missing response is none."""
    max_probe_interval_s: Seconds = 30.0


class OperationSchema(_Table):
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    url: Url
    query: Query = []
    """Names of the query parameters that a line may contain."""
    types: dict[str, ParameterType] = {}
    """Types of path and query parameters; identifier is the default in the path."""
    body: Body | None = None
    headers: Headers = Field({}, repr=False)
    timeout_s: Seconds = 30.0
    """Timeout of one attempt, from connecting to the end of the response."""
    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Maximum number of concurrent attempts in each process."""
    adaptive_concurrency: bool = True
    """Make fewer concurrent attempts if the host answers more slowly, or refuses some."""
    rate_per_s: Rate | None = None
    """Maximum rate of attempts of the whole fleet; None means unlimited."""
    chunk_lines: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Maximum number of lines in a chunk; None means the value of the setting."""
    success: Statuses = frozenset(range(200, 300))
    max_answer_bytes: Annotated[int, Field(ge=1, le=64 * 1024**2)] = 64 * 1024

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.body is not None and self.method in {"GET", "HEAD"}:
            raise ValueError(f"{self.method} has no body")
        if fixed := self.url.query_names & set(self.query):
            raise ValueError(f"'{min(fixed)}' is fixed in the URL and also listed in `query`")
        if unknown := self.types.keys() - self.url.names - set(self.query):
            raise ValueError(f"'{min(unknown)}' in `types` is not a parameter")
        if both := self.success & self.retry.statuses:
            raise ValueError(f"{min(both)} can't be both a success and retried")
        return self


class OperationsFile(_Table):
    operations: Annotated[dict[Name, OperationSchema], Field(min_length=1)]
