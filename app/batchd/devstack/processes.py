"""The child processes of the stack: how they are started, awaited and stopped."""

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

CHILD_PROGRAM = Path(__file__).resolve().with_name("child.py")
LAST_LINES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The user to run a child as."""

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


def wrap_command(
    command: Sequence[str | Path], *, death_signal: signal.Signals, owner: Owner | None = None
) -> list[str]:
    """Return the command that runs this one so that it does not outlive its parent."""
    wrapped = [sys.executable, "-I", "-S", str(CHILD_PROGRAM)]
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
    stop_signals: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 25.0),),
) -> AsyncIterator[Child]:
    """Run a child with its output in `log`; on leaving, send it the stop signals in turn.

    Each signal comes with its timeout in seconds; the last resort is SIGKILL. The first signal is
    also sent when this process is killed. The child has a session of its own: Ctrl-C in a terminal
    reaches only this process, which so decides the order in which children stop.
    """
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *wrap_command(command, death_signal=stop_signals[0][0], owner=owner),
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
        await _stop(child, stop_signals)


async def _stop(child: Child, stop_signals: Sequence[tuple[signal.Signals, float]]) -> None:
    process = child.process
    try:
        for number, timeout_s in stop_signals:
            if process.returncode is not None:
                return
            # Not process.send_signal: it may consume the exit code before asyncio does.
            with suppress(TimeoutError, ProcessLookupError):
                async with asyncio.timeout(timeout_s):
                    os.kill(process.pid, number)
                    await process.wait()
    finally:
        if process.returncode is None:
            logger.warning("%s did not stop in time and was killed", child.name)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def run_command(
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
    """Return the output of the command. Raises StackFailed, with its output, if it fails."""
    process = await asyncio.create_subprocess_exec(
        *wrap_command(command, death_signal=signal.SIGTERM, owner=owner),
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
        raise StackFailed(f"{name} did not finish within {timeout_s:g} s.") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode != 0:
        end = last_lines((output + errors).decode(errors="replace"))
        raise StackFailed(f"{name} failed ({describe_exit(process.returncode)}):\n{end}")
    return output.decode()


def describe_exit(code: int | None) -> str:
    """Return how a process ended, for people."""
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def last_lines(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines()[-LAST_LINES:])


def describe_log(log: Path) -> str:
    """Return the path and the last lines of a log, for people."""
    try:
        text = log.read_text(errors="replace")
    except OSError as error:
        return f"its log can't be read: {error}"
    return f"the end of its log, {log}:\n{last_lines(text) or '    (empty)'}"
