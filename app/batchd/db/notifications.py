"""Notifications between processes by LISTEN and NOTIFY: hints that an outage may lose."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from uuid import uuid4

from batchd.db.connection import Connection, Database
from batchd.db.server import connect
from batchd.domain.errors import ProcessingTimeout
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


class NotReceiving(Exception):
    """The connection is open, but does not receive what is sent."""


class Notifications:
    """A listening connection, reopened whenever it breaks.

    An open connection proves nothing: behind a pooler, or after a failover, it may receive nothing.
    So an echo is sent through the pool every two seconds, like the notifications of processes.
    """

    def __init__(self, database: Database, dsn: str, *, timeout_s: float) -> None:
        self._database = database
        self._dsn = dsn
        self._timeout_s = timeout_s
        self._callbacks: dict[Channel, Callable[[str], None]] = {}
        self._echo_channel = f"batchd_echo_{uuid4().hex}"
        self._echo_payload = ""
        self._echo_received = asyncio.Event()
        self.connected = False
        """While this is False, notifications may not be received."""

    def subscribe(self, channel: Channel, callback: Callable[[str], None]) -> None:
        """Call `callback` with each payload; it must neither block nor raise.

        When notifications are received again, it is called with an empty payload, because some
        may have been missed.
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
        connection = await connect(
            self._dsn,
            timeout_s=self._timeout_s,
            command_timeout=self._timeout_s,
            server_settings={"application_name": "batchd notifications"},
        )
        try:
            connection.add_termination_listener(lambda _: terminated.set())
            for channel in Channel:
                await connection.add_listener(channel.value, self._on_notification)
            await connection.add_listener(self._echo_channel, self._on_echo)
            while not terminated.is_set():
                await self._confirm()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PING_INTERVAL_S):
                        await terminated.wait()
        finally:
            connection.terminate()

    async def _confirm(self) -> None:
        """Send an echo, and check that it is received. Raises NotReceiving."""
        self._echo_received.clear()
        self._echo_payload = uuid4().hex
        try:
            async with self._database.connection() as sender:
                await sender.execute(_NOTIFY, self._echo_channel, self._echo_payload)
        except ProcessingTimeout:
            self.connected = False
            return
        try:
            async with asyncio.timeout(_PING_INTERVAL_S):
                await self._echo_received.wait()
        except TimeoutError:
            raise NotReceiving(
                "it does not receive its own notification: if BATCHD_DATABASE_URL is a pooler's, "
                "BATCHD_DATABASE_DIRECT_URL must be the server's own"
            ) from None
        if not self.connected:
            self.connected = True
            for callback in self._callbacks.values():
                callback("")

    def _on_echo(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        if payload == self._echo_payload:
            self._echo_received.set()

    def _on_notification(
        self, _connection: object, _pid: int, channel: str, payload: object
    ) -> None:
        callback = self._callbacks.get(Channel(channel))
        if callback is not None:
            callback(str(payload))


@asynccontextmanager
async def open_notifications(
    settings: Settings, database: Database
) -> AsyncIterator[Notifications]:
    """Listen while the block runs."""
    notifications = Notifications(
        database, settings.direct_url.get_secret_value(), timeout_s=settings.database_timeout_s
    )
    listener = asyncio.create_task(notifications.run())
    try:
        yield notifications
    finally:
        listener.cancel()
        with suppress(asyncio.CancelledError):
            await listener
