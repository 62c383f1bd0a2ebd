"""The connection pool, and the translation of the driver's exceptions."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from batchd.domain.errors import ProcessingTimeout
from batchd.settings import Settings

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

logger = logging.getLogger(__name__)

_RELEASE_TIMEOUT_S = 0.5

_UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
    # A lock that is not available, or a database that does not accept connections yet.
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InternalClientError,
    asyncpg.ReadOnlySQLTransactionError,
)


@contextmanager
def _translate_outages() -> Iterator[None]:
    """Raise ProcessingTimeout in place of the exceptions that an outage causes."""
    try:
        yield
    except _UNAVAILABLE as error:
        logger.warning("the database is not responding: %s", str(error) or type(error).__name__)
        raise ProcessingTimeout("The database is not responding. Try again in a moment.") from error


class Database:
    """The connections of one process. Every use raises ProcessingTimeout during an outage."""

    def __init__(self, pool: Pool, *, timeout_s: float) -> None:
        self.pool = pool
        self._timeout_s = timeout_s

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Acquire a connection; each statement is a transaction of its own."""
        with _translate_outages():
            connection = await self.pool.acquire(timeout=self._timeout_s)
            try:
                yield connection
            except asyncpg.InterfaceError as error:
                # Also raised for misuse of the driver, which is a defect and no outage.
                if connection.is_closed():
                    raise ConnectionResetError(str(error)) from error
                raise
            finally:
                # Waits for the server to cancel an abandoned statement. If the server is frozen,
                # the connection is closed, and the error of the statement is raised.
                with suppress(TimeoutError):
                    await self.pool.release(connection, timeout=_RELEASE_TIMEOUT_S)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """Acquire a read-only connection whose statements all see the same snapshot."""
        async with (
            self.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Acquire a connection for one transaction, rolled back when the block raises."""
        async with self.connection() as connection, connection.transaction():
            yield connection


async def _keep_session(_: object) -> None:
    """Skip the round trip that resets a released connection: no session state is ever set."""


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the pool. Raises ProcessingTimeout if PostgreSQL can't be reached."""
    with _translate_outages():
        pool = await asyncpg.create_pool(
            settings.database_url.get_secret_value(),
            min_size=1,
            max_size=settings.database_pool,
            command_timeout=settings.database_timeout_s,
            timeout=settings.database_timeout_s,
            reset=_keep_session,
            server_settings={
                "application_name": "batchd",
                # The locks of a process that freezes in a transaction are released.
                "idle_in_transaction_session_timeout": str(int(settings.database_timeout_s * 1000)),
            },
        )
    try:
        yield Database(pool, timeout_s=settings.database_timeout_s)
    finally:
        try:
            async with asyncio.timeout(settings.database_timeout_s):
                await pool.close()
        except TimeoutError:
            pool.terminate()
