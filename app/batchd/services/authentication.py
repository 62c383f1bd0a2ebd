"""Who calls: recognised by the secret, remembered for a while, forgotten at once on a change."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from batchd.db.notifications import Channel, Notifications
from batchd.domain.errors import Unauthorized
from batchd.domain.ids import UserId
from batchd.domain.ports import Clock
from batchd.domain.users import Caller
from batchd.services.users import SECRET_LENGTH, Users, hash_secret

MAX_CACHED = 20_000
TTL_S = 60.0
"""However quiet it is: should a change ever go unheard, it counts after this."""
DISCONNECTED_TTL_S = 2.0
"""While no change can be heard."""


@dataclass(frozen=True, slots=True)
class _CacheEntry:
    caller: Caller
    validity_ts: datetime | None
    since: float


class Authenticator:
    """Asks the database once for a secret that is used again and again.

    The database tells every change of a user or a secret (a trigger, see migrations/), so a secret
    that was ended, a role that was changed and a user that was disabled count at once.
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
        self._known: OrderedDict[bytes, _CacheEntry] = OrderedDict()
        self._changes = 0
        notifications.subscribe(Channel.CALLERS, self._hear)

    async def authenticate(self, secret: str | None) -> Caller:
        """Return who holds the secret. Raises Unauthorized, the same for every reason."""
        if secret is None or len(secret) != SECRET_LENGTH:
            raise _unauthorized()
        secret_hash = hash_secret(secret)
        known = self._known.get(secret_hash)
        if known is not None and self._is_good(known):
            return known.caller
        return await self._ask(secret_hash)

    def _is_good(self, known: _CacheEntry) -> bool:
        trusted_s = TTL_S if self._notifications.connected else DISCONNECTED_TTL_S
        if self._monotonic() - known.since > trusted_s:
            return False
        return known.validity_ts is None or self._clock.now() < known.validity_ts

    async def _ask(self, secret_hash: bytes) -> Caller:
        changes, since = self._changes, self._monotonic()
        found = await self._users.find_by_secret(secret_hash)
        if found is None:
            self._known.pop(secret_hash, None)
            raise _unauthorized()
        caller, validity_ts = found
        # What was changed while we asked may be older than the answer, or newer: ask again then.
        if changes == self._changes:
            self._known[secret_hash] = _CacheEntry(caller, validity_ts, since)
            self._known.move_to_end(secret_hash)
            if len(self._known) > MAX_CACHED:
                self._known.popitem(last=False)
        return caller

    def _hear(self, user: str) -> None:
        """Forget a user; without a name, everybody: what was told meanwhile was not heard."""
        self._changes += 1
        if not user:
            self._known.clear()
            return
        changed = UserId(UUID(user))
        for secret_hash in [h for h, known in self._known.items() if known.caller.user == changed]:
            del self._known[secret_hash]


def _unauthorized() -> Unauthorized:
    """Return the one answer to no secret, an unknown one and an expired one."""
    return Unauthorized(
        "No valid user secret. Send it as 'Authorization: <secret>'; "
        "if it has expired, ask for a new one."
    )
