"""Where the application keeps what its handlers need."""

from aiohttp import web

from batchd.api.overload import Overload
from batchd.api.rate import RateLimit
from batchd.services.container import Services

SERVICES: web.AppKey[Services] = web.AppKey("services", Services)
RATE_LIMIT: web.AppKey[RateLimit] = web.AppKey("rate_limit", RateLimit)
OVERLOAD: web.AppKey[Overload] = web.AppKey("overload", Overload)
OPENAPI: web.AppKey[bytes] = web.AppKey("openapi", bytes)
