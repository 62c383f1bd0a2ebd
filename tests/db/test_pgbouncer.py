"""batchd behind PgBouncer: in session mode, and with LISTEN elsewhere in transaction mode."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from pydantic import SecretStr

from batchd.bootstrap import Components
from batchd.db.connection import open_database
from batchd.db.notifications import Notifications, open_notifications
from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.pgbouncer import PoolMode, pgbouncer_to
from tests.support.polling import NEVER_S, eventually

pytestmark = pytest.mark.slow

LINES = lines_of(*[{"path": {"batch": "00000000-0000-7000-8000-000000000000"}}] * 250)


@pytest.fixture(params=["session", "transaction"])
def mode(request: pytest.FixtureRequest) -> PoolMode:
    mode: PoolMode = request.param
    return mode


@pytest.fixture
async def settings(
    settings: Settings, database_url: str, mode: PoolMode
) -> AsyncIterator[Settings]:
    """Return settings with which everything but LISTEN goes through PgBouncer."""
    async with pgbouncer_to(database_url, mode) as url:
        changes: dict[str, object] = {"database_url": SecretStr(url)}
        if mode == "transaction":
            # As with PgBouncer before 1.21, which Debian 12 has.
            direct = {"database_direct_url": SecretStr(database_url), "database_prepared": False}
            changes |= direct
        yield settings.model_copy(update=changes)


async def is_connected(notifications: Notifications) -> bool:
    return notifications.connected


async def test_batch_runs_and_a_disabled_user_is_refused_at_once(
    caller: ApiCaller,
    components: Components,
    worker: Callable[[], AbstractAsyncContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("batchd.services.authentication.TTL_S", NEVER_S)
    batch = await caller.create(LINES)
    async with worker():
        assert await caller.end(batch) == "completed"
    assert len(await caller.download(batch)) == 250

    async def whoami() -> int:
        return (await caller.get("/whoami")).status

    notifications = components.services.authenticator._notifications
    await eventually(lambda: is_connected(notifications), bool)
    assert await whoami() == 200
    await components.services.users.disable(caller.user.user.user)
    # Not because the cached entry expires.
    await eventually(whoami, lambda status: status == 401)


async def test_listener_in_a_transaction_pool_is_never_connected(
    settings: Settings, mode: PoolMode, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings.model_copy(update={"database_direct_url": None})
    async with (
        open_database(settings) as database,
        open_notifications(settings, database) as notifications,
    ):
        if mode == "session":
            await eventually(lambda: is_connected(notifications), bool)
            return

        async def warned() -> bool:
            assert not notifications.connected
            return "BATCHD_DATABASE_DIRECT_URL" in caplog.text

        await eventually(warned, bool)
