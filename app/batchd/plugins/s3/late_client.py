"""The client, opened in the background: to read it in and to make it takes 0.2 s of a start."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from batchd.configuration import InvalidSettings
from batchd.plugins.s3.errors import unanswered
from batchd.plugins.s3.settings import S3Settings

if TYPE_CHECKING:
    from aiobotocore.credentials import AioCredentials

    from batchd.plugins.s3.client import Opened


class LateClient:
    """Stands for the client from the start: each operation waits until it is there.

    What fails to open is opened anew for the next one who needs it.
    """

    _opening: "asyncio.Task[Opened]"

    def __init__(self, settings: S3Settings, exits: AsyncExitStack) -> None:
        self._settings = settings
        self._exits = exits
        self._opening = asyncio.create_task(self._open())

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        """Return an operation of the client; called, it waits until there is one."""
        if operation.startswith("_"):  # what Python itself asks for
            raise AttributeError(operation)

        async def call(**parameters: object) -> Any:
            client = (await self.opened()).client
            return await getattr(client, operation)(**parameters)

        return call

    async def credentials(self) -> "AioCredentials":
        return (await self.opened()).credentials

    async def opened(self) -> "Opened":
        """Wait for the client. Raises InvalidSettings or, whatever else it is, ProcessingTimeout."""
        if self._opening.done() and self._opening.exception() is not None:
            self._opening = asyncio.create_task(self._open())
        try:
            # The opening goes on, whoever of those that wait for it leaves.
            return await asyncio.shield(self._opening)
        except InvalidSettings:
            raise
        except Exception as error:
            raise unanswered("open", self._settings.bucket, error) from error

    async def close(self) -> None:
        self._opening.cancel()
        await asyncio.gather(self._opening, return_exceptions=True)

    async def _open(self) -> "Opened":
        client = await asyncio.to_thread(prepared, self._settings)
        opened = await self._exits.enter_async_context(client)
        # It is much, and it stays: the collector need not go through it again and again.
        gc.freeze()
        return opened


@asynccontextmanager
async def opening(settings: S3Settings) -> AsyncIterator[LateClient]:
    """Open the client while the block runs."""
    async with AsyncExitStack() as exits:
        late = LateClient(settings, exits)
        try:
            yield late
        finally:
            await late.close()


def prepared(settings: S3Settings) -> "AbstractAsyncContextManager[Opened]":
    # Here, because it is half of the time, and a thread's: requests are answered meanwhile.
    from batchd.plugins.s3.client import prepare  # noqa: PLC0415

    return prepare(settings)
