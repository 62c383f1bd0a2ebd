"""The connection pool, and where the driver's exceptions stop."""

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

_GIVE_BACK_S = 0.5

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
    # A lock that can't be had, or a database that takes no connections for now.
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InternalClientError,
    asyncpg.ReadOnlySQLTransactionError,
)


@contextmanager
def _unavailable_is_timeout() -> Iterator[None]:
    try:
        yield
    except _UNAVAILABLE as error:
        logger.warning("the database does not answer: %s", str(error) or type(error).__name__)
        raise ProcessingTimeout("The database does not answer. Try again in a moment.") from error


class Database:
    """Connections for one process. Every use raises ProcessingTimeout when PostgreSQL is away."""

    def __init__(self, pool: Pool, *, timeout_s: float) -> None:
        self.pool = pool
        self._timeout_s = timeout_s

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection; each statement is a transaction of its own."""
        with _unavailable_is_timeout():
            connection = await self.pool.acquire(timeout=self._timeout_s)
            try:
                yield connection
            except asyncpg.InterfaceError as error:
                # Also raised when the driver is misused: that is a defect of ours.
                if connection.is_closed():
                    raise ConnectionResetError(str(error)) from error
                raise
            finally:
                # Waits for the server to end a statement that was given up. One that is frozen does
                # not: then the connection is closed, and what is raised already tells enough.
                with suppress(TimeoutError):
                    await self.pool.release(connection, timeout=_GIVE_BACK_S)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """Lend a connection for reading: all its statements see the same moment."""
        async with (
            self.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection for one transaction, undone when the block raises."""
        async with self.connection() as connection, connection.transaction():
            yield connection


async def _keep_session(_: object) -> None:
    """Spare the round trip that resets a returned connection: no session state is ever set."""


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """Connect. Raises ProcessingTimeout when PostgreSQL can't be reached."""
    with _unavailable_is_timeout():
        pool = await asyncpg.create_pool(
            settings.database_url.get_secret_value(),
            min_size=1,
            max_size=settings.database_pool,
            command_timeout=settings.database_timeout_s,
            timeout=settings.database_timeout_s,
            reset=_keep_session,
            server_settings={
                "application_name": "batchd",
                # A process that freezes in a transaction must not hold its locks as long.
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
