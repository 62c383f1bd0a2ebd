"""Failures of unauthenticated requests are counted, and can't fill the log."""

import logging
import re

import pytest

from batchd.api.log_limit import LogLimit
from batchd.bootstrap import Components
from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.raw_http import raw_connection, request
from tests.support.refusals import assert_refused
from tests.support.stepping import ended_batch

REQUESTS = 200


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return settings.model_copy(update=getattr(request, "param", {}))


async def counted(caller: ApiCaller, error: str) -> float:
    async with caller.session.get(f"{caller.url}/metrics") as response:
        name = rf'batchd_unauthenticated_failures_total{{error="{error}"}} (\S+)'
        match = re.search(name, await response.text())
    return float(match[1]) if match else 0.0


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (request(b"GET /whoami HTTP/1.1"), "unauthorized"),
        (request(b"GET /nowhere HTTP/1.1"), "not_found"),
        (request(b"PUT /whoami HTTP/1.1"), "operation_not_allowed"),
    ],
)
async def test_unauthenticated_failures_are_counted_and_their_log_is_limited(
    caller: ApiCaller, api_url: str, caplog: pytest.LogCaptureFixture, data: bytes, error: str
) -> None:
    caplog.set_level(logging.INFO, "batchd")
    async with raw_connection(api_url) as connection:
        for _ in range(REQUESTS):
            await connection.send(data)
            assert (await connection.read_reply()).status >= 400
    records = [record for record in caplog.records if record.getMessage().endswith(error)]
    assert 0 < len(records) < REQUESTS / 2
    assert await counted(caller, error) >= REQUESTS


async def test_failures_of_authenticated_callers_are_all_logged(
    caller: ApiCaller, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "batchd")
    for _ in range(50):
        assert_refused(await caller.get("/batches/x"), 400, 400589)
    assert len([r for r in caplog.records if vars(r).get("subcode") == 400589]) == 50


def test_log_limit_reports_the_number_of_omitted_records() -> None:
    now = 0.0
    limit = LogLimit(monotonic=lambda: now)
    assert [limit.allows() for _ in range(25)] == [True] * 20 + [False] * 5
    now = 1.0
    assert [limit.allows() for _ in range(7)] == [True] * 5 + [False] * 2
    assert limit.take_omitted() == 7
    assert limit.take_omitted() == 0


@pytest.mark.parametrize(
    "settings", [{"help_url": "https://docs.example.com/errors#"}], indirect=True
)
async def test_errors_have_help_if_it_is_configured(caller: ApiCaller, api_url: str) -> None:
    refused = await caller.get("/batches/x")
    assert refused.body.pop("help") == "https://docs.example.com/errors#request_format"
    assert_refused(refused, 400, 400589)
    async with raw_connection(api_url) as connection:
        await connection.send(b"hello\r\n\r\n")
        reply = await connection.read_reply()
    assert reply.body["help"] == "https://docs.example.com/errors#request_format"


@pytest.mark.parametrize(
    "settings", [{"help_url": "https://docs.example.com/errors#"}], indirect=True
)
async def test_error_of_a_line_has_the_help_of_a_direct_call(
    caller: ApiCaller, components: Components
) -> None:
    nobody = "00000000-0000-7000-8000-000000000000"
    batch = await ended_batch(components, caller, lines_of({"path": {"batch": nobody}}))
    (result,) = await caller.download(batch)
    assert result["body"]["help"] == "https://docs.example.com/errors#not_found"
