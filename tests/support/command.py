"""The command `batchd`, run to its end as a process of its own."""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from batchd.configuration import to_environment
from batchd.settings import Settings
from tests.support.dev_process import BATCHD
from tests.support.polling import TIMEOUT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    code: int
    output: str
    errors: str

    @property
    def printed(self) -> list[Any]:
        """The values that it printed, one JSON value per line."""
        assert self.code == 0, self
        return [json.loads(line) for line in self.output.splitlines()]


def environment(**values: object) -> dict[str, str]:
    """Return the variables that make a process read these settings, and no other ones."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BATCHD_")}
    return clean | to_environment(values)


def core_variables(settings: Settings) -> dict[str, str]:
    """Return the variables that make a process read the same settings of the core."""
    values = {name: getattr(settings, name) for name in settings.model_fields_set}
    return to_environment(
        {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in values.items()
        }
    )


async def batchd(*arguments: object, env: Mapping[str, str]) -> CommandResult:
    """Run the command in a folder that contains nothing of this project."""
    process = await asyncio.create_subprocess_exec(
        *BATCHD,
        *map(str, arguments),
        env=env,
        cwd=os.sep,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return CommandResult(code=process.returncode, output=output.decode(), errors=errors.decode())
