"""The first account and its admin user: created on the first start and saved for later ones."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from batchd.devstack.errors import StackFailed
from batchd.devstack.private_files import write_private
from batchd.devstack.processes import run_command


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstUser:
    account: str
    user: str
    role: str
    secret: str = field(repr=False)


async def load_or_create_user(file: Path, env: Mapping[str, str]) -> FirstUser:
    """Return the user saved in this file, or create and save one. Raises StackFailed."""
    if not file.exists():
        user = _parse(await _create(env), "the output of batchd users create")
        write_private(file, json.dumps(asdict(user)))
    return _parse(file.read_text(), str(file))


async def _create(env: Mapping[str, str]) -> str:
    return await run_command(
        "batchd users create",
        [
            *(sys.executable, "-P", "-m", "batchd.cli"),
            *("users", "create", "--role", "admin", "--name", "admin"),
        ],
        env=env,
    )


def _parse(text: str, source: str) -> FirstUser:
    try:
        values = json.loads(text)
        names = ("account", "user", "role", "secret")
        return FirstUser(**{name: str(values[name]) for name in names})
    except (ValueError, KeyError, TypeError) as error:
        raise StackFailed(
            f"{source} is not a JSON object with account, user, role and secret."
        ) from error
