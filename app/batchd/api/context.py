"""What the handlers and middlewares of one API process share."""

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from batchd.api.concurrency_limit import ConcurrencyLimit
from batchd.api.error_responses import ErrorResponses
from batchd.api.rate_limit import RateLimit
from batchd.api.shared_result import SharedResult
from batchd.services.container import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class AppContext:
    services: Services
    errors: ErrorResponses
    concurrency: ConcurrencyLimit
    rate_limit: RateLimit
    body_timeout_s: float
    health: SharedResult[Mapping[str, bool]]
    metrics: SharedResult[bytes]
    openapi: bytes
    """The OpenAPI document, encoded."""


CONTEXT = web.AppKey("context", AppContext)
"""The key of the application's AppContext while it runs."""
