"""Policy edits of every kind under load: how long until each process uses the new policy.

Starts `batchd dev` with two API processes and a worker, sends 200 requests a second over 16
connections, and edits the policies meanwhile. A request fails if its response is neither the old
decision nor the new one. The times of the API are measured by responses, until every connection has
received the new decision and none the old one; those of the worker by its log. Prints Markdown.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

SHIPPED = Path(__file__).parents[1] / "policies"
BATCHD = (sys.executable, "-P", "-m", "batchd.cli")
NO_BATCH = "/batches/00000000-0000-7000-8000-000000000000"
ALLOWED, DENIED = 404, 403
PER_S, CONNECTIONS = 200, 16
START_TIMEOUT_S, TIMEOUT_S, SETTLE_S = 120.0, 8.0, 1.0


def rule(*, allow: bool) -> str:
    return f"p, probe, *, get_batch, {'allow' if allow else 'deny'}\n"


def write_in_place(folder: Path, *, allow: bool) -> None:
    (folder / "probe.csv").write_text(rule(allow=allow))


def replace_by_rename(folder: Path, *, allow: bool) -> None:
    new = folder / ".probe.csv.swp"
    new.write_text(rule(allow=allow))
    new.replace(folder / "probe.csv")


def add_or_remove_file(folder: Path, *, allow: bool) -> None:
    """A file that denies overrules the one that allows for as long as it exists."""
    if allow:
        (folder / "locked.csv").unlink()
    else:
        (folder / "locked.csv").write_text(rule(allow=False))


def copy_one_by_one(folder: Path, *, allow: bool) -> None:
    for name in ("first.csv", "probe.csv", "second.csv"):
        extra = "" if name == "probe.csv" else f"p, {name[:-4]}_{allow}, *, get_batches, allow\n"
        (folder / name).write_text(extra or rule(allow=allow))
        time.sleep(0.06)


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@invalid")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def git_checkout(folder: Path, *, allow: bool) -> None:
    git(folder, "checkout", "allowing" if allow else "denying")


def prepare_git(folder: Path) -> None:
    git(folder, "init", "-b", "allowing")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "allow")
    git(folder, "checkout", "-b", "denying")
    write_in_place(folder, allow=False)
    git(folder, "commit", "-am", "deny")
    git(folder, "checkout", "allowing")


def prepare_config_map(folder: Path) -> None:
    """Arrange the folder as a Kubernetes mount: links through `..data`, itself a link."""
    shutil.rmtree(folder / ".git")
    data = folder / "..state_0"
    data.mkdir()
    (folder / "..data").symlink_to(data.name)
    for file in [path for path in folder.iterdir() if path.is_file()]:
        (data / file.name).write_bytes(file.read_bytes())
        link = folder / f".link_{file.name}"
        link.symlink_to(f"..data/{file.name}")
        link.replace(file)


def swap_config_map(folder: Path, *, allow: bool) -> None:
    old = (folder / "..data").resolve()
    data = folder / f"..state_{time.monotonic_ns()}"
    shutil.copytree(old, data)
    write_in_place(data, allow=allow)
    (folder / "..data_tmp").symlink_to(data.name)
    (folder / "..data_tmp").replace(folder / "..data")
    shutil.rmtree(old)


def recreate_folder(folder: Path, *, allow: bool) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    shutil.rmtree(folder)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    write_in_place(folder, allow=allow)


def prepare_nothing(_: Path) -> None:
    pass


Edit = Callable[..., None]
EDITS: tuple[tuple[str, Edit, Callable[[Path], None]], ...] = (
    ("written in place", write_in_place, prepare_nothing),
    ("replaced by rename", replace_by_rename, prepare_nothing),
    ("file added and removed", add_or_remove_file, prepare_nothing),
    ("files copied one by one", copy_one_by_one, prepare_nothing),
    ("git checkout", git_checkout, prepare_git),
    ("ConfigMap (`..data` swapped)", swap_config_map, prepare_config_map),
    ("folder deleted and recreated", recreate_folder, prepare_nothing),
)


@dataclass(frozen=True, slots=True)
class Response:
    connection: int
    sent: float
    """Wall-clock time, as in the logs."""
    duration: float
    status: int
    """0 if there was no response."""


@dataclass(slots=True)
class Load:
    url: str
    secret: str
    responses: list[Response] = field(default_factory=list)

    async def run(self) -> None:
        """Send at fixed times, independently of the responses."""
        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(self._run_connection(number))

    async def _run_connection(self, number: int) -> None:
        connector = aiohttp.TCPConnector(limit=1)
        headers = {"Authorization": self.secret}
        pause = CONNECTIONS / PER_S
        due = time.monotonic() + pause * number / CONNECTIONS
        async with aiohttp.ClientSession(self.url, connector=connector, headers=headers) as session:
            while True:
                await asyncio.sleep(due - time.monotonic())
                due += pause
                sent, start = time.time(), time.perf_counter()
                status = await self._request_status(session)
                duration = time.perf_counter() - start
                self.responses.append(Response(number, sent, duration, status))

    async def _request_status(self, session: aiohttp.ClientSession) -> int:
        try:
            async with session.get(NO_BATCH, timeout=aiohttp.ClientTimeout(5)) as response:
                await response.read()
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    async def until_all(self, status: int, since: float) -> float:
        """Return the seconds from `since` to the last response with the old decision."""
        deadline = time.time() + TIMEOUT_S
        while time.time() < deadline:
            await asyncio.sleep(0.1)
            after = [response for response in self.responses if response.sent >= since]
            newest = {response.connection: response.status for response in after}
            if len(newest) == CONNECTIONS and set(newest.values()) == {status}:
                old = [response.sent for response in after if response.status != status]
                return max(old, default=since) - since
        raise SystemExit(f"not every process returns {status} after {TIMEOUT_S} s")


def applied_times(logs: Path, since: float) -> Mapping[str, list[float]]:
    """Return for each process when a policy took effect, in seconds after `since`."""
    times: dict[str, list[float]] = {}
    for log in (*logs.glob("api-*.log"), *logs.glob("worker-*.log")):
        times[log.stem] = []
        for line in log.read_text(encoding="utf-8").splitlines():
            if line.startswith("{") and re.match(
                r"policy \w+ in effect", json.loads(line)["message"]
            ):
                after = datetime.fromisoformat(json.loads(line)["ts"]).timestamp() - since
                if after >= 0:
                    times[log.stem].append(after)
    return times


@contextmanager
def running_stack(folder: Path, policies: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """Run `batchd dev`; yield the contents of its ready file, and the folder of its logs."""
    ready, data_dir = folder / "ready.json", folder / "data"
    options = (
        f"--data-dir={data_dir}",
        f"--policies={policies}",
        f"--ready-file={ready}",
        "--port=0",
        "--api-processes=2",
        "--workers=1",
        "--no-sample",
    )
    with (folder / "dev.log").open("wb") as log:
        process = subprocess.Popen([*BATCHD, "dev", *options], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit((folder / "dev.log").read_text())
                time.sleep(0.1)
            yield json.loads(ready.read_text()), data_dir / "logs"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def create_user(env: Mapping[str, str]) -> str:
    command = [*BATCHD, "users", "create", "--role=probe"]
    result = subprocess.run(
        command, env={**os.environ, **env}, check=True, capture_output=True, timeout=60
    )
    secret: str = json.loads(result.stdout)["secret"]
    return secret


async def measure_edit(
    load: Load, logs: Path, folder: Path, change: Edit, *, allow: bool
) -> list[str]:
    """Edit once under load; return the cells of the table row."""
    first_index = len(load.responses)
    await asyncio.to_thread(change, folder, allow=allow)
    since = time.time()
    api = await load.until_all(ALLOWED if allow else DENIED, since)
    times: Mapping[str, list[float]] = {}
    deadline = time.time() + TIMEOUT_S
    while (time.time() < deadline and not all(times.values())) or not times:
        await asyncio.sleep(0.1)
        times = applied_times(logs, since)
    await asyncio.sleep(SETTLE_S)
    times = applied_times(logs, since)
    responses = load.responses[first_index:]
    failed = sum(response.status not in {ALLOWED, DENIED} for response in responses)
    loaded = ", ".join(sorted({str(len(seconds)) for seconds in times.values()}))
    return [
        f"{api:.2f}",
        f"{max(max(seconds) for name, seconds in times.items() if name.startswith('api')):.2f}",
        f"{max(max(seconds) for name, seconds in times.items() if name.startswith('worker')):.2f}",
        loaded,
        str(len(responses)),
        str(failed),
        f"{max(response.duration for response in responses) * 1000:.0f}",
    ]


async def measure_invalid(load: Load, url: str, folder: Path) -> str:
    """Keep an invalid policy in the folder for a while; return a summary."""
    first_index = len(load.responses)
    before = {response.status for response in load.responses[-CONNECTIONS:]}
    valid = (folder / "probe.csv").read_text()
    (folder / "probe.csv").write_text("p, probe, *, get_batch, al")
    await asyncio.sleep(2 * SETTLE_S)
    async with aiohttp.ClientSession(url) as session, session.get("/readyz") as response:
        ready = (
            f"/readyz returns {response.status}, {json.dumps((await response.json())['policy'])}"
        )
    (folder / "probe.csv").write_text(valid)
    await asyncio.sleep(SETTLE_S)
    responses = load.responses[first_index:]
    other = sum(response.status not in before for response in responses)
    return (
        f"An invalid policy for 2 s: {len(responses)} requests, {other} other decisions; {ready}."
    )


async def measure(facts: dict[str, Any], logs: Path, folder: Path) -> int:
    load = Load(facts["api_url"], create_user(facts["env"]))
    running = asyncio.create_task(load.run())
    await load.until_all(ALLOWED, time.time())
    columns = (
        "edit",
        "decision",
        "last old decision, s",
        "in effect in the APIs, s",
        "in effect in the worker, s",
        "policies applied",
        "requests",
        "failed",
        "slowest, ms",
    )
    print(f"| {' | '.join(columns)} |\n| --- | --- |{' ---: |' * (len(columns) - 2)}")
    for name, change, prepare in EDITS:
        await asyncio.to_thread(prepare, folder)
        await asyncio.sleep(SETTLE_S)
        for allow in (False, True):
            cells = await measure_edit(load, logs, folder, change, allow=allow)
            print(f"| {name} | {'allow' if allow else 'deny'} | {' | '.join(cells)} |", flush=True)
    print(f"\n{await measure_invalid(load, facts['api_url'], folder)}")
    running.cancel()
    failed = sum(response.status not in {ALLOWED, DENIED} for response in load.responses)
    span = load.responses[-1].sent - load.responses[0].sent
    rate = len(load.responses) / span
    print(f"\n{len(load.responses)} requests in total, {rate:.0f} a second, {failed} failed.")
    return failed


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "policies"
        shutil.copytree(SHIPPED, folder)
        write_in_place(folder, allow=True)
        with running_stack(Path(name), folder) as (facts, logs):
            failed = asyncio.run(measure(facts, logs, folder))
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
