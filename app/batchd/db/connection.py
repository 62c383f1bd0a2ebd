"""The connection pool, and the translation of the driver's exceptions."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from batchd.db.server import NOT_RESPONDING, REFUSED, connect, limit_statements, startup_error
from batchd.domain.errors import ProcessingTimeout
from batchd.settings import Settings

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

logger = logging.getLogger(__name__)

_RELEASE_TIMEOUT_S = 0.5
_IS_READ_ONLY = "SELECT current_setting('transaction_read_only')::boolean"

_UNAVAILABLE = (
    *NOT_RESPONDING,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.QueryCanceledError,
    # A lock that is not available, or a database that does not accept connections yet.
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InsufficientResourcesError,
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


@contextmanager
def _translate_refusals() -> Iterator[None]:
    """Raise ProcessingTimeout if the server refuses the credentials, as after a new password."""
    try:
        yield
    except REFUSED as error:
        logger.error("the database refuses the credentials of BATCHD_DATABASE_URL: %s", error)  # noqa: TRY400  # the reason is all there is
        raise ProcessingTimeout("The database is not available. Try again in a moment.") from error


class Database:
    """The connections of one process. Every use raises ProcessingTimeout during an outage."""

    def __init__(self, pool: Pool, *, timeout_s: float) -> None:
        self.pool = pool
        self._timeout_s = timeout_s

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Acquire a connection; each statement is a transaction of its own."""
        with _translate_outages():
            with _translate_refusals():
                connection = await self.pool.acquire(timeout=self._timeout_s)
            try:
                yield connection
            except asyncpg.InterfaceError as error:
                # Also raised for misuse of the driver, which is a defect, not an outage.
                if _is_closed(connection):
                    raise ConnectionResetError(str(error)) from error
                raise
            except (TimeoutError, asyncpg.QueryCanceledError) as error:
                if await self._responds(connection):
                    logger.warning("a statement took longer than BATCHD_DATABASE_TIMEOUT_S")
                    raise ProcessingTimeout(
                        "The database took too long. Try again in a moment.", is_outage=False
                    ) from error
                raise
            except asyncpg.ReadOnlySQLTransactionError:
                # The server has become a standby. The next connections look for the primary.
                await self.pool.expire_connections()
                raise
            finally:
                # Waits for the server to cancel an abandoned statement. If the server is frozen,
                # the connection is closed, and the error of the statement is raised.
                with suppress(TimeoutError):
                    await self.pool.release(connection, timeout=_RELEASE_TIMEOUT_S)

    async def _responds(self, connection: Connection) -> bool:
        """Return whether the server responds: then batchd's own limit ended the statement."""
        try:
            await connection.execute("SELECT 1", timeout=_RELEASE_TIMEOUT_S)
        except (*_UNAVAILABLE, asyncpg.InterfaceError):
            with suppress(asyncpg.InterfaceError):  # the driver has closed and released it
                connection.terminate()
            return False
        return True

    async def check(self) -> None:
        """Raise ProcessingTimeout unless the server responds and accepts writes."""
        async with self.connection() as connection:
            if await connection.fetchval(_IS_READ_ONLY):
                await self.pool.expire_connections()
                raise ProcessingTimeout("The database is read-only. Try again in a moment.")

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


def _is_closed(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the pool took it back when it was lost
        return True


async def _keep_session(_: object) -> None:
    """Skip the round trip that resets a released connection: no session state is ever set."""


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the pool. Raises InvalidSettings or DatabaseUnavailable."""
    url = settings.database_url.get_secret_value()
    timeout_s = settings.database_timeout_s

    async def initialize(connection: Connection) -> None:
        await limit_statements(connection, timeout_s)

    async def open_connection(*_: object, **options: Any) -> Any:
        return await connect(url, timeout_s=timeout_s, **options)

    cache: dict[str, Any] = {} if settings.database_prepared else {"statement_cache_size": 0}
    try:
        pool = await asyncpg.create_pool(
            connect=open_connection,
            init=initialize,
            min_size=1,
            max_size=settings.database_pool,
            command_timeout=timeout_s,
            reset=_keep_session,
            server_settings={"application_name": "batchd"},
            **cache,
        )
    except Exception as error:
        refusal = startup_error(error, setting=settings.variable("database_url"), url=url)
        raise refusal or error from error
    try:
        yield Database(pool, timeout_s=timeout_s)
    finally:
        try:
            async with asyncio.timeout(timeout_s):
                await pool.close()
        except TimeoutError:
            pool.terminate()
