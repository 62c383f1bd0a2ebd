"""What the handlers of one API process share."""

from dataclasses import dataclass

from batchd.api.concurrency_limit import ConcurrencyLimit
from batchd.api.rate_limit import RateLimit
from batchd.services.container import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class AppContext:
    services: Services
    overload: ConcurrencyLimit
    rate_limit: RateLimit
    body_timeout_s: float
    """How long the body of a request may be in coming."""
    openapi: bytes
    """The document."""
