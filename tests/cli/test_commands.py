"""The commands of `batchd`: its own, and those of plugins."""

import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import Mapping
from configparser import ConfigParser
from pathlib import Path

import pytest

from batchd.cli import COMMANDS, command_names
from tests.support.command import batchd, environment

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PLUGIN = """
import typer

def greet(load_context):
    group = typer.Typer()
    group.callback()(lambda: None)

    @group.command()
    def world() -> None:
        context = load_context({"BATCHD_DATABASE_URL": "postgresql://hidden", "NAME": "1"})
        print(sorted(context.environment), "get_batch" in context.operations)

    return group
"""


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    """Install a package with the commands `greet`, `broken` and `users`."""
    metadata = tmp_path / "greeter-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: greeter\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[batchd.commands]\n"
        "greet = greeter:greet\nbroken = no_such_package:broken\nusers = greeter:greet\n"
    )
    (tmp_path / "greeter.py").write_text(PLUGIN)
    clean = environment()
    path = ":".join(filter(None, (str(tmp_path), clean.get("PYTHONPATH"))))
    return {**clean, "PYTHONPATH": path}


async def test_plugin_brings_a_command_that_sees_no_setting_of_the_core(
    env: Mapping[str, str],
) -> None:
    result = await batchd("greet", "world", env=env)

    assert (result.code, result.output) == (0, "['NAME'] True\n"), result


async def test_command_whose_package_is_missing_is_refused(env: Mapping[str, str]) -> None:
    result = await batchd("broken", env=env)

    assert result.code == 1
    assert result.errors.startswith("batchd: the plugin 'broken' of batchd.commands needs")
    assert "Traceback" not in result.errors


async def test_no_plugin_replaces_a_command_of_batchd(env: Mapping[str, str]) -> None:
    result = await batchd("users", "world", env=env)

    assert result.code == 2
    assert "No such command" in result.errors


def test_policy_tools_are_those_of_a_plugin() -> None:
    assert command_names() == (*COMMANDS, "policy")


async def test_version_is_that_of_the_package() -> None:
    setup_cfg = ConfigParser(interpolation=None)
    setup_cfg.read(ROOT / "setup.cfg", encoding="utf-8")
    result = await batchd("--version", env=environment())

    assert result.output == f"batchd {setup_cfg['metadata']['version']}\n"


@pytest.mark.parametrize("name", ["Dockerfile", "docker-compose.yml"])
def test_version_is_not_repeated(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "image.version" not in text
    assert "image: batchd:" not in text


@pytest.mark.parametrize("command", ["migrate", "users", "policy"])
async def test_no_command_imports_another(command: str) -> None:
    modules = {"users": "batchd.cli.users", "policy": "casbin", "dev": "batchd.devstack.stack"}
    others = [module for name, module in modules.items() if name != command]
    program = (
        f"import sys; sys.argv = ['batchd', '{command}', '--help']\n"
        "from batchd.cli import main\n"
        "try: main()\n"
        f"finally: print([name for name in {others} if name in sys.modules])"
    )
    process = await create_subprocess_exec(
        *(sys.executable, "-P", "-c", program), stdout=PIPE, env=environment()
    )
    output, _ = await process.communicate()
    assert output.decode().splitlines()[-1] == "[]"
