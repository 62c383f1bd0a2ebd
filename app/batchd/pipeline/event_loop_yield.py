"""The cooperative yield of tasks that compute for long."""

import asyncio
import time


class EventLoopYield:
    """Lets other tasks run; awaited after each small piece of work, yields every 2 ms."""

    _WORK_S = 0.002

    def __init__(self) -> None:
        self._next_yield = time.perf_counter() + self._WORK_S

    async def __call__(self) -> None:
        if time.perf_counter() >= self._next_yield:
            await asyncio.sleep(0)
            self._next_yield = time.perf_counter() + self._WORK_S
