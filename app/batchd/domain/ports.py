"""What batchd needs from outside, as Protocols: time, ids and storage."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias
from uuid import UUID


class StartupError(Exception):
    """Raised by a plugin's factory that can't do its work: nothing starts, and this is why."""


class Clock(Protocol):
    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that pass whatever happens to the time of day: for durations only."""
        ...


class Ids(Protocol):
    def new(self) -> UUID:
        """Return an id never given before; later ones sort after earlier ones (UUIDv7)."""
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
    """Changes with the object's content; None if the storage has no such thing."""


class ObjectWriter(Protocol):
    async def write(self, data: bytes) -> None:
        """Append; memory stays bounded however much is written."""
        ...

    async def append(self, key: str, size: int) -> bool:
        """Append another object of so many bytes, if it can be copied inside the storage.

        False: nothing was done, it is too small for that; `write` it.
        """
        ...


class Storage(Protocol):
    """Objects under keys.

    Every call raises ProcessingTimeout when the storage does not answer, and StorageRefused when
    it does, but will not do it however often it is asked.
    """

    async def presign_upload(self, key: str, *, validity_s: int) -> SignedUrl:
        """Return a URL that takes one object by HTTP PUT."""
        ...

    async def presign_download(self, key: str, *, validity_s: int, filename: str) -> SignedUrl:
        """Return a URL that gives the object by HTTP GET, to be saved as `filename`."""
        ...

    async def stat(self, key: str) -> ObjectInfo | None:
        """Return the object's facts; None if there is none."""
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
        """Write an object piece by piece: it appears whole on leaving, not at all on an error.

        `expected_bytes` is about how large it will be, if that is known: a storage may divide it
        into parts accordingly.
        """
        ...

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove the objects; those that do not exist are no error."""
        ...

    def list_keys(self, prefix: str) -> AsyncIterator[str]:
        """Walk the keys that begin with `prefix`."""
        ...

    async def check(self) -> None:
        """Raise unless the storage answers and the bucket is there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageContext:
    """What the factory of a storage gets."""

    environment: Mapping[str, str]
    """The process's variables without the core's own: a storage reads its settings from it."""


StorageFactory: TypeAlias = Callable[[StorageContext], AbstractAsyncContextManager[Storage]]
"""What an entry point of the group `batchd.storages` names."""
