"""The errors of the contract: how each occurs, and what all of them have in common."""

import io
import json
import logging
from collections.abc import Mapping
from datetime import timedelta
from uuid import uuid4

import pytest

from batchd.bootstrap import Components
from batchd.domain.jobs import Stage
from batchd.settings import Settings
from tests.support.callers import ApiCaller, Reply, lines_of
from tests.support.clock import MovableClock
from tests.support.fixtures import MakeCaller
from tests.support.refusals import assert_refused
from tests.support.stepping import step

LINES = lines_of({"path": {"batch": "00000000-0000-7000-8000-000000000000"}})
LIMIT = 64 * 1024


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """Return the settings with what a test changes of them, by indirect parametrization."""
    return settings.model_copy(update=getattr(request, "param", {}))


async def call_with(caller: ApiCaller, authorization: str | None) -> Reply:
    headers = {} if authorization is None else {"Authorization": authorization}
    async with caller.session.get(f"{caller.url}/whoami", headers=headers) as response:
        return Reply(response.status, await response.json(), response.headers)


def without(headers: Mapping[str, str], *names: str) -> dict[str, str]:
    excluded = {name.lower() for name in names}
    return {name: headers[name] for name in headers if name.lower() not in excluded}


async def post(caller: ApiCaller, body: bytes) -> Reply:
    return await caller.call("POST", "/batches", data=io.BytesIO(body))


async def test_every_invalid_secret_gets_the_same_error(
    caller: ApiCaller, components: Components, clock: MovableClock
) -> None:
    ending = await components.services.users.create(
        account=None, role="admin", name="", validity_ts=clock.now() + timedelta(seconds=60)
    )
    disabled = await components.services.users.create(account=None, role="admin", name="")
    rotated = await components.services.users.create(account=None, role="admin", name="")
    secret = caller.user.secret
    for user in (ending, disabled, rotated):
        assert (await call_with(caller, user.secret)).status == 200
    clock.move(60)
    await components.services.users.disable(disabled.user.user)
    await components.services.users.rotate(rotated.user.user)

    invalid_secrets = [
        None,
        "",
        "x",
        "0" * 64,
        secret[:-1],
        f"{secret}0",
        secret.swapcase(),
        "Bearer",
    ]
    invalid_secrets += [
        f"Basic {secret}",
        f"Bearer Bearer {secret}",
        f"Bearer {'0' * 64}",
        f"{secret} x",
    ]
    invalid_secrets += [ending.secret, disabled.secret, rotated.secret, "ä" * 64, "ä" * 32]
    replies = [await call_with(caller, authorization) for authorization in invalid_secrets]

    descriptions = {assert_refused(reply, 401, 401000) for reply in replies}
    assert len(descriptions) == 1
    assert len({reply.body["trace"] for reply in replies}) == len(invalid_secrets)
    all_headers = [without(reply.headers, "X-Request-Id", "Date") for reply in replies]
    assert all(headers == all_headers[0] for headers in all_headers)


async def test_secret_is_accepted_plain_and_as_a_bearer_token(
    caller: ApiCaller, subtests: pytest.Subtests
) -> None:
    for authorization in (caller.user.secret, f"Bearer {caller.user.secret}"):
        with subtests.test(authorization=authorization):
            reply = await call_with(caller, authorization)
            assert reply.status == 200
            user = caller.user.user
            assert reply.body == {
                "account": str(user.account),
                "user": str(user.user),
                "role": "admin",
            }


async def test_error_names_the_missing_permission(make_caller: MakeCaller) -> None:
    reader = await make_caller("reader")

    description = assert_refused(await reader.call("POST", "/cache"), 403, 403535)
    assert "reader" in description
    assert "create_upload_url" in description


async def test_missing_object_is_not_found(caller: ApiCaller, subtests: pytest.Subtests) -> None:
    for path in (
        "",
        "/",
        "/batch",
        "/batches//",
        "/cache//x",
        f"/batches/{uuid4()}/x",
        "/cache/x/y",
        "/WHOAMI",
    ):
        with subtests.test(path=path):
            assert_refused(await caller.get(path), 404, 404653)
    for method, path in (("GET", "/batches"), ("DELETE", "/batches"), ("DELETE", "/cache")):
        with subtests.test(method=method, path=path):
            assert_refused(await caller.call(method, f"{path}/{uuid4()}"), 404, 404653)


async def test_malformed_value_is_refused_and_named(
    caller: ApiCaller, subtests: pytest.Subtests
) -> None:
    handler = str(uuid4())
    valid_body: dict[str, object] = {"handler": handler, "operation": "get_batch"}
    digest = "a" * 64
    invalid_values: dict[str, list[object]] = {
        "handler": [None, 1, "x", [handler]],
        "operation": [None, 1, "", "x" * 65],
        "hash": [1, "", digest[1:], digest.upper(), f"{digest}\n"],
        "batch_dict": [[], "x", {"A": 1}, {"1a": 1}, {"a" * 65: 1}, {"": 1}, {"a\n": 1}],
        "unheard_of": [None, 1],
    }
    for name, values in invalid_values.items():
        for value in values:
            with subtests.test(name=name, values=values, value=value):
                reply = await caller.call("POST", "/batches", json={**valid_body, name: value})
                assert name in assert_refused(reply, 400, 400589), (name, value)
    for name in valid_body:
        with subtests.test(name=name):
            body = {key: value for key, value in valid_body.items() if key != name}
            reply = await caller.call("POST", "/batches", json=body)
            assert name in assert_refused(reply, 400, 400589)
    for document in (b"[]", b"null", b'"x"', b"1", b"{}"):
        with subtests.test(document=document):
            assert_refused(await post(caller, document), 400, 400589)


async def test_body_that_is_not_json_and_one_that_is_not_utf_8_get_different_errors(
    caller: ApiCaller, subtests: pytest.Subtests
) -> None:
    for body in (b"", b"{", b"{]", b"{'a': 1}", b"NaN", b"{} x", b"\xef\xbb\xbf", b"[" * 60_000):
        with subtests.test(body=body):
            assert_refused(await post(caller, body), 400, 400415)
    for body in (b'{"operation": "\xff"}', b"\xff", "{}".encode("utf-16"), b'"\xed\xa0\x80"'):
        with subtests.test(body=body):
            assert_refused(await post(caller, body), 400, 400314)


async def test_body_of_64_kb_is_accepted_and_a_larger_one_is_not(
    caller: ApiCaller, subtests: pytest.Subtests
) -> None:
    shell = len(json.dumps({"handler": ""}))
    for size, subcode in ((LIMIT, 400589), (LIMIT + 1, 400141), (50 * LIMIT, 400141)):
        with subtests.test(size=size, subcode=subcode):
            body = json.dumps({"handler": "x" * (size - shell)}).encode()
            assert len(body) == size
            assert_refused(await post(caller, body), 400, subcode)


@pytest.mark.parametrize("settings", [{"max_open_batches": 2}], indirect=True)
async def test_open_batches_are_limited(caller: ApiCaller, components: Components) -> None:
    first = {"handler": await caller.upload(LINES), "operation": "get_batch"}
    created = await caller.call("POST", "/batches", json=first)
    await caller.create(LINES)
    third = {"handler": await caller.upload(LINES), "operation": "get_batch"}

    assert_refused(await caller.call("POST", "/batches", json=third), 400, 400141)
    assert (await caller.call("POST", "/batches", json=first)).body == created.body
    batch = created.body["batch"]
    await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
    assert_refused(await caller.call("POST", "/batches", json=third), 400, 400141)
    await step(components, batch, Stage.CANCEL)
    assert (await caller.call("POST", "/batches", json=third)).status == 201


@pytest.mark.parametrize("settings", [{"max_file_bytes": len(LINES)}], indirect=True)
async def test_file_of_the_maximum_size_is_accepted_and_a_larger_one_is_not(
    caller: ApiCaller,
) -> None:
    await caller.create(LINES)
    larger = {"handler": await caller.upload(LINES + b"\n"), "operation": "get_batch"}

    assert_refused(await caller.call("POST", "/batches", json=larger), 400, 400141)


@pytest.mark.parametrize("settings", [{"rate_per_s": 0.01}], indirect=True)
async def test_rate_limit_error_says_when_to_retry(
    caller: ApiCaller, make_caller: MakeCaller
) -> None:
    colleague = await make_caller("nobody", account=caller.user.user.account)
    assert (await caller.get("/whoami")).status == 200

    for path in ("/whoami", "/batches/x"):
        reply = await caller.get(path)
        assert_refused(reply, 429, 400141)
        assert 90 <= int(reply.headers["Retry-After"]) <= 100
    assert (await call_with(caller, "0" * 64)).status == 401
    assert_refused(await colleague.get("/batches"), 403, 403535)


async def test_repeated_request_and_impossible_one_get_different_errors(
    caller: ApiCaller, components: Components
) -> None:
    batch = await caller.create(LINES)
    cancel = {"status": "cancel"}
    assert_refused(await caller.call("DELETE", f"/batches/{batch}"), 400, 400592)
    assert (await caller.call("PATCH", f"/batches/{batch}", json=cancel)).status == 200
    assert_refused(await caller.call("PATCH", f"/batches/{batch}", json=cancel), 400, 400358)

    handler = (await caller.call("POST", "/cache")).body["handler"]
    body = {"handler": handler, "operation": "get_batch"}
    assert_refused(await caller.call("POST", "/batches", json=body), 400, 400592)
    assert (await caller.call("DELETE", f"/cache/{handler}")).status == 200
    assert_refused(await caller.call("DELETE", f"/cache/{handler}"), 400, 400358)
    assert_refused(await caller.call("POST", "/batches", json=body), 404, 404653)


async def test_operation_that_cannot_run_in_batches_is_refused(
    caller: ApiCaller, subtests: pytest.Subtests
) -> None:
    handler = await caller.upload(LINES)
    for operation in ("create_batch", "get_batches", "who_am_i", "GET_BATCH", "x", "get_batch\x00"):
        with subtests.test(operation=operation):
            body = {"handler": handler, "operation": operation}
            description = assert_refused(
                await caller.call("POST", "/batches", json=body), 400, 400897
            )
            assert "get_batch" in description


async def test_error_for_an_unsupported_method_lists_the_supported_ones(
    caller: ApiCaller, subtests: pytest.Subtests
) -> None:
    allowed = {"/batches": "GET, HEAD, POST", f"/batches/{uuid4()}": "DELETE, GET, HEAD, PATCH"}
    allowed |= {"/cache": "POST", f"/cache/{uuid4()}": "DELETE", "/whoami": "GET, HEAD"}
    methods = {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"}
    for path, allow in allowed.items():
        for method in methods - set(allow.split(", ")):
            with subtests.test(path=path, allow=allow, method=method):
                reply = await caller.call(method, path)
                assert_refused(reply, 405, 400897)
                assert reply.headers["Allow"] == allow


async def test_defect_is_logged_and_not_revealed(
    caller: ApiCaller,
    components: Components,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(*_: object) -> object:
        raise KeyError("the inner secret")

    monkeypatch.setattr(components.services.batches, "get", broken)
    reply = await caller.get(f"/batches/{uuid4()}")

    description = assert_refused(reply, 500, 500000)
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert vars(record)["trace"] == reply.body["trace"]
    assert record.exc_info is not None
    assert "the inner secret" in str(record.exc_info[1])
    for inner in ("inner", "KeyError", "Traceback", ".py"):
        assert inner not in description
        assert inner not in str(reply.headers)
    assert (await caller.get("/whoami")).status == 200


async def test_each_failure_is_logged_with_its_trace(
    caller: ApiCaller, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "batchd")
    failures = [await call_with(caller, None), await caller.get("/nowhere")]
    failures += [await caller.get("/batches/x"), await caller.call("PUT", "/whoami")]

    records = [vars(record) for record in caplog.records if hasattr(record, "trace")]
    logged = {record["trace"]: (record["status"], record["subcode"]) for record in records}
    assert logged == {f.body["trace"]: (f.status, f.body["subcode"]) for f in failures}
    assert caller.user.secret not in caplog.text
