"""Authenticates callers by their secret; results are cached, and invalidated on every change."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from batchd.db.notifications import Channel, Notifications
from batchd.domain.commands import NoParameters, Parsed, valid
from batchd.domain.errors import Unauthorized
from batchd.domain.ids import UserId
from batchd.domain.ports import Clock
from batchd.domain.users import Caller
from batchd.services.users import SECRET_LENGTH, Users, hash_secret

MAX_CACHED = 20_000
TTL_S = 60.0
"""If a notification is lost, a change takes effect after this time at the latest."""
DISCONNECTED_TTL_S = 2.0
"""The same while no notification can be received."""


@dataclass(frozen=True, slots=True)
class _CacheEntry:
    caller: Caller
    validity_ts: datetime | None
    cached_at: float
    """On the monotonic clock, in seconds."""


class Authenticator:
    """Looks up a secret in the database once while it is used repeatedly.

    A trigger notifies every process of each change of a user or a secret (see migrations/), so an
    expired secret, a changed role and a disabled user take effect at once.
    """

    def __init__(
        self,
        users: Users,
        notifications: Notifications,
        clock: Clock,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._users = users
        self._notifications = notifications
        self._clock = clock
        self._monotonic = monotonic
        self._cache: OrderedDict[bytes, _CacheEntry] = OrderedDict()
        self._invalidations = 0
        notifications.subscribe(Channel.CALLERS, self._invalidate)

    async def authenticate(self, secret: str | None) -> Caller:
        """Return the holder of the secret. Raises Unauthorized, the same for every reason."""
        if secret is None or len(secret) != SECRET_LENGTH:
            raise _unauthorized()
        secret_hash = hash_secret(secret)
        entry = self._cache.get(secret_hash)
        if entry is not None and self._is_fresh(entry):
            return entry.caller
        return await self._look_up(secret_hash)

    def _is_fresh(self, entry: _CacheEntry) -> bool:
        ttl_s = TTL_S if self._notifications.connected else DISCONNECTED_TTL_S
        if self._monotonic() - entry.cached_at > ttl_s:
            return False
        return entry.validity_ts is None or self._clock.now() < entry.validity_ts

    async def _look_up(self, secret_hash: bytes) -> Caller:
        invalidations, now = self._invalidations, self._monotonic()
        holder = await self._users.find_by_secret(secret_hash)
        if holder is None:
            self._cache.pop(secret_hash, None)
            raise _unauthorized()
        caller, validity_ts = holder
        # An invalidation that arrived meanwhile may be newer than this row: it is not cached then.
        if invalidations == self._invalidations:
            self._cache[secret_hash] = _CacheEntry(caller, validity_ts, now)
            self._cache.move_to_end(secret_hash)
            if len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
        return caller

    def _invalidate(self, user: str) -> None:
        """Remove a user from the cache; all if it is empty: notifications may have been missed."""
        self._invalidations += 1
        if not user:
            self._cache.clear()
            return
        changed = UserId(UUID(user))
        for secret_hash in [h for h, entry in self._cache.items() if entry.caller.user == changed]:
            del self._cache[secret_hash]


async def who_am_i(caller: Caller, parsed: Parsed[NoParameters]) -> Caller:
    """Return the caller itself; no permission is needed."""
    valid(parsed)
    return caller


def _unauthorized() -> Unauthorized:
    """Return the same error for a missing, an unknown and an expired secret."""
    return Unauthorized(
        "No valid user secret. Send it as 'Authorization: <secret>'; "
        "if it has expired, ask for a new one."
    )
