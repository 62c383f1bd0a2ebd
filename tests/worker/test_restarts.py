"""Restarts of the database or the storage while lines run lose and repeat no results."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from pydantic import SecretStr

from batchd.db.migrations import migrate
from batchd.devstack.ports import reserve_port
from batchd.devstack.postgres import run_postgres
from batchd.devstack.seaweedfs import run_seaweedfs
from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.polling import eventually
from tests.support.s3_storage import s3_variables
from tests.support.worker_process import worker_process

pytestmark = pytest.mark.slow

LINES = 3_000


class Servers:
    """PostgreSQL and S3 servers that the test can restart."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with reserve_port(0) as self._database_port:
            pass
        self.database = AsyncExitStack()
        self.storage = AsyncExitStack()

    async def start_database(self) -> str:
        running = await self.database.enter_async_context(
            run_postgres(self._folder / "postgres", port=self._database_port)
        )
        return running.url

    async def start_storage(self) -> Mapping[str, str]:
        running = await self.storage.enter_async_context(run_seaweedfs(self._folder / "s3"))
        return s3_variables(running)


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Servers]:
    servers = Servers(tmp_path)
    async with servers.database, servers.storage:
        yield servers


@pytest.fixture
async def settings(settings: Settings, servers: Servers) -> Settings:
    url = await servers.start_database()
    await migrate(url)
    return settings.model_copy(update={"database_url": SecretStr(url)})


@pytest.fixture
async def plugin_environment(
    plugin_environment: Mapping[str, str], servers: Servers
) -> Mapping[str, str]:
    return {**plugin_environment, **await servers.start_storage()}


@pytest.mark.parametrize("restarted", ["database", "storage"])
async def test_lines_survive_a_restart(
    caller: ApiCaller, process_environment: Mapping[str, str], servers: Servers, restarted: str
) -> None:
    target = await caller.create(b"")
    lines = ({"id": str(n), "path": {"batch": target}} for n in range(1, LINES + 1))
    batch = await caller.create(lines_of(*lines))

    async def done() -> int:
        reply = await caller.get(f"/batches/{batch}?expand=progress")
        count: int = reply.body["progress"]["succeeded"]
        return count

    async with worker_process(process_environment):
        assert await eventually(done, bool) < LINES
        if restarted == "database":
            await servers.database.aclose()
            await servers.start_database()
        else:
            await servers.storage.aclose()
            await servers.start_storage()

        async def status() -> str | None:
            body: dict[str, str] = (await caller.get(f"/batches/{batch}")).body
            return body.get("status")

        assert await eventually(status, {"completed"}.__contains__, within_s=120)
    results = [json.loads(line) for line in (await caller.download_bytes(batch)).splitlines()]
    assert [(line["line"], line["id"]) for line in results] == [
        (number, str(number)) for number in range(1, LINES + 1)
    ]
    assert {line["status"] for line in results} == {200}
