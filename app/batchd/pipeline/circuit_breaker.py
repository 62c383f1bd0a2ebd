"""The circuit breaker: a worker claims no jobs while its own storage access or disk fails."""

import asyncio
import logging
import math
import time
from collections.abc import Iterable
from contextlib import suppress
from tempfile import TemporaryFile
from typing import Protocol
from uuid import uuid4

from batchd.db.connection import Database
from batchd.domain.errors import ProcessingTimeout, StorageRefused
from batchd.domain.ports import Storage
from batchd.domain.storage_keys import probe_key
from batchd.observability import metrics
from batchd.pipeline.failures import FailureKind, kind_of, reason_of

logger = logging.getLogger(__name__)

MAX_REFUSED_JOBS = 3
"""Jobs in a row that the storage refuses before it is checked: a single one may be at fault."""
RELEASE_AFTER_S = 60.0
"""Time after which a worker that can't store results releases the jobs it is still running."""

_PROBE_TIMEOUT_S = 10.0
_MIN_PROBE_INTERVAL_S = 2.0
_MAX_PROBE_INTERVAL_S = 10.0
_MAX_OUTCOME_AGE_S = 5.0
_DISK_PROBE_BYTES = 1024**2
_STORAGE_PROBE_DATA = b"probe\n"


class Consumer(Protocol):
    """What claims and runs the jobs of one lane."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def release(self) -> None: ...


class CircuitBreaker:
    """Judges failures by a probe: if the probe fails too, the worker is at fault, not the job.

    The probe writes, reads and deletes an object, and writes a temporary file.
    """

    def __init__(
        self, storage: Storage, database: Database, *, release_after_s: float = RELEASE_AFTER_S
    ) -> None:
        self._storage = storage
        self._database = database
        self._release_after_s = release_after_s
        # One per worker: if deletion is refused, only one object is left behind.
        self._probe_key = probe_key(uuid4())
        self._refused_jobs: set[str] = set()
        self._is_suspected = asyncio.Event()
        self._probing = asyncio.Lock()
        self._probed_at = -math.inf
        self._probe_failure: Exception | None = None

    def record_success(self) -> None:
        """Record that a job was completed."""
        self._refused_jobs.clear()

    def record_failure(self, job_key: str, error: BaseException) -> None:
        """Record that a job failed, or could not store its results yet."""
        if isinstance(error, StorageRefused):
            self._refused_jobs.add(job_key)
            if len(self._refused_jobs) >= MAX_REFUSED_JOBS:
                self._is_suspected.set()
        elif kind_of(error) in {FailureKind.OUTAGE, FailureKind.WORKER}:
            self._is_suspected.set()

    async def guard(self, consumers: Iterable[Consumer]) -> None:
        """Pause the consumers whenever the probe fails, and resume them once it succeeds."""
        consumers = list(consumers)
        while True:
            await self._is_suspected.wait()
            self._is_suspected.clear()
            failure = await self._probe()
            if failure is not None:
                await self._stay_open(failure, consumers)
            self._refused_jobs.clear()
            await asyncio.sleep(_MIN_PROBE_INTERVAL_S)

    async def _stay_open(self, failure: Exception, consumers: list[Consumer]) -> None:
        """Pause the consumers until the probe succeeds."""
        logger.error("the worker claims no jobs while its probe fails: %s", reason_of(failure))
        metrics.BREAKER_OPEN.set(1)
        for consumer in consumers:
            consumer.pause()
        opened_at = time.monotonic()
        delay_s = 1.0
        is_released = False
        remaining: Exception | None = failure
        while remaining is not None:
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _MAX_PROBE_INTERVAL_S)
            remaining = await self._probe()
            elapsed_s = time.monotonic() - opened_at
            if remaining is not None and not is_released and elapsed_s >= self._release_after_s:
                is_released = True
                logger.error(
                    "the worker releases its jobs, after %.0f s: %s",
                    elapsed_s,
                    reason_of(remaining),
                )
                for consumer in consumers:
                    consumer.release()
        logger.warning("the worker claims jobs again, after %.0f s", time.monotonic() - opened_at)
        metrics.BREAKER_OPEN.set(0)
        for consumer in consumers:
            consumer.resume()

    async def judge(self, error: BaseException) -> FailureKind:
        """Return the kind of a failure: a lone outage if the database and the probe succeed.

        The outcome of the probe is at most a few seconds old.
        """
        kind = kind_of(error)
        if kind not in {FailureKind.OUTAGE, FailureKind.WORKER}:
            return kind
        try:
            await self._database.check()
        except ProcessingTimeout:
            return kind
        failure = await self._probe(max_age_s=_MAX_OUTCOME_AGE_S)
        return FailureKind.LONE_OUTAGE if failure is None else kind

    async def _probe(self, *, max_age_s: float = 0.0) -> Exception | None:
        """Return what fails; None if the storage and the disk can be used."""
        async with self._probing:
            if time.monotonic() - self._probed_at > max_age_s:
                self._probe_failure = await self._run_probe()
                self._probed_at = time.monotonic()
            return self._probe_failure

    async def _run_probe(self) -> Exception | None:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                await asyncio.to_thread(_probe_disk)
                await self._probe_storage()
        except Exception as error:  # noqa: BLE001  # any failure is the outcome
            return error
        return None

    async def _probe_storage(self) -> None:
        async with self._storage.write(self._probe_key) as writer:
            await writer.write(_STORAGE_PROBE_DATA)
        try:
            async with self._storage.read(self._probe_key) as pieces:
                async for _ in pieces:
                    pass
        finally:
            with suppress(ProcessingTimeout, StorageRefused):
                await self._storage.delete([self._probe_key])


def _probe_disk() -> None:
    """Raise OSError if there is no room for temporary files."""
    with TemporaryFile() as file:
        file.write(bytes(_DISK_PROBE_BYTES))
        file.flush()
