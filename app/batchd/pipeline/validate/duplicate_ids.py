"""The finder of duplicate ids in a batch file, in memory that does not grow with the file."""

import heapq
from collections.abc import Iterator
from typing import IO
from zlib import crc32

from batchd.pipeline.validate.temporary_files import TemporaryFiles

_BUCKETS = 64
_MEMORY_PER_BUCKET = 16 * 1024
_RECORDS_PER_WRITE = 50
"""Writing records one by one to a temporary file takes most of the time that an id needs."""


class DuplicateIdFinder(TemporaryFiles):
    """Partitions ids by hash into temporary files, so that equal ids are in the same file.

    Only one of the 64 files is searched at a time, so ten million ids of 64 characters need about
    30 MB of memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self._buckets = [self._new_file(memory=_MEMORY_PER_BUCKET) for _ in range(_BUCKETS)]
        self._unwritten: list[list[bytes]] = [[] for _ in range(_BUCKETS)]

    def add(self, line: int, line_id: str) -> None:
        """Add the id of a line; lines come in file order."""
        data = line_id.encode()
        # Hexadecimal, because an id may contain any character, even a line break.
        record = b"%d %s\n" % (line, data.hex().encode())
        bucket = crc32(data) % _BUCKETS
        unwritten = self._unwritten[bucket]
        unwritten.append(record)
        if len(unwritten) == _RECORDS_PER_WRITE:
            self._flush(bucket)

    def duplicates(self) -> Iterator[tuple[int, str]]:
        """Yield the lines whose id an earlier line has, with the id, in file order."""
        for bucket in range(_BUCKETS):
            self._flush(bucket)
        duplicates_by_bucket = [self._find_duplicates(bucket) for bucket in self._buckets]
        for line, data in heapq.merge(*map(_read, duplicates_by_bucket)):
            yield line, bytes.fromhex(data.decode()).decode()

    def _flush(self, bucket: int) -> None:
        self._buckets[bucket].write(b"".join(self._unwritten[bucket]))
        self._unwritten[bucket].clear()

    def _find_duplicates(self, bucket: IO[bytes]) -> IO[bytes]:
        """Return a file with the records whose id an earlier record has."""
        duplicates = self._new_file(memory=_MEMORY_PER_BUCKET)
        seen: set[bytes] = set()
        for line, data in _read(bucket):
            if data in seen:
                duplicates.write(b"%d %s\n" % (line, data))
            seen.add(data)
        return duplicates


def _read(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    file.seek(0)
    for record in file:
        line, data = record.split()
        yield int(line), data
