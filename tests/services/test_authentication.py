"""The authenticator caches callers, and drops them as soon as something about them changes."""

from datetime import timedelta

import pytest

from batchd.bootstrap import Components
from batchd.db.notifications import Channel, Notifications
from batchd.domain.errors import Unauthorized
from batchd.domain.users import Caller
from batchd.services import authentication as module
from batchd.services.authentication import DISCONNECTED_TTL_S, TTL_S, Authenticator
from batchd.services.users import NewSecret, Users
from tests.support.clock import MovableClock
from tests.support.polling import eventually


class Counting:
    """The service, and how often it was asked."""

    def __init__(self, users: Users) -> None:
        self.lookups = 0
        self._users = users

    async def find_by_secret(self, secret_hash: bytes) -> object:
        self.lookups += 1
        return await self._users.find_by_secret(secret_hash)


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def counting_users(components: Components) -> Counting:
    return Counting(components.services.users)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def notifications(components: Components) -> Notifications:
    """Return one that hears nothing but what a test tells it."""
    notifications = Notifications(components.database, "postgresql://unused", timeout_s=1.0)
    notifications.connected = True
    return notifications


@pytest.fixture
def callers(
    counting_users: Counting, notifications: Notifications, clock: MovableClock, time: Time
) -> Authenticator:
    return Authenticator(counting_users, notifications, clock, monotonic=time)  # type: ignore[arg-type]  # counts


@pytest.fixture
async def user(components: Components) -> NewSecret:
    return await components.services.users.create(account=None, role="reader", name="")


def notify(notifications: Notifications, payload: str) -> None:
    notifications._callbacks[Channel.CALLERS](payload)


async def refused(callers: Authenticator, secret: str) -> bool:
    try:
        await callers.authenticate(secret)
    except Unauthorized:
        return True
    return False


async def test_database_is_queried_once_per_secret(
    callers: Authenticator, counting_users: Counting, user: NewSecret
) -> None:
    caller = await callers.authenticate(user.secret)
    assert caller == Caller(account=user.user.account, user=user.user.user, role="reader")
    assert await callers.authenticate(user.secret) == caller
    assert counting_users.lookups == 1


async def test_unknown_secret_is_looked_up_again(
    callers: Authenticator, counting_users: Counting, user: NewSecret
) -> None:
    unknown = "x" * len(user.secret)
    assert await refused(callers, unknown)
    assert await refused(callers, unknown)
    assert counting_users.lookups == 2


async def test_only_a_changed_user_is_looked_up_again(
    callers: Authenticator,
    counting_users: Counting,
    components: Components,
    notifications: Notifications,
    user: NewSecret,
) -> None:
    other = await components.services.users.create(account=None, role="reader", name="")
    await callers.authenticate(user.secret)
    await callers.authenticate(other.secret)
    await components.services.users.set_role(user.user.user, "admin")
    notify(notifications, str(user.user.user))
    assert (await callers.authenticate(user.secret)).role == "admin"
    await callers.authenticate(other.secret)
    assert counting_users.lookups == 3


async def test_cached_secret_expires_on_time(
    callers: Authenticator, components: Components, clock: MovableClock, user: NewSecret
) -> None:
    until = clock.now() + timedelta(seconds=10)
    await components.services.users.rotate(user.user.user, old_until=until)
    await callers.authenticate(user.secret)
    clock.move(11)
    assert await refused(callers, user.secret)


@pytest.mark.parametrize(
    ("connected", "trusted_s"), [(True, TTL_S), (False, DISCONNECTED_TTL_S)], ids=["hears", "deaf"]
)
async def test_cache_entries_expire_sooner_while_disconnected(
    callers: Authenticator,
    counting_users: Counting,
    notifications: Notifications,
    time: Time,
    user: NewSecret,
    *,
    connected: bool,
    trusted_s: float,
) -> None:
    notifications.connected = connected
    await callers.authenticate(user.secret)
    time.now += trusted_s - 0.1
    await callers.authenticate(user.secret)
    assert counting_users.lookups == 1
    time.now += 0.2
    await callers.authenticate(user.secret)
    assert counting_users.lookups == 2


async def test_cache_is_cleared_after_a_reconnection(
    callers: Authenticator, counting_users: Counting, notifications: Notifications, user: NewSecret
) -> None:
    await callers.authenticate(user.secret)
    notify(notifications, "")
    await callers.authenticate(user.secret)
    assert counting_users.lookups == 2


async def test_cache_size_is_bounded(
    callers: Authenticator,
    counting_users: Counting,
    components: Components,
    user: NewSecret,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_CACHED", 1)
    other = await components.services.users.create(account=None, role="reader", name="")
    for secret in (user.secret, other.secret, other.secret, user.secret):
        await callers.authenticate(secret)
    assert counting_users.lookups == 3


async def test_database_notifies_of_every_change_even_by_hand(
    components: Components, user: NewSecret
) -> None:
    async def is_refused() -> bool:
        return await refused(components.services.authenticator, user.secret)

    async def role() -> str:
        return (await components.services.authenticator.authenticate(user.secret)).role

    async def set_by_hand(statement: str) -> None:
        async with components.database.connection() as connection:
            await connection.execute(statement, user.user.user)

    assert await role() == "reader"
    await set_by_hand("UPDATE users SET role = 'operator' WHERE user_id = $1")
    assert await eventually(role, "operator".__eq__) == "operator"
    await set_by_hand("DELETE FROM secrets WHERE user_id = $1")
    assert await eventually(is_refused, bool)
