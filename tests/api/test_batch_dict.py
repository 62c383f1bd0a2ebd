"""batch_dict: a caller's own JSON, returned as it was written."""

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from tests.support.callers import ApiCaller, lines_of
from tests.support.creating import body_of, create
from tests.support.refusals import assert_refused

Worker = Callable[[], AbstractAsyncContextManager[None]]


async def test_batch_dict_is_returned_unchanged(caller: ApiCaller) -> None:
    notes = {
        "z_comes_first": [1, 1.5, -0.0, 1e-7, True, None, {"Nested Keys": "may be anything"}],
        "a": 'ünïcödé \U0001f642 \u2028 \x00 " \\ /',
        "large": 2**63,
        "deep": json.loads("[" * 60 + "]" * 60),
        "_": {},
    }
    reply = await create(caller, await body_of(caller, batch_dict=notes))
    assert reply.status == 201, reply

    response = await caller.get(f"/batches/{reply.body['batch']}?expand=batch_dict")

    assert json.dumps(response.body["batch_dict"]) == json.dumps(notes)


async def test_empty_batch_dict_is_not_null(caller: ApiCaller, subtests: pytest.Subtests) -> None:
    with_dict = (await create(caller, await body_of(caller, batch_dict={}))).body["batch"]
    without_dict = (await create(caller, await body_of(caller))).body["batch"]

    for batch, expected in ((with_dict, {}), (without_dict, None)):
        with subtests.test(batch=batch, expected=expected):
            response = await caller.get(f"/batches/{batch}?expand=batch_dict")
            assert response.body["batch_dict"] == expected


async def test_malformed_key_of_a_batch_dict_is_refused(
    caller: ApiCaller, subtests: pytest.Subtests
) -> None:
    for key in ("a", "_", "a0_", "z" * 64, "_9"):
        with subtests.test(key=key):
            assert (await create(caller, await body_of(caller, batch_dict={key: 1}))).status == 201
    body = await body_of(caller)
    for key in ("", "A", "aB", "0a", "a" * 65, "a-b", "a b", "é", "a\n", "$"):
        with subtests.test(key=key):
            assert_refused(
                await create(caller, {**body, "batch_dict": {"a": 1, key: 1}}), 400, 400589
            )
    others: list[object] = [[], "{}", 1, True]
    for no_object in others:
        with subtests.test(no_object=no_object):
            assert_refused(await create(caller, {**body, "batch_dict": no_object}), 400, 400589)


async def test_hostile_batch_dict_causes_no_server_error(
    caller: ApiCaller, subtests: pytest.Subtests
) -> None:
    """What JSON allows and a database or an encoder might not take is stored or refused."""
    body = json.dumps(await body_of(caller))[:-1]
    deep = ["[" * n + "]" * n for n in (500, 900, 990, 1000, 1010, 5000, 32_000)]
    for value in (*deep, '"\\ud800"', "1e400", "-1e400", "1" * 400, '"\\u0000"', "0.1e-400"):
        with subtests.test(value=value):
            reply = await caller.call(
                "POST", "/batches", data=f'{body}, "batch_dict": {{"a": {value}}}}}'
            )
            assert reply.status in {201, 400}, (value[:20], reply)
            if reply.status == 201:
                response = await caller.get(f"/batches/{reply.body['batch']}?expand=batch_dict")
                assert response.status == 200, value[:20]
                body = json.dumps(await body_of(caller))[:-1]


AS_WRITTEN = """{ "n": 123456789012345.123456, "z": 12.50,
\t"big": 1e400, "e" : 1E+5, "text": "\\u00e9 é \\/", "a": [ ] }"""


async def test_batch_dict_is_stored_byte_for_byte(
    caller: ApiCaller, worker: Callable[[], AbstractAsyncContextManager[None]]
) -> None:
    handler = await caller.upload(b"")
    shell = f'{{"handler": "{handler}", "operation": "get_batch", "batch_dict": '
    data = f"{shell}{AS_WRITTEN}}}".encode()
    created = await caller.call("POST", "/batches", data=data)
    assert created.status == 201
    batch = created.body["batch"]
    async with caller.session.get(
        f"{caller.url}/batches/{batch}?expand=batch_dict",
        headers={"Authorization": caller.user.secret},
    ) as response:
        assert f'"batch_dict":{AS_WRITTEN}}}' in await response.text()
    # The line breaks in it must not be some in the results.
    line = {"path": {"batch": batch}, "query": {"expand": "batch_dict"}}
    async with worker():
        reading = await caller.create(lines_of(line, line))
        assert await caller.end(reading) == "completed"
    results = await caller.download_bytes(reading)
    assert results.count(b"\n") == 2
    assert results.count(AS_WRITTEN.replace("\n", " ").encode()) == 2
    # The same request is recognized, and one that differs only beyond a double is another one.
    repeated = await caller.call("POST", "/batches", data=data)
    assert (repeated.status, repeated.body["batch"]) == (201, batch)
    other = data.replace(b"345.123456", b"345.123457")
    assert_refused(await caller.call("POST", "/batches", data=other), 400, 400358)
