"""A worker whose disk or storage access fails claims no jobs, and ends no batch for it."""

import asyncio
import errno
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import pytest
from pydantic import SecretStr

from batchd.bootstrap import Components, open_components
from batchd.db.connection import open_database
from batchd.devstack.seaweedfs import SeaweedFS
from batchd.domain.errors import ProcessingTimeout, StorageRefused
from batchd.domain.jobs import Stage
from batchd.domain.operations import OperationFactory
from batchd.pipeline import circuit_breaker
from batchd.pipeline.circuit_breaker import MAX_REFUSED_JOBS, CircuitBreaker
from batchd.pipeline.dispatcher import MAX_DEFECTS
from batchd.pipeline.failures import FailureKind, kind_of
from batchd.pipeline.validate import temporary_files
from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.gated_operation import GatedOperation, numbered_lines
from tests.support.live import running_worker
from tests.support.polling import eventually
from tests.support.refusing_s3 import RefusingS3, everything, refusing_s3
from tests.support.relay import relay_to
from tests.support.s3_storage import keys_of
from tests.support.stepping import TO_COPIED, step

pytestmark = pytest.mark.slow

LINES = 5


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "disk full"), FailureKind.WORKER),
        (OSError(errno.EIO, "broken disk"), FailureKind.WORKER),
        (OSError(errno.EMFILE, "too many open files"), FailureKind.WORKER),
        (FileNotFoundError(errno.ENOENT, "no usable temporary directory"), FailureKind.WORKER),
        (ProcessingTimeout("the storage is away"), FailureKind.OUTAGE),
        (ProcessingTimeout("a limit of ours", is_outage=False), FailureKind.TIME_LIMIT),
        (StorageRefused("no", code="AccessDenied", action="write key"), FailureKind.DEFECT),
        (ConnectionRefusedError(errno.ECONNREFUSED, "of a plugin"), FailureKind.DEFECT),
        (TimeoutError(), FailureKind.DEFECT),
        (MemoryError(), FailureKind.DEFECT),
        (ValueError("a defect"), FailureKind.DEFECT),
    ],
    ids=repr,
)
def test_failure_has_its_kind(error: Exception, kind: FailureKind) -> None:
    assert kind_of(error) is kind


FULL_DISK = OSError(errno.ENOSPC, "disk full")


async def test_disk_that_is_too_small_for_one_job_is_counted(components: Components) -> None:
    """Every worker may have such a one: the batch would never end."""
    breaker = components.dispatcher._context.breaker
    assert await breaker.judge(FULL_DISK) is FailureKind.LONE_OUTAGE


async def test_disk_that_is_full_for_the_probe_too_is_not_counted(
    components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise FULL_DISK

    monkeypatch.setattr(circuit_breaker, "_probe_disk", fail)
    breaker = components.dispatcher._context.breaker
    assert await breaker.judge(FULL_DISK) is FailureKind.WORKER


FULL_DEVICE = Path("/dev/full")


def full_disk(**_: object) -> IO[bytes]:
    return FULL_DEVICE.open("r+b", buffering=0)


@pytest.mark.skipif(not FULL_DEVICE.exists(), reason="there is no /dev/full")
async def test_full_disk_of_a_worker_does_not_invalidate_a_file(
    caller: ApiCaller, components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await caller.create(numbered_lines(LINES), "gated")
    await step(components, batch, *TO_COPIED)
    with monkeypatch.context() as patched:
        patched.setattr(temporary_files, "SpooledTemporaryFile", full_disk)
        for _ in range(2 * MAX_DEFECTS):
            with pytest.raises(OSError, match="No space left on device"):
                await step(components, batch, Stage.VALIDATE)
    assert await caller.status(batch) == "validating"
    await step(components, batch, Stage.VALIDATE)
    assert await caller.status(batch) == "processing"


@pytest.fixture
async def proxy(s3: SeaweedFS) -> AsyncIterator[RefusingS3]:
    async with refusing_s3(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def troubled(
    settings: Settings,
    plugin_environment: Mapping[str, str],
    proxy: RefusingS3,
    gated: GatedOperation,
) -> AsyncIterator[Components]:
    """Return the components of a worker whose storage access a test can break."""

    @asynccontextmanager
    async def open_gated(_: object) -> AsyncIterator[GatedOperation]:
        yield gated

    operations: list[OperationFactory] = [open_gated]
    environment = {**plugin_environment, "BATCHD_S3_ENDPOINT": proxy.url}
    async with open_components(
        settings, environment=environment, operations=operations
    ) as components:
        yield components


class Lane:
    """Records what the breaker does to a consumer."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def release(self) -> None:
        self.calls.append("release")

    async def called(self) -> list[str]:
        return self.calls


@asynccontextmanager
async def guarding(breaker: CircuitBreaker, lane: Lane) -> AsyncIterator[None]:
    task = asyncio.create_task(breaker.guard([lane]))
    try:
        yield
    finally:
        task.cancel()


def new_breaker(components: Components, *, release_after_s: float = 60.0) -> CircuitBreaker:
    context = components.dispatcher._context
    return CircuitBreaker(context.storage, context.database, release_after_s=release_after_s)


REFUSED = StorageRefused("no", code="AccessDenied", action="write key")


async def test_breaker_opens_once_and_closes_when_the_storage_is_back(
    troubled: Components, proxy: RefusingS3, caplog: pytest.LogCaptureFixture
) -> None:
    storage = troubled.dispatcher._context.storage
    breaker, lane = new_breaker(troubled, release_after_s=0.0), Lane()
    proxy.refuse(everything, "AccessDenied")
    async with guarding(breaker, lane):
        for number in range(MAX_REFUSED_JOBS):
            breaker.record_failure(f"chunk:{number}", REFUSED)
        await eventually(lane.called, ["pause", "release"].__eq__)
        proxy.accept()
        await eventually(lane.called, ["pause", "release", "resume"].__eq__)
    messages = [record.getMessage() for record in caplog.records]
    (message,) = [text for text in messages if "claims no jobs" in text]
    assert "AccessDenied: cannot write batches/probe." in message
    assert await keys_of(storage, "batches/probe.") == []


async def test_breaker_stays_closed_if_the_storage_is_well(
    troubled: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is if a job can't read one object, or if the database is away."""
    breaker, lane = new_breaker(troubled), Lane()
    probed = asyncio.Event()
    probe_disk = circuit_breaker._probe_disk
    loop = asyncio.get_running_loop()

    def record_probe() -> None:
        loop.call_soon_threadsafe(probed.set)
        probe_disk()

    monkeypatch.setattr(circuit_breaker, "_probe_disk", record_probe)
    async with guarding(breaker, lane):
        breaker.record_failure("copy:1", ProcessingTimeout("no answer"))
        await probed.wait()
    assert lane.calls == []


def test_one_refused_job_does_not_trigger_the_probe(troubled: Components) -> None:
    breaker = new_breaker(troubled)
    for _ in range(2 * MAX_DEFECTS):
        breaker.record_failure("copy:1", REFUSED)
    assert not breaker._is_suspected.is_set()


def test_success_resets_the_count_of_refused_jobs(troubled: Components) -> None:
    breaker = new_breaker(troubled)
    for number in range(2 * MAX_REFUSED_JOBS):
        breaker.record_failure(f"chunk:{number}", REFUSED)
        breaker.record_success()
    assert not breaker._is_suspected.is_set()


async def test_worker_with_an_open_breaker_leaves_the_chunks_to_others(
    caller: ApiCaller,
    settings: Settings,
    components: Components,
    troubled: Components,
    proxy: RefusingS3,
    gated: GatedOperation,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gated.release(1000)
    proxy.refuse(everything, "InvalidAccessKeyId")

    async def is_open() -> bool:
        return "claims no jobs" in caplog.text

    first = [await caller.create(numbered_lines(LINES), "gated") for _ in range(MAX_REFUSED_JOBS)]
    async with running_worker(settings, troubled):
        await eventually(is_open, bool)
        refused = proxy.refused
        async with running_worker(settings, components):
            later = [await caller.create(numbered_lines(LINES), "gated") for _ in range(10)]
            for batch in (*first, *later):
                assert await caller.end(batch) == "completed"
            # Nothing but its own probes, whose intervals grow.
            assert proxy.refused - refused <= 10


async def test_outage_of_the_database_is_not_a_lone_outage(
    settings: Settings, troubled: Components, database_url: str
) -> None:
    storage = troubled.dispatcher._context.storage
    outage = ProcessingTimeout("no answer")
    async with relay_to(database_url) as relay:
        changes = {"database_url": SecretStr(relay.url), "database_timeout_s": 1.0}
        async with open_database(settings.model_copy(update=changes)) as database:
            breaker = CircuitBreaker(storage, database)
            assert await breaker.judge(outage) is FailureKind.LONE_OUTAGE
            await relay.cut()
            assert await breaker.judge(outage) is FailureKind.OUTAGE


async def test_outage_of_the_storage_is_not_a_lone_outage(
    troubled: Components, proxy: RefusingS3
) -> None:
    proxy.refuse(everything, "ServiceUnavailable", status=503)
    kind = await new_breaker(troubled).judge(ProcessingTimeout("no answer"))
    assert kind is FailureKind.OUTAGE
