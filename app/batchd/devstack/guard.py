"""The one reason to stop: a signal or a dead child, whichever comes first, at any moment."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from batchd.devstack.errors import StackFailed
from batchd.devstack.processes import exit_words, log_words


class Guard:
    """Cancels the task that made it, once: what follows is the clean-up, which nothing disturbs."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._stopping = asyncio.Event()
        self.failure: StackFailed | None = None

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self, failure: StackFailed | None = None) -> None:
        if not self.stopping:
            self.failure = failure
            self._stopping.set()
            if self._task is not None:
                self._task.cancel()

    async def forever(self) -> None:
        """Wait for the reason to stop."""
        await self._stopping.wait()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Take the signals that ask a program to stop, and ignore them after that: we end."""
        loop = asyncio.get_running_loop()
        taken = [signal.SIGINT, signal.SIGTERM]
        # nohup's choice stays.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            taken.append(signal.SIGHUP)
        for number in taken:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in taken:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)

    @asynccontextmanager
    async def watching(
        self, name: str, wait: Callable[[], Awaitable[int]], log: Path
    ) -> AsyncIterator[None]:
        """Stop everything if this process ends while the block runs."""

        async def watch() -> None:
            code = await wait()
            self.stop(StackFailed(f"{name} ended by itself ({exit_words(code)}); {log_words(log)}"))

        task = asyncio.create_task(watch())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
