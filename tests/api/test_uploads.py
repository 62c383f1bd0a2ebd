"""Uploads: the presigned URL, its expiry, and the deletion of unused files."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from uuid import UUID, uuid4

import pytest

from batchd.bootstrap import Components, open_components
from batchd.devstack.seaweedfs import SeaweedFS
from batchd.domain.ids import Handler
from batchd.domain.jobs import Stage
from batchd.domain.ports import Storage
from batchd.domain.storage_keys import upload_key
from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.clock import MovableClock
from tests.support.creating import LINES, SHA256, body_of, create
from tests.support.fixtures import MakeCaller
from tests.support.polling import eventually
from tests.support.refusals import assert_refused
from tests.support.s3_storage import open_storage
from tests.support.stepping import step

HOUR_S = 3600
DAY_S = 24 * HOUR_S
LIMIT = 3
LONG_S = 3 * HOUR_S
"""After so long no upload is of use, nor can one be on its way."""
Worker = Callable[[], AbstractAsyncContextManager[None]]


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return settings.model_copy(update=getattr(request, "param", {}))


@pytest.fixture
async def storage(s3: SeaweedFS) -> AsyncIterator[Storage]:
    """Return the storage, to look into."""
    async with open_storage(s3) as opened:
        yield opened


async def has_file(storage: Storage, caller: ApiCaller, handler: str) -> bool:
    key = upload_key(caller.user.user.account, Handler(UUID(handler)))
    return await storage.stat(key) is not None


async def has_row(components: Components, handler: str) -> bool:
    async with components.database.connection() as connection:
        query = "SELECT FROM uploads WHERE handler = $1"
        return await connection.fetchrow(query, UUID(handler)) is not None


async def age_uploads(components: Components, seconds: float) -> None:
    """Let so much time pass for all uploads, by the clock of the database."""
    async with components.database.connection() as connection:
        await connection.execute(
            "UPDATE uploads SET validity_ts = validity_ts - make_interval(secs => $1)", seconds
        )


async def put(caller: ApiCaller, url: str, data: bytes = LINES) -> int:
    async with caller.session.put(url, data=data) as response:
        return response.status


async def test_upload_has_a_url_a_handler_and_an_expiry_time(
    caller: ApiCaller, clock: MovableClock
) -> None:
    before = clock.now().timestamp()
    reply = await caller.call("POST", "/cache")
    after = clock.now().timestamp()

    assert reply.status == 201
    assert set(reply.body) == {"url", "handler", "validity_ts"}
    assert str(UUID(reply.body["handler"])) == reply.body["handler"]
    assert int(before) + HOUR_S <= reply.body["validity_ts"] <= after + HOUR_S


async def test_put_without_a_credential_uploads_the_file(
    caller: ApiCaller, storage: Storage
) -> None:
    upload = (await caller.call("POST", "/cache")).body
    assert not await has_file(storage, caller, upload["handler"])

    assert await put(caller, upload["url"]) == 200

    key = upload_key(caller.user.user.account, Handler(UUID(upload["handler"])))
    async with storage.read(key) as pieces:
        assert b"".join([piece async for piece in pieces]) == LINES


async def test_url_permits_nothing_but_put(
    caller: ApiCaller, storage: Storage, subtests: pytest.Subtests
) -> None:
    first, second = [(await caller.call("POST", "/cache")).body for _ in range(2)]
    assert await put(caller, first["url"]) == 200

    for method in ("GET", "HEAD", "DELETE"):
        with subtests.test(method=method):
            async with caller.session.request(method, first["url"]) as response:
                assert response.status == 403, method
    elsewhere = first["url"].replace(first["handler"], second["handler"])
    assert await put(caller, elsewhere) == 403
    assert not await has_file(storage, caller, second["handler"])


limited = pytest.mark.parametrize(
    "settings", [{"max_open_uploads": LIMIT}], indirect=True, ids=["limited"]
)


@limited
async def test_concurrent_requests_for_urls_stop_at_the_limit(
    caller: ApiCaller, make_caller: MakeCaller
) -> None:
    colleague = await make_caller(account=caller.user.user.account)
    stranger = await make_caller()

    replies = await asyncio.gather(
        *((caller, colleague)[number % 2].call("POST", "/cache") for number in range(30))
    )

    outcomes = Counter((reply.status, reply.body.get("subcode")) for reply in replies)
    assert outcomes == {(201, None): LIMIT, (400, 400141): 30 - LIMIT}
    assert (await stranger.call("POST", "/cache")).status == 201


@limited
async def test_used_upload_no_longer_counts(caller: ApiCaller) -> None:
    handlers = [await caller.upload(LINES) for _ in range(LIMIT)]
    assert_refused(await caller.call("POST", "/cache"), 400, 400141)

    await create(caller, {"handler": handlers[0], "operation": "get_batch"})

    assert (await caller.call("POST", "/cache")).status == 201
    assert_refused(await caller.call("POST", "/cache"), 400, 400141)


@limited
async def test_expired_upload_no_longer_counts_but_an_invalidated_one_does(
    caller: ApiCaller, components: Components
) -> None:
    handlers = [(await caller.call("POST", "/cache")).body["handler"] for _ in range(LIMIT)]
    assert (await caller.call("DELETE", f"/cache/{handlers[0]}")).status == 200
    assert_refused(await caller.call("POST", "/cache"), 400, 400141)

    await age_uploads(components, HOUR_S)

    assert (await caller.call("POST", "/cache")).status == 201


@pytest.mark.parametrize(
    "header",
    [
        {"x-amz-copy-source": "{bucket}/{key}"},
        {"x-amz-acl": "public-read"},
        {"x-amz-tagging": "a=b"},
        {"x-amz-meta-a": "b"},
        {"x-amz-storage-class": "GLACIER"},
        {"x-amz-server-side-encryption": "AES256"},
    ],
    ids=lambda header: next(iter(header)),
)
async def test_url_accepts_no_unsigned_header(
    header: dict[str, str], caller: ApiCaller, storage: Storage, s3: SeaweedFS
) -> None:
    """A header of S3's own could copy an object of somebody else, for example."""
    victim = "results/of/somebody/else"
    async with storage.write(victim) as writer:
        await writer.write(b"secret")
    upload = (await caller.call("POST", "/cache")).body
    headers = {name: value.format(bucket=s3.bucket, key=victim) for name, value in header.items()}
    async with caller.session.put(upload["url"], data=LINES, headers=headers) as response:
        assert response.status == 403
    assert not await has_file(storage, caller, upload["handler"])


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"upload_validity_s": 3}], indirect=True, ids=["3 s"])
async def test_url_stops_working_when_it_expires(caller: ApiCaller) -> None:
    upload = (await caller.call("POST", "/cache")).body
    attempts: list[tuple[float, int]] = []

    async def try_upload() -> int:
        status = await put(caller, upload["url"])
        attempts.append((time.time(), status))
        return status

    await eventually(try_upload, lambda status: status == 403)

    assert attempts[0][1] == 200
    assert {status for _, status in attempts} == {200, 403}
    assert attempts[-1][0] >= upload["validity_ts"]


async def test_invalidated_upload_cannot_be_used_and_its_file_is_deleted(
    caller: ApiCaller, storage: Storage
) -> None:
    body = await body_of(caller)
    handler = str(body["handler"])
    assert await has_file(storage, caller, handler)

    reply = await caller.call("DELETE", f"/cache/{handler}")

    assert (reply.status, reply.body) == (200, {"handler": handler})
    assert not await has_file(storage, caller, handler)
    assert_refused(await create(caller, body), 404, 404653)


async def test_upload_is_invalidated_only_once(caller: ApiCaller) -> None:
    handler = await caller.upload(LINES)
    assert (await caller.call("DELETE", f"/cache/{handler}")).status == 200

    assert_refused(await caller.call("DELETE", f"/cache/{handler}"), 400, 400358)


async def test_upload_can_be_invalidated_before_it_is_used(caller: ApiCaller) -> None:
    handler = (await caller.call("POST", "/cache")).body["handler"]

    assert (await caller.call("DELETE", f"/cache/{handler.upper()}")).body == {"handler": handler}


async def test_missing_or_expired_upload_cannot_be_invalidated(
    caller: ApiCaller, make_caller: MakeCaller, clock: MovableClock, storage: Storage
) -> None:
    handler = await caller.upload(LINES)
    stranger = await make_caller()
    reader = await make_caller("reader", account=caller.user.user.account)

    assert_refused(await stranger.call("DELETE", f"/cache/{handler}"), 404, 404653)
    assert_refused(await reader.call("DELETE", f"/cache/{handler}"), 403, 403535)
    assert_refused(await reader.call("POST", "/cache"), 403, 403535)
    assert_refused(await caller.call("DELETE", f"/cache/{uuid4()}"), 404, 404653)
    assert_refused(await caller.call("DELETE", "/cache/latest"), 400, 400589)
    assert_refused(await caller.call("DELETE", f"/cache/{handler}?now=1"), 400, 400589)
    assert_refused(await caller.call("POST", "/cache?size=1"), 400, 400589)
    assert await has_file(storage, caller, handler)
    clock.move(HOUR_S + 1)
    assert_refused(await caller.call("DELETE", f"/cache/{handler}"), 404, 404653)


async def test_batch_still_runs_when_its_upload_is_invalidated(
    caller: ApiCaller, storage: Storage, worker: Worker
) -> None:
    body = await body_of(caller)
    handler = str(body["handler"])
    batch = (await create(caller, body)).body["batch"]

    reply = await caller.call("DELETE", f"/cache/{handler}")

    assert (reply.status, reply.body) == (200, {"handler": handler})
    assert (await create(caller, body)).body["batch"] == batch
    async with worker():
        assert await caller.end(batch) == "completed"
        await eventually(lambda: has_file(storage, caller, handler), lambda exists: not exists)
    assert len(await caller.download(batch)) == 1


async def test_upload_is_deleted_after_the_end_of_its_batch(
    caller: ApiCaller, storage: Storage, worker: Worker
) -> None:
    body = await body_of(caller)
    async with worker():
        batch = (await create(caller, body)).body["batch"]
        await caller.end(batch)
        handler = str(body["handler"])
        await eventually(lambda: has_file(storage, caller, handler), lambda exists: not exists)


async def test_unused_uploads_are_deleted(
    caller: ApiCaller, components: Components, storage: Storage
) -> None:
    handlers = [await caller.upload(LINES) for _ in range(3)]
    handlers.append((await caller.call("POST", "/cache")).body["handler"])
    await age_uploads(components, HOUR_S - 60)
    await components.dispatcher.supervise()
    for handler in handlers[:3]:
        assert await has_file(storage, caller, handler)
    assert (await create(caller, {"handler": handlers[0], "operation": "get_batch"})).status == 201

    await age_uploads(components, LONG_S)
    await components.dispatcher.supervise()

    for handler in handlers[1:]:
        assert not await has_file(storage, caller, handler)
        assert not await has_row(components, handler)


async def test_worker_whose_clock_is_ahead_deletes_nothing(
    caller: ApiCaller, components: Components, clock: MovableClock, storage: Storage
) -> None:
    body = await body_of(caller)
    await create(caller, await body_of(caller), key="k")
    clock.move(2 * DAY_S)
    await components.dispatcher.supervise()
    clock.move(-2 * DAY_S)

    assert await has_file(storage, caller, str(body["handler"]))
    assert await has_row(components, str(body["handler"]))
    assert_refused(await create(caller, await body_of(caller), key="k"), 400, 400358)


async def test_file_put_after_invalidation_is_deleted(
    caller: ApiCaller, components: Components, storage: Storage
) -> None:
    upload = (await caller.call("POST", "/cache")).body
    await caller.call("DELETE", f"/cache/{upload['handler']}")
    assert await put(caller, upload["url"]) == 200
    await age_uploads(components, LONG_S)

    await components.dispatcher.supervise()

    assert not await has_file(storage, caller, upload["handler"])
    assert not await has_row(components, upload["handler"])


async def test_file_put_after_the_copy_is_deleted(
    caller: ApiCaller, components: Components, storage: Storage, worker: Worker
) -> None:
    upload = (await caller.call("POST", "/cache")).body
    handler = upload["handler"]
    assert await put(caller, upload["url"]) == 200
    async with worker():
        created = await create(caller, {"handler": handler, "operation": "get_batch"})
        await caller.end(created.body["batch"])
        await eventually(lambda: has_file(storage, caller, handler), lambda exists: not exists)
    assert await put(caller, upload["url"], b"another file") == 200
    assert await has_file(storage, caller, handler)
    await age_uploads(components, LONG_S)

    await components.dispatcher.supervise()

    assert not await has_file(storage, caller, handler)
    assert not await has_row(components, handler)
    assert len(await caller.download(created.body["batch"])) == 1


async def put_again(caller: ApiCaller, components: Components, data: bytes, **more: object) -> str:
    """Create a batch, upload a file by the same URL, and run the batch up to the validation."""
    upload = (await caller.call("POST", "/cache")).body
    assert await put(caller, upload["url"]) == 200
    body = {"handler": upload["handler"], "operation": "get_batch", **more}
    batch: str = (await create(caller, body)).body["batch"]
    assert await put(caller, upload["url"], data) == 200
    await step(components, batch, Stage.COPY, Stage.VALIDATE)
    return batch


async def test_file_that_replaces_the_one_of_the_batch_is_not_run(
    caller: ApiCaller, components: Components
) -> None:
    batch = await put_again(caller, components, LINES + LINES)

    assert await caller.status(batch) == "validation_failed"
    (line,) = await caller.download(batch)
    assert [error["code"] for error in line["errors"]] == ["operation_order_violation"]
    assert "uploaded again" in line["errors"][0]["message"]


async def test_file_that_replaces_the_one_with_the_hash_is_a_mismatch(
    caller: ApiCaller, components: Components
) -> None:
    batch = await put_again(caller, components, LINES + LINES, hash=SHA256)
    assert await caller.status(batch) == "hash_mismatch"


@pytest.mark.parametrize("more", [{}, {"hash": SHA256}], ids=["without hash", "with hash"])
async def test_same_file_uploaded_again_is_run(
    more: dict[str, object], caller: ApiCaller, components: Components
) -> None:
    batch = await put_again(caller, components, LINES, **more)
    assert await caller.status(batch) == "processing"


async def test_file_beyond_a_limit_that_was_lowered_is_not_read(
    caller: ApiCaller,
    settings: Settings,
    components: Components,
    plugin_environment: Mapping[str, str],
) -> None:
    batch = (await create(caller, await body_of(caller))).body["batch"]
    lowered = settings.model_copy(update={"max_file_bytes": len(LINES) - 1})
    async with open_components(lowered, environment=plugin_environment) as lower:
        await step(lower, batch, Stage.COPY, Stage.VALIDATE)

    assert await caller.status(batch) == "validation_failed"
    (line,) = await caller.download(batch)
    assert [error["code"] for error in line["errors"]] == ["quota_violation"]


@pytest.mark.parametrize("status", ["new", "copying"])
async def test_upload_is_kept_until_its_batch_has_copied_it(
    status: str,
    caller: ApiCaller,
    components: Components,
    storage: Storage,
    worker: Worker,
) -> None:
    body = await body_of(caller)
    handler = str(body["handler"])
    batch = (await create(caller, body)).body["batch"]
    async with components.database.connection() as connection:
        # As a worker leaves it that dies while it copies.
        await connection.execute(
            "UPDATE batches SET status = $2 WHERE batch = $1", UUID(batch), status
        )
    await age_uploads(components, LONG_S)

    await components.dispatcher.supervise()

    assert await has_file(storage, caller, handler)
    assert await has_row(components, handler)
    async with worker():
        assert await caller.end(batch) == "completed"
    await components.dispatcher.supervise()
    assert not await has_row(components, handler)
