"""The cooperative yield of tasks that compute for long."""

import asyncio
import time
from collections import deque
from weakref import WeakKeyDictionary


class EventLoopYield:
    """Lets other tasks run; awaited after each small piece of work, yields every 2 ms.

    Of all tasks that use it, one computes in each iteration of the event loop, in turn: what others
    wait does not grow with the number of tasks that compute.
    """

    _WORK_S = 0.002

    def __init__(self) -> None:
        self._next_yield = time.perf_counter() + self._WORK_S

    async def __call__(self) -> None:
        if time.perf_counter() >= self._next_yield:
            await _turns_of(asyncio.get_running_loop()).wait()
            self._next_yield = time.perf_counter() + self._WORK_S


class _Turns:
    """Wakes one waiting task in each iteration of the event loop, in the order of arrival."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._wake_next)
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _wake_next(self) -> None:
        turn = self._waiting.popleft()
        if self._waiting:
            turn.get_loop().call_soon(self._wake_next)
        if not turn.done():  # cancelled
            turn.set_result(None)


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()


def _turns_of(loop: asyncio.AbstractEventLoop) -> _Turns:
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = _Turns()
    return turns
