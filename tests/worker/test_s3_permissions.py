"""Batches on a storage that grants exactly the documented permissions."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager

import pytest

from batchd.devstack.seaweedfs import SeaweedFS
from batchd.domain.ports import Storage
from batchd.plugins.s3.multipart import PART_BYTES
from tests.support.callers import ApiCaller, lines_of
from tests.support.creating import body_of, create
from tests.support.polling import eventually
from tests.support.refusals import assert_refused
from tests.support.s3_policy import PolicyCheck, documented_policy
from tests.support.s3_proxy import S3Proxy, missing_is_forbidden, s3_proxy
from tests.support.s3_storage import keys_of, open_storage, put

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]

LINES = lines_of({"path": {"batch": "00000000-0000-7000-8000-000000000000"}})


@pytest.fixture
def check(s3: SeaweedFS) -> PolicyCheck:
    return PolicyCheck(documented_policy(s3.bucket))


@pytest.fixture
async def proxy(s3: SeaweedFS, check: PolicyCheck) -> AsyncIterator[S3Proxy]:
    async with s3_proxy(s3.endpoint) as proxy:
        proxy.refusals.append(check)
        proxy.changes.append(missing_is_forbidden)
        yield proxy


@pytest.fixture
def plugin_environment(plugin_environment: Mapping[str, str], proxy: S3Proxy) -> Mapping[str, str]:
    public = plugin_environment["BATCHD_S3_ENDPOINT"]
    return {
        **plugin_environment,
        "BATCHD_S3_ENDPOINT": proxy.url,
        "BATCHD_S3_PUBLIC_ENDPOINT": public,
    }


@pytest.fixture
async def storage(s3: SeaweedFS) -> AsyncIterator[Storage]:
    """Return the storage with all permissions."""
    async with open_storage(s3) as storage:
        yield storage


async def test_documented_permissions_are_enough_and_all_are_needed(
    caller: ApiCaller, worker: RunWorker, check: PolicyCheck, s3: SeaweedFS, proxy: S3Proxy
) -> None:
    async with worker():
        batch = await caller.create(LINES)
        assert await caller.end(batch) == "completed"
        await caller.download(batch)
    async with open_storage(s3, endpoint=proxy.url) as storage:
        await put(storage, "batches/large", b"x" * (PART_BYTES + 1))
        await write_and_fail(storage)

    allowed = {
        action
        for statement in documented_policy(s3.bucket)["Statement"]
        for action in (
            [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        )
    }
    async with worker():
        assert (await caller.call("DELETE", f"/batches/{batch}")).status == 200
        await eventually(lambda: is_gone(caller, batch), bool)
        await eventually(lambda: used(check), lambda actions: actions == allowed)


async def test_missing_upload_is_distinguished_from_a_forbidden_one(
    caller: ApiCaller,
) -> None:
    reply = await caller.call("POST", "/cache")
    body = {"handler": reply.body["handler"], "operation": "get_batch"}

    assert_refused(await create(caller, body), 400, 400592)
    assert (await create(caller, await body_of(caller))).status == 201


async def test_deleted_batch_leaves_no_file_behind(
    caller: ApiCaller, worker: RunWorker, storage: Storage
) -> None:
    async with worker():
        batch = await caller.create(LINES)
        assert await caller.end(batch) == "completed"
        assert (await caller.call("DELETE", f"/batches/{batch}")).status == 200
        await eventually(lambda: is_gone(caller, batch), bool)
        account = caller.user.user.account
        await eventually(lambda: keys_of(storage, f"batches/{account}/"), lambda keys: keys == [])


async def is_gone(caller: ApiCaller, batch: str) -> bool:
    return (await caller.get(f"/batches/{batch}")).status == 404


async def used(check: PolicyCheck) -> set[str]:
    return check.used


async def write_and_fail(storage: Storage) -> None:
    async def fail_halfway() -> None:
        async with storage.write("batches/failed") as writer:
            await writer.write(b"x" * (PART_BYTES + 1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_halfway()
