"""HTTP operations: what becomes of lines while their upstream does not answer, or is overloaded."""

import asyncio
import logging

import pytest
from prometheus_client import REGISTRY

from batchd.devstack.ports import reserve_port
from batchd.domain.operations import ChecksUpstream, UpstreamUnavailable
from batchd.plugins.http_operations import HttpOperations
from tests.support.http_operations import Declare, World, run
from tests.support.polling import eventually
from tests.support.upstream import Upstream, broken_off, hanging

ONCE = """
[operations.op]
method = "GET"
url = "${BASE}/a"
timeout_s = 0.05
[operations.op.retry]
attempts = 1
"""
TWICE = ONCE.replace("attempts = 1", "attempts = 2")
FAILURES = 10
GIVE_UP_AFTER_S = 3600.0


async def fail(source: HttpOperations, times: int = FAILURES) -> None:
    """Run lines that get no answer, each of which has one attempt."""
    for _ in range(times):
        assert (await run(source)).status >= 500


async def refused(source: HttpOperations, name: str = "op") -> UpstreamUnavailable:
    """Return the error of a line that has to wait."""
    with pytest.raises(UpstreamUnavailable) as raised:
        await run(source, name)
    return raised.value


@pytest.fixture
async def source(declare: Declare, upstream: Upstream) -> HttpOperations:
    """Return operations whose upstream answers nobody, which is known."""
    upstream.statuses([503])
    source = await declare(ONCE, BASE=upstream.url)
    await fail(source)
    return source


@pytest.mark.parametrize("failing", [broken_off, hanging], ids=["connection closed", "no response"])
async def test_an_upstream_that_never_responds_is_left_alone(
    declare: Declare, upstream: Upstream, failing: object
) -> None:
    upstream.reply(lambda: failing)  # type: ignore[arg-type, return-value]
    source = await declare(ONCE, BASE=upstream.url)
    await fail(source)
    await refused(source)
    assert len(upstream.requests) == FAILURES


@pytest.mark.parametrize("status", [500, 502, 503, 599])
async def test_an_upstream_that_responds_with_5xx_only_is_left_alone(
    declare: Declare, upstream: Upstream, status: int
) -> None:
    upstream.statuses([status])
    source = await declare(ONCE, BASE=upstream.url)
    await fail(source)
    await refused(source)
    assert len(upstream.requests) == FAILURES


async def test_a_line_waits_if_its_call_was_never_received(declare: Declare, world: World) -> None:
    with reserve_port(0) as port:
        source = await declare(ONCE, BASE=f"http://127.0.0.1:{port}")
        await fail(source, FAILURES - 1)
        error = await refused(source)
        assert f"http://127.0.0.1:{port} has not answered" in str(error)
        assert "onnect" in str(error)


async def test_a_line_waits_if_its_call_would_be_retried(
    declare: Declare, upstream: Upstream
) -> None:
    upstream.statuses([503])
    source = await declare(TWICE, BASE=upstream.url)
    await fail(source, 4)
    await refused(source)
    assert len(upstream.requests) == FAILURES


@pytest.mark.parametrize("status", [200, 404, 429])
async def test_one_answer_among_failures_is_enough(
    declare: Declare, upstream: Upstream, status: int
) -> None:
    upstream.statuses([*[503] * (FAILURES - 1), status, 503])
    source = await declare(ONCE, BASE=upstream.url)
    for _ in range(2 * FAILURES - 1):
        await run(source)
    assert len(upstream.requests) == 2 * FAILURES - 1


@pytest.mark.parametrize(
    "breaker",
    ["failures = 0", "statuses = ['502-504']"],
    ids=["turned off", "other statuses"],
)
async def test_the_file_defines_what_opens_the_breaker(
    declare: Declare, upstream: Upstream, breaker: str
) -> None:
    upstream.statuses([500])
    source = await declare(f"{ONCE}[operations.op.breaker]\n{breaker}", BASE=upstream.url)
    await fail(source, 3 * FAILURES)
    assert len(upstream.requests) == 3 * FAILURES


async def test_the_reason_says_who_does_not_answer_and_why(
    source: HttpOperations, upstream: Upstream, world: World
) -> None:
    world.elapsed_s += 0.6
    assert str(await refused(source)) == (
        f"{upstream.url} has not answered for 1 s, last: status 503"
    )


async def test_the_breaker_is_seen_in_the_log_and_in_the_metrics(
    declare: Declare, upstream: Upstream, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def is_open() -> float | None:
        return REGISTRY.get_sample_value("batchd_upstream_breaker_open", {"host": upstream.url})

    caplog.set_level(logging.WARNING)
    upstream.statuses([503])
    source = await declare(ONCE, BASE=upstream.url)
    await fail(source)
    assert is_open() == 1
    assert f"{upstream.url} is not called, as 10 calls in a row had no answer" in caplog.text
    upstream.statuses([200])
    world.elapsed_s += 1
    await run(source)
    assert is_open() == 0
    assert f"{upstream.url} answers again" in caplog.text


async def test_an_answered_probe_lets_all_lines_through(
    source: HttpOperations, upstream: Upstream, world: World
) -> None:
    upstream.statuses([200])
    world.elapsed_s += 1
    results = [await run(source) for _ in range(3)]
    assert [result.status for result in results] == [200] * 3


async def test_probes_become_rarer_up_to_a_limit(
    declare: Declare, upstream: Upstream, world: World
) -> None:
    world.chance = 0.0
    upstream.statuses([503])
    text = f"{TWICE}[operations.op.breaker]\nmax_probe_interval_s = 5"
    source = await declare(text, BASE=upstream.url)
    await fail(source, 4)
    delays_s = []
    for _ in range(5):
        delay_s = (await refused(source)).retry_after_s
        delays_s.append(delay_s)
        world.elapsed_s += delay_s
    # The first is that of the call which opened the breaker, the others follow probes.
    assert delays_s == [1, 2, 4, 5, 5]
    assert len(upstream.requests) == FAILURES + 4


async def test_there_is_one_probe_at_a_time(
    declare: Declare, upstream: Upstream, world: World
) -> None:
    upstream.statuses([503])
    source = await declare(ONCE.replace("0.05", "60"), BASE=upstream.url)
    await fail(source)
    upstream.reply(lambda: hanging)
    world.elapsed_s += 1
    probe = asyncio.create_task(run(source))
    await eventually(lambda: in_progress(upstream), lambda calls: calls == 1)
    await refused(source)
    assert len(upstream.requests) == FAILURES + 1
    # A probe that is cancelled makes room for another.
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    upstream.statuses([200])
    assert (await run(source)).status == 200


async def in_progress(upstream: Upstream) -> int:
    return upstream.in_progress


async def test_lines_fail_again_when_it_has_taken_too_long(
    source: HttpOperations, upstream: Upstream, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.elapsed_s += GIVE_UP_AFTER_S - 0.1
    assert (await run(source)).status == 503  # a probe
    await refused(source)
    world.elapsed_s += 0.2
    await fail(source, 2 * FAILURES)
    assert "lines fail again" in caplog.text
    upstream.statuses([200, 503])
    assert (await run(source)).status == 200
    await fail(source)
    await refused(source)


async def test_give_up_after_s_can_be_declared(
    declare: Declare, upstream: Upstream, world: World
) -> None:
    upstream.statuses([503])
    source = await declare(f"{ONCE}give_up_after_s = 7", BASE=upstream.url)
    await fail(source)
    await refused(source)
    world.elapsed_s += 7
    await fail(source, 3)


async def test_whether_lines_would_wait_is_known_before_they_run(
    source: HttpOperations, world: World
) -> None:
    operation = source.find("op")
    assert isinstance(operation, ChecksUpstream)
    with pytest.raises(UpstreamUnavailable):
        operation.check_upstream()
    world.elapsed_s += 1
    operation.check_upstream()


async def test_the_operations_of_a_host_wait_together(declare: Declare, upstream: Upstream) -> None:
    upstream.statuses([503])
    other_host = upstream.url.replace("127.0.0.1", "localhost")
    same, other = (
        ONCE.replace(".op", f".{name}").replace("${BASE}", base)
        for name, base in (("same", "${BASE}"), ("other", "${OTHER}"))
    )
    source = await declare(ONCE + same + other, BASE=upstream.url, OTHER=other_host)
    await fail(source)
    await refused(source, "same")
    assert (await run(source, "other")).status == 503


async def test_what_is_known_of_a_host_outlives_a_change_of_the_file(
    source: HttpOperations,
) -> None:
    source.load()
    await refused(source)


async def test_retry_after_holds_back_every_line_of_the_host(
    declare: Declare, upstream: Upstream, world: World
) -> None:
    upstream.statuses([429], Retry_After="2")
    source = await declare(ONCE, BASE=upstream.url)
    await run(source)
    upstream.statuses([200])
    assert (await run(source)).status == 200
    assert world.waits_s == [2]


async def test_a_long_retry_after_releases_the_chunk(
    declare: Declare, upstream: Upstream, world: World
) -> None:
    upstream.statuses([503], Retry_After="40")
    source = await declare(ONCE, BASE=upstream.url)
    await run(source)
    error = await refused(source)
    assert error.retry_after_s == 40 + world.chance
    assert "Retry-After" in str(error)
    assert (len(upstream.requests), world.waits_s) == (1, [])


async def test_an_upstream_that_asks_for_a_pause_each_time_is_given_up(
    declare: Declare, upstream: Upstream, world: World
) -> None:
    upstream.statuses([429], Retry_After="10")
    source = await declare(f"{ONCE}give_up_after_s = 25", BASE=upstream.url)
    for _ in range(3):
        await run(source)
        await refused(source)
        world.elapsed_s += 10
    assert (await run(source)).status == 429
    # No longer released: the next line waits in its place, and fails like it.
    assert (await run(source)).status == 429
    assert world.waits_s == [10]


@pytest.mark.parametrize(("adaptive", "calls"), [("true", 4), ("false", 8)])
async def test_a_refusal_halves_the_concurrency_unless_it_is_fixed(
    declare: Declare, upstream: Upstream, world: World, adaptive: str, calls: int
) -> None:
    text = ONCE.replace("0.05", "60").replace(
        "[operations.op.retry]",
        f"concurrency = 8\nadaptive_concurrency = {adaptive}\n[operations.op.retry]",
    )
    source = await declare(text, BASE=upstream.url)
    upstream.statuses([429])
    await run(source)
    upstream.reply(lambda: hanging)
    lines = [asyncio.create_task(run(source)) for _ in range(20)]
    await eventually(lambda: in_progress(upstream), lambda running: running >= calls)
    await asyncio.gather(*(run_until_blocked() for _ in range(3)))
    assert upstream.in_progress == calls
    for line in lines:
        line.cancel()
    await asyncio.gather(*lines, return_exceptions=True)


async def run_until_blocked() -> None:
    for _ in range(100):
        await asyncio.sleep(0)
