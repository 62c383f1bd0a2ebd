"""The order of checks, of which the first that fails decides: 401, 403, 400, 404, 400."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from batchd.bootstrap import Components
from batchd.operations.table import OPERATIONS
from tests.support.callers import ApiCaller, Reply, lines_of
from tests.support.fixtures import MakeCaller
from tests.support.refusals import assert_refused
from tests.support.stepping import ended_batch

BATCHES, CACHE = "/batches", "/cache"
LINES = lines_of({"path": {"batch": "00000000-0000-7000-8000-000000000000"}})
CANCEL = {"status": "cancel"}
BATCH = {"handler": str(uuid4()), "operation": "get_batch"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedCalls:
    """A malformed call of an operation, and one for an object that does not exist."""

    method: str
    malformed: tuple[str, Any]
    """Path and body."""
    missing: tuple[str, Any] | None = None

    async def make(self, caller: ApiCaller, call: tuple[str, Any]) -> Reply:
        path, body = call
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return await caller.call(self.method, path, data=data)


CALLS = {
    "get_batch": RejectedCalls(
        method="GET",
        malformed=(f"{BATCHES}/{uuid4()}?download=x", None),
        missing=(f"{BATCHES}/{uuid4()}", None),
    ),
    "get_batches": RejectedCalls(method="GET", malformed=(f"{BATCHES}?limit=0", None)),
    "create_batch": RejectedCalls(
        method="POST",
        malformed=(BATCHES, {**BATCH, "hash": "x"}),
        missing=(BATCHES, BATCH),
    ),
    "update_batch": RejectedCalls(
        method="PATCH",
        malformed=(f"{BATCHES}/{uuid4()}", {"status": "x"}),
        missing=(f"{BATCHES}/{uuid4()}", CANCEL),
    ),
    "delete_batch": RejectedCalls(
        method="DELETE",
        malformed=(f"{BATCHES}/{uuid4()}?x=1", None),
        missing=(f"{BATCHES}/{uuid4()}", None),
    ),
    "create_upload_url": RejectedCalls(method="POST", malformed=(f"{CACHE}?x=1", None)),
    "invalidate_upload_url": RejectedCalls(
        method="DELETE",
        malformed=(f"{CACHE}/{uuid4()}?x=1", None),
        missing=(f"{CACHE}/{uuid4()}", None),
    ),
    "get_user_roles": RejectedCalls(method="GET", malformed=("/roles?x=1", None)),
    "get_user_role": RejectedCalls(
        method="GET", malformed=("/roles/reader?x=1", None), missing=("/roles/nobody", None)
    ),
    "who_am_i": RejectedCalls(method="GET", malformed=("/whoami?x=1", None)),
}


def without_secret(caller: ApiCaller) -> ApiCaller:
    return dataclasses.replace(caller, user=dataclasses.replace(caller.user, secret="0" * 64))


def test_every_operation_is_tested() -> None:
    assert list(CALLS) == [endpoint.name for endpoint in OPERATIONS]


async def test_authentication_comes_first(caller: ApiCaller, subtests: pytest.Subtests) -> None:
    stranger = without_secret(caller)

    for calls in CALLS.values():
        for call in (calls.malformed, calls.missing):
            with subtests.test(calls=calls, call=call):
                if call is not None:
                    assert_refused(await calls.make(stranger, call), 401, 401000)


async def test_permission_comes_before_form(
    make_caller: MakeCaller, subtests: pytest.Subtests
) -> None:
    nobody = await make_caller("nobody")

    for name, calls in CALLS.items():
        for call in (calls.malformed, calls.missing):
            with subtests.test(name=name, calls=calls, call=call):
                if call is not None and name != "who_am_i":
                    assert name in assert_refused(await calls.make(nobody, call), 403, 403535)
    assert (await nobody.get("/whoami")).body["role"] == "nobody"


async def test_form_comes_before_existence(caller: ApiCaller, subtests: pytest.Subtests) -> None:
    for calls in CALLS.values():
        with subtests.test(calls=calls):
            assert_refused(await calls.make(caller, calls.malformed), 400, 400589)


async def test_well_formed_request_for_a_missing_object_is_not_found(
    caller: ApiCaller, subtests: pytest.Subtests
) -> None:
    for calls in CALLS.values():
        with subtests.test(calls=calls):
            if calls.missing is not None:
                assert_refused(await calls.make(caller, calls.missing), 404, 404653)


@pytest.mark.parametrize(
    ("body", "subcode"),
    [(b"{", 400415), (b"\xff", 400314), (b"x" * 65_537, 400141), (b"", 400415)],
    ids=["not_json", "not_utf_8", "too_large", "none"],
)
async def test_unreadable_body_is_a_fault_of_form(
    caller: ApiCaller, make_caller: MakeCaller, body: bytes, subcode: int, subtests: pytest.Subtests
) -> None:
    nobody = await make_caller("nobody")
    for name in ("create_batch", "update_batch"):
        with subtests.test(name=name):
            calls = CALLS[name]
            call = (calls.malformed[0], body)
            assert_refused(await calls.make(without_secret(caller), call), 401, 401000)
            assert_refused(await calls.make(nobody, call), 403, 403535)
            assert_refused(await calls.make(caller, call), 400, subcode)


async def test_state_comes_last(caller: ApiCaller, components: Components) -> None:
    completed, new = await ended_batch(components, caller, LINES), await caller.create(LINES)

    path = f"{BATCHES}/{completed}"
    malformed = await caller.call("PATCH", path, json={"status": "x"})
    assert_refused(malformed, 400, 400589)
    assert_refused(await caller.call("PATCH", path, json=CANCEL), 400, 400592)
    assert_refused(await caller.call("DELETE", f"{BATCHES}/{new}?x=1"), 400, 400589)
    assert_refused(await caller.call("DELETE", f"{BATCHES}/{new}"), 400, 400592)


async def test_state_of_an_upload_comes_last(caller: ApiCaller) -> None:
    empty = (await caller.call("POST", CACHE)).body["handler"]
    deleted = (await caller.call("POST", CACHE)).body["handler"]
    await caller.call("DELETE", f"{CACHE}/{deleted}")

    body = {**BATCH, "handler": empty}
    assert_refused(await caller.call("POST", BATCHES, json={**body, "x": 1}), 400, 400589)
    assert_refused(await caller.call("POST", BATCHES, json=body), 400, 400592)
    assert_refused(await caller.call("DELETE", f"{CACHE}/{deleted}?x=1"), 400, 400589)
    assert_refused(await caller.call("DELETE", f"{CACHE}/{deleted}"), 400, 400358)


async def test_denied_change_reveals_no_existence(
    caller: ApiCaller, make_caller: MakeCaller, components: Components, subtests: pytest.Subtests
) -> None:
    reader = await make_caller("reader", account=caller.user.user.account)
    batch = await ended_batch(components, caller, LINES)
    handler = await caller.upload(LINES)
    replies = [
        [
            await reader.call("PATCH", f"{BATCHES}/{batch_id}", json=CANCEL),
            await reader.call("DELETE", f"{BATCHES}/{batch_id}"),
            await reader.call("DELETE", f"{CACHE}/{upload}"),
            await reader.call("POST", BATCHES, json={**BATCH, "handler": upload}),
        ]
        for batch_id, upload in ((batch, handler), (str(uuid4()), str(uuid4())), ("x", "x"))
    ]

    for existing, not_existing, malformed in zip(*replies, strict=True):
        with subtests.test(existing=existing, not_existing=not_existing, malformed=malformed):
            description = assert_refused(existing, 403, 403535)
            assert assert_refused(not_existing, 403, 403535) == description
            assert assert_refused(malformed, 403, 403535) == description


async def test_permission_of_the_batched_operation_comes_before_the_upload(
    make_caller: MakeCaller,
) -> None:
    submitter = await make_caller("submitter")
    missing = {**BATCH, "operation": "delete_batch"}

    description = assert_refused(await submitter.call("POST", BATCHES, json=missing), 403, 403535)
    assert "delete_batch" in description
    malformed = {**missing, "handler": "x"}
    assert_refused(await submitter.call("POST", BATCHES, json=malformed), 400, 400589)
    unknown = {**missing, "operation": "x"}
    assert_refused(await submitter.call("POST", BATCHES, json=unknown), 400, 400897)


async def test_unknown_upload_is_reported_before_a_used_key(caller: ApiCaller) -> None:
    first = {**BATCH, "handler": await caller.upload(LINES)}
    headers = {"Idempotency-Key": "once"}
    created = await caller.call("POST", BATCHES, json=first, headers=headers)
    assert created.status == 201

    unknown = await caller.call("POST", BATCHES, json=BATCH, headers=headers)
    assert_refused(unknown, 404, 404653)
    other = {**BATCH, "handler": await caller.upload(LINES)}
    assert_refused(await caller.call("POST", BATCHES, json=other, headers=headers), 400, 400358)
    repeated = await caller.call("POST", BATCHES, json=first, headers=headers)
    assert (repeated.status, repeated.body) == (201, created.body)
