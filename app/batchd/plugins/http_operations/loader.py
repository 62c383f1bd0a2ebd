"""Reads the operations file and those it names: all of it is right, or nothing takes force."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from batchd.file_watcher import Contents, read_file
from batchd.plugins.http_operations.errors import Fault, InvalidOperationsFile
from batchd.plugins.http_operations.fields import Surroundings
from batchd.plugins.http_operations.schema import OperationSchema, OperationsFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    declarations: Mapping[str, OperationSchema]
    contents: Contents
    """The file and those that it names."""


def load(
    file: Path, known: Contents, variables: Mapping[str, str], taken: Callable[[str], bool]
) -> Loaded:
    """Read what is not among the known contents. Raises InvalidOperationsFile, with every fault."""
    contents: dict[Path, bytes | str] = {}

    def read(path: str) -> bytes:
        place = file.parent / path
        # A ValueError leaves it out: no file can have this path, so there is nothing to follow.
        contents[place] = content = known[place] if place in known else read_file(place)
        if isinstance(content, str):
            raise OSError(content)
        return content

    surroundings = Surroundings(variables=variables, taken=taken, read=read)
    try:
        table = tomllib.loads(read(file.name).decode())
        declared = OperationsFile.model_validate(table, context=surroundings)
    except OSError as error:
        faults = [Fault("", f"can't be read: {error}")]
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
    raise InvalidOperationsFile(file, faults, contents)


def declared_names(file: Path) -> frozenset[str]:
    """Return the names that the file gives to operations, good or not. Raises InvalidOperationsFile."""
    try:
        operations = tomllib.loads(file.read_bytes().decode()).get("operations")
    except OSError as error:
        reason = f"can't be read: {error.strerror or error}"
    except ValueError as error:
        reason = f"not TOML: {error}"
    else:
        return frozenset(operations) if isinstance(operations, dict) else frozenset()
    raise InvalidOperationsFile(file, [Fault("", reason)], {})


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
