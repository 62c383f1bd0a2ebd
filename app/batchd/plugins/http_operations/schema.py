"""What the file says of each operation, its defaults included."""

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


class _Table(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True
    )


class Retry(_Table):
    """When a call is made again, and after how long."""

    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """Calls at most, the first included."""
    statuses: Statuses = frozenset({429, 502, 503, 504})
    unanswered: bool = True
    """Also when there was no answer: no connection, a broken one, or none in time."""
    backoff_s: Seconds = 0.5
    max_backoff_s: Seconds = 30.0
    max_retry_after_s: Seconds = 60.0


class OperationSchema(_Table):
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    url: Url
    query: Query = []
    """The names that a line may give."""
    body: Body | None = None
    headers: Headers = Field({}, repr=False)
    timeout_s: Seconds = 30.0
    """Of one attempt, from the connection to the end of the answer."""
    retry: Retry = Retry()
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Attempts under way at once, in each process."""
    rate_per_s: Rate | None = None
    """Attempts of the whole fleet; None: any."""
    chunk_lines: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Lines that a worker takes at a time; None: as the settings say."""
    success: Statuses = frozenset(range(200, 300))
    max_answer_bytes: Annotated[int, Field(ge=1, le=64 * 1024**2)] = 64 * 1024

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.body is not None and self.method in {"GET", "HEAD"}:
            raise ValueError(f"{self.method} has no body")
        if fixed := self.url.query_names & set(self.query):
            raise ValueError(f"'{min(fixed)}' stands in the URL, and is the line's to give")
        if both := self.success & self.retry.statuses:
            raise ValueError(f"{min(both)} is a success and is retried: it can't be both")
        return self


class OperationsFile(_Table):
    operations: Annotated[dict[Name, OperationSchema], Field(min_length=1)]
