"""The finder of duplicate ids in a batch file, in memory that does not grow with the file."""

import heapq
import secrets
from collections.abc import Generator, Iterator, Sequence
from hashlib import blake2b
from typing import IO

from batchd.pipeline.validate.temporary_files import TemporaryFiles

_BUCKETS = 64
_MAX_LEVEL = 7
"""A byte of the hash selects the bucket of a level."""
_MEMORY_PER_BUCKET = 16 * 1024
_RECORDS_PER_WRITE = 50
"""Writing records one by one to a temporary file takes most of the time that an id needs."""
_RECORDS_PER_STEP = 1_000
_MAX_SEARCH_BYTES = 24 * 1024**2
"""Memory for the different ids of a bucket."""
_SET_ENTRY_BYTES = 100
"""Memory of an id in a set besides its text."""


class DuplicateIdFinder(TemporaryFiles):
    """Partitions ids by hash into temporary files, so that equal ids are in the same file.

    Only one of the files is searched at a time, and one with too many different ids is partitioned
    again, so memory is bounded: about 30 MB. The author of a batch file can't choose the bucket of
    an id, because the hash has a random key.
    """

    def __init__(self) -> None:
        super().__init__()
        self._key = secrets.token_bytes(blake2b.MAX_KEY_SIZE)
        self._partition = self._new_partition(level=0)
        self._duplicates = self._new_file(memory=_MEMORY_PER_BUCKET)
        self.count = 0
        """Lines whose id is used by an earlier line; known after the search."""

    def add(self, line: int, line_id: str) -> None:
        """Add the id of a line; lines come in file order."""
        # Hexadecimal, because an id may contain any character, even a line break.
        self._partition.add(line, line_id.encode().hex().encode())

    def search(self) -> Iterator[None]:
        """Search in small steps; call it once, after the last id was added."""
        self._duplicates = yield from self._search_partition(self._partition)
        for _ in _read(self._duplicates):
            self.count += 1
            if self.count % _RECORDS_PER_STEP == 0:
                yield

    def duplicates(self) -> Iterator[tuple[int, str]]:
        """Yield the lines that the search has found, with the id, in file order."""
        for line, data in _read(self._duplicates):
            yield line, bytes.fromhex(data.decode()).decode()

    def _new_partition(self, *, level: int) -> "_Partition":
        files = [self._new_file(memory=_MEMORY_PER_BUCKET) for _ in range(_BUCKETS)]
        return _Partition(files, key=self._key, level=level)

    def _search_partition(self, partition: "_Partition") -> Generator[None, None, IO[bytes]]:
        """Return a file with the records whose id is in an earlier record, in file order."""
        by_bucket = []
        for bucket in partition.finish():
            by_bucket.append((yield from self._search_bucket(bucket, level=partition.level)))
            bucket.close()
        merged = self._new_file(memory=_MEMORY_PER_BUCKET)
        for count, (line, data) in enumerate(heapq.merge(*map(_read, by_bucket))):
            if count % _RECORDS_PER_STEP == 0:
                yield
            merged.write(_record(line, data))
        for duplicates in by_bucket:
            duplicates.close()
        return merged

    def _search_bucket(self, bucket: IO[bytes], *, level: int) -> Generator[None, None, IO[bytes]]:
        duplicates = self._new_file(memory=_MEMORY_PER_BUCKET)
        distinct_ids: set[bytes] = set()
        size = 0
        for count, (line, data) in enumerate(_read(bucket)):
            if count % _RECORDS_PER_STEP == 0:
                yield
            if data in distinct_ids:
                duplicates.write(_record(line, data))
                continue
            distinct_ids.add(data)
            size += len(data) + _SET_ENTRY_BYTES
            if size > _MAX_SEARCH_BYTES and level < _MAX_LEVEL:
                break
        else:
            return duplicates
        duplicates.close()
        distinct_ids.clear()
        subpartition = self._new_partition(level=level + 1)
        for count, (line, data) in enumerate(_read(bucket)):
            if count % _RECORDS_PER_STEP == 0:
                yield
            subpartition.add(line, data)
        return (yield from self._search_partition(subpartition))


class _Partition:
    """Records distributed to files by one byte of their id's hash."""

    def __init__(self, files: Sequence[IO[bytes]], *, key: bytes, level: int) -> None:
        self._files = files
        self._hash = blake2b(key=key, digest_size=_MAX_LEVEL + 1)
        self._unwritten: list[list[bytes]] = [[] for _ in files]
        self.level = level

    def add(self, line: int, data: bytes) -> None:
        digest = self._hash.copy()
        digest.update(data)
        bucket = digest.digest()[self.level] % _BUCKETS
        unwritten = self._unwritten[bucket]
        unwritten.append(_record(line, data))
        if len(unwritten) == _RECORDS_PER_WRITE:
            self._flush(bucket)

    def finish(self) -> Sequence[IO[bytes]]:
        """Return the files, in each of which the records are in file order."""
        for bucket in range(len(self._files)):
            self._flush(bucket)
        return self._files

    def _flush(self, bucket: int) -> None:
        self._files[bucket].write(b"".join(self._unwritten[bucket]))
        self._unwritten[bucket].clear()


def _record(line: int, data: bytes) -> bytes:
    return b"%d %s\n" % (line, data)


def _read(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    file.seek(0)
    for record in file:
        line, data = record.split()
        yield int(line), data
