"""The command `batchd` in this process: fast, for commands that start nothing."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest
from typer.testing import CliRunner

from batchd.cli import build, command_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    code: int
    output: str
    """Including its standard error."""


def run(*arguments: object, settings: Mapping[str, str] = MappingProxyType({})) -> Printed:
    """Run the command with these BATCHD_* variables and no others."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("BATCHD_")]:
            patch.delenv(name)
        for name, value in settings.items():
            patch.setenv(name, value)
        result: Any = CliRunner().invoke(
            build(*command_names()), [str(argument) for argument in arguments]
        )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Printed(code=result.exit_code, output=result.output)
