"""HTTP operations: the request of a line, its validation, its destination and the limits."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from batchd.plugins.http_operations import HttpOperations
from batchd.services.memory_budget import ProcessMemoryBudget
from tests.support.http_operations import GET, Declare, World, body, declaring, request_of, run
from tests.support.polling import TIMEOUT_S
from tests.support.upstream import Upstream, running_upstream

POST = """
[operations.op]
method = "POST"
url = "${BASE}/customers/{customer}/orders"
query = ["lang", "tag"]
body = { type = "object", required = ["amount"], properties = { amount = { type = "number" } } }
"""


def issues(source: HttpOperations, **parts: Any) -> list[tuple[str, str]]:
    operation = source.find("op")
    assert operation is not None
    return [(issue.pointer, issue.message) for issue in operation.check(request_of(**parts))]


# Requests


async def test_line_becomes_one_call(declare: Declare, upstream: Upstream) -> None:
    source = await declare(POST, BASE=upstream.url)
    result = await run(
        source,
        key="batch:7",
        path={"customer": "c 1"},
        query={"lang": "de", "tag": ["a&b", 2, True, 1.5]},
        body={"amount": 12.5, "note": "ü\n"},
    )
    assert (result.status, result.succeeded, result.body) == (200, True, b'{"ok":true}')
    (request,) = upstream.requests
    assert request.method == "POST"
    assert request.target == ("/customers/c%201/orders?lang=de&tag=a%26b&tag=2&tag=true&tag=1.5")
    assert json.loads(request.body) == {"amount": 12.5, "note": "ü\n"}
    assert request.headers["idempotency-key"] == "batch:7"
    assert request.headers["content-type"] == "application/json"


async def test_headers_contain_secrets_from_the_environment(
    declare: Declare, upstream: Upstream
) -> None:
    headers = 'headers = { Authorization = "Bearer ${TOKEN}", content-type = "application/x+json" }'
    source = await declare(POST + headers, BASE=upstream.url, TOKEN="s3cret")
    await run(source, path={"customer": "c"}, body={"amount": 1})
    assert upstream.requests[0].headers["authorization"] == "Bearer s3cret"
    assert upstream.requests[0].headers["content-type"] == "application/x+json"


async def test_cookies_and_proxies_of_the_environment_are_ignored(
    declare: Declare, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    upstream.statuses([200], Set_Cookie="session=1; Path=/")
    source = await declare(GET, BASE=upstream.url)
    await run(source, path={"x": "1"})
    await run(source, path={"x": "2"})
    assert ["cookie" in request.headers for request in upstream.requests] == [False, False]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def test_every_method_works_without_a_body(
    declare: Declare, upstream: Upstream, method: str
) -> None:
    source = await declare(GET.replace("GET", method), BASE=upstream.url)
    result = await run(source, path={"x": "1"})
    assert result.status == 200
    assert result.body == (b"null" if method == "HEAD" else b'{"ok":true}')
    assert (upstream.requests[0].method, upstream.requests[0].body) == (method, b"")


async def test_fixed_query_precedes_the_query_of_the_line(
    declare: Declare, upstream: Upstream
) -> None:
    text = GET.replace("/a/{x}", "/a/{x}?version=2%20b") + 'query = ["q"]'
    source = await declare(text, BASE=upstream.url + "/")
    await run(source, path={"x": "1"}, query={"q": "é"})
    assert upstream.requests[0].target == "/a/1?version=2%20b&q=%C3%A9"


# Validation


async def test_every_issue_has_a_pointer(declare: Declare, upstream: Upstream) -> None:
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
    assert issues(source, path={"customer": "c"}, body={"amount": 1, "to/day": "2026-11-01"}) == []
    actual = issues(
        source,
        path={"client": "c"},
        query={"lang": None, "tag": [{}], "page": 1},
        body={"amount": "1", "to/day": "today", "items": [{"sku": 1}, {}], "x": 1},
    )
    assert sorted(actual) == sorted(
        [
            ("/path/customer", "It is missing."),
            ("/path/client", "There is no such parameter."),
            ("/query/lang", "It must not be null: leave it out."),
            ("/query/tag", "It must be a string, a number or a boolean, or a list of these."),
            ("/query/page", "There is no such parameter."),
            ("/body/amount", "It must be a number, not text."),
            ("/body/to~1day", 'It is not a "date".'),
            ("/body/items/1/sku", "It is missing."),
            ("/body/x", "There is no such attribute."),
        ]
    )


async def test_body_is_required_if_and_only_if_it_is_declared(
    declare: Declare, upstream: Upstream
) -> None:
    with_body = await declare(POST, BASE=upstream.url)
    assert issues(with_body, path={"customer": "c"}) == [("/body", "It is missing.")]
    without = await declare(GET, BASE=upstream.url)
    assert issues(without, path={"x": "1"}, body={}) == [
        ("/body", "This operation accepts no body.")
    ]


async def test_report_of_a_line_is_bounded(declare: Declare, upstream: Upstream) -> None:
    text = POST.replace('required = ["amount"]', "additionalProperties = false")
    source = await declare(text, BASE=upstream.url)
    body_with_unknown_names = {f"{n}{'x' * 10_000}": 1 for n in range(1000)}
    reported = issues(source, path={"customer": "c"}, body=body_with_unknown_names)
    assert len(reported) == 20
    assert len(str(reported)) < 10_000


async def test_pattern_takes_linear_time(declare: Declare, upstream: Upstream) -> None:
    text = POST.replace('type = "number"', 'pattern = "^(a|a?)+$"')
    source = await declare(text, BASE=upstream.url)
    reported = issues(source, path={"customer": "c"}, body={"amount": "a" * 100_000 + "b"})
    assert [pointer for pointer, _ in reported] == ["/body/amount"]


async def test_line_that_the_current_file_refuses_is_not_sent(
    declare: Declare, upstream: Upstream
) -> None:
    source = await declare(POST, BASE=upstream.url)
    result = await run(source, path={"customer": "c"}, body={"amount": "x"})
    assert (result.status, result.succeeded) == (400, False)
    assert body(result.body)["subcode"] == 400589
    assert upstream.requests == []


# Destination


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ("b/c", "/a/b%2Fc"),
        ("http://127.0.0.1:9/x", "/a/http%3A%2F%2F127.0.0.1%3A9%2Fx"),
        ("//evil.example/x", "/a/%2F%2Fevil.example%2Fx"),
        ("@evil.example", "/a/%40evil.example"),
        ("x?admin=1#y", "/a/x%3Fadmin%3D1%23y"),
        ("x HTTP/1.1 Host: evil.example", "/a/x%20HTTP%2F1.1%20Host%3A%20evil.example"),
        ("100%25", "/a/100%2525"),
        ("\\\\evil.example\\x", "/a/%5C%5Cevil.example%5Cx"),
        ("ü\u2215", "/a/%C3%BC%E2%88%95"),
        ("...", "/a/..."),
        (7, "/a/7"),
    ],
)
async def test_value_stays_one_segment_of_the_path(
    declare: Declare, upstream: Upstream, value: object, target: str
) -> None:
    source = await declare(GET, BASE=upstream.url)
    assert (await run(source, path={"x": value})).status == 200
    (request,) = upstream.requests
    assert request.target.startswith("/a/")
    assert "/" not in request.target.removeprefix("/a/")
    assert request.target == target
    assert f"http://{request.headers['host']}" == upstream.url


@pytest.mark.parametrize(
    "value",
    [
        *("..", ".", "../b", "b/..", "a/../b", "..\\b", "b/./c", "..;/b", "%2e%2e%2fb"),
        *("..\0", "..\t", "a\x01", "%252e%252e", "..%00", "x HTTP/1.1\r\nHost: evil.example\r\n"),
        *("", None, [], {}),
    ],
    ids=repr,
)
async def test_value_that_is_a_hazard_or_of_another_type_is_refused(
    declare: Declare, upstream: Upstream, value: object
) -> None:
    source = await declare(GET, BASE=upstream.url)
    assert [pointer for pointer, _ in issues(source, path={"x": value})] == ["/path/x"]
    assert (await run(source, path={"x": value})).status == 400
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("path", "values", "issues_expected"),
    [
        (".{x}", {"x": "/b"}, ["/path"]),
        (".{x}", {"x": "b"}, []),
        ("{x}{y}", {"x": ".", "y": "a"}, ["/path/x"]),
        ("{x}{y}", {"x": "%", "y": "2e%2e"}, ["/path"]),
        ("{x}{y}", {"x": "%2", "y": "e."}, ["/path"]),
        ("{x}{y}", {"x": "%", "y": "00"}, ["/path"]),
        ("{x}{y}", {"x": "%", "y": "41"}, []),
        ("a{x}/{y}", {"x": "/.", "y": "b"}, ["/path/x"]),
        ("%25{x}", {"x": "2e"}, ["/path"]),
        ("%25{x}", {"x": "41"}, []),
    ],
)
async def test_values_that_together_form_a_hazard_are_refused(
    declare: Declare,
    upstream: Upstream,
    path: str,
    values: dict[str, str],
    issues_expected: list[str],
) -> None:
    source = await declare(GET.replace("{x}", path), BASE=upstream.url)
    assert [pointer for pointer, _ in issues(source, path=values)] == issues_expected
    assert (await run(source, path=values)).status == (400 if issues_expected else 200)
    assert len(upstream.requests) == (not issues_expected)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(declare: Declare, upstream: Upstream, status: int) -> None:
    async with running_upstream() as target:
        upstream.statuses([status], Location=f"{target.url}/secret")
        source = await declare(GET, BASE=upstream.url)
        result = await run(source, path={"x": "1"})
        assert (result.status, result.succeeded) == (status, False)
        assert target.requests == []


# Limits


async def test_concurrency_is_limited_as_declared(declare: Declare, upstream: Upstream) -> None:
    may_finish = asyncio.Semaphore(0)

    async def handler(_: web.Request) -> web.Response:
        await may_finish.acquire()
        return web.json_response({})

    upstream.reply(lambda: handler)
    source = await declare(GET + "concurrency = 3", BASE=upstream.url)
    calls = [asyncio.create_task(run(source, path={"x": n})) for n in range(12)]
    for finished in range(12):
        async with asyncio.timeout(TIMEOUT_S):
            while upstream.in_progress < min(3, 12 - finished):
                await asyncio.sleep(0)
        may_finish.release()
        async with asyncio.timeout(TIMEOUT_S):
            while sum(call.done() for call in calls) <= finished:
                await asyncio.sleep(0)
    assert upstream.max_in_progress == 3
    assert [call.result().status for call in calls] == [200] * 12


async def test_every_attempt_counts_against_the_rate(
    declare: Declare, upstream: Upstream, world: World
) -> None:
    upstream.statuses([503, 503, 200])
    source = await declare(GET + "rate_per_s = 7\n" + "retry = { attempts = 3 }", BASE=upstream.url)
    assert (await run(source, path={"x": "1"})).status == 200
    assert world.acquired == [("op", 7.0)] * 3


async def test_calls_wait_until_there_is_memory_for_their_responses(
    upstream: Upstream, tmp_path: Path
) -> None:
    async def respond(_: web.Request) -> web.StreamResponse:
        # Calls that wait could come meanwhile.
        for _turn in range(20):
            await asyncio.sleep(0)
        return web.json_response({})

    upstream.reply(lambda: respond)
    world = World(memory=ProcessMemoryBudget(2_500))
    async with declaring(world, tmp_path) as declare:
        source = await declare(GET + "max_answer_bytes = 1000", BASE=upstream.url)
        results = await asyncio.gather(*(run(source, path={"x": str(n)}) for n in range(20)))
    assert [result.status for result in results] == [200] * 20
    assert upstream.max_in_progress <= 2
    assert world.memory.try_reserve(2_500)
