"""create_batch, repeated: one batch per upload, and per Idempotency-Key."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from batchd.bootstrap import Components
from tests.support.callers import ApiCaller, Reply
from tests.support.clock import MovableClock
from tests.support.creating import SHA256, body_of, create, listed
from tests.support.fixtures import MakeCaller
from tests.support.polling import eventually
from tests.support.refusals import assert_refused

AT_ONCE = 20
Worker = Callable[[], AbstractAsyncContextManager[None]]


async def jobs_of(components: Components) -> int:
    async with components.database.connection() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM pgqueuer"))


async def wait_until_deleted(caller: ApiCaller, batch: str) -> None:
    """Delete the batch and wait for its end."""
    assert (await caller.call("DELETE", f"/batches/{batch}")).status == 200

    async def status() -> int:
        return (await caller.get(f"/batches/{batch}")).status

    await eventually(status, lambda status: status == 404)


async def test_same_body_again_returns_the_same_batch(
    caller: ApiCaller, components: Components
) -> None:
    body = await body_of(caller, hash=SHA256, batch_dict={"b": 1, "a": [{"d": 2, "c": 3}]})
    first = await create(caller, body)

    repeated = await create(caller, body)

    assert (repeated.status, repeated.body) == (201, first.body)
    assert await listed(caller) == {first.body["batch"]}
    assert await jobs_of(components) == 1


async def test_equivalent_body_returns_the_same_batch(caller: ApiCaller) -> None:
    body = await body_of(caller, batch_dict={"b": 1, "a": {"d": 2, "c": 3}})
    first = await create(caller, body)

    reordered = {
        "batch_dict": {"a": {"c": 3, "d": 2}, "b": 1},
        "operation": body["operation"],
        "handler": str(body["handler"]).upper(),
    }

    assert (await create(caller, reordered)).body == first.body


async def test_repeated_body_returns_the_current_state_of_the_batch(
    caller: ApiCaller, worker: Worker, clock: MovableClock
) -> None:
    body = await body_of(caller)
    batch = (await create(caller, body)).body["batch"]
    async with worker():
        await caller.end(batch)
    clock.move(7200)

    repeated = await create(caller, body)

    assert (repeated.status, repeated.body["batch"], repeated.body["status"]) == (
        201,
        batch,
        "completed",
    )


async def test_colleague_repeating_the_body_gets_the_same_batch(
    caller: ApiCaller, make_caller: MakeCaller
) -> None:
    colleague = await make_caller(account=caller.user.user.account)
    body = await body_of(caller)

    assert (await create(caller, body)).body == (await create(colleague, body)).body


async def test_twenty_concurrent_requests_create_one_batch(
    caller: ApiCaller, components: Components
) -> None:
    body = await body_of(caller)

    replies = await asyncio.gather(*(create(caller, body) for _ in range(AT_ONCE)))

    assert {reply.status for reply in replies} == {201}
    assert {reply.body["batch"] for reply in replies} == await listed(caller)
    assert len(await listed(caller)) == 1
    assert await jobs_of(components) == 1


async def test_another_body_for_a_used_handler_is_refused(
    caller: ApiCaller, subtests: pytest.Subtests
) -> None:
    body = await body_of(caller, batch_dict={"a": 1})
    first = await create(caller, body)

    others: list[dict[str, Any]] = [
        {**body, "hash": SHA256},
        {**body, "operation": "update_batch"},
        {**body, "batch_dict": {"a": 2}},
        {**body, "batch_dict": {"a": True}},
        {**body, "batch_dict": {}},
        {name: body[name] for name in ("handler", "operation")},
    ]
    for other in others:
        with subtests.test(other=other):
            assert_refused(await create(caller, other), 400, 400358)
    assert (await create(caller, body)).body == first.body


async def test_one_of_twenty_concurrent_bodies_is_accepted(caller: ApiCaller) -> None:
    body = await body_of(caller)

    replies = await asyncio.gather(
        *(create(caller, {**body, "batch_dict": {"no": no}}) for no in range(AT_ONCE))
    )

    assert_one_created(replies)
    assert len(await listed(caller)) == 1


def assert_one_created(replies: list[Reply]) -> None:
    for reply in replies:
        if reply.status != 201:
            assert_refused(reply, 400, 400358)
    assert [reply.status for reply in replies].count(201) == 1


async def test_handler_of_a_deleted_batch_stays_used(caller: ApiCaller, worker: Worker) -> None:
    body = await body_of(caller)
    batch = (await create(caller, body, key="k")).body["batch"]
    async with worker():
        await caller.end(batch)
        await wait_until_deleted(caller, batch)

    assert_refused(await create(caller, body), 400, 400358)
    assert_refused(await create(caller, body, key="k"), 400, 400358)
    assert_refused(await create(caller, {**body, "batch_dict": {}}), 400, 400358)


async def test_same_key_and_body_return_the_same_batch(caller: ApiCaller) -> None:
    body = await body_of(caller)
    first = await create(caller, body, key="my key")

    assert (await create(caller, body, key="my key")).body == first.body
    assert (await create(caller, body)).body == first.body
    assert (await create(caller, body, key="another key")).body == first.body


async def test_same_key_with_another_body_is_refused(caller: ApiCaller) -> None:
    first = await create(caller, await body_of(caller), key="k")
    other = await body_of(caller)

    assert_refused(await create(caller, other, key="k"), 400, 400358)
    assert await listed(caller) == {first.body["batch"]}
    assert (await create(caller, other, key="l")).status == 201


async def test_key_of_a_repeated_request_is_used(caller: ApiCaller) -> None:
    """The batch was made without the key; the same request under it was answered all the same."""
    body = await body_of(caller)
    first = await create(caller, body)
    assert (await create(caller, body, key="k")).body == first.body

    assert_refused(await create(caller, await body_of(caller), key="k"), 400, 400358)


async def test_refused_request_uses_no_key(caller: ApiCaller) -> None:
    upload = (await caller.call("POST", "/cache")).body
    nothing_uploaded = {"handler": upload["handler"], "operation": "get_batch"}
    assert_refused(await create(caller, nothing_uploaded, key="k"), 400, 400592)

    assert (await create(caller, await body_of(caller), key="k")).status == 201


async def test_keys_of_different_accounts_are_independent(
    caller: ApiCaller, make_caller: MakeCaller
) -> None:
    other = await make_caller()

    assert (await create(caller, await body_of(caller), key="k")).status == 201
    assert (await create(other, await body_of(other), key="k")).status == 201


async def test_twenty_concurrent_requests_with_one_key_create_one_batch(
    caller: ApiCaller, components: Components
) -> None:
    body = await body_of(caller)

    replies = await asyncio.gather(*(create(caller, body, key="k") for _ in range(AT_ONCE)))

    assert {reply.status for reply in replies} == {201}
    assert {reply.body["batch"] for reply in replies} == await listed(caller)
    assert await jobs_of(components) == 1


async def test_one_of_twenty_concurrent_uploads_with_one_key_is_accepted(caller: ApiCaller) -> None:
    bodies = [await body_of(caller) for _ in range(AT_ONCE)]

    replies = await asyncio.gather(*(create(caller, body, key="k") for body in bodies))

    assert_one_created(replies)
    assert len(await listed(caller)) == 1


async def test_key_has_1_to_255_printable_characters(
    caller: ApiCaller, subtests: pytest.Subtests
) -> None:
    body = await body_of(caller)
    for key in ("", "k" * 256, "a\tb", "é", "\x80"):
        with subtests.test(key=key):
            assert_refused(await create(caller, body, key=key), 400, 400589)
    assert await listed(caller) == set()
    assert (await create(caller, body, key="~" * 255)).status == 201
