"""Policies edited in every way under load: how long until each process decides by the new one.

Starts `batchd dev` with two API processes and a worker, makes 200 requests a second over 16
connections, and edits the policies meanwhile. A request fails if it is answered by anything but the
old decision or the new one. The times of the API are of answers: until every connection has got the
new decision, and none the old one any more. Those of the worker are of its log. Prints Markdown.
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
START_S, PATIENCE_S, CALM_S = 120.0, 8.0, 1.0


def rule(*, allow: bool) -> str:
    return f"p, probe, *, get_batch, {'allow' if allow else 'deny'}\n"


def in_place(folder: Path, *, allow: bool) -> None:
    (folder / "probe.csv").write_text(rule(allow=allow))


def by_rename(folder: Path, *, allow: bool) -> None:
    new = folder / ".probe.csv.swp"
    new.write_text(rule(allow=allow))
    new.replace(folder / "probe.csv")


def added_or_removed(folder: Path, *, allow: bool) -> None:
    """A file that denies outweighs the one that allows, as long as it is there."""
    if allow:
        (folder / "locked.csv").unlink()
    else:
        (folder / "locked.csv").write_text(rule(allow=False))


def one_after_the_other(folder: Path, *, allow: bool) -> None:
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
    in_place(folder, allow=False)
    git(folder, "commit", "-am", "deny")
    git(folder, "checkout", "allowing")


def prepare_config_map(folder: Path) -> None:
    """Make the folder what Kubernetes mounts: links through `..data`, which is a link itself."""
    shutil.rmtree(folder / ".git")
    data = folder / "..state_0"
    data.mkdir()
    (folder / "..data").symlink_to(data.name)
    for file in [path for path in folder.iterdir() if path.is_file()]:
        (data / file.name).write_bytes(file.read_bytes())
        link = folder / f".link_{file.name}"
        link.symlink_to(f"..data/{file.name}")
        link.replace(file)


def config_map(folder: Path, *, allow: bool) -> None:
    old = (folder / "..data").resolve()
    data = folder / f"..state_{time.monotonic_ns()}"
    shutil.copytree(old, data)
    in_place(data, allow=allow)
    (folder / "..data_tmp").symlink_to(data.name)
    (folder / "..data_tmp").replace(folder / "..data")
    shutil.rmtree(old)


def made_anew(folder: Path, *, allow: bool) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    shutil.rmtree(folder)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    in_place(folder, allow=allow)


def nothing(_: Path) -> None:
    pass


Change = Callable[..., None]
WAYS: tuple[tuple[str, Change, Callable[[Path], None]], ...] = (
    ("written in place", in_place, nothing),
    ("replaced by rename", by_rename, nothing),
    ("a file added or removed", added_or_removed, nothing),
    ("files copied one by one", one_after_the_other, nothing),
    ("git checkout", git_checkout, prepare_git),
    ("ConfigMap (`..data` swapped)", config_map, prepare_config_map),
    ("folder deleted and recreated", made_anew, nothing),
)


@dataclass(frozen=True, slots=True)
class Answer:
    connection: int
    sent: float
    """By the wall clock, as in the logs."""
    took: float
    status: int
    """0: there was none."""


@dataclass(slots=True)
class Load:
    url: str
    secret: str
    answers: list[Answer] = field(default_factory=list)

    async def run(self) -> None:
        """Send at fixed times, whatever the answers do."""
        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(self._one(number))

    async def _one(self, number: int) -> None:
        connector = aiohttp.TCPConnector(limit=1)
        headers = {"Authorization": self.secret}
        pause = CONNECTIONS / PER_S
        due = time.monotonic() + pause * number / CONNECTIONS
        async with aiohttp.ClientSession(self.url, connector=connector, headers=headers) as session:
            while True:
                await asyncio.sleep(due - time.monotonic())
                due += pause
                sent, began = time.time(), time.perf_counter()
                status = await self._ask(session)
                took = time.perf_counter() - began
                self.answers.append(Answer(number, sent, took, status))

    async def _ask(self, session: aiohttp.ClientSession) -> int:
        try:
            async with session.get(NO_BATCH, timeout=aiohttp.ClientTimeout(5)) as response:
                await response.read()
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    async def until_all(self, status: int, since: float) -> float:
        """Return how long after `since` the old decision was given for the last time."""
        deadline = time.time() + PATIENCE_S
        while time.time() < deadline:
            await asyncio.sleep(0.1)
            after = [one for one in self.answers if one.sent >= since]
            newest = {one.connection: one.status for one in after}
            if len(newest) == CONNECTIONS and set(newest.values()) == {status}:
                old = [one.sent for one in after if one.status != status]
                return max(old, default=since) - since
        raise SystemExit(f"not every process answers {status} after {PATIENCE_S} s")


def taken(logs: Path, since: float) -> Mapping[str, list[float]]:
    """Return for each process when it put a policy in force, in seconds after `since`."""
    found: dict[str, list[float]] = {}
    for log in (*logs.glob("api-*.log"), *logs.glob("worker-*.log")):
        found[log.stem] = []
        for line in log.read_text(encoding="utf-8").splitlines():
            if line.startswith("{") and re.match(
                r"policy \w+ in effect", json.loads(line)["message"]
            ):
                after = datetime.fromisoformat(json.loads(line)["ts"]).timestamp() - since
                if after >= 0:
                    found[log.stem].append(after)
    return found


@contextmanager
def running_stack(folder: Path, policies: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """Run `batchd dev`; give what its ready file says, and where its logs are."""
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
            deadline = time.monotonic() + START_S
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit((folder / "dev.log").read_text())
                time.sleep(0.1)
            yield json.loads(ready.read_text()), data_dir / "logs"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def make_user(env: Mapping[str, str]) -> str:
    command = [*BATCHD, "users", "create", "--role=probe"]
    made = subprocess.run(
        command, env={**os.environ, **env}, check=True, capture_output=True, timeout=60
    )
    secret: str = json.loads(made.stdout)["secret"]
    return secret


async def try_way(
    load: Load, logs: Path, folder: Path, change: Change, *, allow: bool
) -> list[str]:
    """Edit once under load; return the cells of the row."""
    begun = len(load.answers)
    await asyncio.to_thread(change, folder, allow=allow)
    since = time.time()
    api = await load.until_all(ALLOWED if allow else DENIED, since)
    times: Mapping[str, list[float]] = {}
    deadline = time.time() + PATIENCE_S
    while (time.time() < deadline and not all(times.values())) or not times:
        await asyncio.sleep(0.1)
        times = taken(logs, since)
    await asyncio.sleep(CALM_S)
    times = taken(logs, since)
    answers = load.answers[begun:]
    failed = sum(one.status not in {ALLOWED, DENIED} for one in answers)
    loaded = ", ".join(sorted({str(len(found)) for found in times.values()}))
    return [
        f"{api:.2f}",
        f"{max(max(found) for name, found in times.items() if name.startswith('api')):.2f}",
        f"{max(max(found) for name, found in times.items() if name.startswith('worker')):.2f}",
        loaded,
        str(len(answers)),
        str(failed),
        f"{max(one.took for one in answers) * 1000:.0f}",
    ]


async def try_bad(load: Load, url: str, folder: Path) -> str:
    """Let a bad policy lie there for a while; return what became of it."""
    begun = len(load.answers)
    before = {one.status for one in load.answers[-CONNECTIONS:]}
    good = (folder / "probe.csv").read_text()
    (folder / "probe.csv").write_text("p, probe, *, get_batch, al")
    await asyncio.sleep(2 * CALM_S)
    async with aiohttp.ClientSession(url) as session, session.get("/readyz") as response:
        ready = (
            f"/readyz answers {response.status}, {json.dumps((await response.json())['policy'])}"
        )
    (folder / "probe.csv").write_text(good)
    await asyncio.sleep(CALM_S)
    answers = load.answers[begun:]
    other = sum(one.status not in before for one in answers)
    return (
        f"An invalid policy for 2 s: {len(answers)} requests, "
        f"{other} with a different decision; {ready}."
    )


async def measure(facts: dict[str, Any], logs: Path, folder: Path) -> int:
    load = Load(facts["api_url"], make_user(facts["env"]))
    running = asyncio.create_task(load.run())
    await load.until_all(ALLOWED, time.time())
    columns = (
        "how it was edited",
        "new decision",
        "last old response, s",
        "effective in the API, s",
        "effective in the worker, s",
        "policies loaded",
        "requests",
        "failed",
        "slowest, ms",
    )
    print(f"| {' | '.join(columns)} |\n| --- | --- |{' ---: |' * (len(columns) - 2)}")
    for name, change, prepare in WAYS:
        await asyncio.to_thread(prepare, folder)
        await asyncio.sleep(CALM_S)
        for allow in (False, True):
            cells = await try_way(load, logs, folder, change, allow=allow)
            print(f"| {name} | {'allow' if allow else 'deny'} | {' | '.join(cells)} |", flush=True)
    print(f"\n{await try_bad(load, facts['api_url'], folder)}")
    running.cancel()
    failed = sum(one.status not in {ALLOWED, DENIED} for one in load.answers)
    span = load.answers[-1].sent - load.answers[0].sent
    rate = len(load.answers) / span
    print(f"\n{len(load.answers)} requests in total, {rate:.0f} per second, {failed} failed.")
    return failed


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "policies"
        shutil.copytree(SHIPPED, folder)
        in_place(folder, allow=True)
        with running_stack(Path(name), folder) as (facts, logs):
            failed = asyncio.run(measure(facts, logs, folder))
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
