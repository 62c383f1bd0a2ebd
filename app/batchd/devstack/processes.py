"""The child processes of the stack: started, run to their end, stopped."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from batchd.devstack.errors import StackFailed

logger = logging.getLogger(__name__)

CHILD = Path(__file__).resolve().with_name("child.py")
LOG_LINES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The user that a child becomes."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    name: str
    process: asyncio.subprocess.Process
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid


def wrap(
    command: Sequence[str | Path], *, death_signal: signal.Signals, owner: Owner | None = None
) -> list[str]:
    """Return the command that runs this one so that it does not outlive us."""
    wrapped = [sys.executable, "-I", "-S", str(CHILD)]
    wrapped += ["--death-signal", death_signal.name.removeprefix("SIG")]
    if owner is not None:
        wrapped += ["--uid", str(owner.uid), "--gid", str(owner.gid)]
    return [*wrapped, "--", *map(str, command)]


@asynccontextmanager
async def run_child(
    name: str,
    command: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str],
    cwd: Path | None = None,
    owner: Owner | None = None,
    pass_fds: Sequence[int] = (),
    stop: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 25.0),),
) -> AsyncIterator[Child]:
    """Run a child, its output in `log`; on leaving, send it the signals of `stop` in turn.

    Each comes with the seconds it has for its effect; the last resort is SIGKILL. The first is also
    what the child gets when we are killed. It has a session of its own: Ctrl-C in a terminal goes
    to us alone, so that the order in which things stop is ours.
    """
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *wrap(command, death_signal=stop[0][0], owner=owner),
            cwd=cwd,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    child = Child(name=name, process=process, log=log)
    logger.debug("%s is process %d", name, process.pid)
    try:
        yield child
    finally:
        await _stop(child, stop)


async def _stop(child: Child, signals: Sequence[tuple[signal.Signals, float]]) -> None:
    process = child.process
    try:
        for number, patience_s in signals:
            if process.returncode is not None:
                return
            # Not process.send_signal: it may take the exit code away from asyncio.
            with suppress(TimeoutError, ProcessLookupError):
                async with asyncio.timeout(patience_s):
                    os.kill(process.pid, number)
                    await process.wait()
    finally:
        if process.returncode is None:
            logger.warning("%s had to be killed", child.name)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def run_to_end(
    name: str,
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    owner: Owner | None = None,
    pass_fds: Sequence[int] = (),
    stdin: bytes = b"",
    timeout_s: float = 120.0,
) -> str:
    """Return what the command printed; raise StackFailed with that and its errors if it failed."""
    process = await asyncio.create_subprocess_exec(
        *wrap(command, death_signal=signal.SIGTERM, owner=owner),
        cwd=cwd,
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=pass_fds,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, errors = await process.communicate(stdin)
    except TimeoutError:
        raise StackFailed(f"{name} did not end within {timeout_s:g} s.") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode != 0:
        said = last_lines((output + errors).decode(errors="replace"))
        raise StackFailed(f"{name} failed ({exit_words(process.returncode)}):\n{said}")
    return output.decode()


def exit_words(code: int | None) -> str:
    """Return how a process ended, in words."""
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def last_lines(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines()[-LOG_LINES:])


def log_words(log: Path) -> str:
    """Return the end of a log and where the rest is, for people."""
    try:
        text = log.read_text(errors="replace")
    except OSError as error:
        return f"its log can't be read: {error}"
    return f"the end of its log, {log}:\n{last_lines(text) or '    (it is empty)'}"
