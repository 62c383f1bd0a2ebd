"""The start of `batchd`: one line per fault of the configuration, and an exit code."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from batchd.configuration import InvalidSettings, to_environment
from batchd.settings import read_core_settings
from tests.support.command import batchd, environment
from tests.support.dev_process import BATCHD
from tests.support.policies import write_policy
from tests.support.polling import eventually
from tests.support.starting import INVALID_SETTINGS, SECRET, assert_refused, port_in_use, refusals

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize("command", ["api", "migrate", "worker"])
async def test_missing_setting_is_named(command: str) -> None:
    result = await batchd(command, env={**environment(), "BATCHD_DATABASE_URL": ""})

    assert result.code == INVALID_SETTINGS
    assert refusals(result) == ["BATCHD_DATABASE_URL: required, but not set"]


async def test_missing_setting_of_a_plugin_is_named(env: Mapping[str, str]) -> None:
    without = {name: value for name, value in env.items() if name != "BATCHD_S3_BUCKET"}
    result = await batchd("worker", env=without)

    assert result.code == INVALID_SETTINGS
    assert refusals(result) == ["BATCHD_S3_BUCKET: required, but not set"]


async def test_misspelt_variable_is_named_with_the_missing_one(
    env: Mapping[str, str],
) -> None:
    misspelt = {**env, "BATCHD_S3_BUKCET": env["BATCHD_S3_BUCKET"], "BATCHD_S3_BUCKET": ""}
    result = await batchd("worker", env=misspelt)

    assert refusals(result) == [
        "BATCHD_S3_BUCKET: required, but not set (BATCHD_S3_BUKCET is set: is it misspelt?)"
    ]


async def test_invalid_settings_are_named(env: Mapping[str, str]) -> None:
    invalid = to_environment({"database_pool": "none", "lease_s": 0, "log_level": "LOUD"})
    result = await batchd("worker", env={**env, **invalid})

    assert_refused(
        result, *(f"{name}: must be" for name in invalid), env=env, code=INVALID_SETTINGS
    )
    assert len(result.errors.splitlines()) == len(invalid)


async def test_invalid_settings_of_a_plugin_are_named(env: Mapping[str, str]) -> None:
    invalid = {"BATCHD_S3_ADDRESSING": "dns", "BATCHD_S3_REGION": "-"}
    result = await batchd("worker", env={**env, **invalid})

    assert_refused(result, *(f"{name}: " for name in invalid), env=env, code=INVALID_SETTINGS)
    assert len(result.errors.splitlines()) == len(invalid)


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


@pytest.mark.parametrize("command", [("migrate",), ("users", "list"), ("accounts", "list")])
async def test_command_without_storage_requires_no_bucket(
    env: Mapping[str, str], command: tuple[str, ...]
) -> None:
    without = {name: value for name, value in env.items() if not name.startswith("BATCHD_S3_")}
    result = await batchd(*command, env=without)

    assert (result.code, result.errors) == (0, "")


@pytest.mark.parametrize("variable", ["BATCHD_LISTEN", "BATCHD_METRICS_LISTEN"])
def test_invalid_port_is_refused(variable: str) -> None:
    environment = {"BATCHD_DATABASE_URL": "postgresql://db", variable: "127.0.0.1:99999"}
    with pytest.raises(InvalidSettings, match=f"^{variable}: the port must be a number"):
        read_core_settings(environment)


@pytest.mark.parametrize("command", ["api", "worker"])
async def test_unknown_variable_causes_a_warning(env: Mapping[str, str], command: str) -> None:
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
async def test_unknown_plugin_is_refused(
    env: Mapping[str, str], command: str, variable: str, installed: str
) -> None:
    result = await batchd(command, env={**env, variable: "no_such"})

    assert_refused(result, "no_such", installed, env=env, code=INVALID_SETTINGS)


@pytest.mark.parametrize("command", ["api", "worker"])
async def test_missing_policy_folder_is_refused(
    env: Mapping[str, str], tmp_path: Path, command: str
) -> None:
    result = await batchd(command, env={**env, "BATCHD_POLICIES": str(tmp_path / "missing")})

    assert_refused(result, str(tmp_path / "missing"), env=env)


async def test_empty_policy_folder_is_refused(env: Mapping[str, str], tmp_path: Path) -> None:
    result = await batchd("worker", env={**env, "BATCHD_POLICIES": str(tmp_path)})

    assert_refused(result, str(tmp_path), env=env)


async def test_invalid_policy_is_refused(env: Mapping[str, str], tmp_path: Path) -> None:
    write_policy(tmp_path, "p, reader, *, get_batch, perhaps")
    result = await batchd("api", env={**env, "BATCHD_POLICIES": str(tmp_path)})

    assert_refused(result, str(tmp_path), "roles.csv", "perhaps", env=env)


async def test_port_in_use_is_refused(env: Mapping[str, str]) -> None:
    with port_in_use() as port:
        result = await batchd("api", env={**env, "BATCHD_LISTEN": f"127.0.0.1:{port}"})

    assert_refused(result, "127.0.0.1", str(port), "already in use", env=env)


async def test_two_api_processes_share_a_port_and_stop_on_sigterm(
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
