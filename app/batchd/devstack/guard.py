"""The shutdown of the stack: triggered once, by a signal or by a child process that has ended."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from batchd.devstack.errors import StackFailed
from batchd.devstack.processes import describe_exit, describe_log


class ShutdownGuard:
    """Cancels the task that created it, once: nothing interrupts the cleanup that follows."""

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

    async def wait(self) -> None:
        """Wait until the shutdown begins."""
        await self._stopping.wait()

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Stop on the termination signals, and ignore them on leaving, as the process then ends."""
        loop = asyncio.get_running_loop()
        signals = [signal.SIGINT, signal.SIGTERM]
        # nohup ignores SIGHUP: that is kept.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signals.append(signal.SIGHUP)
        for number in signals:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)

    @asynccontextmanager
    async def watch_process(
        self, name: str, wait: Callable[[], Awaitable[int]], log: Path
    ) -> AsyncIterator[None]:
        """Stop everything if the process ends while the block runs."""

        async def watch() -> None:
            code = await wait()
            failure = f"{name} ended unexpectedly ({describe_exit(code)}); {describe_log(log)}"
            self.stop(StackFailed(failure))

        task = asyncio.create_task(watch())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
