"""Notifications between processes by LISTEN and NOTIFY: hints, which an outage may lose."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

import asyncpg

from batchd.db.connection import Connection
from batchd.settings import Settings

logger = logging.getLogger(__name__)

_RECONNECT_DELAY_S = 1.0
_PING_INTERVAL_S = 2.0


class Channel(StrEnum):
    CANCELLED = "batchd_cancelled"
    """The payload is the id of the cancelled batch."""
    CALLERS = "batchd_callers"
    """The payload is the id of the changed user."""


_NOTIFY = "SELECT pg_notify($1, $2)"


async def notify(connection: Connection, channel: Channel, payload: str) -> None:
    """Notify all processes when the current transaction commits."""
    await connection.execute(_NOTIFY, channel.value, payload)


class Notifications:
    """A listening connection, reopened whenever it breaks."""

    def __init__(self, dsn: str, *, timeout_s: float) -> None:
        self._dsn = dsn
        self._timeout_s = timeout_s
        self._callbacks: dict[Channel, Callable[[str], None]] = {}
        self.connected = False
        """While this is False, no notifications are received."""

    def subscribe(self, channel: Channel, callback: Callable[[str], None]) -> None:
        """Call `callback` with each payload; it must neither block nor raise.

        After each reconnection it is called with an empty payload, because notifications may have
        been missed.
        """
        self._callbacks[channel] = callback

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001  # any error may be temporary
                logger.warning("lost the notification connection: %r", error)
            finally:
                self.connected = False
            await asyncio.sleep(_RECONNECT_DELAY_S)

    async def _listen(self) -> None:
        terminated = asyncio.Event()
        connection = await asyncpg.connect(
            self._dsn,
            timeout=self._timeout_s,
            command_timeout=self._timeout_s,
            server_settings={"application_name": "batchd notifications"},
        )
        try:
            connection.add_termination_listener(lambda _: terminated.set())
            for channel in Channel:
                await connection.add_listener(channel.value, self._on_notification)
            self.connected = True
            for callback in self._callbacks.values():
                callback("")
            while not terminated.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PING_INTERVAL_S):
                        await terminated.wait()
                # Detects a connection that broke without being closed.
                await connection.execute("SELECT 1", timeout=_PING_INTERVAL_S)
        finally:
            connection.terminate()

    def _on_notification(
        self, _connection: object, _pid: int, channel: str, payload: object
    ) -> None:
        callback = self._callbacks.get(Channel(channel))
        if callback is not None:
            callback(str(payload))


@asynccontextmanager
async def open_notifications(settings: Settings) -> AsyncIterator[Notifications]:
    """Listen while the block runs."""
    notifications = Notifications(
        settings.database_url.get_secret_value(), timeout_s=settings.database_timeout_s
    )
    listener = asyncio.create_task(notifications.run())
    try:
        yield notifications
    finally:
        listener.cancel()
        with suppress(asyncio.CancelledError):
            await listener
