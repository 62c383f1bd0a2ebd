"""HTTP operations: which lines are valid, what is sent, how much at once, and to nobody else."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from batchd.domain.operations import OperationRequest
from batchd.plugins.http_operations import HttpOperations
from tests.support.http_operations import GET, Declare, World, body, run
from tests.support.upstream import Upstream, running_upstream

POST = """
[operations.op]
method = "POST"
url = "${BASE}/customers/{customer}/orders"
query = ["lang", "tag"]
body = { type = "object", required = ["amount"], properties = { amount = { type = "number" } } }
"""


def problems(source: HttpOperations, **parts: Any) -> list[tuple[str, str]]:
    operation = source.find("op")
    assert operation is not None
    return [(found.pointer, found.message) for found in operation.check(OperationRequest(**parts))]


# What is sent


async def test_a_line_is_one_call_with_its_parts(declare: Declare, upstream: Upstream) -> None:
    source = await declare(POST, BASE=upstream.url)
    answer = await run(
        source,
        key="batch:7",
        path={"customer": "c 1"},
        query={"lang": "de", "tag": ["a&b", 2, True, 1.5]},
        body={"amount": 12.5, "note": "ü\n"},
    )
    assert (answer.status, answer.succeeded, answer.body) == (200, True, b'{"ok":true}')
    (seen,) = upstream.seen
    assert seen.method == "POST"
    assert seen.target == ("/customers/c%201/orders?lang=de&tag=a%26b&tag=2&tag=true&tag=1.5")
    assert json.loads(seen.body) == {"amount": 12.5, "note": "ü\n"}
    assert seen.headers["idempotency-key"] == "batch:7"
    assert seen.headers["content-type"] == "application/json"


async def test_headers_take_their_secrets_from_the_environment(
    declare: Declare, upstream: Upstream
) -> None:
    headers = 'headers = { Authorization = "Bearer ${TOKEN}", content-type = "application/x+json" }'
    source = await declare(POST + headers, BASE=upstream.url, TOKEN="s3cret")
    await run(source, path={"customer": "c"}, body={"amount": 1})
    assert upstream.seen[0].headers["authorization"] == "Bearer s3cret"
    assert upstream.seen[0].headers["content-type"] == "application/x+json"


async def test_no_cookie_is_kept_and_no_proxy_is_taken_from_the_environment(
    declare: Declare, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    upstream.statuses([200], Set_Cookie="session=1; Path=/")
    source = await declare(GET, BASE=upstream.url)
    await run(source, path={"x": "1"})
    await run(source, path={"x": "2"})
    assert ["cookie" in seen.headers for seen in upstream.seen] == [False, False]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def test_every_method_may_do_without_a_body(
    declare: Declare, upstream: Upstream, method: str
) -> None:
    source = await declare(GET.replace("GET", method), BASE=upstream.url)
    answer = await run(source, path={"x": "1"})
    assert answer.status == 200
    assert answer.body == (b"null" if method == "HEAD" else b'{"ok":true}')
    assert (upstream.seen[0].method, upstream.seen[0].body) == (method, b"")


async def test_a_fixed_query_comes_before_that_of_the_line(
    declare: Declare, upstream: Upstream
) -> None:
    text = GET.replace("/a/{x}", "/a/{x}?version=2%20b") + 'query = ["q"]'
    source = await declare(text, BASE=upstream.url + "/")
    await run(source, path={"x": "1"}, query={"q": "é"})
    assert upstream.seen[0].target == "/a/1?version=2%20b&q=%C3%A9"


# Which lines are valid


async def test_the_report_points_at_every_problem(declare: Declare, upstream: Upstream) -> None:
    schema = """
    [operations.op.body]
    required = ["amount", "to/day"]
    additionalProperties = false
    properties.amount = { type = "number" }
    properties."to/day" = { type = "string", format = "date" }
    properties.items = { items = { required = ["sku"] } }
    """
    text = POST.partition("body =")[0] + schema
    source = await declare(text, BASE=upstream.url)
    assert (
        problems(source, path={"customer": "c"}, body={"amount": 1, "to/day": "2026-11-01"}) == []
    )
    found = problems(
        source,
        path={"client": "c"},
        query={"lang": None, "tag": [{}], "page": 1},
        body={"amount": "1", "to/day": "today", "items": [{"sku": 1}, {}], "x": 1},
    )
    assert sorted(found) == sorted(
        [
            ("/path/customer", "It is missing."),
            ("/path/client", "There is no such parameter."),
            ("/query/lang", "It must be a text, a number, true or false, or a list of these."),
            ("/query/tag", "It must be a text, a number, true or false, or a list of these."),
            ("/query/page", "There is no such parameter."),
            ("/body/amount", 'It is not of type "number".'),
            ("/body/to~1day", 'It is not a "date".'),
            ("/body/items/1/sku", "It is missing."),
            ("/body/x", "There is no such attribute."),
        ]
    )


async def test_a_body_is_there_exactly_if_it_is_declared(
    declare: Declare, upstream: Upstream
) -> None:
    with_body = await declare(POST, BASE=upstream.url)
    assert problems(with_body, path={"customer": "c"}) == [("/body", "It is missing.")]
    without = await declare(GET, BASE=upstream.url)
    assert problems(without, path={"x": "1"}, body={}) == [
        ("/body", "This operation takes no body.")
    ]


async def test_a_report_stays_small_whatever_a_line_is_like(
    declare: Declare, upstream: Upstream
) -> None:
    text = POST.replace('required = ["amount"]', "additionalProperties = false")
    source = await declare(text, BASE=upstream.url)
    wild = {f"{n}{'x' * 10_000}": 1 for n in range(1000)}
    found = problems(source, path={"customer": "c"}, body=wild)
    assert len(found) == 20
    assert len(str(found)) < 10_000


async def test_a_pattern_takes_linear_time(declare: Declare, upstream: Upstream) -> None:
    text = POST.replace('type = "number"', 'pattern = "^(a|a?)+$"')
    source = await declare(text, BASE=upstream.url)
    found = problems(source, path={"customer": "c"}, body={"amount": "a" * 100_000 + "b"})
    assert [pointer for pointer, _ in found] == ["/body/amount"]


async def test_a_line_that_the_file_in_force_refuses_is_not_called(
    declare: Declare, upstream: Upstream
) -> None:
    source = await declare(POST, BASE=upstream.url)
    answer = await run(source, path={"customer": "c"}, body={"amount": "x"})
    assert (answer.status, answer.succeeded) == (400, False)
    assert body(answer.body)["subcode"] == 400589
    assert upstream.seen == []


# Nobody else is called


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ("b/c", "/a/b%2Fc"),
        ("http://127.0.0.1:9/x", "/a/http%3A%2F%2F127.0.0.1%3A9%2Fx"),
        ("//evil.example/x", "/a/%2F%2Fevil.example%2Fx"),
        ("@evil.example", "/a/%40evil.example"),
        ("x?admin=1#y", "/a/x%3Fadmin%3D1%23y"),
        ("x HTTP/1.1\r\nHost: evil.example\r\n\r\n", None),
        ("100%25", "/a/100%2525"),
        ("\\\\evil.example\\x", "/a/%5C%5Cevil.example%5Cx"),
        ("ü\u2215\u0000", "/a/%C3%BC%E2%88%95%00"),
        ("...", "/a/..."),
        (7, "/a/7"),
    ],
)
async def test_a_value_stays_within_its_place_in_the_path(
    declare: Declare, upstream: Upstream, value: object, target: str | None
) -> None:
    source = await declare(GET, BASE=upstream.url)
    assert (await run(source, path={"x": value})).status == 200
    (seen,) = upstream.seen
    assert seen.target.startswith("/a/")
    assert "/" not in seen.target.removeprefix("/a/")
    assert target is None or seen.target == target
    assert f"http://{seen.headers['host']}" == upstream.url


@pytest.mark.parametrize(
    "value",
    [
        *("..", ".", "../b", "b/..", "a/../b", "..\\b", "b/./c", "..;/b", "%2e%2e%2fb"),
        *("", None, [], {}),
    ],
    ids=str,
)
async def test_a_value_that_leads_elsewhere_is_refused(
    declare: Declare, upstream: Upstream, value: object
) -> None:
    source = await declare(GET, BASE=upstream.url)
    assert [pointer for pointer, _ in problems(source, path={"x": value})] == ["/path/x"]
    assert (await run(source, path={"x": value})).status == 400
    assert upstream.seen == []


async def test_values_that_lead_elsewhere_together_are_refused(
    declare: Declare, upstream: Upstream
) -> None:
    source = await declare(GET.replace("{x}", ".{x}"), BASE=upstream.url)
    assert [pointer for pointer, _ in problems(source, path={"x": "/b"})] == ["/path"]
    assert problems(source, path={"x": "b"}) == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_is_not_followed(
    declare: Declare, upstream: Upstream, status: int
) -> None:
    async with running_upstream() as elsewhere:
        upstream.statuses([status], Location=f"{elsewhere.url}/secret")
        source = await declare(GET, BASE=upstream.url)
        answer = await run(source, path={"x": "1"})
        assert (answer.status, answer.succeeded) == (status, False)
        assert elsewhere.seen == []


# How many at once


async def test_no_more_calls_are_under_way_than_declared(
    declare: Declare, upstream: Upstream
) -> None:
    let = asyncio.Semaphore(0)

    async def handler(_: web.Request) -> web.Response:
        await let.acquire()
        return web.json_response({})

    upstream.reply(lambda: handler)
    source = await declare(GET + "concurrency = 3", BASE=upstream.url)
    calls = [asyncio.create_task(run(source, path={"x": n})) for n in range(12)]
    for ended in range(12):
        async with asyncio.timeout(10):
            while upstream.under_way < min(3, 12 - ended):
                await asyncio.sleep(0)
        let.release()
        async with asyncio.timeout(10):
            while sum(call.done() for call in calls) <= ended:
                await asyncio.sleep(0)
    assert upstream.most_under_way == 3
    assert [call.result().status for call in calls] == [200] * 12


async def test_every_attempt_counts_against_the_rate(
    declare: Declare, upstream: Upstream, world: World
) -> None:
    upstream.statuses([503, 503, 200])
    source = await declare(GET + "rate_per_s = 7\n" + "retry = { attempts = 3 }", BASE=upstream.url)
    assert (await run(source, path={"x": "1"})).status == 200
    assert world.acquired == [("op", 7.0)] * 3
