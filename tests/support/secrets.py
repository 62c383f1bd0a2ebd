"""Whether a secret is valid, checked by a process without a cache."""

from batchd.db.notifications import Notifications
from batchd.domain.errors import Unauthorized
from batchd.domain.users import Caller
from batchd.services.authentication import Authenticator
from batchd.services.users import Users
from tests.support.clock import MovableClock


async def holder(users: Users, secret: str) -> Caller:
    """Return the user of the secret, by the clock of `users`. Raises Unauthorized."""
    disconnected = Notifications(users._database, "postgresql://unused", timeout_s=1.0)
    return await Authenticator(users, disconnected, MovableClock()).authenticate(secret)


async def works(users: Users, secret: str) -> bool:
    try:
        await holder(users, secret)
    except Unauthorized:
        return False
    return True
