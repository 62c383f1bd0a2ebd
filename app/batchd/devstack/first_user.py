"""The first account and its admin user: made on the first start, remembered from then on."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from batchd.devstack.errors import StackFailed
from batchd.devstack.private_files import write_private
from batchd.devstack.processes import run_to_end


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstUser:
    account: str
    user: str
    role: str
    secret: str = field(repr=False)


async def first_user(memory: Path, env: Mapping[str, str]) -> FirstUser:
    """Return the user remembered in this file, or make one. Raises StackFailed."""
    if not memory.exists():
        made = _parse(await _create(env), "batchd users create printed")
        write_private(memory, json.dumps(asdict(made)))
    return _parse(memory.read_text(), f"{memory} has")


async def _create(env: Mapping[str, str]) -> str:
    return await run_to_end(
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
        raise StackFailed(f"{source} no account, user, role and secret as JSON.") from error
