"""Connects to a server of a database URL, and explains why it can't."""

import logging
from typing import Any

import asyncpg

from batchd.configuration import InvalidSettings
from batchd.database_url import address_of, each_server

logger = logging.getLogger(__name__)

_STATEMENT_GRACE_S = 1.0
"""How much later than this process the server gives up on a statement."""

NOT_RESPONDING = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,
)
REFUSED = (
    # The password is wrong, or pg_hba.conf has no entry.
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
_INVALID = (
    *REFUSED,
    asyncpg.ClientConfigurationError,
    # A parameter that the server does not have, or can't set.
    asyncpg.UndefinedObjectError,
    asyncpg.CantChangeRuntimeParamError,
    asyncpg.InvalidParameterValueError,
)


class DatabaseUnavailable(Exception):
    """No server of the URL accepts connections; the message names the setting and the reason."""


async def connect(url: str, *, timeout_s: float, **options: Any) -> Any:
    """Connect to the first suitable server of the URL.

    Each server has an equal share of the time, so that one that does not respond leaves the next
    one its own.
    """
    urls = each_server(url)
    for server_url in urls[:-1]:
        try:
            return await asyncpg.connect(server_url, timeout=timeout_s / len(urls), **options)
        except NOT_RESPONDING as error:
            logger.info("skipping %s: %s", address_of(server_url), reason_of(error))
    return await asyncpg.connect(urls[-1], timeout=timeout_s / len(urls), **options)


async def limit_statements(connection: Any, timeout_s: float) -> None:
    """Have the server end the statements of a process that froze or lost its connection.

    By SET, not by startup parameters, which PgBouncer refuses. In its transaction mode the limits
    stay with the server's connection; all processes of batchd set the same ones.
    """
    transaction_ms = int(timeout_s * 1000)
    await connection.execute(
        f"SET statement_timeout = {_statement_ms(timeout_s)};"
        f" SET idle_in_transaction_session_timeout = {transaction_ms}"
    )


async def limit_in_transaction(connection: Any, timeout_s: float) -> None:
    """Give the statements of a transaction another time limit on the server until it ends."""
    await connection.execute(f"SET LOCAL statement_timeout = {_statement_ms(timeout_s)}")


def _statement_ms(timeout_s: float) -> int:
    return int((timeout_s + _STATEMENT_GRACE_S) * 1000)


def reason_of(error: BaseException) -> str:
    """Return the error in one line."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no response in time"
    return " ".join(str(error).split()) or type(error).__name__


def startup_error(error: Exception, *, setting: str, url: str) -> Exception | None:
    """Return the error to report to an operator for one of `connect`; None if it is a defect."""
    if isinstance(error, _INVALID):
        return InvalidSettings(f"{setting}: {address_of(url)}: {reason_of(error)}")
    if isinstance(error, NOT_RESPONDING):
        return DatabaseUnavailable(
            f"{setting}: the database is not responding at {address_of(url)}: {reason_of(error)}"
        )
    return None
