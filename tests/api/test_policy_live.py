"""A policy changes while requests are made: each is decided by the old or by the new one."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

from batchd.plugins.casbin import Policy
from tests.api.test_metrics import scrape
from tests.support.callers import ApiCaller
from tests.support.policies import write_policy
from tests.support.polling import eventually
from tests.support.refusals import assert_refused

NO_BATCH = "/batches/00000000-0000-7000-8000-000000000000"
ALLOW, DENY = "p, admin, *, *, allow", "p, admin, *, get_batch, deny"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    return write_policy(folder, ALLOW)


@pytest.fixture
def plugin_environment(plugin_environment: Mapping[str, str], folder: Path) -> Mapping[str, str]:
    return {**plugin_environment, "BATCHD_POLICIES": str(folder)}


async def test_policy_change_applies_to_the_next_request_and_no_request_fails(
    caller: ApiCaller, folder: Path
) -> None:
    statuses: list[int] = []

    async def poll() -> None:
        while True:
            statuses.append((await caller.get(NO_BATCH)).status)

    async def latest() -> int:
        return statuses[-1] if statuses else 0

    pollers = [asyncio.create_task(poll()) for _ in range(5)]
    for line, status in ((DENY, 403), ("# nothing", 404), (DENY, 403)):
        write_policy(folder, ALLOW, line)
        await eventually(latest, status.__eq__)
    for task in pollers:
        task.cancel()
    await asyncio.gather(*pollers, return_exceptions=True)

    assert set(statuses) == {403, 404}


async def test_readiness_reports_that_the_policy_on_disk_is_not_active(
    caller: ApiCaller, session: aiohttp.ClientSession, folder: Path
) -> None:
    async def policy() -> dict[str, object]:
        async with session.get(f"{caller.url}/readyz") as response:
            assert response.status == 200
            policy_state: dict[str, object] = (await response.json())["policy"]
            return policy_state

    before = await policy()
    assert before["current"] is True
    (folder / "roles.csv").write_text("p, admin, *, *, alow\n")
    after = await eventually(policy, lambda policy_state: not policy_state["current"])

    assert after == {"revision": before["revision"], "current": False}

    async def in_force() -> float:
        return (await scrape(caller, session))["batchd_policy_in_force"]

    # The exposition is at most a second old.
    assert await eventually(in_force, lambda value: value == 0) == 0
    assert (await caller.get(NO_BATCH)).status == 404
    write_policy(folder, ALLOW)
    assert await eventually(policy, lambda policy_state: policy_state["current"] is True) == before
    assert await eventually(in_force, bool) == 1


async def test_failing_authorizer_denies(
    caller: ApiCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise ValueError("secret detail")

    monkeypatch.setattr(Policy, "enforce", failing)

    reply = await caller.get(NO_BATCH)

    assert "secret" not in assert_refused(reply, 503, 503159)
    assert reply.headers["Retry-After"]
