"""What processes tell each other at once, by NOTIFY: hints, which may be lost with a connection."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

import asyncpg

from batchd.db.connection import Connection
from batchd.settings import Settings

logger = logging.getLogger(__name__)

_RECONNECT_S = 1.0
_PING_S = 2.0


class Channel(StrEnum):
    CANCELLED = "batchd_cancelled"
    """The payload is the batch."""
    CALLERS = "batchd_callers"
    """The payload is the user that has changed."""


_NOTIFY = "SELECT pg_notify($1, $2)"


async def notify(connection: Connection, channel: Channel, payload: str) -> None:
    """Tell all processes, when the transaction at hand commits."""
    await connection.execute(_NOTIFY, channel.value, payload)


class Notifications:
    """A connection that listens, and is made again whenever it breaks."""

    def __init__(self, dsn: str, *, timeout_s: float) -> None:
        self._dsn = dsn
        self._timeout_s = timeout_s
        self._hear: dict[Channel, Callable[[str], None]] = {}
        self.connected = False
        """While this is false, nothing is heard."""

    def subscribe(self, channel: Channel, hear: Callable[[str], None]) -> None:
        """Have `hear` called with each payload; it must neither wait nor raise.

        After each connection it is called with an empty one: before that, anything may have been
        missed.
        """
        self._hear[channel] = hear

    async def run(self) -> None:
        """Listen, until cancelled."""
        while True:
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001  # whatever it was, it may be over soon
                logger.warning("not listening to the database: %r", error)
            finally:
                self.connected = False
            await asyncio.sleep(_RECONNECT_S)

    async def _listen(self) -> None:
        lost = asyncio.Event()
        connection = await asyncpg.connect(
            self._dsn,
            timeout=self._timeout_s,
            command_timeout=self._timeout_s,
            server_settings={"application_name": "batchd notifications"},
        )
        try:
            connection.add_termination_listener(lambda _: lost.set())
            for channel in Channel:
                await connection.add_listener(channel.value, self._heard)
            self.connected = True
            for hear in self._hear.values():
                hear("")
            while not lost.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PING_S):
                        await lost.wait()
                # A connection that ends without a word is noticed by asking.
                await connection.execute("SELECT 1", timeout=_PING_S)
        finally:
            connection.terminate()

    def _heard(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        hear = self._hear.get(Channel(channel))
        if hear is not None:
            hear(str(payload))


@asynccontextmanager
async def open_notifications(settings: Settings) -> AsyncIterator[Notifications]:
    """Listen for as long as the block runs."""
    notifications = Notifications(
        settings.database_url.get_secret_value(), timeout_s=settings.database_timeout_s
    )
    listening = asyncio.create_task(notifications.run())
    try:
        yield notifications
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
