"""Limits the request rate of each user in one API process."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from batchd.domain.errors import TooFast
from batchd.domain.ids import UserId

_MAX_USERS = 100_000


class RateLimit:
    """One token bucket per user, of one second's requests. A rate of 0 means unlimited."""

    def __init__(self, per_s: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = max(per_s, 1.0)
        self._monotonic = monotonic
        self._buckets: OrderedDict[UserId, tuple[float, float]] = OrderedDict()

    def take(self, user: UserId) -> None:
        """Raise TooFast if the user has no token left."""
        if not self._per_s:
            return
        now = self._monotonic()
        tokens, since = self._buckets.get(user, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._per_s)
        if tokens < 1:
            raise TooFast(
                f"More than {self._per_s:g} requests a second. Slow down.",
                retry_after_s=max(1, math.ceil((1 - tokens) / self._per_s)),
            )
        self._buckets[user] = (tokens - 1, now)
        self._buckets.move_to_end(user)
        if len(self._buckets) > _MAX_USERS:
            self._buckets.popitem(last=False)
