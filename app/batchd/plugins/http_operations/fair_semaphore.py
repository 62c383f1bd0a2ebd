"""The bound on calls under way, handed out so that no account waits behind all of another's."""

import asyncio
from collections import OrderedDict, deque

from batchd.domain.ids import AccountId


class FairSemaphore:
    """A semaphore that serves the accounts in turn, and the calls of each in their order."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._waiting: OrderedDict[AccountId, deque[asyncio.Future[None]]] = OrderedDict()
        """The next account to be served comes first."""

    async def take(self, account: AccountId) -> None:
        """Wait for a place. Who has one gives it back by `give`, whatever happens.

        No context manager: one that is made of a generator costs as much as a twentieth of a call.
        """
        if self._free and not self._waiting:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(account, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(account, turn)
            else:  # the place came in the same moment: it is the next one's
                self.give()
            raise

    def _leave(self, account: AccountId, turn: "asyncio.Future[None]") -> None:
        turns = self._waiting.get(account)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[account]

    def give(self) -> None:
        """Pass the place on to the next account that waits."""
        while self._waiting:
            account, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[account] = turns  # behind the others
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
