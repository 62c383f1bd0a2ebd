"""Follows files from a thread of its own, and reads each state in which they rest.

A thread, because nothing of it may hold up an event loop: not a file system that hangs, and not the
work on what was read. Pure Python keeps the interpreter for 5 ms at a time, so that work takes a
`CooperativeYield` now and then.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from watchfiles import watch

logger = logging.getLogger(__name__)

Contents: TypeAlias = Mapping[Path, bytes | str]
"""What the files hold; a text says why one can't be read."""
Wanted: TypeAlias = Callable[[str], bool]
"""Whether a file of this name is one of them."""
_Look: TypeAlias = Mapping[Path, tuple[int, ...]]

LOOK_EVERY_S = 0.25
"""Where the file system tells of no changes: on a network, through a link to somewhere else."""
SETTLE_S = 0.2
"""Nothing must have changed for so long: files are copied one after the other, and in pieces."""
_READ_TIMES = 20


class CooperativeYield:
    """Called after each little piece of work: every half millisecond, others get their turn."""

    _WORK_S, _REST_S = 0.0005, 0.0001

    def __init__(self) -> None:
        self._until = time.perf_counter() + self._WORK_S

    def __call__(self) -> None:
        if time.perf_counter() >= self._until:
            time.sleep(self._REST_S)
            self._until = time.perf_counter() + self._WORK_S


class Followed(Protocol):
    """Which files they are; it may change from one look to the next. Its text names them."""

    def files(self) -> Iterable[Path]: ...

    def folders(self) -> Iterable[Path]:
        """Return where something happens when one of the files changes, comes or goes."""
        ...


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of a folder that have a wanted name, in the order of their names."""

    path: Path
    wanted: Wanted

    def __str__(self) -> str:
        return str(self.path)

    def files(self) -> Iterable[Path]:
        """Return them, or the folder itself if it is none: to read it tells why."""
        try:
            names = os.listdir(self.path)  # noqa: PTH208  # names
        except OSError:
            return (self.path,)
        return sorted(self.path / name for name in names if self.wanted(name))

    def folders(self) -> Iterable[Path]:
        return (self.path,)


def read(followed: Followed) -> Contents:
    """Read all files in one state; if they never rest, they are read as they come."""
    for _ in range(_READ_TIMES):
        before = _look(followed)
        contents = {path: read_file(path) for path in before}
        if before == _look(followed):
            return contents
        time.sleep(SETTLE_S / _READ_TIMES)
    return {path: read_file(path) for path in _look(followed)}


def read_file(path: Path) -> bytes | str:
    """Return what `Contents` holds of a file."""
    try:
        return path.read_bytes()
    except OSError as error:
        return error.strerror or str(error)


@asynccontextmanager
async def following(
    followed: Followed, changed: Callable[[Contents], None], *, seen: Contents
) -> AsyncIterator[None]:
    """Have `changed` called, in a thread, with every state after `seen` in which the files rest."""
    follower = _Follower(followed, changed, seen)
    follower.start()
    try:
        yield
    finally:
        await asyncio.to_thread(follower.stop)


class _Follower:
    def __init__(
        self, followed: Followed, changed: Callable[[Contents], None], seen: Contents
    ) -> None:
        self._followed = followed
        self._changed = changed
        self._contents = seen
        # Not how they look now: what was read may be older.
        self._seen: _Look | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"following {followed}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for that."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        for _ in self._turns():
            if _look(self._followed) == self._seen:
                continue
            contents = self._settled()
            if contents is None or contents == self._contents:
                continue
            self._contents = contents
            try:
                self._changed(contents)
            except Exception:
                logger.exception("a change of %s was not dealt with", self._followed)

    def _settled(self) -> Contents | None:
        """Read the files once they rest; None if we are stopped before."""
        while True:
            look = _look(self._followed)
            if self._stop.wait(SETTLE_S):
                return None
            if look != _look(self._followed):
                continue
            contents = {path: read_file(path) for path in look}
            if look == _look(self._followed):
                self._seen = look
                return contents

    def _turns(self) -> Iterator[None]:
        """Give a turn after each change that we are told of, and some time after the last turn."""
        while not self._stop.is_set():
            try:
                watched = self._folders()
                for _ in watch(
                    *watched,
                    watch_filter=None,
                    debounce=round(LOOK_EVERY_S * 1000),
                    step=50,
                    rust_timeout=round(LOOK_EVERY_S * 1000),
                    yield_on_timeout=True,
                    stop_event=self._stop,
                    recursive=False,
                    raise_interrupt=False,
                ):
                    yield
                    if self._folders() != watched:
                        break  # another folder stands in the place of one: we watch what is gone
            except (OSError, RuntimeError) as error:
                # There is no folder, or the system has no more watches to give away; what else may
                # be wrong with them, watchfiles tells as a RuntimeError.
                logger.debug("can't watch %s: %s", self._followed, error)
                yield
                self._stop.wait(LOOK_EVERY_S)

    def _folders(self) -> _Look:
        return {folder: _stamp(folder)[:2] for folder in self._followed.folders()}


def _look(followed: Followed) -> _Look:
    """Return what changes with every change of the files, without reading them."""
    return {path: _stamp(path) for path in followed.files()}


def _stamp(path: Path) -> tuple[int, ...]:
    """Tell one state of a file from another; a link is what it leads to."""
    try:
        found = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
