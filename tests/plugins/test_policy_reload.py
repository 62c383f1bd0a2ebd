"""Policies that change while they are in effect, in all the ways in which files change."""

import asyncio
import logging
import os
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from batchd import file_watcher
from batchd.domain.permission import Authorizer
from batchd.observability.metrics import POLICY_IN_FORCE
from batchd.plugins.casbin import casbin_authorizer
from tests.support.policies import MODEL, access, context_of, write_policy
from tests.support.polling import eventually

pytestmark = pytest.mark.slow

ALLOW = "p, clerk, *, get_batch, allow\n"
DENY = "p, clerk, *, get_batch, deny\n"
LIMITS = "p, boss, *, get_batch, allow\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder whose policy denies the clerk."""
    folder = tmp_path / "policies"
    folder.mkdir()
    return write_policy(folder, DENY.strip(), LIMITS.strip())


@pytest.fixture
async def authorizer(folder: Path) -> AsyncIterator[Authorizer]:
    async with casbin_authorizer(context_of(folder)) as authorizer:
        yield authorizer


async def is_allowed(authorizer: Authorizer, role: str = "clerk") -> bool:
    return (await authorizer.decide(access(role, "get_batch"))).allowed


async def wait_until_allowed(authorizer: Authorizer) -> None:
    """Wait until the clerk is allowed: a second at most, eight on a very slow machine."""
    await eventually(lambda: is_allowed(authorizer), bool, within_s=8)


def test_waits_of_the_watcher_leave_time_within_a_second() -> None:
    """A change is reported or polled, collected with what follows it, and settles."""
    assert 2 * file_watcher.POLL_INTERVAL_S + file_watcher.SETTLE_S < 0.8


def write_in_place(folder: Path) -> None:
    (folder / "roles.csv").write_text(ALLOW)


def replace_by_rename(folder: Path) -> None:
    new = folder / ".roles.csv.swp"
    new.write_text(ALLOW)
    new.replace(folder / "roles.csv")


def add_and_remove_files(folder: Path) -> None:
    (folder / "more.csv").write_text(ALLOW)
    (folder / "roles.csv").unlink()


def replace_folder(folder: Path) -> None:
    new = folder.with_name("new")
    new.mkdir()
    write_policy(new, ALLOW.strip())
    folder.rename(folder.with_name("old"))
    new.rename(folder)


def recreate_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    write_policy(folder, ALLOW.strip())


def keep_size_and_time(folder: Path) -> None:
    """Change the content only: rsync and tar restore the time of the original."""
    before = (folder / "roles.csv").stat()
    text = f"{DENY}{LIMITS}".replace("deny", "allow").replace("boss", "bos")
    (folder / "roles.csv").write_text(text)
    os.utime(folder / "roles.csv", ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = (
    write_in_place,
    replace_by_rename,
    add_and_remove_files,
    replace_folder,
    recreate_folder,
    keep_size_and_time,
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_change_takes_effect_within_a_second(
    folder: Path, authorizer: Authorizer, change: Callable[[Path], None]
) -> None:
    assert not await is_allowed(authorizer)
    before = authorizer.revision

    change(folder)

    await wait_until_allowed(authorizer)
    assert authorizer.revision != before
    assert authorizer.current


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@invalid")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


async def test_checkout_of_another_branch_takes_effect_within_a_second(folder: Path) -> None:
    git(folder, "init", "-b", "denying")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "deny")
    git(folder, "checkout", "-b", "allowing")
    add_and_remove_files(folder)
    git(folder, "add", ".")
    git(folder, "commit", "-m", "allow")
    git(folder, "checkout", "denying")

    async with casbin_authorizer(context_of(folder)) as authorizer:
        assert not await is_allowed(authorizer)
        git(folder, "checkout", "allowing")
        await wait_until_allowed(authorizer)


def write_mount(folder: Path, name: str, rules: str) -> Path:
    """Write one state of a Kubernetes ConfigMap."""
    data = folder / name
    data.mkdir(parents=True)
    (data / "model.conf").write_text(MODEL)
    (data / "roles.csv").write_text(rules)
    return data


async def test_config_map_takes_effect_within_a_second(tmp_path: Path) -> None:
    folder = tmp_path / "mount"
    write_mount(folder, "..2026_11_24_1", DENY)
    (folder / "..data").symlink_to("..2026_11_24_1")
    for name in ("model.conf", "roles.csv"):
        (folder / name).symlink_to(f"..data/{name}")

    async with casbin_authorizer(context_of(folder)) as authorizer:
        assert not await is_allowed(authorizer)
        write_mount(folder, "..2026_11_24_2", ALLOW)
        (folder / "..data_tmp").symlink_to("..2026_11_24_2")
        (folder / "..data_tmp").rename(folder / "..data")
        await wait_until_allowed(authorizer)
        shutil.rmtree(folder / "..2026_11_24_1")
        assert authorizer.current


async def test_link_to_another_release_takes_effect_within_a_second(tmp_path: Path) -> None:
    """The folder itself is a link: nothing changes in the folder that it pointed to."""
    write_mount(tmp_path, "release_1", DENY)
    write_mount(tmp_path, "release_2", ALLOW)
    folder = tmp_path / "policies"
    folder.symlink_to("release_1")

    async with casbin_authorizer(context_of(folder)) as authorizer:
        assert not await is_allowed(authorizer)
        (tmp_path / "next").symlink_to("release_2")
        (tmp_path / "next").rename(folder)
        await wait_until_allowed(authorizer)


async def test_change_takes_effect_where_the_file_system_reports_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_watch(*_: object, **__: object) -> None:
        raise OSError("the system limit on inotify watches is reached")

    monkeypatch.setattr(file_watcher, "watch", no_watch)
    async with casbin_authorizer(context_of(folder)) as authorizer:
        write_in_place(folder)
        await wait_until_allowed(authorizer)


async def test_files_copied_one_by_one_take_effect_together(
    folder: Path,
    authorizer: Authorizer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither some of the files nor a part of one file, though both would be valid policies."""
    monkeypatch.setattr(file_watcher, "SETTLE_S", 1.0)
    caplog.set_level(logging.INFO)
    steps = 12
    with (folder / "roles.csv").open("w") as file:
        for step in range(steps):
            file.write(f"p, role_{step}, *, get_batch, allow\n")
            file.flush()
            (folder / f"more_{step}.csv").write_text(f"p, more_{step}, *, get_batch, allow\n")
            await asyncio.sleep(file_watcher.SETTLE_S / 20)  # the pace of a slow copy, not a wait
    await eventually(lambda: is_allowed(authorizer, f"more_{steps - 1}"), bool)

    applied = [message for message in caplog.messages if "in effect" in message]
    assert len(applied) == 1, applied
    assert f"{2 * steps} rules" in applied[0]


def write_truncated(folder: Path) -> None:
    (folder / "roles.csv").write_text("p, clerk, *, get_batch, allow\np, clerk, *, get_ba")


INVALID: dict[str, tuple[Callable[[Path], object], str]] = {
    "syntax": (
        lambda f: (f / "roles.csv").write_text('p, "clerk, *'),
        "roles.csv:1: invalid CSV",
    ),
    "effect": (
        lambda f: (f / "roles.csv").write_text(ALLOW + "p, x, *, *, permit"),
        "roles.csv:2: unknown effect",
    ),
    "operation": (
        lambda f: (f / "roles.csv").write_text("p, clerk, *, get_bach, allow"),
        "roles.csv:1: unknown operation get_bach; did you mean get_batch?",
    ),
    "cycle": (
        lambda f: (f / "roles.csv").write_text(f"{ALLOW}g, clerk, boss\ng, boss, clerk\n"),
        "roles.csv:3: role",
    ),
    "empty": (
        lambda f: (f / "roles.csv").write_text(""),
        "roles.csv: the file contains no statements",
    ),
    "truncated": (write_truncated, "roles.csv:2: 4 columns"),
    "no model": (lambda f: (f / "model.conf").unlink(), "model.conf: No such file"),
    "no rules": (lambda f: (f / "roles.csv").unlink(), "the policy folder contains no .csv file"),
    "not a file": (lambda f: (f / "more.csv").mkdir(), "more.csv: Is a directory"),
    "not text": (lambda f: (f / "roles.csv").write_bytes(b"\xff"), "roles.csv:1: not UTF-8"),
    "no folder": (shutil.rmtree, "can't read the policy folder"),
}


@pytest.mark.parametrize("kind", INVALID)
async def test_invalid_policy_never_takes_effect_and_the_next_valid_one_does(
    folder: Path, authorizer: Authorizer, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    corrupt, reason = INVALID[kind]
    before = authorizer.revision
    assert current_metric() == 1

    corrupt(folder)

    async def current() -> bool:
        return authorizer.current

    await eventually(current, lambda value: not value)
    assert authorizer.revision == before
    assert await is_allowed(authorizer, "boss")
    assert current_metric() == 0
    (message,) = [message for message in caplog.messages if "remains in effect" in message]
    assert f"policy {before} remains in effect: " in message
    assert reason in message

    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    write_policy(folder, ALLOW.strip())
    await wait_until_allowed(authorizer)
    assert authorizer.current
    assert current_metric() == 1


def current_metric() -> float:
    (metric,) = POLICY_IN_FORCE.collect()
    return float(metric.samples[0].value)


async def test_unchanged_contents_are_not_loaded_again(
    folder: Path, authorizer: Authorizer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (folder / "roles.csv").touch()
    (folder / "notes.txt").write_text("not a policy")
    write_in_place(folder)

    await wait_until_allowed(authorizer)

    assert len([message for message in caplog.messages if "in effect" in message]) == 1


async def test_no_thread_is_left_running(folder: Path) -> None:
    async with casbin_authorizer(context_of(folder)):
        assert any(thread.name == f"watch {folder}" for thread in threading.enumerate())

    assert not any(thread.name == f"watch {folder}" for thread in threading.enumerate())
