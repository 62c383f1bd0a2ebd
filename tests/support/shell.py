"""The command `batchd` in this process: quick, for what starts nothing."""

import os
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner

from batchd.cli import COMMANDS, build


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    code: int
    output: str
    """With what it printed as errors."""


def run(*arguments: object) -> Printed:
    """Run the command as if nothing were set in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("BATCHD_")]:
            patch.delenv(name)
        result: Any = CliRunner().invoke(
            build(*COMMANDS), [str(argument) for argument in arguments]
        )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Printed(code=result.exit_code, output=result.output)
