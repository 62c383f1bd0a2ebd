"""Finds ids that a batch file uses twice, in memory that does not grow with the file."""

import heapq
from collections.abc import Iterator
from typing import IO
from zlib import crc32

from batchd.pipeline.validate.temporary_files import TemporaryFiles

_BUCKETS = 64
_MEMORY_PER_BUCKET = 16 * 1024
_WRITTEN_TOGETHER = 50
"""Records; one at a time, a temporary file takes longer than all else that an id needs."""


class Ids(TemporaryFiles):
    """Remembers ids in temporary files, by hash: equal ones meet in the same file.

    Only one of the 64 files is looked through at a time, so ten million ids of 64 characters need
    about 30 MB.
    """

    def __init__(self) -> None:
        super().__init__()
        self._buckets = [self._new_file(memory=_MEMORY_PER_BUCKET) for _ in range(_BUCKETS)]
        self._pending: list[list[bytes]] = [[] for _ in range(_BUCKETS)]
        """What is about to be written to the buckets."""

    def add(self, line: int, line_id: str) -> None:
        """Remember the id of a line; lines come in the order of the file."""
        data = line_id.encode()
        # Hexadecimal: an id may hold any character, a line break too.
        record = b"%d %s\n" % (line, data.hex().encode())
        bucket = crc32(data) % _BUCKETS
        pending = self._pending[bucket]
        pending.append(record)
        if len(pending) == _WRITTEN_TOGETHER:
            self._write(bucket)

    def repeated(self) -> Iterator[tuple[int, str]]:
        """Give the lines whose id an earlier line has, in the order of the file."""
        for bucket in range(_BUCKETS):
            self._write(bucket)
        runs = [self._repeated_in(bucket) for bucket in self._buckets]
        for line, data in heapq.merge(*map(_read, runs)):
            yield line, bytes.fromhex(data.decode()).decode()

    def _write(self, bucket: int) -> None:
        self._buckets[bucket].write(b"".join(self._pending[bucket]))
        self._pending[bucket].clear()

    def _repeated_in(self, bucket: IO[bytes]) -> IO[bytes]:
        run = self._new_file(memory=_MEMORY_PER_BUCKET)
        seen: set[bytes] = set()
        for line, data in _read(bucket):
            if data in seen:
                run.write(b"%d %s\n" % (line, data))
            seen.add(data)
        return run


def _read(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    file.seek(0)
    for record in file:
        line, data = record.split()
        yield int(line), data
