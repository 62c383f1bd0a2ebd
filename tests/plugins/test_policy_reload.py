"""Policies that change while they are in force, in all the ways in which files change."""

import asyncio
import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from batchd import file_watcher
from batchd.domain.permission import Authorizer
from batchd.observability.metrics import POLICY_IN_FORCE
from batchd.plugins.casbin import casbin_authorizer
from tests.support.policies import MODEL, access, context_of, write_policy
from tests.support.polling import eventually

ALLOW = "p, clerk, *, get_batch, allow\n"
DENY = "p, clerk, *, get_batch, deny\n"
LIMITS = "p, boss, *, get_batch, allow\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder by whose policy the clerk may not."""
    made = tmp_path / "policies"
    made.mkdir()
    return write_policy(made, DENY.strip(), LIMITS.strip())


@pytest.fixture
async def authorizer(folder: Path) -> AsyncIterator[Authorizer]:
    async with casbin_authorizer(context_of(folder)) as opened:
        yield opened


async def allowed(authorizer: Authorizer, role: str = "clerk") -> bool:
    return (await authorizer.decide(access(role, "get_batch"))).allowed


async def in_force(authorizer: Authorizer) -> float:
    """Wait until the clerk may; return how long that took."""
    began = time.monotonic()
    await eventually(lambda: allowed(authorizer), lambda seen: seen, within_s=10)
    return time.monotonic() - began


def in_place(folder: Path) -> None:
    (folder / "roles.csv").write_text(ALLOW)


def by_rename(folder: Path) -> None:
    new = folder / ".roles.csv.swp"
    new.write_text(ALLOW)
    new.replace(folder / "roles.csv")


def file_added_and_removed(folder: Path) -> None:
    (folder / "more.csv").write_text(ALLOW)
    (folder / "roles.csv").unlink()


def other_folder(folder: Path) -> None:
    new = folder.with_name("new")
    new.mkdir()
    write_policy(new, ALLOW.strip())
    folder.rename(folder.with_name("old"))
    new.rename(folder)


def made_anew(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    write_policy(folder, ALLOW.strip())


def same_size_and_time(folder: Path) -> None:
    """As rsync and tar do, which set the time that the file had elsewhere."""
    before = (folder / "roles.csv").stat()
    text = f"{DENY}{LIMITS}".replace("deny", "allow").replace("boss", "bos")
    (folder / "roles.csv").write_text(text)
    os.utime(folder / "roles.csv", ns=(before.st_atime_ns, before.st_mtime_ns))


WAYS = (in_place, by_rename, file_added_and_removed, other_folder, made_anew, same_size_and_time)


@pytest.mark.parametrize("change", WAYS, ids=lambda change: change.__name__)
async def test_change_is_in_force_within_a_second(
    folder: Path, authorizer: Authorizer, change: Callable[[Path], None]
) -> None:
    assert not await allowed(authorizer)
    before = authorizer.revision

    change(folder)

    assert await in_force(authorizer) < 1
    assert authorizer.revision != before
    assert authorizer.current


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@invalid")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


async def test_checkout_of_another_branch_is_in_force_within_a_second(folder: Path) -> None:
    git(folder, "init", "-b", "denying")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "deny")
    git(folder, "checkout", "-b", "allowing")
    file_added_and_removed(folder)
    git(folder, "add", ".")
    git(folder, "commit", "-m", "allow")
    git(folder, "checkout", "denying")

    async with casbin_authorizer(context_of(folder)) as authorizer:
        assert not await allowed(authorizer)
        git(folder, "checkout", "allowing")
        assert await in_force(authorizer) < 1


def mounted(folder: Path, name: str, rules: str) -> Path:
    """Make one state of a Kubernetes ConfigMap."""
    data = folder / name
    data.mkdir(parents=True)
    (data / "model.conf").write_text(MODEL)
    (data / "roles.csv").write_text(rules)
    return data


async def test_config_map_is_in_force_within_a_second(tmp_path: Path) -> None:
    folder = tmp_path / "mount"
    mounted(folder, "..2026_11_24_1", DENY)
    (folder / "..data").symlink_to("..2026_11_24_1")
    for name in ("model.conf", "roles.csv"):
        (folder / name).symlink_to(f"..data/{name}")

    async with casbin_authorizer(context_of(folder)) as authorizer:
        assert not await allowed(authorizer)
        mounted(folder, "..2026_11_24_2", ALLOW)
        (folder / "..data_tmp").symlink_to("..2026_11_24_2")
        (folder / "..data_tmp").rename(folder / "..data")
        assert await in_force(authorizer) < 1
        shutil.rmtree(folder / "..2026_11_24_1")
        assert authorizer.current


async def test_link_to_another_release_is_in_force_within_a_second(tmp_path: Path) -> None:
    """The folder itself is a link: nothing changes in the one that it led to."""
    mounted(tmp_path, "release_1", DENY)
    mounted(tmp_path, "release_2", ALLOW)
    folder = tmp_path / "policies"
    folder.symlink_to("release_1")

    async with casbin_authorizer(context_of(folder)) as authorizer:
        assert not await allowed(authorizer)
        (tmp_path / "next").symlink_to("release_2")
        (tmp_path / "next").rename(folder)
        assert await in_force(authorizer) < 1


async def test_change_is_noticed_where_the_file_system_tells_of_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_watch(*_: object, **__: object) -> None:
        raise OSError("the system limit on inotify watches is reached")

    monkeypatch.setattr(file_watcher, "watch", no_watch)
    async with casbin_authorizer(context_of(folder)) as authorizer:
        in_place(folder)
        assert await in_force(authorizer) < 1


async def test_files_that_come_one_after_the_other_take_force_together(
    folder: Path, authorizer: Authorizer, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the half of the files nor the half of one: that one would be a good policy, too."""
    caplog.set_level(logging.INFO)
    steps = 12
    with (folder / "roles.csv").open("w") as file:
        for step in range(steps):
            file.write(f"p, role_{step}, *, get_batch, allow\n")
            file.flush()
            (folder / f"more_{step}.csv").write_text(f"p, more_{step}, *, get_batch, allow\n")
            await asyncio.sleep(
                file_watcher.SETTLE_S / 4
            )  # what a slow copy does, nothing waited for
    await eventually(lambda: allowed(authorizer, f"more_{steps - 1}"), lambda seen: seen)

    taken = [message for message in caplog.messages if "in force" in message]
    assert len(taken) == 1, taken
    assert f"{2 * steps} rules" in taken[0]


def write_half(folder: Path) -> None:
    (folder / "roles.csv").write_text("p, clerk, *, get_batch, allow\np, clerk, *, get_ba")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "syntax": (
        lambda f: (f / "roles.csv").write_text('p, "clerk, *'),
        "roles.csv:1: not a line of CSV",
    ),
    "effect": (
        lambda f: (f / "roles.csv").write_text(ALLOW + "p, x, *, *, permit"),
        "roles.csv:2: unknown effect",
    ),
    "operation": (
        lambda f: (f / "roles.csv").write_text("p, clerk, *, get_bach, allow"),
        "roles.csv:1: there is no operation get_bach; is get_batch meant?",
    ),
    "circle": (
        lambda f: (f / "roles.csv").write_text(f"{ALLOW}g, clerk, boss\ng, boss, clerk\n"),
        "roles.csv:3: role",
    ),
    "empty": (lambda f: (f / "roles.csv").write_text(""), "roles.csv: there is no statement in it"),
    "half": (write_half, "roles.csv:2: 4 columns"),
    "no model": (lambda f: (f / "model.conf").unlink(), "model.conf: No such file"),
    "no rules": (lambda f: (f / "roles.csv").unlink(), "there is no .csv file"),
    "not a file": (lambda f: (f / "more.csv").mkdir(), "more.csv: Is a directory"),
    "not text": (lambda f: (f / "roles.csv").write_bytes(b"\xff"), "roles.csv:1: not UTF-8"),
    "no folder": (shutil.rmtree, "no policy folder"),
}


@pytest.mark.parametrize("bad", BAD)
async def test_bad_policy_never_takes_force_and_the_next_good_one_does(
    folder: Path, authorizer: Authorizer, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    spoil, reason = BAD[bad]
    before = authorizer.revision
    assert in_force_metric() == 1

    spoil(folder)

    async def current() -> bool:
        return authorizer.current

    await eventually(current, lambda seen: not seen)
    assert authorizer.revision == before
    assert await allowed(authorizer, "boss")
    assert in_force_metric() == 0
    (message,) = [message for message in caplog.messages if "stays in force" in message]
    assert f"policy {before} stays in force: " in message
    assert reason in message

    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    write_policy(folder, ALLOW.strip())
    await in_force(authorizer)
    assert authorizer.current
    assert in_force_metric() == 1


def in_force_metric() -> float:
    (metric,) = POLICY_IN_FORCE.collect()
    return float(metric.samples[0].value)


async def test_what_changes_nothing_is_not_loaded_again(
    folder: Path, authorizer: Authorizer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (folder / "roles.csv").touch()
    (folder / "notes.txt").write_text("not a policy")
    in_place(folder)

    await in_force(authorizer)

    assert len([message for message in caplog.messages if "in force" in message]) == 1


async def test_nothing_is_left_running(folder: Path) -> None:
    async with casbin_authorizer(context_of(folder)):
        assert any(thread.name == f"following {folder}" for thread in threading.enumerate())

    assert not any(thread.name == f"following {folder}" for thread in threading.enumerate())
