"""The metrics of the API."""

import re

import aiohttp

from tests.support.callers import ApiCaller
from tests.support.polling import eventually

NOBODY = "/batches/00000000-0000-7000-8000-000000000000"


async def scrape(caller: ApiCaller, session: aiohttp.ClientSession) -> dict[str, float]:
    """Return the samples, without any secret."""
    async with session.get(f"{caller.url}/metrics") as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        text = await response.text()
    samples = re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in samples}


async def test_requests_are_counted_and_timed_by_operation_and_status(
    caller: ApiCaller, session: aiohttp.ClientSession
) -> None:
    counted = 'batchd_requests_total{operation="get_batch",status="404"}'
    timed = 'batchd_request_seconds_count{operation="get_batch"}'
    before = await scrape(caller, session)
    await caller.get(NOBODY)
    await caller.get(NOBODY)
    # The exposition is at most a second old.
    after = await eventually(
        lambda: scrape(caller, session),
        lambda samples: samples.get(counted, 0) - before.get(counted, 0) == 2,
    )
    assert after[timed] - before.get(timed, 0) == 2


async def test_request_without_a_route_is_counted_without_its_path(
    caller: ApiCaller, session: aiohttp.ClientSession
) -> None:
    await caller.get("/no/such/path")
    samples = await scrape(caller, session)
    assert samples['batchd_requests_total{operation="",status="404"}'] > 0
    assert not any("no/such" in name for name in samples)
