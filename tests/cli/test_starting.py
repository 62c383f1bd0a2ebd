"""How `batchd` starts, and what it says when it refuses to: one line for each fault, and a code."""

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from batchd.configuration import InvalidSettings, to_environment
from batchd.db.migrations import required_versions
from batchd.settings import read_core_settings
from tests.support.command import CommandResult, batchd, environment
from tests.support.dev_process import BATCHD
from tests.support.policies import write_policy
from tests.support.polling import eventually
from tests.support.waiting import gone

pytestmark = pytest.mark.slow

FAILED, UNAVAILABLE, INVALID_SETTINGS, TERMINATED = 1, 69, 78, 143


def refusals(result: CommandResult) -> list[str]:
    """Return the messages: of services in the log's format, of others behind the name."""
    prefix = "batchd: "
    lines = result.errors.splitlines()
    if not lines or lines[0].startswith(prefix):
        assert all(line.startswith(prefix) for line in lines), result
        return [line.removeprefix(prefix) for line in lines]
    records = [json.loads(line) for line in lines]
    assert [record for record in records if "exception" in record] == [], result
    return [record["message"] for record in records if record["level"] == "CRITICAL"]


def assert_refused(
    result: CommandResult, *named: str, env: Mapping[str, str], code: int = FAILED
) -> None:
    """Hold the end against what a person needs: what is wrong, without a traceback or a secret."""
    assert (result.code, result.output) == (code, ""), result
    assert refusals(result)
    assert "Traceback" not in result.errors
    assert [name for name in named if name not in result.errors] == [], result
    assert env["BATCHD_DATABASE_URL"] not in result.errors


@pytest.fixture
def env(process_environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment of a process that logs nothing but what is serious."""
    return {**process_environment, "BATCHD_LOG_LEVEL": "ERROR"}


@contextmanager
def port_in_use() -> Iterator[int]:
    """Listen as some other program does, which shares its port with nobody."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@asynccontextmanager
async def running(env: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *BATCHD, "api", env=env, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def versions(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT version FROM schema_migrations")
    finally:
        await connection.close()
    return {row["version"] for row in rows}


@pytest.mark.parametrize("command", ["api", "migrate", "worker"])
async def test_a_missing_setting_is_named(command: str) -> None:
    result = await batchd(command, env={**environment(), "BATCHD_DATABASE_URL": ""})

    assert result.code == INVALID_SETTINGS
    assert refusals(result) == ["BATCHD_DATABASE_URL: required, but not set"]


async def test_a_missing_setting_of_a_plugin_is_named(env: Mapping[str, str]) -> None:
    without = {name: value for name, value in env.items() if name != "BATCHD_S3_BUCKET"}
    result = await batchd("worker", env=without)

    assert result.code == INVALID_SETTINGS
    assert refusals(result) == ["BATCHD_S3_BUCKET: required, but not set"]


async def test_a_misspelt_variable_is_named_beside_the_one_that_is_missing(
    env: Mapping[str, str],
) -> None:
    misspelt = {**env, "BATCHD_S3_BUKCET": env["BATCHD_S3_BUCKET"], "BATCHD_S3_BUCKET": ""}
    result = await batchd("worker", env=misspelt)

    assert refusals(result) == [
        "BATCHD_S3_BUCKET: required, but not set (BATCHD_S3_BUKCET is set: is it misspelt?)"
    ]


async def test_impossible_settings_are_named(env: Mapping[str, str]) -> None:
    wrong = to_environment({"database_pool": "none", "lease_s": 0, "log_level": "LOUD"})
    result = await batchd("worker", env={**env, **wrong})

    assert_refused(
        result, *(f"{name}: Input should be" for name in wrong), env=env, code=INVALID_SETTINGS
    )
    assert len(result.errors.splitlines()) == len(wrong)


async def test_impossible_settings_of_a_plugin_are_named(env: Mapping[str, str]) -> None:
    wrong = {"BATCHD_S3_ADDRESSING": "dns", "BATCHD_S3_REGION": "-"}
    result = await batchd("worker", env={**env, **wrong})

    assert_refused(result, *(f"{name}: " for name in wrong), env=env, code=INVALID_SETTINGS)
    assert len(result.errors.splitlines()) == len(wrong)


OTHER_STORAGE = """
from batchd.domain.ports import StartupError

def other(context):
    raise StartupError(f"it sees {', '.join(sorted(context.environment))}")
"""


async def test_another_storage_needs_no_setting_of_s3_and_sees_none_of_the_core(
    env: Mapping[str, str], tmp_path: Path
) -> None:
    metadata = tmp_path / "other-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[batchd.storages]\nother = other_storage:other\n")
    (tmp_path / "other_storage.py").write_text(OTHER_STORAGE)
    without = {name: value for name, value in env.items() if not name.startswith("BATCHD_S3_")}
    changes = {
        "BATCHD_STORAGE": "other",
        "PYTHONPATH": ":".join(filter(None, (str(tmp_path), env.get("PYTHONPATH")))),
        "OTHER_SETTING": "1",
        "ALSO_THE_URL": env["BATCHD_DATABASE_URL"],
    }

    result = await batchd("worker", env={**without, **changes})

    assert_refused(result, "it sees", "OTHER_SETTING", "BATCHD_POLICIES", env=env)
    hidden = ("BATCHD_DATABASE_URL", "BATCHD_STORAGE", "BATCHD_LOG_LEVEL", "ALSO_THE_URL")
    assert [name for name in hidden if name in result.errors] == []


@pytest.mark.parametrize("command", ["api", "worker"])
async def test_an_old_schema_is_refused(
    env: Mapping[str, str], empty_database_url: str, command: str
) -> None:
    env = {**env, "BATCHD_DATABASE_URL": empty_database_url}
    result = await batchd(command, env=env)

    assert_refused(result, "batchd migrate", *required_versions(), env=env)


async def test_a_schema_that_lacks_one_migration_is_refused(env: Mapping[str, str]) -> None:
    last = max(required_versions())
    connection = await asyncpg.connect(env["BATCHD_DATABASE_URL"])
    await connection.execute("DELETE FROM schema_migrations WHERE version = $1", last)
    await connection.close()

    result = await batchd("users", "list", env=env)

    assert_refused(result, "batchd migrate", last, env=env)
    assert min(required_versions()) not in result.errors


async def test_several_migrate_at_once_and_later_ones_find_nothing_to_do(
    env: Mapping[str, str], empty_database_url: str
) -> None:
    env = {**env, "BATCHD_DATABASE_URL": empty_database_url}
    done = CommandResult(code=0, output="", errors="")

    assert await asyncio.gather(*(batchd("migrate", env=env) for _ in range(4))) == [done] * 4
    assert await versions(empty_database_url) == required_versions()
    assert await batchd("migrate", env=env) == done
    assert await versions(empty_database_url) == required_versions()


async def test_a_database_that_does_not_answer_is_said(env: Mapping[str, str]) -> None:
    with port_in_use() as port:
        pass
    url = f"postgresql://batchd:hidden@127.0.0.1:{port}/batchd"
    env = {**env, "BATCHD_DATABASE_URL": url}
    result = await batchd("worker", env=env)

    named = ("BATCHD_DATABASE_URL", "database is not responding", f"127.0.0.1:{port}")
    assert_refused(result, *named, env=env, code=UNAVAILABLE)
    assert "hidden" not in result.errors


SECRET = "pa-ss-word"
COMMANDS = [("api",), ("worker",), ("migrate",), ("users", "list"), ("accounts", "list")]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_a_wrong_password_is_refused(
    env: Mapping[str, str], database_url: str, command: tuple[str, ...]
) -> None:
    credentials, _, server = database_url.rpartition("@")
    url = f"{credentials.rpartition(':')[0]}:{SECRET}@{server}"
    env = {**env, "BATCHD_DATABASE_URL": url}
    result = await batchd(*command, env=env)

    named = ("BATCHD_DATABASE_URL", "password authentication failed")
    assert_refused(result, *named, env=env, code=INVALID_SETTINGS)
    assert len(result.errors.splitlines()) == 1
    assert SECRET not in result.errors


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_an_unknown_database_is_refused(
    env: Mapping[str, str], database_url: str, command: tuple[str, ...]
) -> None:
    env = {**env, "BATCHD_DATABASE_URL": f"{database_url}_missing"}
    result = await batchd(*command, env=env)

    assert_refused(result, "BATCHD_DATABASE_URL", "does not exist", env=env, code=INVALID_SETTINGS)
    assert len(result.errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://u:pa-ss-word@db/x", "must be a URL like postgresql://"),
        ("host=db password=pa-ss-word", "white space"),
        ("postgresql://u:pa-ss-word#1@db/x", "a raw '#'"),
        ("postgresql://u:pa-ss-word%1@db/x", "a raw '%'"),
        ("postgresql://u:pa-ss-word@1@db/x", "a raw '@'"),
        ("postgresql://u:pa-ss-word/1@db/x", "a raw '/'"),
        ("postgresql://u:pa-ss-word?1@db/x", "a raw '?'"),
        ("postgresql://u:pa-ss-word[1@db/x", "a raw '['"),
        ("postgresql://u:pa-ss-word@db:99999/x", "a port must be a number from 1 to 65535"),
        ("postgresql://u:pa-ss-word@db:port/x", "a port must be a number from 1 to 65535"),
        ("postgresql://u:pa-ss-word@db/x?sslmode", "name=value"),
        ("postgresql://u:pa-ss-word@db/x?sslmode=no-verify", "sslmode must be one of"),
        ("postgresql://u:pa-ss-word@db/x?channel_binding=require", "'channel_binding'"),
        ("postgresql://u:pa-ss-word@db/x?target_session_attrs=standby", "target_session_attrs"),
        ("postgresql://u:pa-ss-word@db/x?sslrootcert=/no/such.crt", "'sslrootcert'"),
    ],
)
def test_a_bad_database_url_is_refused_without_a_part_of_the_password(
    url: str, reason: str
) -> None:
    with pytest.raises(InvalidSettings) as refusal:
        read_core_settings({"BATCHD_DATABASE_URL": url})

    assert str(refusal.value).startswith("BATCHD_DATABASE_URL: ")
    assert reason in str(refusal.value)
    assert "ss-word" not in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


async def test_a_parameter_that_the_server_does_not_know_is_refused(
    env: Mapping[str, str], database_url: str
) -> None:
    env = {**env, "BATCHD_DATABASE_URL": f"{database_url}?no_such=1"}
    result = await batchd("users", "list", env=env)

    assert_refused(result, "BATCHD_DATABASE_URL", "no_such", env=env, code=INVALID_SETTINGS)


@pytest.mark.parametrize("command", ["api", "migrate"])
async def test_tls_that_the_server_does_not_offer_is_refused_alike(
    env: Mapping[str, str], database_url: str, command: str
) -> None:
    env = {**env, "BATCHD_DATABASE_URL": f"{database_url}?sslmode=require"}
    result = await batchd(command, env=env)

    assert_refused(result, "BATCHD_DATABASE_URL", "SSL", env=env, code=UNAVAILABLE)


async def test_migrate_says_while_it_waits_what_it_waits_for_and_not_for_long(
    env: Mapping[str, str],
) -> None:
    with port_in_use() as port:
        pass
    url = f"postgresql://batchd:{SECRET}@127.0.0.1:{port}/batchd"
    env = {**env, "BATCHD_DATABASE_URL": url, "BATCHD_LOG_LEVEL": "WARNING"}
    started = time.monotonic()
    result = await batchd("migrate", env=env)

    assert time.monotonic() - started < 30
    assert_refused(result, "BATCHD_DATABASE_URL", str(port), env=env, code=UNAVAILABLE)
    assert '"waiting: BATCHD_DATABASE_URL: ' in result.errors
    assert SECRET not in result.errors


async def test_migrate_goes_to_the_direct_url(
    env: Mapping[str, str], empty_database_url: str
) -> None:
    unreachable_url = "postgresql://batchd@127.0.0.1:1/batchd"
    env = {
        **env,
        "BATCHD_DATABASE_URL": unreachable_url,
        "BATCHD_DATABASE_DIRECT_URL": empty_database_url,
    }

    assert await batchd("migrate", env=env) == CommandResult(code=0, output="", errors="")
    assert await versions(empty_database_url) == required_versions()


@pytest.mark.parametrize("command", [("migrate",), ("users", "list"), ("accounts", "list")])
async def test_what_needs_no_storage_asks_for_no_bucket(
    env: Mapping[str, str], command: tuple[str, ...]
) -> None:
    without = {name: value for name, value in env.items() if not name.startswith("BATCHD_S3_")}
    result = await batchd(*command, env=without)

    assert (result.code, result.errors) == (0, "")


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in listed.split()]


async def test_terminating_migrate_leaves_no_child(env: Mapping[str, str]) -> None:
    blocker = await asyncpg.connect(env["BATCHD_DATABASE_URL"])
    await blocker.execute("BEGIN; LOCK TABLE schema_migrations IN ACCESS EXCLUSIVE MODE")
    process = await asyncio.create_subprocess_exec(
        *BATCHD, "migrate", env=env, stderr=asyncio.subprocess.DEVNULL
    )

    async def children() -> list[int]:
        return children_of(process.pid)

    try:
        (child,) = await eventually(children, lambda pids: len(pids) == 1)
        process.send_signal(signal.SIGTERM)

        assert await process.wait() == TERMINATED
        # Where it outlived the command for a moment, init may take another to clear it up.
        await eventually(lambda: asyncio.to_thread(gone, child), bool)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await blocker.close()


@pytest.mark.parametrize("variable", ["BATCHD_LISTEN", "BATCHD_METRICS_LISTEN"])
def test_a_port_that_does_not_exist_is_refused(variable: str) -> None:
    environment = {"BATCHD_DATABASE_URL": "postgresql://db", variable: "127.0.0.1:99999"}
    with pytest.raises(InvalidSettings, match=f"^{variable}: the port must be a number"):
        read_core_settings(environment)


@pytest.mark.parametrize("command", ["api", "worker"])
async def test_a_variable_that_no_setting_reads_is_warned_of(
    env: Mapping[str, str], command: str
) -> None:
    with port_in_use() as port:
        pass
    unknown = {
        "BATCHD_LEESE_S": "3",
        "BATCHD_S3_ENDPONT": SECRET,
        "BATCHD_ENTIRELY_DIFFERENT": "1",
        "BATCHD_EMPTY": "",
        "BATCHD_LISTEN": f"127.0.0.1:{port}",
        "BATCHD_LOG_LEVEL": "WARNING",
    }
    process = await asyncio.create_subprocess_exec(
        *BATCHD, command, env={**env, **unknown}, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            lines = [await process.stderr.readline() for _ in range(3)]
    finally:
        process.kill()
        await process.communicate()
    prefix = "the environment variable BATCHD_"
    assert sorted(json.loads(line)["message"] for line in lines) == [
        f"{prefix}ENTIRELY_DIFFERENT is no setting",
        f"{prefix}LEESE_S is no setting: did you mean BATCHD_LEASE_S?",
        f"{prefix}S3_ENDPONT is no setting: did you mean BATCHD_S3_ENDPOINT?",
    ]
    assert SECRET.encode() not in b"".join(lines)


@pytest.mark.parametrize(
    ("command", "variable", "installed"),
    [("api", "BATCHD_AUTHORIZER", "casbin"), ("worker", "BATCHD_STORAGE", "s3")],
)
async def test_an_unknown_plugin_is_refused(
    env: Mapping[str, str], command: str, variable: str, installed: str
) -> None:
    result = await batchd(command, env={**env, variable: "no_such"})

    assert_refused(result, "no_such", installed, env=env, code=INVALID_SETTINGS)


@pytest.mark.parametrize("command", ["api", "worker"])
async def test_a_missing_policy_folder_is_refused(
    env: Mapping[str, str], tmp_path: Path, command: str
) -> None:
    result = await batchd(command, env={**env, "BATCHD_POLICIES": str(tmp_path / "missing")})

    assert_refused(result, str(tmp_path / "missing"), env=env)


async def test_an_empty_policy_folder_is_refused(env: Mapping[str, str], tmp_path: Path) -> None:
    result = await batchd("worker", env={**env, "BATCHD_POLICIES": str(tmp_path)})

    assert_refused(result, str(tmp_path), env=env)


async def test_a_bad_policy_is_refused(env: Mapping[str, str], tmp_path: Path) -> None:
    write_policy(tmp_path, "p, reader, *, get_batch, perhaps")
    result = await batchd("api", env={**env, "BATCHD_POLICIES": str(tmp_path)})

    assert_refused(result, str(tmp_path), "roles.csv", "perhaps", env=env)


async def test_a_port_in_use_is_refused(env: Mapping[str, str]) -> None:
    with port_in_use() as port:
        result = await batchd("api", env={**env, "BATCHD_LISTEN": f"127.0.0.1:{port}"})

    assert_refused(result, "127.0.0.1", str(port), "already in use", env=env)


async def test_two_api_processes_share_a_port_and_end_when_asked_to(
    env: Mapping[str, str], session: aiohttp.ClientSession
) -> None:
    with port_in_use() as port:
        pass
    env = {**env, "BATCHD_LISTEN": f"127.0.0.1:{port}"}

    async def ready() -> int:
        try:
            async with session.get(f"http://127.0.0.1:{port}/readyz") as response:
                return response.status
        except aiohttp.ClientConnectionError:
            return 0

    async with running(env) as first, running(env) as second:
        assert await eventually(ready, lambda status: status == 200)
        for process in (first, second):
            process.send_signal(signal.SIGTERM)
        assert {await first.wait(), await second.wait()} == {0}
