"""Follows a folder of files from a thread of its own, and reads each state in which it rests.

A thread, because nothing of it may hold up an event loop: not a file system that hangs, and not the
work on what was read. Pure Python keeps the interpreter for 5 ms at a time, so that work takes a
`Breath` now and then.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from watchfiles import watch

logger = logging.getLogger(__name__)

Contents: TypeAlias = Mapping[Path, bytes | str]
"""What the files hold, in the order of their names; a text says why one can't be read. The same for
the folder itself, which is in it only then."""
Wanted: TypeAlias = Callable[[str], bool]
"""Whether a file of this name is one of them."""
_Look: TypeAlias = Mapping[Path, tuple[int, ...]]

LOOK_EVERY_S = 0.25
"""Where the file system tells of no changes: on a network, through a link to somewhere else."""
SETTLE_S = 0.2
"""Nothing must have changed for so long: files are copied one after the other, and in pieces."""
_READ_TIMES = 20


class Breath:
    """Called after each little piece of work: every half millisecond, others get their turn."""

    _WORK_S, _REST_S = 0.0005, 0.0001

    def __init__(self) -> None:
        self._until = time.perf_counter() + self._WORK_S

    def __call__(self) -> None:
        if time.perf_counter() >= self._until:
            time.sleep(self._REST_S)
            self._until = time.perf_counter() + self._WORK_S


def read(folder: Path, wanted: Wanted) -> Contents:
    """Read all files in one state of the folder; one that never rests is read as it comes."""
    for _ in range(_READ_TIMES):
        before = _look(folder, wanted)
        contents = {path: _read(path) for path in before}
        if before == _look(folder, wanted):
            return contents
        time.sleep(SETTLE_S / _READ_TIMES)
    return {path: _read(path) for path in _look(folder, wanted)}


class Follower:
    """Calls `changed`, in its thread, with every state after `seen` in which the folder rests."""

    def __init__(
        self, folder: Path, wanted: Wanted, changed: Callable[[Contents], None], *, seen: Contents
    ) -> None:
        self._folder = folder
        self._wanted = wanted
        self._changed = changed
        self._contents = seen
        # Not how it looks now: what was read may be older.
        self._seen: _Look | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"following {folder}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for that."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        for _ in self._turns():
            if _look(self._folder, self._wanted) == self._seen:
                continue
            contents = self._settled()
            if contents is None or contents == self._contents:
                continue
            self._contents = contents
            try:
                self._changed(contents)
            except Exception:
                logger.exception("a change of %s was not dealt with", self._folder)

    def _settled(self) -> Contents | None:
        """Read the folder once it rests; None if we are stopped before."""
        while True:
            look = _look(self._folder, self._wanted)
            if self._stop.wait(SETTLE_S):
                return None
            if look != _look(self._folder, self._wanted):
                continue
            contents = {path: _read(path) for path in look}
            if look == _look(self._folder, self._wanted):
                self._seen = look
                return contents

    def _turns(self) -> Iterator[None]:
        """Give a turn after each change that we are told of, and some time after the last turn."""
        while not self._stop.is_set():
            try:
                watched = _stamp(self._folder)
                for _ in watch(
                    self._folder,
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
                    if _stamp(self._folder)[:2] != watched[:2]:
                        break  # another folder stands in its place: we watch one that is gone
            except (OSError, RuntimeError) as error:
                # There is no folder, or the system has no more watches to give away; what else may
                # be wrong with them, watchfiles tells as a RuntimeError.
                logger.debug("can't watch %s: %s", self._folder, error)
                yield
                self._stop.wait(LOOK_EVERY_S)


def _look(folder: Path, wanted: Wanted) -> _Look:
    """Return what changes with every change of the files, without reading them."""
    try:
        paths = sorted(folder / name for name in os.listdir(folder) if wanted(name))  # noqa: PTH208  # names
    except OSError:
        return {folder: _stamp(folder)}
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> tuple[int, ...]:
    """Tell one state of a file from another; a link is what it leads to."""
    try:
        found = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(path: Path) -> bytes | str:
    try:
        return path.read_bytes()
    except OSError as error:
        return error.strerror or str(error)
