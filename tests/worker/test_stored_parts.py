"""Stored results that the database has forgotten are adopted."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from uuid import UUID

import pytest

from batchd.bootstrap import Components
from batchd.db import batches, chunks
from batchd.domain.batches import Batch
from batchd.domain.chunks import Chunk
from batchd.domain.errors import ProcessingTimeout, StorageRefused
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.ports import Storage
from batchd.domain.storage_keys import is_part_of
from batchd.pipeline.circuit_breaker import CircuitBreaker
from batchd.plugins.s3.storage import S3Storage
from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.gated_operation import GatedOperation, numbered_lines
from tests.support.s3_storage import fail_to_read
from tests.support.stepping import TO_PROCESSED, TO_PROCESSING, step

pytestmark = pytest.mark.slow

LINES = 5


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"chunk_lines": LINES})


async def forget_completion(components: Components) -> None:
    """Put the rows back to before the first claim of a chunk, like a standby that is promoted."""
    async with components.database.connection() as connection:
        await connection.execute(
            "UPDATE chunks SET part_key = NULL, part_size = 0, token = 0, fencing_token = NULL,"
            " leased_until = NULL, succeeded = 0, failed = 0, cancelled = 0, errors = '{}'"
        )
        await connection.execute(
            "UPDATE batches SET status = 'processing', incarnation = 'another'"
        )


async def rows(components: Components, batch: str) -> tuple[Batch, Chunk]:
    async with components.database.connection() as connection:
        row = await batches.find_unscoped(connection, BatchId(UUID(batch)))
        (chunk,) = await chunks.find_all(connection, BatchId(UUID(batch)))
    assert row is not None
    return row, chunk


def storage_of(components: Components) -> Storage:
    return components.dispatcher._context.storage


async def read(storage: Storage, key: str) -> bytes:
    async with storage.read(key) as pieces:
        return b"".join([piece async for piece in pieces])


async def write(storage: Storage, key: str, data: bytes) -> None:
    async with storage.write(key) as writer:
        await writer.write(data)


@pytest.fixture
async def batch(caller: ApiCaller, components: Components, gated: GatedOperation) -> str:
    """Return a batch whose only chunk was completed, which the database has forgotten."""
    gated.release(LINES)
    batch = await caller.create(numbered_lines(LINES), "gated")
    await step(components, batch, *TO_PROCESSED)
    assert len(gated.started) == LINES
    return batch


async def test_stored_part_completes_its_chunk_without_a_call(
    caller: ApiCaller, components: Components, gated: GatedOperation, batch: str
) -> None:
    _, before = await rows(components, batch)
    await forget_completion(components)

    await step(components, batch, Stage.CHUNK)

    _, chunk = await rows(components, batch)
    assert len(gated.started) == LINES
    assert await caller.status(batch) == "processed"
    assert (chunk.part_size, chunk.counts) == (before.part_size, before.counts)
    # Its own copy: the worker of the other claim may be alive, and remove what it wrote.
    assert chunk.part_key != before.part_key
    assert before.part_key is not None
    await storage_of(components).delete([before.part_key])
    await step(components, batch, Stage.RESULTS)
    assert [line["outcome"] for line in await caller.download(batch)] == ["succeeded"] * LINES


async def test_cancelled_batch_keeps_stored_results(
    caller: ApiCaller, components: Components, gated: GatedOperation, batch: str
) -> None:
    await forget_completion(components)
    await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
    await step(components, batch, Stage.CANCEL)
    assert await caller.status(batch) == "cancelled"
    assert [line["outcome"] for line in await caller.download(batch)] == ["succeeded"] * LINES
    progress = (await caller.get(f"/batches/{batch}?expand=progress")).body["progress"]
    assert (progress["succeeded"], progress["cancelled"]) == (LINES, 0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b'"line":5', b'"line":4', id="a line is there twice"),
        pytest.param(b'"line":1,', b'"line":0,', id="a line is not of the chunk"),
        pytest.param(b"succeeded", b"cancelled", id="lines were not run"),
        pytest.param(b'{"line":3,', b"", id="no JSON"),
        pytest.param(b"\n", b"", id="one line"),
        pytest.param(b"status", b"state", id="no status"),
    ],
)
async def test_incomplete_part_is_not_adopted(
    caller: ApiCaller,
    components: Components,
    gated: GatedOperation,
    batch: str,
    old: bytes,
    new: bytes,
) -> None:
    _, chunk = await rows(components, batch)
    assert chunk.part_key is not None
    storage = storage_of(components)
    data = await read(storage, chunk.part_key)
    assert old in data
    await write(storage, chunk.part_key, data.replace(old, new))
    await forget_completion(components)

    gated.release(LINES)
    await step(components, batch, Stage.CHUNK)

    assert len(gated.started) == 2 * LINES
    assert await caller.status(batch) == "processed"


async def test_part_of_another_copy_is_not_adopted(
    caller: ApiCaller, components: Components, gated: GatedOperation, batch: str
) -> None:
    """The upload may have been replaced since then: the lines would be others."""
    row, _ = await rows(components, batch)
    storage = storage_of(components)
    assert row.input_key is not None
    await write(storage, f"{row.input_key}.2", await read(storage, row.input_key))
    async with components.database.connection() as connection:
        await connection.execute("UPDATE batches SET input_key = input_key || '.2'")
    await forget_completion(components)

    gated.release(LINES)
    await step(components, batch, Stage.CHUNK)

    assert len(gated.started) == 2 * LINES
    assert await caller.status(batch) == "processed"


@pytest.mark.parametrize(
    "attribute",
    ["start", "size", "first_line", "lines", "number"],
    ids=lambda name: f"other {name}",
)
async def test_part_of_other_lines_is_not_adopted(
    components: Components, batch: str, attribute: str
) -> None:
    row, chunk = await rows(components, batch)
    assert chunk.part_key is not None
    assert is_part_of(chunk.part_key, row, chunk)
    other = replace(chunk, **{attribute: getattr(chunk, attribute) + 1})
    assert not is_part_of(chunk.part_key, row, other)


async def test_lines_are_run_if_stored_parts_cannot_be_listed(
    caller: ApiCaller,
    components: Components,
    gated: GatedOperation,
    batch: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise ProcessingTimeout("The storage does not list anything.")

    await forget_completion(components)
    gated.release(LINES)
    with monkeypatch.context() as patched:
        patched.setattr(S3Storage, "list_keys", refuse)
        await components.dispatcher.handle(Job(Stage.CHUNK, BatchId(UUID(batch)), 0))
    assert len(gated.started) == 2 * LINES
    assert await caller.status(batch) == "processed"


async def test_results_rejected_after_an_uncertain_commit_are_kept(
    caller: ApiCaller,
    components: Components,
    gated: GatedOperation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The commit may have been made: what it names must not be removed by its own worker."""
    complete = chunks.complete
    attempts = 0

    async def lose_response(*arguments: object, **options: object) -> bool:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise ProcessingTimeout("The response was lost.")
        async with components.database.connection() as connection:
            await connection.execute("UPDATE chunks SET fencing_token = gen_random_uuid()")
        return await complete(*arguments, **options)  # type: ignore[arg-type]

    batch = await caller.create(numbered_lines(LINES), "gated")
    gated.release(LINES)
    with monkeypatch.context() as patched:
        patched.setattr(chunks, "complete", lose_response)
        await step(components, batch, *TO_PROCESSED)
    assert attempts == 2
    assert await caller.status(batch) == "processing"
    await step(components, batch, Stage.CHUNK)
    assert len(gated.started) == LINES
    assert await caller.status(batch) == "processed"


UNREADABLE = [
    pytest.param(StorageRefused("no", code="KMS.DisabledException", action="read"), id="refused"),
    pytest.param(ProcessingTimeout("The storage is not responding."), id="damaged"),
]


@pytest.mark.parametrize("error", UNREADABLE)
async def test_lines_are_run_if_a_stored_part_cannot_be_read(
    caller: ApiCaller,
    components: Components,
    gated: GatedOperation,
    batch: str,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    await forget_completion(components)
    gated.release(LINES)
    with monkeypatch.context() as patched:
        fail_to_read(patched, "/parts/", error)
        await step(components, batch, Stage.CHUNK)
    assert len(gated.started) == 2 * LINES
    assert await caller.status(batch) == "processed"


@pytest.mark.parametrize("error", UNREADABLE)
async def test_a_batch_is_cancelled_although_a_stored_part_cannot_be_read(
    caller: ApiCaller,
    components: Components,
    batch: str,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    await forget_completion(components)
    await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
    with monkeypatch.context() as patched:
        fail_to_read(patched, "/parts/", error)
        await step(components, batch, Stage.CANCEL)
    assert [line["outcome"] for line in await caller.download(batch)] == ["cancelled"] * LINES


async def test_stored_results_are_not_cancelled_because_of_an_outage(
    caller: ApiCaller, components: Components, batch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ProcessingTimeout("The storage is not responding.")

    await forget_completion(components)
    await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
    with monkeypatch.context() as patched:
        patched.setattr(S3Storage, "list_keys", refuse)
        # What the worker's probe does fails as well, so the job is not at fault.
        patched.setattr(CircuitBreaker, "_probe_storage", refuse)
        with pytest.raises(ProcessingTimeout):
            await step(components, batch, Stage.CANCEL)
    await step(components, batch, Stage.CANCEL)
    assert [line["outcome"] for line in await caller.download(batch)] == ["succeeded"] * LINES


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the prefixes that the storage is asked to list."""
    prefixes: list[str] = []
    list_keys = S3Storage.list_keys

    def record(storage: S3Storage, prefix: str) -> AsyncIterator[str]:
        prefixes.append(prefix)
        return list_keys(storage, prefix)

    monkeypatch.setattr(S3Storage, "list_keys", record)
    return prefixes


async def test_the_first_claim_of_a_chunk_lists_nothing(
    caller: ApiCaller, components: Components, gated: GatedOperation, listed: list[str]
) -> None:
    gated.release(LINES)
    batch = await caller.create(numbered_lines(LINES), "gated")
    await step(components, batch, *TO_PROCESSED)
    assert await caller.status(batch) == "processed"
    assert listed == []


async def claim(components: Components, batch: str) -> None:
    async with components.database.connection() as connection:
        await chunks.claim(connection, BatchId(UUID(batch)), 0, lease_s=0.1)


async def restore_database(components: Components, batch: str) -> None:
    async with components.database.connection() as connection:
        await connection.execute("UPDATE batches SET incarnation = $1", f"{batch}/another")


async def copy_by_the_previous_version(components: Components, _: str) -> None:
    async with components.database.connection() as connection:
        await connection.execute("UPDATE batches SET incarnation = NULL")


@pytest.mark.parametrize(
    "happen",
    [
        pytest.param(claim, id="another worker has claimed the chunk"),
        pytest.param(restore_database, id="the database was restored"),
        pytest.param(copy_by_the_previous_version, id="copied by the previous version"),
    ],
)
async def test_a_chunk_that_may_have_been_run_is_looked_for(
    caller: ApiCaller,
    components: Components,
    gated: GatedOperation,
    listed: list[str],
    happen: Callable[[Components, str], Awaitable[None]],
) -> None:
    gated.release(LINES)
    batch = await caller.create(numbered_lines(LINES), "gated")
    await step(components, batch, *TO_PROCESSING)
    await happen(components, batch)
    await step(components, batch, Stage.CHUNK)
    assert listed == [f"batches/{caller.user.user.account}/{batch}/parts/0."]
