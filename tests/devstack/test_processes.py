"""Child processes: how they are started, stopped and reported."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest

from batchd.devstack.errors import StackFailed
from batchd.devstack.guard import ShutdownGuard
from batchd.devstack.ports import reserve_port
from batchd.devstack.processes import run_child, run_command
from tests.support.waiting import has_exited, until

IGNORING_SIGTERM = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('ready', flush=True); time.sleep(600)"
)


async def test_child_that_ignores_signals_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", IGNORING_SIGTERM]
    stop_signals = ((signal.SIGTERM, 0.1),)
    async with run_child(
        "worker", command, log=log, env=os.environ, stop_signals=stop_signals
    ) as child:
        until(lambda: log.read_text() == "ready\n")
    assert child.process.returncode == -signal.SIGKILL
    assert has_exited(child.pid)


async def test_error_for_a_missing_program_names_it(tmp_path: Path) -> None:
    with pytest.raises(StackFailed, match=r"/no/such/program can't be started: .*No such file"):
        await run_command("backup", ["/no/such/program"], env={})


async def test_error_of_a_failed_command_contains_its_output() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('the disk is full')"]
    with pytest.raises(StackFailed, match=r"backup failed \(exit code 1\):\n    the disk is full"):
        await run_command("backup", command, env={})


async def test_command_that_times_out_is_killed() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(StackFailed, match=r"backup did not finish within 0\.1 s"):
        await run_command("backup", command, env={}, timeout_s=0.1)


async def test_end_of_a_child_stops_everything_and_is_reported_with_its_log(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", "import sys; sys.exit('no licence')"]

    async def stack() -> ShutdownGuard:
        guard = ShutdownGuard()
        with pytest.raises(asyncio.CancelledError):
            async with (
                run_child("worker-1", command, log=log, env={}) as child,
                guard.watch_process(child.name, child.process.wait, log),
            ):
                await guard.wait()
        return guard

    guard = await asyncio.create_task(stack())
    assert str(guard.failure) == (
        f"worker-1 ended unexpectedly (exit code 1); the end of its log, {log}:\n    no licence"
    )


def test_port_in_use_is_refused() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(StackFailed, match=f"Port {port} on 127.0.0.1 is in use"),
            reserve_port(port),
        ):
            pass


def test_port_shared_by_api_processes_of_another_stack_is_refused() -> None:
    with closing(socket.create_server(("127.0.0.1", 0), reuse_port=True)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StackFailed, match="is in use"), reserve_port(port):
            pass


def test_api_processes_share_the_reserved_port() -> None:
    with (
        reserve_port(0) as port,
        closing(socket.create_server(("127.0.0.1", port), reuse_port=True)),
        closing(socket.create_server(("127.0.0.1", port), reuse_port=True)),
    ):
        assert port > 0
