"""A read operation is a row, a response and a service method: HTTP and batch lines follow."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batchd.bootstrap import Components, open_components
from batchd.domain.commands import GetBatch, Parsed, valid
from batchd.domain.errors import AccessForbidden, NotFound, RequestFormat
from batchd.domain.users import Caller
from batchd.operations import request_schemas, requests
from batchd.operations.operation import ApiOperation
from batchd.operations.table import OPERATIONS
from batchd.services.container import Services
from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.clock import MovableClock
from tests.support.fixtures import MakeCaller
from tests.support.live import LiveServer
from tests.support.policies import write_policy
from tests.support.stepping import TO_THE_END, step


class PriorityResponse(msgspec.Struct, frozen=True):
    priority: int


def _service(services: Services) -> Any:
    async def get_priority(caller: Caller, parsed: Parsed[GetBatch]) -> int:
        command = valid(parsed)
        return (await services.batches.get(caller, command)).batch.priority

    return get_priority


GET_PRIORITY = ApiOperation(
    name="get_priority",
    summary="Get the priority of a batch",
    method="GET",
    path="/priorities/{batch}",
    owned=True,
    read_only=True,
    runs_in_batches=True,
    path_schema=request_schemas.BatchPath,
    response=PriorityResponse,
    errors=(AccessForbidden, RequestFormat, NotFound),
    parser=requests.get_batch,
    service=_service,
    presenter=lambda priority: PriorityResponse(priority=priority),
)
ROWS = (*OPERATIONS, GET_PRIORITY)


@pytest.fixture
async def components(
    settings: Settings, plugin_environment: Mapping[str, str], clock: MovableClock
) -> AsyncIterator[Components]:
    async with open_components(
        settings, environment=plugin_environment, clock=clock, api_operations=ROWS
    ) as opened:
        yield opened


@pytest.fixture
async def api_url(settings: Settings, components: Components) -> AsyncIterator[str]:
    server = LiveServer(settings, components, ROWS)
    await server.start_server()
    yield str(server.make_url("")).rstrip("/")
    await server.close()


async def test_it_is_called_over_http(caller: ApiCaller) -> None:
    batch = await caller.create(b"", priority=7)
    reply = await caller.get(f"/priorities/{batch}")
    assert (reply.status, reply.body) == (200, {"priority": 7})
    assert "ETag" in reply.headers
    document = await caller.get("/openapi.json")
    assert document.body["paths"]["/priorities/{batch}"]["get"]["operationId"] == "get_priority"


async def test_it_runs_as_a_batch_line(caller: ApiCaller, components: Components) -> None:
    batch = await caller.create(b"", priority=7)
    lines = await caller.create(lines_of({"path": {"batch": batch}}), "get_priority")
    await step(components, lines, *TO_THE_END)
    assert [line["body"] for line in await caller.download(lines)] == [{"priority": 7}]


async def test_it_hides_batches_of_other_users_from_a_limited_role(
    caller: ApiCaller, make_caller: MakeCaller
) -> None:
    batch = await caller.create(b"")
    clerk = await make_caller("clerk", account=caller.user.user.account)
    assert (await clerk.get(f"/priorities/{batch}")).status == 404


@pytest.fixture
def plugin_environment(plugin_environment: Mapping[str, str], tmp_path: Path) -> Mapping[str, str]:
    folder = tmp_path / "policies"
    folder.mkdir()
    write_policy(folder, "p, admin, *, *, allow", "p, clerk, *, *, allow, own")
    return {**plugin_environment, "BATCHD_POLICIES": str(folder)}
