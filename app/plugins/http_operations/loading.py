"""Reads the operations file and those it names: all of it is right, or nothing takes force."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from batchd.plugins.http_operations.bad_file import BadOperations, Fault
from batchd.plugins.http_operations.declaration import Declaration, OperationsFile
from batchd.plugins.http_operations.fields import Surroundings

Contents = Mapping[Path, bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    declarations: Mapping[str, Declaration]
    contents: Contents
    """Every file that was read."""


def load(file: Path, variables: Mapping[str, str], taken: Callable[[str], bool]) -> Loaded:
    """Raise BadOperations, with every fault."""
    contents: dict[Path, bytes | None] = {}

    def read(path: str) -> bytes:
        place = file.parent / path
        contents[place] = None
        contents[place] = content = place.read_bytes()
        return content

    surroundings = Surroundings(variables=variables, taken=taken, read=read)
    try:
        table = tomllib.loads(read(file.name).decode())
        declared = OperationsFile.model_validate(table, context=surroundings)
    except OSError as error:
        faults = [Fault("", f"can't be read: {error.strerror or error}")]
    except UnicodeDecodeError as error:
        faults = [Fault("", f"byte {error.start + 1} is not UTF-8")]
    except tomllib.TOMLDecodeError as error:
        faults = [Fault("", f"not TOML: {error}")]
    except RecursionError:
        faults = [Fault("", "not TOML: nested too deeply")]
    except ValidationError as error:
        faults = [_fault(found) for found in error.errors(include_url=False, include_input=False)]
    else:
        return Loaded(declarations=declared.operations, contents=contents)
    raise BadOperations(file, faults, contents)


def declared_names(file: Path) -> frozenset[str]:
    """Return the names that the file gives to operations, good or not. Raises BadOperations."""
    try:
        operations = tomllib.loads(file.read_bytes().decode()).get("operations")
    except OSError as error:
        reason = f"can't be read: {error.strerror or error}"
    except ValueError as error:
        reason = f"not TOML: {error}"
    else:
        return frozenset(operations) if isinstance(operations, dict) else frozenset()
    raise BadOperations(file, [Fault("", reason)], {})


def read_again(contents: Contents) -> Contents:
    """Return what the same files hold now."""
    return {path: _read(path) for path in contents}


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _fault(error: Any) -> Fault:
    """Take pydantic's error apart; ours are ValueErrors, told as they are."""
    key = ".".join(str(step) for step in error["loc"] if step != "[key]")
    match error["type"]:
        case "extra_forbidden":
            reason = "there is no such key"
        case "missing":
            reason = "is missing"
        case "value_error":
            reason = str(error["ctx"]["error"])
        case _:
            reason = error["msg"][:1].lower() + error["msg"][1:]
    return Fault(key, reason)
