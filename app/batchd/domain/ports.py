"""The ports of what batchd needs from outside: time, ids and storage."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias
from uuid import UUID


class StartupError(Exception):
    """Raised by a plugin's factory to prevent the process from starting; the message says why."""


class Clock(Protocol):
    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that no change of the time of day affects: for durations only."""
        ...


class Ids(Protocol):
    def new(self) -> UUID:
        """Return a unique id; later ones sort after earlier ones (UUIDv7)."""
        ...


class ObjectMissing(Exception):
    """There is no object under this key."""


class ObjectChanged(Exception):
    """The object under this key has another entity tag than the one requested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedUrl:
    """A URL that needs no other credential."""

    url: str
    validity_ts: datetime
    """When the storage stops accepting it, to the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    size: int
    """Bytes."""
    etag: str | None
    """Entity tag, which changes with the object's content; None if the storage has none."""


class ObjectWriter(Protocol):
    async def write(self, data: bytes) -> None:
        """Append; memory stays bounded however much is written."""
        ...

    async def append(self, key: str, size: int) -> bool:
        """Append another object of this size, if it can be copied inside the storage.

        Return False if nothing was done because it is too small: `write` it instead.
        """
        ...


class Storage(Protocol):
    """Objects under keys.

    Every call raises ProcessingTimeout if the storage does not respond, and StorageRefused if it
    refuses the call and would refuse it again.
    """

    async def presign_upload(self, key: str, *, validity_s: int) -> SignedUrl:
        """Return a URL that accepts one object by HTTP PUT."""
        ...

    async def presign_download(self, key: str, *, validity_s: int, filename: str) -> SignedUrl:
        """Return a URL that returns the object by HTTP GET, to be saved as `filename`."""
        ...

    async def stat(self, key: str) -> ObjectInfo | None:
        """Return the object's size and entity tag; None if it does not exist."""
        ...

    def read(
        self, key: str, *, offset: int = 0, length: int | None = None, etag: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream the object, or `length` bytes from `offset`, in pieces of at most 256 KiB.

        Raises ObjectMissing on entering, or ObjectChanged if the object does not have the `etag`.
        """
        ...

    def write(
        self, key: str, *, expected_bytes: int = 0
    ) -> AbstractAsyncContextManager[ObjectWriter]:
        """Write an object piece by piece: it appears as a whole on exit, or not at all on an error.

        `expected_bytes` is the approximate size, if it is known: a storage may divide it
        into parts accordingly.
        """
        ...

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete the objects; it is not an error if some do not exist."""
        ...

    def list_keys(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys that begin with `prefix`."""
        ...

    async def check(self) -> None:
        """Raise unless the storage responds and the bucket exists."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageContext:
    """What the factory of a storage gets."""

    environment: Mapping[str, str]
    """The process's variables without the core's own: a storage reads its settings from it."""


StorageFactory: TypeAlias = Callable[[StorageContext], AbstractAsyncContextManager[Storage]]
"""What an entry point of the group `batchd.storages` names."""
