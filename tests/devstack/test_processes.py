"""Child processes: what they are told, what is told of them, and that all of them end."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest

from batchd.devstack.errors import StackFailed
from batchd.devstack.guard import Guard
from batchd.devstack.ports import hold_port
from batchd.devstack.processes import run_child, run_to_end
from tests.support.waiting import gone, until

STUBBORN = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('here', flush=True); time.sleep(600)"
)


async def test_a_stubborn_child_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", STUBBORN]
    stop = ((signal.SIGTERM, 0.1),)
    async with run_child("stubborn", command, log=log, env=os.environ, stop=stop) as child:
        until(lambda: log.read_text() == "here\n")
    assert child.process.returncode == -signal.SIGKILL
    assert gone(child.pid)


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackFailed, match=r"/no/such/program can't be started: .*No such file"):
        await run_to_end("it", ["/no/such/program"], env={})


async def test_a_failed_command_says_what_it_said() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('the disk is full')"]
    with pytest.raises(StackFailed, match=r"it failed \(exit code 1\):\n    the disk is full"):
        await run_to_end("it", command, env={})


async def test_a_command_that_takes_too_long_is_ended() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(StackFailed, match=r"it did not end within 0\.1 s"):
        await run_to_end("it", command, env={}, timeout_s=0.1)


async def test_a_dead_child_stops_everything_with_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", "import sys; sys.exit('no licence')"]

    async def stack() -> Guard:
        guard = Guard()
        with pytest.raises(asyncio.CancelledError):
            async with (
                run_child("worker-1", command, log=log, env={}) as child,
                guard.watching(child.name, child.process.wait, log),
            ):
                await guard.forever()
        return guard

    guard = await asyncio.create_task(stack())
    assert str(guard.failure) == (
        f"worker-1 ended by itself (exit code 1); the end of its log, {log}:\n    no licence"
    )


def test_a_port_in_use_is_refused() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(StackFailed, match=f"Port {port} on 127.0.0.1 is in use"),
            hold_port(port),
        ):
            pass


def test_a_port_shared_by_api_processes_of_others_is_in_use() -> None:
    with closing(socket.create_server(("127.0.0.1", 0), reuse_port=True)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StackFailed, match="is in use"), hold_port(port):
            pass


def test_api_processes_share_the_port_that_is_held() -> None:
    with (
        hold_port(0) as port,
        closing(socket.create_server(("127.0.0.1", port), reuse_port=True)),
        closing(socket.create_server(("127.0.0.1", port), reuse_port=True)),
    ):
        assert port > 0
