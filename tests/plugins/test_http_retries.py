"""HTTP operations: which calls are retried, when, and with which idempotency key."""

import pytest

from batchd.domain.errors import Unauthorized
from tests.support.http_operations import Declare, World, run
from tests.support.upstream import Upstream, broken_off, hanging

GET = """
[operations.op]
method = "GET"
url = "${BASE}/a"
[operations.op.retry]
"""


async def test_call_is_retried_until_its_status_is_final(
    declare: Declare, upstream: Upstream, world: World
) -> None:
    upstream.statuses([429, 502, 503, 504, 200])
    source = await declare(GET + "attempts = 9\nbackoff_s = 1", BASE=upstream.url)
    response = await run(source, key="b:5")
    assert (response.status, response.succeeded) == (200, True)
    assert [request.headers["idempotency-key"] for request in upstream.requests] == ["b:5"] * 5
    assert world.waits_s == [0.5, 1.0, 2.0, 4.0]  # half of 1, 2, 4, 8: the jitter is 0.5


async def test_last_response_becomes_the_result(declare: Declare, upstream: Upstream) -> None:
    upstream.statuses([503, 502, 429, 200])
    source = await declare(GET + "attempts = 3", BASE=upstream.url)
    response = await run(source)
    assert (response.status, response.body) == (429, b'{"status":429}')
    assert not response.succeeded


async def test_single_attempt_is_final(declare: Declare, upstream: Upstream, world: World) -> None:
    upstream.statuses([503])
    source = await declare(GET + "attempts = 1", BASE=upstream.url)
    assert (await run(source)).status == 503
    assert (len(upstream.requests), world.waits_s) == (1, [])


@pytest.mark.parametrize(
    ("statuses", "status", "calls"),
    [
        ("[418]", 418, 2),
        ("[418]", 503, 1),
        ('["5xx"]', 500, 2),
        ('["500-502"]', 503, 1),
        ("[]", 503, 1),
    ],
)
async def test_file_defines_which_statuses_are_retried(
    declare: Declare, upstream: Upstream, statuses: str, status: int, calls: int
) -> None:
    upstream.statuses([status])
    source = await declare(GET + f"attempts = 2\nstatuses = {statuses}", BASE=upstream.url)
    assert (await run(source)).status == status
    assert len(upstream.requests) == calls


@pytest.mark.parametrize("failing", [broken_off, hanging], ids=["connection closed", "timeout"])
@pytest.mark.parametrize(("unanswered", "calls"), [("true", 3), ("false", 1)])
async def test_file_defines_whether_a_missing_response_is_retried(
    declare: Declare, upstream: Upstream, failing: object, unanswered: str, calls: int
) -> None:
    upstream.reply(lambda: failing)  # type: ignore[arg-type, return-value]
    text = GET.replace("[operations.op.retry]", "timeout_s = 0.05\n[operations.op.retry]")
    source = await declare(text + f"unanswered = {unanswered}", BASE=upstream.url)
    assert (await run(source)).status == 503
    assert len(upstream.requests) == calls


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("7", 7.5),
        ("0", 0.5),
        ("Sun, 01 Nov 2026 12:00:09 GMT", 9.5),
        ("Sun, 01 Nov 2026 11:00:00 GMT", 0.5),
        ("86400", 20.5),
        ("9" * 40, 20.5),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 20.5),
        ("soon", 0.5),
        ("-3", 0.5),
        ("1.5", 0.5),
        ("Sun, 99 Nov 2026 12:00:09 GMT", 0.5),
        ("", 0.5),
    ],
)
async def test_retry_after_is_honoured_up_to_a_limit(
    declare: Declare, upstream: Upstream, world: World, header: str, wait_s: float
) -> None:
    upstream.statuses([429, 429, 429], Retry_After=header)
    text = GET + "attempts = 2\nbackoff_s = 1\nmax_retry_after_s = 20"
    await run(await declare(text, BASE=upstream.url))
    assert world.waits_s == [wait_s]


@pytest.mark.parametrize(("jitter", "waits_s"), [(0.0, [0, 0, 0]), (1.0, [2, 4, 5])])
async def test_backoff_doubles_up_to_a_limit_with_full_jitter(
    declare: Declare, upstream: Upstream, world: World, jitter: float, waits_s: list[float]
) -> None:
    world.chance = jitter
    upstream.statuses([503])
    text = GET + "attempts = 4\nbackoff_s = 2\nmax_backoff_s = 5"
    await run(await declare(text, BASE=upstream.url))
    assert world.waits_s == waits_s


@pytest.mark.parametrize("permitted", [0, 1, 2])
async def test_each_attempt_is_authorized(
    declare: Declare, upstream: Upstream, permitted: int
) -> None:
    async def authorize() -> None:
        if len(upstream.requests) == permitted:
            raise Unauthorized("The user that created the batch has been disabled.")

    upstream.statuses([503])
    source = await declare(GET + "attempts = 9", BASE=upstream.url)
    with pytest.raises(Unauthorized):
        await run(source, authorize=authorize)
    assert len(upstream.requests) == permitted
